"""Steps environments with a policy and fills rollouts. It has no loop of its own and knows no process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from asyncrl.acting.actor_state import ActorState
from asyncrl.acting.bots import BotOptions, BotRoster
from asyncrl.algorithms import ActContext, ActionOutput, Algorithm, Policy
from asyncrl.algorithms.exploration import EnvSlots
from asyncrl.common.randomness import Stream, constructor_seed, environment_seeds, generator
from asyncrl.envs import Contract, Environments
from asyncrl.errors import EnvironmentFault
from asyncrl.experience.rollout import Field, Layout, Rollout, RolloutCarry, Ticket
from asyncrl.networks import NetworkConfig

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
    """Where the run, or its continuation, begins: environments that cannot go on are seeded anew."""
    device: str = "cpu"
    """Where the network acts."""
    actors: int = 1
    """Actors of the run."""
    bots: BotOptions = field(default_factory=BotOptions)
    """Who else plays."""
    offline: str | None = None
    """A dataset that is dealt out instead of playing."""
    states: Mapping[int, ActorState] = field(default_factory=dict)
    """By actor: where those go on that can, in a continued run."""
    consumed: int = 0
    """Rollouts that the run has learned from before; in lockstep, those with the lowest numbers."""

    def has_acted(self, actor: int) -> bool:
        """Has the run learned from a rollout of this actor? One that it has not begins as it did in the first place."""
        return actor < self.consumed

    def policy(self) -> Policy:
        """What this actor acts with, before it has weights."""
        return Policy(self.algorithm, self.network, self.contract.spaces, self.dtype, self.device)

    def layout(self) -> Layout:
        """How this actor's rollouts lie in memory: found out by acting once on zeros."""
        spaces, policy = self.contract.spaces, self.policy()
        shape, stack = spaces.observation_shape, self.contract.frame_stack
        dtype = getattr(torch, spaces.observation_dtype)
        observation, state = torch.zeros(self.envs, *shape, dtype=dtype), policy.initial_state(self.envs)
        slots = EnvSlots.of(self.seed, actor=0, envs=self.envs)
        output = policy.act(observation, state, ActContext.training(generator(0, Stream.ACTOR), step=0, slots=slots))
        extras = tuple((name, Field(tuple(x.shape[1:]), x.dtype)) for name, x in output.extras.items())
        frame = Field(shape[1:] if stack > 1 else shape, dtype)
        action = Field(tuple(output.action.shape[1:]), output.action.dtype)
        return Layout(self.algorithm.experience().slot_length, self.envs, stack, frame, action, state.shape[1], extras)


class Actor:
    """One actor: B environments, a copy of the weights, a stream of random numbers.

    What a rollout hands on to the next one is kept in `_carry`, a copy of the slot's end.
    """

    def __init__(self, spec: ActorSpec, index: int) -> None:
        self.spec, self.index = spec, index
        self.policy = spec.policy()
        making = constructor_seed(spec.seed, index)
        self.environments = Environments(spec.contract.for_actor(index), spec.envs, spec.env_threads, seed=making)
        self._experience = spec.algorithm.experience()
        self._slots = EnvSlots.of(spec.seed, index, spec.envs, spec.actors)
        self._stack = spec.contract.frame_stack
        spaces, bots = spec.contract.spaces, spec.bots
        self._cast = None if bots.bot is None else BotRoster(bots, spaces, spec.seed, index, spec.envs)
        self._carry: RolloutCarry | None = None
        state = spec.states.get(index)
        if state is None or not self._go_on(state):
            self._begin(Stream.ENVIRONMENT, spec.first_update if spec.has_acted(index) else 0)

    def collect(self, ticket: Ticket, slot: Rollout) -> None:
        """Fill `slot` with the rollout that `ticket` orders, acting with the weights that were loaded."""
        whole = self._experience.full_episodes
        if whole:
            self._begin(Stream.EPISODE, ticket.number)
        random = generator(self.spec.seed, Stream.ACTOR, ticket.number)
        context = ActContext.training(random, step=ticket.step, slots=self._slots)
        steps, border = len(slot.reward), len(slot.reward) - self._experience.overlap
        known = self._continue(slot)
        for t in range(known, steps):
            if t == border:
                slot.next_frames_since_reset[0], slot.next_state[0] = self._frames_since_reset, self._state
            self._step(t, slot, context, ticket)
            if whole:
                slot.reset[t + 1] |= slot.reset[t]
                if slot.reset[t + 1].all():
                    slot.reset[t + 1 :] = True
                    break
        slot.frames[t + self._stack] = self._newest()
        if whole:
            slot.reset[-1] = True
        if border == steps:
            slot.next_frames_since_reset[0], slot.next_state[0] = self._frames_since_reset, self._state
        slot.next_frames_since_reset[1], slot.next_state[1] = self._frames_since_reset, self._state
        slot.restarts[0] = self.environments.restarts
        seeds_and_steps = self.environments.seeds_and_steps
        slot.seed_and_steps[:] = -1 if seeds_and_steps is None else torch.from_numpy(seeds_and_steps)
        self._carry = slot.carry(border)

    def close(self) -> None:
        self.environments.close()

    def _begin(self, stream: Stream, *address: int) -> None:
        """New episodes in all environments; nothing of earlier ones is left."""
        spec = self.spec
        with self._naming():
            observation = self.environments.reset(environment_seeds(spec.seed, stream, spec.envs, self.index, *address))
        self._observation = torch.from_numpy(observation)
        self._beginning: np.ndarray = np.ones(spec.envs, dtype=bool)
        self._frames_since_reset: Tensor = torch.zeros(spec.envs, dtype=torch.int32)
        self._state: Tensor = self.policy.initial_state(spec.envs)
        self._carry = None

    def _go_on(self, state: ActorState) -> bool:
        """Come back to where another actor was between two rollouts. False where environments do not come back there."""
        if self._cast is not None:  # nobody knows what a bot has in mind
            return False
        carry = state.carry
        with self._naming():
            seeds, past = carry.seed_and_steps[0].tolist(), [played.numpy() for played in state.actions]
            observation, over = self.environments.replay_to(seeds, past)
        self._observation = torch.from_numpy(observation)
        self._frames_since_reset, self._state, self._carry = carry.frames_since_reset[1], carry.state[1], carry
        return torch.equal(self._newest(), carry.frames[-1]) and torch.equal(torch.from_numpy(over), carry.reset[-1])

    def _continue(self, slot: Rollout) -> int:
        """Begin `slot` with what is known of the rollout before it; returns how many steps that is."""
        slot.starts_reset[0] = self._carry is None
        if self._carry is not None:
            return slot.start_from(self._carry)
        slot.frames_since_reset.copy_(self._frames_since_reset)
        slot.state.copy_(self._state)
        slot.frames[: self._stack - 1] = self._frames(self._observation)[:-1]
        slot.reset[0] = False
        return 0

    def _step(self, t: int, slot: Rollout, context: ActContext, ticket: Ticket) -> None:
        """Act once and write step `t`."""
        slot.frames[t + self._stack - 1] = self._newest()
        output = self.policy.act(self._observation, self._state, context)
        if self._cast is not None:
            output = self._let_bots_play(self._cast, output, ticket, t)
        with self._naming(ticket):
            step = self.environments.step(output.action.numpy())
        slot.action[t] = output.action
        for name, value in output.extras.items():
            slot.extras[name][t] = value
        slot.reward[t] = torch.from_numpy(step.reward)
        slot.terminated[t] = torch.from_numpy(step.terminated)
        slot.reset[t + 1] = torch.from_numpy(step.done)
        self._observation = torch.from_numpy(step.observation)
        self._beginning = slot.reset[t].numpy().copy()
        self._frames_since_reset = torch.where(slot.reset[t], 0, (self._frames_since_reset + 1).clamp(max=self._stack - 1))
        self._state = torch.where(slot.reset[t][:, None], 0.0, output.state)

    def _let_bots_play(self, cast: BotRoster, output: ActionOutput, ticket: Ticket, t: int) -> ActionOutput:
        """What the policy did, with what bots do instead."""
        cast.begin(self._beginning, ticket.step, (ticket.number, t))
        chance = np.zeros(self.spec.envs, dtype=bool) if output.explored is None else output.explored.numpy()
        done = cast.play(output.action.numpy(), chance, self.environments.shown, self.environments.infos)
        return output._replace(action=torch.from_numpy(done))

    def _newest(self) -> Tensor:
        """The newest frames, [B, *frame]."""
        return self._frames(self._observation)[-1]

    def _frames(self, observation: Tensor) -> Tensor:
        """Observations [B, S, *frame] as frames [S, B, *frame]; [1, B, *O] where nothing is stacked."""
        return observation.transpose(0, 1) if self._stack > 1 else observation[None]

    @contextmanager
    def _naming(self, ticket: Ticket | None = None) -> Iterator[None]:
        """Add the actor, the run's seed and the rollout to an environment's fault."""
        try:
            yield
        except EnvironmentFault as fault:
            rollout = "" if ticket is None else f", rollout {ticket.number}"
            where = f"actor {self.index}, run seed {self.spec.seed}{rollout}"
            raise EnvironmentFault(f"{fault} in {where}", fault.traceback) from fault
