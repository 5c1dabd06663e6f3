"""Actors: step environments with a policy and fill rollouts. Engines decide when, and in which thread or process."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from asyncrl.acting.actor_state import ActorState
from asyncrl.acting.bots import BotOptions, BotRoster
from asyncrl.algorithms import ActContext, ActionOutput, Algorithm, Policy, algorithm_name_of
from asyncrl.algorithms.exploration import EnvSlots
from asyncrl.common.randomness import Stream, bot_seed, constructor_seed, environment_seeds, generator
from asyncrl.common.stopwatch import Stopwatch
from asyncrl.envs import Contract, Environments
from asyncrl.envs.global_generators import preserved_generators, seeded_generators
from asyncrl.errors import AsyncRLError, EnvironmentFault
from asyncrl.experience.rollout import Field, Layout, Rollout, RolloutCarry, StepArrays, Ticket
from asyncrl.networks import NetworkConfig

__all__ = ["Actor", "ActorSpec"]


@dataclass(frozen=True)
class ActorSpec:
    """Everything that defines an actor, as data that can be sent to another process."""

    algorithm: Algorithm
    network: NetworkConfig
    contract: Contract
    seed: int
    """The run's root seed."""
    envs: int
    """B: environments per actor."""
    env_threads: int
    """Threads that step the environments (native backends)."""
    dtype: torch.dtype
    """Compute dtype of the network's body."""
    first_update: int = 0
    """The update at which the run starts or resumes; seeds environments that cannot be restored."""
    device: str = "cpu"
    """Device that the policy runs on."""
    actors: int = 1
    """Number of actors in the run."""
    bots: BotOptions = field(default_factory=BotOptions)
    """Bots that play some of the episodes."""
    offline: str | None = None
    """A dataset to serve as rollouts instead of playing."""
    states: Mapping[int, ActorState] = field(default_factory=dict)
    """Saved states of a resumed run's actors, by index; actors without one start new episodes."""
    consumed: int = 0
    """Number of rollouts learned from before resuming; in lockstep, those with the lowest numbers."""

    @property
    def code(self) -> tuple[str, ...]:
        """The code, as `module:Name`, that an actor needs in addition to its environments."""
        names = (*self.bots.code, self.network.network, algorithm_name_of(self.algorithm))
        return tuple(name for name in names if ":" in name)

    def has_acted(self, actor: int) -> bool:
        """Whether the run learned from a rollout of `actor` before resuming. If not, the actor starts as in a new run."""
        return actor < self.consumed

    def policy(self) -> Policy:
        """Return a new policy, whose weights are yet to be loaded."""
        return Policy(self.algorithm, self.network, self.contract.spaces, self.dtype, self.device)

    def layout(self) -> Layout:
        """Return the layout of the actor's rollouts, found by acting once on zero observations."""
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
    """One actor: B environments, a policy, and a stream of random numbers.

    Between rollouts, `_carry` holds a copy of the previous slot's end, with which the next rollout begins.
    """

    def __init__(self, spec: ActorSpec, index: int, on_step: Callable[[], None] = lambda: None) -> None:
        """`on_step` is called before each step of the environments, also of those that restore them."""
        self.spec, self.index = spec, index
        self.policy, self.stopwatch = spec.policy(), Stopwatch()
        contract, seed = spec.contract.for_actor(index), constructor_seed(spec.seed, index)
        self.environments = Environments(contract, spec.envs, spec.env_threads, seed=seed, on_step=on_step)
        self._experience = spec.algorithm.experience()
        self._slots = EnvSlots.of(spec.seed, index, spec.envs, spec.actors)
        self._stack = spec.contract.frame_stack
        spaces, bots = spec.contract.spaces, spec.bots
        with preserved_generators():
            self._bots = None if bots.bot is None else BotRoster(bots, spaces, spec.seed, index, spec.envs)
        self._carry: RolloutCarry | None = None
        try:
            state = spec.states.get(index)
            if state is None or not self._restore(state):
                self._reset(Stream.ENVIRONMENT, spec.first_update if spec.has_acted(index) else 0)
        except BaseException:
            with contextlib.suppress(AsyncRLError, OSError):
                self.close()
            raise

    def collect(self, ticket: Ticket, slot: Rollout) -> None:
        """Fill `slot` with the rollout that `ticket` requests, acting with the weights loaded into `policy`."""
        if self._experience.full_episodes:
            self.stopwatch.lap("other")
            self._reset(Stream.EPISODE, ticket.number)
            self.stopwatch.lap("environments")
        random = generator(self.spec.seed, Stream.ACTOR, ticket.number)
        context = ActContext.training(random, step=ticket.step, slots=self._slots)
        steps = len(slot.reward)
        next_start = steps - self._experience.overlap  # the next rollout's first step
        arrays = StepArrays.of(slot)
        for t in range(self._start_slot(slot), steps):
            if t == next_start:
                self._store_state(slot, 0)
            self._step(t, slot, arrays, context, ticket)
            if self._experience.full_episodes:
                slot.reset[t + 1] |= slot.reset[t]
                if slot.reset[t + 1].all():
                    slot.reset[t + 1 :] = True  # padding
                    break
        slot.frames[t + self._stack] = self._newest_frames()
        if self._experience.full_episodes:
            slot.reset[-1] = True
        if next_start == steps:
            self._store_state(slot, 0)
        self._store_state(slot, 1)
        slot.restarts[0] = self.environments.restarts
        seeds_and_steps = self.environments.seeds_and_steps
        slot.seed_and_steps[:] = -1 if seeds_and_steps is None else torch.from_numpy(seeds_and_steps)
        self._carry = slot.carry(next_start)

    def close(self) -> None:
        """Close the environments."""
        self.environments.close()

    def _reset(self, stream: Stream, *address: int) -> None:
        """Start new episodes in all environments, seeded by `stream` and `address`."""
        spec = self.spec
        seeds = environment_seeds(spec.seed, stream, spec.envs, self.index, *address)
        with self._fault_context():
            observation = self.environments.reset(seeds)
        self._observation = torch.from_numpy(observation)
        self._is_first_step: np.ndarray = np.ones(spec.envs, dtype=bool)
        self._frames_since_reset: Tensor = torch.zeros(spec.envs, dtype=torch.int32)
        self._state: Tensor = self.policy.initial_state(spec.envs)
        self._carry = None

    def _restore(self, state: ActorState) -> bool:
        """Restore a saved state by replaying its actions; False if the environments cannot be restored to it."""
        if self._bots is not None:  # the state of a bot is unknown
            return False
        carry = state.carry
        seeds, actions = carry.seed_and_steps[0].tolist(), [played.numpy() for played in state.actions]
        with self._fault_context():
            restored = self.environments.replay_to(seeds, actions)
        if restored is None:
            return False
        observation, done = restored
        self._observation = torch.from_numpy(observation)
        self._frames_since_reset, self._state = carry.frames_since_reset[1], carry.state[1]
        self._carry = carry
        same_frames = torch.equal(self._newest_frames(), carry.frames[-1])
        return same_frames and torch.equal(torch.from_numpy(done), carry.reset[-1])

    def _start_slot(self, slot: Rollout) -> int:
        """Write the steps and states carried over from the previous rollout; return the number of steps."""
        slot.starts_reset[0] = self._carry is None
        if self._carry is not None:
            return slot.start_from(self._carry)
        slot.frames_since_reset.copy_(self._frames_since_reset)
        slot.state.copy_(self._state)
        slot.frames[: self._stack - 1] = self._frames(self._observation)[:-1]
        slot.reset[0] = False
        return 0

    def _store_state(self, slot: Rollout, row: int) -> None:
        slot.next_frames_since_reset[row] = self._frames_since_reset
        slot.next_state[row] = self._state

    def _step(self, t: int, slot: Rollout, arrays: StepArrays, context: ActContext, ticket: Ticket) -> None:
        """Act once and write step `t` into `slot`, whose views are `arrays`."""
        observation = self._observation.numpy()
        arrays.frames[t + self._stack - 1] = observation[:, -1] if self._stack > 1 else observation
        self.stopwatch.lap("other")
        output = self.policy.act(self._observation, self._state, context)
        if self._bots is not None:
            output = self._replace_by_bots(self._bots, output, ticket, t)
        self.stopwatch.lap("acting")
        action = output.action.numpy()
        try:  # `_fault_context` would take as long as a small layer
            step = self.environments.step(action)
        except EnvironmentFault as fault:
            raise self._located(fault, ticket) from fault
        self.stopwatch.lap("environments")
        arrays.action[t] = action
        for name, value in output.extras.items():
            slot.extras[name][t] = value
        arrays.reward[t], arrays.terminated[t], arrays.reset[t + 1] = step.reward, step.terminated, step.done
        self._observation = torch.from_numpy(step.observation)
        if self._bots is not None:
            self._is_first_step = arrays.reset[t].copy()
        self._follow(slot.reset[t], output.state)

    def _follow(self, resets: Tensor, state: Tensor) -> None:
        """Keep the recurrent `state` [B, S] and the numbers of frames; `resets` [B] bool marks beginnings of episodes."""
        if self._stack > 1:
            self._frames_since_reset = torch.where(resets, 0, (self._frames_since_reset + 1).clamp(max=self._stack - 1))
        self._state = torch.where(resets[:, None], 0.0, state) if state.shape[-1] else state

    def _replace_by_bots(self, bots: BotRoster, output: ActionOutput, ticket: Ticket, t: int) -> ActionOutput:
        """Replace the policy's actions by those of bots where bots play."""
        explored = np.zeros(self.spec.envs, dtype=bool) if output.explored is None else output.explored.numpy()
        with seeded_generators(bot_seed(self.spec.seed, self.index, ticket.number, t)):
            bots.begin_episodes(self._is_first_step, ticket.step, (ticket.number, t))
            action = bots.act(output.action.numpy(), explored, self.environments.raw_observation, self.environments.infos)
        return output._replace(action=torch.from_numpy(action))

    def _newest_frames(self) -> Tensor:
        """Return the newest frame of each environment, [B, *frame]."""
        return self._frames(self._observation)[-1]

    def _frames(self, observation: Tensor) -> Tensor:
        """Return observations [B, S, *frame] as frames [S, B, *frame], or [1, B, *O] without frame stacking."""
        return observation.transpose(0, 1) if self._stack > 1 else observation[None]

    @contextlib.contextmanager
    def _fault_context(self) -> Iterator[None]:
        """Add actor and run seed to the message of an environment's fault."""
        try:
            yield
        except EnvironmentFault as fault:
            raise self._located(fault) from fault

    def _located(self, fault: EnvironmentFault, ticket: Ticket | None = None) -> EnvironmentFault:
        """Return `fault` with actor, run seed and rollout in its message."""
        rollout = "" if ticket is None else f", rollout {ticket.number}"
        return EnvironmentFault(f"{fault} in actor {self.index}, run seed {self.spec.seed}{rollout}", fault.traceback)
