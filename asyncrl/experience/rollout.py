"""The one thing that travels: T steps of B environments, time-major, in a slot of shared memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import torch
from torch import Tensor

from asyncrl.common.alignment import aligned
from asyncrl.errors import ScheduleError

__all__ = ["NEWEST_VERSION", "Field", "Layout", "Rollout", "RolloutCarry", "Ticket"]


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
    """T steps of B environments. Row t holds what was seen, done and got at step t.

    Autoreset is next-step: the observation after an episode's last step is that episode's true last
    one, and the step that follows only resets. `reset` marks those steps; no loss may see them.
    """

    frames: Tensor
    """[T+S, B, *frame] single frames; the stack of S that was seen at step t ends in row t+S-1."""
    action: Tensor
    """[T, B, …] as `Actions` says"""
    reward: Tensor
    """[T, B] float32, as the environment gave it"""
    terminated: Tensor
    """[T, B] bool: the future is worth nothing"""
    reset: Tensor
    """[T+1, B] bool: step t resets, its action is ignored (or it is padding). Row T belongs to the next rollout."""
    seed_and_steps: Tensor
    """[2, B] int64: what each environment was last seeded with, and how many steps before the end; -1 where that does not
    say where it is."""
    extras: Mapping[str, Tensor]
    """[T, B, …] what the policy said when it extras, by name"""


@dataclass(frozen=True)
class Rollout(Steps):
    """Views on one slot."""

    frames_since_reset: Tensor
    """[B] int32: how many frames before the newest one at step 0 belong to the same episode."""
    state: Tensor
    """[B, S] float32: what the network that acted remembered before step 0."""
    stamp: Tensor
    """[3] int64: ticket number, actor, weights version. Checked, never trusted."""
    restarts: Tensor
    """[1] int64: workers of the actor's environments that were started again, since the run began."""
    starts_reset: Tensor
    """[1] bool: every environment was just reset, nothing before belongs to its episode."""
    next_frames_since_reset: Tensor
    """[2, B] int32: as `frames_since_reset`, before the next rollout's first step, and after this one's last."""
    next_state: Tensor
    """[2, B, S] float32: as `state`, likewise."""

    @property
    def valid(self) -> Tensor:
        """[T, B] bool: a real step."""
        return ~self.reset[:-1]

    @property
    def done(self) -> Tensor:
        """[T, B] bool: the episode ended with this step, by termination or truncation."""
        return self.reset[1:] & self.valid

    def until(self, steps: int) -> Rollout:
        """The first `steps` steps."""
        if steps == len(self.reward):
            return self
        missing = len(self.reward) - steps
        per_step = dict(frames=self.frames[:-missing], reset=self.reset[:-missing])
        per_step |= {name: getattr(self, name)[:steps] for name in ("action", "reward", "terminated")}
        return replace(self, **per_step, extras={name: x[:steps] for name, x in self.extras.items()})

    def carry(self, border: int) -> RolloutCarry:
        """A copy of what the next rollout begins with: the steps from `border` on, the frames of its first stack."""
        return RolloutCarry(
            frames=self.frames[border:].clone(),
            frames_since_reset=self.next_frames_since_reset.clone(),
            state=self.next_state.clone(),
            action=self.action[border:].clone(),
            reward=self.reward[border:].clone(),
            terminated=self.terminated[border:].clone(),
            reset=self.reset[border:].clone(),
            seed_and_steps=self.seed_and_steps.clone(),
            extras={name: x[border:].clone() for name, x in self.extras.items()},
        )

    def start_from(self, carry: RolloutCarry) -> int:
        """Write what the rollout before left over as the first steps; returns how many that are."""
        known, older = len(carry.reward), len(carry.frames) - 1
        self.frames_since_reset.copy_(carry.frames_since_reset[0])
        self.state.copy_(carry.state[0])
        self.frames[:older] = carry.frames[:-1]
        self.reset[: known + 1] = carry.reset
        for name in ("action", "reward", "terminated"):
            getattr(self, name)[:known] = getattr(carry, name)
        for name, value in carry.extras.items():
            self.extras[name][:known] = value
        return known

    def check(self, ticket: Ticket) -> None:
        """Raise ScheduleError unless this is the rollout that `ticket` ordered."""
        number, actor, version = self.stamp.tolist()
        if (number, actor) != (ticket.number, ticket.actor) or not (ticket.takes_newest or ticket.version == version):
            raise ScheduleError(
                f"slot {ticket.slot} holds rollout {number} of actor {actor} made with weights {version}; "
                f"{ticket} was ordered."
            )


@dataclass(frozen=True)
class RolloutCarry(Steps):
    """What a rollout leaves to the next one of its actor: its last steps, which are the next one's first."""

    frames_since_reset: Tensor
    """[2, B] int32: as a rollout's, before these steps and after them."""
    state: Tensor
    """[2, B, S] float32: as a rollout's, likewise."""

    def tensors(self) -> dict[str, Tensor]:
        """Its fields by name; `of` takes them."""
        own = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "extras"}
        return own | {f"extras.{name}": x for name, x in self.extras.items()}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> RolloutCarry:
        """The tail whose `tensors` these are."""
        extras = {name.removeprefix("extras."): x for name, x in tensors.items() if name.startswith("extras.")}
        return cls(**{name: x for name, x in tensors.items() if not name.startswith("extras.")}, extras=extras)


class Field(NamedTuple):
    """Shape and dtype of one array inside a slot."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        return aligned(math.prod(self.shape) * self.dtype.itemsize)

    def view(self, memory: Tensor, offset: int) -> Tensor:
        """This field as it lies in `memory` (uint8, one-dimensional) from `offset` bytes on."""
        size = math.prod(self.shape) * self.dtype.itemsize
        return memory[offset : offset + size].view(self.dtype).view(self.shape)


@dataclass(frozen=True)
class Layout:
    """How a slot is laid out in memory; the only place where a rollout's shapes are declared."""

    steps: int
    envs: int
    stack: int
    frame: Field
    """One frame of one environment."""
    action: Field
    """One action of one environment."""
    state: int = 0
    """S: numbers that the network remembers per environment."""
    extras: tuple[tuple[str, Field], ...] = ()
    """What the algorithm keeps per step and environment."""

    def fields(self) -> dict[str, Field]:
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
            "starts_reset": Field((1,), torch.bool),
            "next_frames_since_reset": Field((2, b), torch.int32),
            "next_state": Field((2, b, self.state), torch.float32),
            "seed_and_steps": Field((2, b), torch.int64),
            **{f"extras.{name}": Field((t, b, *field.shape), field.dtype) for name, field in self.extras},
        }

    @property
    def extra_names(self) -> tuple[str, ...]:
        """The fields that hold what the policy said."""
        return tuple(f"extras.{name}" for name, _ in self.extras)

    @property
    def nbytes(self) -> int:
        """Bytes of one slot."""
        return sum(field.nbytes for field in self.fields().values())

    def slot(self, memory: Tensor, offset: int) -> Rollout:
        """The slot that begins `offset` bytes into `memory`."""
        views = {}
        for name, field in self.fields().items():
            views[name] = field.view(memory, offset)
            offset += field.nbytes
        extras = {name: views.pop(f"extras.{name}") for name, _ in self.extras}
        return Rollout(**views, extras=extras)
