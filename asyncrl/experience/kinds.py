"""What an algorithm asks for, as data: the learner and the schedule read it, nobody branches on names."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Fresh"]


@dataclass(frozen=True)
class Fresh:
    """Every rollout is learned from once, as soon as it is there."""

    steps: int
    """T: steps per rollout and environment."""
