"""The memory that actors and learner share: slots for rollouts and buffers for weights, allocated once.

Every buffer of weights is stamped with its version and every slot with its ticket. Whoever reads
checks the stamp, so a wrong interleaving is an error and never wrong data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from asyncrl.acting.playback import RolloutSource
from asyncrl.errors import ScheduleError
from asyncrl.experience.rollout import Field, Layout, Ticket

__all__ = ["Memory", "MemoryPlan"]

_WRITING = -1


@dataclass(frozen=True)
class MemoryPlan:
    """How much of what; plain data that may cross to another process."""

    layout: Layout
    slots: int
    weight_buffers: int
    weights: int
    """Number of parameters."""
    publish_every: int = 1
    """Versions of the weights are multiples of this."""

    device: str = "cpu"
    """Where the weights are: on a GPU if learner and actors, in one process, have it in common."""

    @property
    def nbytes(self) -> int:
        """Of slots and stamps; weights on the CPU lie in the same piece."""
        return self.slots * self.layout.nbytes + sum(field.nbytes for field in self.fields())

    def fields(self) -> list[Field]:
        """The versions that the buffers hold, the newest version, and the buffers themselves where they are on the CPU."""
        stamps = [Field((self.weight_buffers,), torch.int64), Field((1,), torch.int64)]
        return [*stamps, self.buffers] if self.device == "cpu" else stamps

    @property
    def buffers(self) -> Field:
        return Field((self.weight_buffers, self.weights), torch.float32)

    def allocate(self) -> Tensor:
        """The memory itself, [nbytes] uint8, for actors in this process."""
        return torch.zeros(self.nbytes, dtype=torch.uint8)


class Memory:
    """Views on the shared memory."""

    def __init__(self, plan: MemoryPlan, memory: Tensor) -> None:
        self.slots = [plan.layout.slot(memory, i * plan.layout.nbytes) for i in range(plan.slots)]
        offset = plan.slots * plan.layout.nbytes
        views = []
        for field in plan.fields():
            views.append(field.view(memory, offset))
            offset += field.nbytes
        self._versions, self._newest, *on_cpu = views
        self._weights = on_cpu[0] if on_cpu else torch.zeros(plan.buffers.shape, dtype=torch.float32, device=plan.device)
        self._publish_every = plan.publish_every

    def publish(self, version: int, weights: Tensor) -> None:
        """Write weights [P] as `version`; the learner alone does this."""
        buffer = self._buffer(version)
        self._versions[buffer] = _WRITING
        self._weights[buffer].copy_(weights)
        self._versions[buffer] = version
        self._newest[0] = version

    def fill(self, actor: RolloutSource, ticket: Ticket) -> None:
        """Have `actor` make the rollout that `ticket` orders, with the weights it says."""
        slot = self.slots[ticket.slot]
        slot.stamp.fill_(_WRITING)
        version = self._load(ticket, actor.policy.load)
        actor.collect(ticket, slot)
        slot.stamp.copy_(torch.tensor([ticket.number, ticket.actor, version]))

    def _buffer(self, version: int) -> int:
        """Where a version's weights are."""
        return version // self._publish_every % len(self._weights)

    def _load(self, ticket: Ticket, load: Callable[[Tensor], None]) -> int:
        """Copy the weights; read the stamp before and after, as the learner may be writing (`free`)."""
        for _ in range(1000):
            version = int(self._newest[0]) if ticket.takes_newest else ticket.version
            buffer = self._buffer(version)
            before = int(self._versions[buffer])
            load(self._weights[buffer])
            after = int(self._versions[buffer])
            if before == after == version:
                return version
            if not ticket.takes_newest:
                raise ScheduleError(f"weights {version} are gone: their buffer holds {before}, then {after}; {ticket}")
        raise ScheduleError(f"the learner published faster than actor {ticket.actor} could copy, 1000 times in a row")
