"""Where the time of an actor or a learner goes: seconds by stage of its work."""

from __future__ import annotations

from time import perf_counter

__all__ = ["ACTOR_STAGES", "LEARNER_STAGES", "Stopwatch"]

ACTOR_STAGES = ("environments", "acting", "waiting", "other")
"""Stepping environments, the policy's forward pass, waiting for a request and a slot, and the rest."""
LEARNER_STAGES = (
    *("waiting", "batch", "forward", "backward", "optimizer", "publish"),
    *("evaluation", "checkpoint", "other"),
)
"""Stages of the learner, in the order of an update."""


class Stopwatch:
    """Divides the time of one thread into stages: `lap` adds the time since the last lap to a stage."""

    __slots__ = ("at", "seconds")

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        """Time by stage, in seconds"""
        self.at = perf_counter()
        """The time of the last lap"""

    def lap(self, stage: str) -> None:
        """Add the time since the last lap to `stage`."""
        now = perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self.at
        self.at = now

    def take(self) -> dict[str, float]:
        """Return the times by stage, and start again from zero."""
        taken, self.seconds = self.seconds, {}
        return taken
