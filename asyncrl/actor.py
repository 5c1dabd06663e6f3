"""Steps environments with a policy and fills rollouts. It has no loop of its own and knows no process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from asyncrl.algorithms import Algorithm, Policy
from asyncrl.envs import Contract, Environments
from asyncrl.errors import EnvironmentFault
from asyncrl.networks import NetworkConfig
from asyncrl.randomness import Stream, environment_seeds, generator
from asyncrl.rollout import Field, Layout, Rollout, Ticket

__all__ = ["Actor", "ActorSpec"]


@dataclass(frozen=True)
class ActorSpec:
    """Everything that makes an actor, as data that may cross to another process."""

    algorithm: Algorithm
    network: NetworkConfig
    contract: Contract
    seed: int
    """The run's root seed."""
    envs: int
    """B: environments of one actor."""
    env_threads: int
    """Threads that step them (native backends)."""
    dtype: torch.dtype
    """What the network's body computes in."""
    first_update: int = 0
    """Where the run, or its continuation, begins: environments of a continued run are seeded anew."""

    def policy(self) -> Policy:
        """What this actor acts with, before it has weights."""
        return Policy(self.algorithm, self.network, self.contract.spaces, self.dtype)

    def layout(self) -> Layout:
        """How this actor's rollouts lie in memory: found out by acting once on zeros."""
        spaces = self.contract.spaces
        shape, stack = spaces.observation_shape, self.contract.frame_stack
        dtype = getattr(torch, spaces.observation_dtype)
        observation = torch.zeros(self.envs, *shape, dtype=dtype)
        acted = self.policy().act(observation, 0, generator(0, Stream.ACTOR))
        extras = tuple((name, Field(tuple(x.shape[1:]), x.dtype)) for name, x in acted.extras.items())
        frame = Field(shape[1:] if stack > 1 else shape, dtype)
        return Layout(self.algorithm.experience().steps, self.envs, stack, frame, extras)


class Actor:
    """One actor: B environments, a copy of the weights, a stream of random numbers."""

    def __init__(self, spec: ActorSpec, index: int) -> None:
        self.spec, self.index = spec, index
        self.policy = spec.policy()
        self.environments = Environments(spec.contract, spec.envs, spec.env_threads)
        seeds = environment_seeds(spec.seed, Stream.ENVIRONMENT, spec.envs, index, spec.first_update)
        with self._naming():
            observation = self.environments.reset(seeds)
        self._observation = torch.from_numpy(observation)
        stack = spec.contract.frame_stack
        # What a rollout needs of the one before it: the older frames of the stack, their age, pending resets.
        self._older = self._frames(self._observation)[:-1]
        self._age = torch.zeros(spec.envs, dtype=torch.int32)
        self._oldest = stack - 1
        self._reset = torch.zeros(spec.envs, dtype=torch.bool)

    def collect(self, ticket: Ticket, slot: Rollout) -> None:
        """Fill `slot` with the rollout that `ticket` orders, acting with the weights that were loaded."""
        random = generator(self.spec.seed, Stream.ACTOR, ticket.number)
        stack = self.spec.contract.frame_stack
        slot.frames[: stack - 1] = self._older
        slot.age.copy_(self._age)
        slot.reset[0] = self._reset
        for t in range(len(slot.reward)):
            slot.frames[t + stack - 1] = self._frames(self._observation)[-1]
            acted = self.policy.act(self._observation, ticket.step, random)
            with self._naming(ticket):
                step = self.environments.step(acted.action.numpy())
            slot.action[t] = acted.action
            for name, value in acted.extras.items():
                slot.acted[name][t] = value
            slot.reward[t] = torch.from_numpy(step.reward)
            slot.terminated[t] = torch.from_numpy(step.terminated)
            slot.reset[t + 1] = torch.from_numpy(step.over)
            self._observation = torch.from_numpy(step.observation)
            self._age = torch.where(slot.reset[t], 0, (self._age + 1).clamp(max=self._oldest))
        slot.frames[-1] = self._frames(self._observation)[-1]
        self._older, self._reset = slot.frames[len(slot.reward) : -1].clone(), slot.reset[-1].clone()

    def close(self) -> None:
        self.environments.close()

    def _frames(self, observation: Tensor) -> Tensor:
        """Observations [B, S, *frame] as frames [S, B, *frame]; [1, B, *O] where nothing is stacked."""
        return observation.transpose(0, 1) if self.spec.contract.frame_stack > 1 else observation[None]

    @contextmanager
    def _naming(self, ticket: Ticket | None = None) -> Iterator[None]:
        """Add the actor, the run's seed and the rollout to an environment's fault."""
        try:
            yield
        except EnvironmentFault as fault:
            rollout = "" if ticket is None else f", rollout {ticket.number}"
            where = f"actor {self.index}, run seed {self.spec.seed}{rollout}"
            raise EnvironmentFault(f"{fault} in {where}", fault.traceback) from fault
