"""Shared memory of actors and learner: rollout slots and weight buffers, allocated once.

Every weight buffer is stamped with its version and every slot with its ticket. Readers check the stamps, so that a wrong
interleaving raises an error instead of corrupting data.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from asyncrl.acting.playback import RolloutSource
from asyncrl.common.torch_setup import wait_for_gpu
from asyncrl.errors import ScheduleError
from asyncrl.experience.rollout import Field, Layout, Rollout, Ticket

__all__ = ["Memory", "MemoryPlan", "fill"]

_BEING_WRITTEN = -1
"""The stamp of a buffer or slot during a write."""
_MAX_READS = 1000


@dataclass(frozen=True)
class MemoryPlan:
    """The sizes of a `Memory`; plain data that can be sent to another process."""

    layout: Layout
    """Of one slot."""
    num_slots: int
    num_buffers: int
    """Weight buffers."""
    num_weights: int
    """Parameters of the network."""
    publish_every: int = 1
    """Published versions are multiples of this."""
    device: str = "cpu"
    """Device of the weight buffers; a GPU if learner and actors share one process and act there."""
    is_pinned: bool = False
    """The learner copies rollouts to a GPU, which is faster from pinned memory."""
    num_actors: int = 1

    @property
    def nbytes(self) -> int:
        """Bytes of slots and stamps, and of the weight buffers if they are on the CPU."""
        return self.num_slots * self.layout.nbytes + sum(field.nbytes for field in self.fields())

    def fields(self) -> list[Field]:
        """Return what follows the slots: the buffers' versions, the newest one, steps, and on the CPU the buffers."""
        counts = [Field((count,), torch.int64) for count in (self.num_buffers, 1, self.num_actors)]
        return [*counts, self.buffers] if self.device == "cpu" else counts

    @property
    def buffers(self) -> Field:
        """The weight buffers, [num_buffers, P] float32."""
        return Field((self.num_buffers, self.num_weights), torch.float32)

    def allocate(self) -> Tensor:
        """Return zeroed memory, [nbytes] uint8, for actors in this process."""
        if self.is_pinned:
            with contextlib.suppress(RuntimeError):  # the system allows no pinned memory, or not so much of it
                return torch.zeros(self.nbytes, dtype=torch.uint8, pin_memory=True)
        return torch.zeros(self.nbytes, dtype=torch.uint8)


class Memory:
    """Views of the shared memory [nbytes] uint8 that a plan describes."""

    def __init__(self, plan: MemoryPlan, memory: Tensor) -> None:
        self.slots = [plan.layout.slot(memory, i * plan.layout.nbytes) for i in range(plan.num_slots)]
        offset = plan.num_slots * plan.layout.nbytes
        views = []
        for field in plan.fields():
            views.append(field.view(memory, offset))
            offset += field.nbytes
        self._versions, self._newest, steps, *on_cpu = views
        self._steps: np.ndarray = steps.numpy()  # whose elements are counted up in a fraction of the time
        self._weights = on_cpu[0] if on_cpu else torch.zeros(plan.buffers.shape, dtype=torch.float32, device=plan.device)
        self._publish_every = plan.publish_every

    @property
    def steps(self) -> int:
        """Steps that all actors have taken, those that restore their environments included."""
        return int(self._steps.sum())

    def count_step(self, actor: int) -> None:
        """Count a step of `actor`. Only the actor may call this."""
        self._steps[actor] += 1

    def publish(self, version: int, weights: Tensor) -> None:
        """Write weights [P] float32 as `version`. Only the learner may call this."""
        buffer = self._buffer(version)
        self._versions[buffer] = _BEING_WRITTEN
        self._weights[buffer].copy_(weights)
        wait_for_gpu(self._weights)
        self._versions[buffer] = version
        self._newest[0] = version

    def fill(self, actor: RolloutSource, ticket: Ticket) -> None:
        """Let `actor` collect the ticket's rollout into its slot, acting with the ticket's version of the weights.

        Raises ScheduleError if that version was overwritten.
        """
        fill(self.slots[ticket.slot], actor, ticket, lambda: self._load(ticket, actor.policy.load))

    def _buffer(self, version: int) -> int:
        """Return the index of the buffer for a version."""
        return version // self._publish_every % len(self._weights)

    def _load(self, ticket: Ticket, load: Callable[[Tensor], None]) -> int:
        """Load the ticket's version of the weights, or the newest, and return its number.

        The stamp is read before and after, as with schedule `free` the learner may be writing to the buffer.
        """
        for _ in range(_MAX_READS):
            version = int(self._newest[0]) if ticket.takes_newest else ticket.version
            buffer = self._buffer(version)
            before = int(self._versions[buffer])
            load(self._weights[buffer])
            wait_for_gpu(self._weights)
            after = int(self._versions[buffer])
            if before == after == version:
                return version
            if not ticket.takes_newest:
                raise ScheduleError(f"weights {version} were overwritten: buffer holds {before}, then {after}; {ticket}")
        raise ScheduleError(f"actor {ticket.actor} found no complete weights in {_MAX_READS} reads: the learner is faster")


def fill(slot: Rollout, actor: RolloutSource, ticket: Ticket, load: Callable[[], int]) -> None:
    """Let `actor` collect the ticket's rollout into `slot`; `load` loads its weights and returns their version."""
    actor.stopwatch.lap("waiting")
    slot.stamp.fill_(_BEING_WRITTEN)
    version = load()
    actor.collect(ticket, slot)
    actor.stopwatch.lap("other")
    slot.write_timing(actor.stopwatch)
    slot.stamp.copy_(torch.tensor([ticket.number, ticket.actor, version]))
