"""Rollouts: T steps of B environments, time-major, in slots of shared memory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from asyncrl.common.alignment import aligned
from asyncrl.common.stopwatch import ACTOR_STAGES, Stopwatch
from asyncrl.errors import ScheduleError

__all__ = ["NEWEST_VERSION", "Field", "Layout", "Rollout", "RolloutCarry", "StepArrays", "Ticket", "envs_of"]


NEWEST_VERSION = -1
"""In a ticket's `version`: act with the newest weights (schedule `free`)."""


class Ticket(NamedTuple):
    """A request for one rollout: five integers, all that engines send through queues."""

    number: int
    """Position in the order of consumption, from 0."""
    actor: int
    """Index of the actor."""
    version: int
    """Weights version to act with, or NEWEST_VERSION."""
    slot: int
    """Index of the slot to fill."""
    step: int
    """Environment steps that the run scheduled before this rollout."""

    @property
    def takes_newest(self) -> bool:
        """Whether the rollout acts with the newest weights instead of a fixed version."""
        return self.version == NEWEST_VERSION


@dataclass(frozen=True)
class Steps:
    """T steps of B environments. Row t holds observation, action, reward and flags of step t.

    Autoreset is next-step: the observation after an episode's last step is that episode's last one, and the step that
    follows only resets the environment. `reset` marks these steps; losses mask them.
    """

    frames: Tensor
    """[T+S, B, *frame]: single frames; the stack of S frames observed at step t ends in row t+S-1."""
    action: Tensor
    """[T, B, …], shape and dtype as `Actions` describes."""
    reward: Tensor
    """[T, B] float32, as returned by the environment."""
    terminated: Tensor
    """[T, B] bool: the episode terminated with this step (not truncated)."""
    reset: Tensor
    """[T+1, B] bool: step t is a reset step, whose action is ignored, or padding. Row T is of the next rollout's step."""
    seed_and_steps: Tensor
    """[2, B] int64: each environment's last seed, and its steps since then at the end of the rollout; -1 if these do not
    determine its state."""
    extras: Mapping[str, Tensor]
    """[T, B, …]: the extras of `ActionOutput`, by name."""


@dataclass(frozen=True)
class Rollout(Steps):
    """The views of one slot."""

    frames_since_reset: Tensor
    """[B] int32: number of frames of the same episode before the newest one at step 0."""
    state: Tensor
    """[B, S] float32: recurrent state before step 0."""
    stamp: Tensor
    """[3] int64: ticket number, actor and weights version; `check` compares it with the ticket."""
    restarts: Tensor
    """[1] int64: restarts of the actor's environment workers since the beginning of the run."""
    timing: Tensor
    """[7] float64: the actor's seconds in each of `ACTOR_STAGES` since its last rollout, the `Processor` times of its
    thread so far, and the time of this rollout's completion on the clock `perf_counter`."""
    starts_reset: Tensor
    """[1] bool: all environments were reset right before step 0, so nothing continues the previous rollout."""
    next_frames_since_reset: Tensor
    """[2, B] int32: `frames_since_reset` before the next rollout's first step, and after this rollout's last step."""
    next_state: Tensor
    """[2, B, S] float32: `state` at the same two steps."""

    @property
    def valid(self) -> Tensor:
        """[T, B] bool: steps of an episode, neither reset steps nor padding."""
        return ~self.reset[:-1]

    @property
    def done(self) -> Tensor:
        """[T, B] bool: the episode ended with this step, by termination or truncation."""
        return self.reset[1:] & self.valid

    def until(self, steps: int) -> Rollout:
        """Return the first `steps` steps, as views."""
        if steps == len(self.reward):
            return self
        missing = len(self.reward) - steps
        per_step = dict(frames=self.frames[:-missing], reset=self.reset[:-missing])
        per_step |= {name: getattr(self, name)[:steps] for name in ("action", "reward", "terminated")}
        return replace(self, **per_step, extras={name: x[:steps] for name, x in self.extras.items()})

    def to(self, device: torch.device | str) -> Rollout:
        """Return what is learned from on `device`: a copy, or this rollout if it is there already.

        A copy from pinned memory may be under way when this returns: the slot must not be filled before it is done.
        """
        if self.frames.device == torch.device(device):
            return self
        names = ("frames", "action", "reward", "terminated", "reset", "frames_since_reset", "state")
        moved: dict[str, Any] = {name: getattr(self, name).to(device, non_blocking=True) for name in names}
        extras = {name: x.to(device, non_blocking=True) for name, x in self.extras.items()}
        return replace(self, **moved, extras=extras)

    def of_envs(self, start: int, stop: int) -> Rollout:
        """Return the environments `start` to `stop`, as views."""
        own = slice(start, stop)
        per_step = ("frames", "action", "reward", "terminated", "reset", "seed_and_steps")
        after = ("next_frames_since_reset", "next_state")
        columns = {name: getattr(self, name)[:, own] for name in (*per_step, *after)}
        columns |= {name: getattr(self, name)[own] for name in ("frames_since_reset", "state")}
        return replace(self, **columns, extras={name: x[:, own] for name, x in self.extras.items()})

    def carry(self, start: int) -> RolloutCarry:
        """Copy the beginning of the next rollout: the steps from `start` on, and the frames of its first stack."""
        return RolloutCarry(
            frames=self.frames[start:].clone(),
            frames_since_reset=self.next_frames_since_reset.clone(),
            state=self.next_state.clone(),
            action=self.action[start:].clone(),
            reward=self.reward[start:].clone(),
            terminated=self.terminated[start:].clone(),
            reset=self.reset[start:].clone(),
            seed_and_steps=self.seed_and_steps.clone(),
            extras={name: x[start:].clone() for name, x in self.extras.items()},
        )

    def start_from(self, carry: RolloutCarry) -> int:
        """Write the previous rollout's `carry` as the first steps, and return their number."""
        steps, old_frames = len(carry.reward), len(carry.frames) - 1
        self.frames_since_reset.copy_(carry.frames_since_reset[0])
        self.state.copy_(carry.state[0])
        self.frames[:old_frames] = carry.frames[:-1]
        self.reset[: steps + 1] = carry.reset
        for name in ("action", "reward", "terminated"):
            getattr(self, name)[:steps] = getattr(carry, name)
        for name, value in carry.extras.items():
            self.extras[name][:steps] = value
        return steps

    def write_timing(self, stopwatch: Stopwatch) -> None:
        """Write `timing` and take the stopwatch's times: the rollout is complete."""
        seconds = stopwatch.take()
        self.timing.numpy()[:] = [*(seconds.get(x, 0.0) for x in ACTOR_STAGES), *stopwatch.processor, stopwatch.at]

    def check(self, ticket: Ticket) -> None:
        """Raise ScheduleError unless this is the rollout that `ticket` requested."""
        number, actor, version = self.stamp.tolist()
        if (number, actor) != (ticket.number, ticket.actor) or not (ticket.takes_newest or ticket.version == version):
            raise ScheduleError(
                f"slot {ticket.slot} holds rollout {number} of actor {actor} with weights version {version}, "
                f"but {ticket} was requested"
            )


class StepArrays(NamedTuple):
    """NumPy views of what an actor writes in every step: a row is written in a tenth of the time that a tensor's takes."""

    frames: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    reset: np.ndarray

    @classmethod
    def of(cls, rollout: Rollout) -> StepArrays:
        """Return views of the fields of `rollout`."""
        return cls(*(getattr(rollout, name).numpy() for name in cls._fields))


def envs_of(rollouts: Sequence[Rollout], start: int, stop: int) -> list[Rollout]:
    """Return the environments `start` to `stop` of rollouts side by side, as views."""
    found, first = [], 0
    for rollout in rollouts:
        count = rollout.reward.shape[1]
        own = max(0, start - first), min(count, stop - first)
        if own[0] < own[1]:
            found.append(rollout.of_envs(*own))
        first += count
    return found


@dataclass(frozen=True)
class RolloutCarry(Steps):
    """The steps and states that an actor's next rollout begins with: the last `overlap` steps of the previous one."""

    frames_since_reset: Tensor
    """[2, B] int32: `Rollout.frames_since_reset` before these steps and after them."""
    state: Tensor
    """[2, B, S] float32: recurrent state before these steps and after them."""

    def tensors(self) -> dict[str, Tensor]:
        """Return the fields by name, for `of`."""
        own = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "extras"}
        return own | {f"extras.{name}": x for name, x in self.extras.items()}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> RolloutCarry:
        """Return the carry with these `tensors`."""
        extras = {name.removeprefix("extras."): x for name, x in tensors.items() if name.startswith("extras.")}
        return cls(**{name: x for name, x in tensors.items() if not name.startswith("extras.")}, extras=extras)


class Field(NamedTuple):
    """Shape and dtype of one array in a slot."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of the array, rounded up to the alignment."""
        return aligned(math.prod(self.shape) * self.dtype.itemsize)

    def view(self, memory: Tensor, offset: int) -> Tensor:
        """Return a view of the array in `memory` [bytes] uint8, from byte `offset` on."""
        size = math.prod(self.shape) * self.dtype.itemsize
        return memory[offset : offset + size].view(self.dtype).view(self.shape)


@dataclass(frozen=True)
class Layout:
    """The memory layout of a slot. All shapes of a rollout are declared here."""

    steps: int
    """T: steps of a rollout."""
    envs: int
    """B: environments of an actor."""
    stack: int
    """Frames per observation."""
    frame: Field
    """A frame of one environment."""
    action: Field
    """An action in one environment."""
    state: int = 0
    """S: size of the recurrent state."""
    extras: tuple[tuple[str, Field], ...] = ()
    """Name and field of each entry of `ActionOutput.extras`, per environment."""

    def fields(self) -> dict[str, Field]:
        """Return shape and dtype of every array of a slot, by name."""
        t, b = self.steps, self.envs
        return {
            "frames": Field((t + self.stack, b, *self.frame.shape), self.frame.dtype),
            "frames_since_reset": Field((b,), torch.int32),
            "state": Field((b, self.state), torch.float32),
            "action": Field((t, b, *self.action.shape), self.action.dtype),
            "reward": Field((t, b), torch.float32),
            "terminated": Field((t, b), torch.bool),
            "reset": Field((t + 1, b), torch.bool),
            "stamp": Field((3,), torch.int64),
            "restarts": Field((1,), torch.int64),
            "timing": Field((len(ACTOR_STAGES) + 3,), torch.float64),
            "starts_reset": Field((1,), torch.bool),
            "next_frames_since_reset": Field((2, b), torch.int32),
            "next_state": Field((2, b, self.state), torch.float32),
            "seed_and_steps": Field((2, b), torch.int64),
            **{f"extras.{name}": Field((t, b, *field.shape), field.dtype) for name, field in self.extras},
        }

    @property
    def extra_names(self) -> tuple[str, ...]:
        """Names of the fields that hold extras."""
        return tuple(f"extras.{name}" for name, _ in self.extras)

    @property
    def nbytes(self) -> int:
        """Bytes of one slot."""
        return sum(field.nbytes for field in self.fields().values())

    def slot(self, memory: Tensor, offset: int) -> Rollout:
        """Return the slot at byte `offset` of `memory` [bytes] uint8, as views."""
        views = {}
        for name, field in self.fields().items():
            views[name] = field.view(memory, offset)
            offset += field.nbytes
        extras = {name: views.pop(f"extras.{name}") for name, _ in self.extras}
        return Rollout(**views, extras=extras)
