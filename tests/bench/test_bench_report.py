"""`asyncrl bench`: short trainings, of which only the part that learns is measured."""

from __future__ import annotations

import signal

import pytest

from asyncrl.api import configure
from asyncrl.bench.report import bench
from asyncrl.bench.trials import RecordCollector
from asyncrl.monitor import Record
from asyncrl.runs.config.run_config import EngineKind


def test_a_method_that_learns_late_is_measured_while_it_learns() -> None:
    late = dict(learning_starts=10_000_000, capacity=20_000_000, steps=30_000_000)
    report = bench(configure("worlds:Corridor-v0", "dqn", engine="serial", eval_episodes=0, **late), 0.1)
    assert report.verdict["learner"]["forward"] > 0.2
    assert report.config.algorithm.experience().replay.learning_starts == 10_000_000  # type: ignore[union-attr]


def test_hogwild_is_measured() -> None:
    report = bench(configure("worlds:Corridor-v0", "a3c", engine="hogwild", actors=1, eval_episodes=0), 0.1)
    assert report.config.engine is EngineKind.HOGWILD
    assert report.end_to_end > 0


def test_nothing_is_reported_of_a_training_that_a_signal_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    write = RecordCollector.write

    def write_and_interrupt(collector: RecordCollector, record: Record) -> None:
        write(collector, record)
        if len(collector.records) == 4 and record["kind"] == "train":
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(RecordCollector, "write", write_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        bench(configure("worlds:Corridor-v0", "a3c", engine="serial", eval_episodes=0), 0.1)
