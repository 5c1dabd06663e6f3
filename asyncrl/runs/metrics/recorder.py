"""Writes the records of a run to its monitor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor

from asyncrl.learner import Learner
from asyncrl.monitor import Record
from asyncrl.runs.checkpoints.manifest import Rewind
from asyncrl.runs.context import RunContext
from asyncrl.runs.every import Every
from asyncrl.runs.metrics.statistics import Episode, RunStatistics
from asyncrl.runs.speed.verdict import Advisor, Verdict

__all__ = ["Recorder"]

_STAGES_EVERY = 1.0
"""Seconds between records of stages, at least."""


class Recorder:
    """Writes every finished episode, and a `train` record of the updates since the last one whenever it is due."""

    def __init__(self, context: RunContext, statistics: RunStatistics) -> None:
        self._config = context.config
        self._monitor = context.monitor
        self._statistics = statistics
        self._advisor = Advisor(context.config, context.contract)
        self._every = Every(context.config.log_every)
        self._recorded = -1  # the update of the newest train record
        self._rewinds: set[int] = set()  # numbers of the rewinds that are in metrics.jsonl

    def record_update(self, learner: Learner, metrics: Mapping[str, Tensor | float], episodes: Sequence[Episode]) -> None:
        """Write the episodes that ended, and a train record if one is due or the run has taken all its steps."""
        self._statistics.updated(learner.updates, learner.step, metrics)
        for record in self._statistics.records(episodes):
            self._monitor.write(record)
        due = self._every.is_due(learner.step) or learner.step >= self._config.steps
        if due and self._recorded != learner.updates:
            self._monitor.write(self._statistics.record())
            self._recorded = learner.updates
            self._every.mark(learner.step)
            if self._statistics.stages.since_mark >= _STAGES_EVERY or learner.step >= self._config.steps:
                self._record_stages()

    def _record_stages(self) -> None:
        """Write where the time went since this was last written, and the verdict on the last half minute or more."""
        stages = self._statistics.stages
        times = stages.mark()
        if times is not None:
            self._monitor.write(self._statistics.staged(times, self._advisor.judge(stages.recent())))

    def record_verdict(self) -> Verdict:
        """Write and return the verdict on the whole run, or on the part of it since it was resumed."""
        times = self._statistics.stages.total()
        verdict = self._advisor.judge(times)
        self._monitor.write(self._statistics.judged(times, verdict))
        return verdict

    def record_rewinds(self, rewinds: Sequence[Rewind], step: int) -> None:
        """Write and report the rewinds to `step` that are not in metrics.jsonl yet."""
        for number, rewind in enumerate(rewinds, 1):
            if number not in self._rewinds:
                self._rewinds.add(number)
                self._monitor.write(self._statistics.rewound(number, rewind.step, rewind.learning_rate, rewind.reason))
                self._monitor.say(
                    f"Training diverged at step {rewind.step:,}: {rewind.reason} Rewinding to step {step:,} with "
                    f"--learning-rate {rewind.learning_rate:g} (rewind {number})."
                )

    def restore(self, records: Iterable[Record]) -> None:
        """Continue after these records of the run's earlier part."""
        for record in records:
            if record["kind"] == "train":
                self._recorded = record["update"]
                self._every.mark(record["step"])
            elif record["kind"] == "rewind":
                self._rewinds.add(record.get("number", 0))
