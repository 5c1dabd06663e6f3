"""`asyncrl bench`: short trainings, of which only the part that learns is measured."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from asyncrl.api import configure
from asyncrl.bench.report import bench
from asyncrl.bench.trials import RecordCollector, train_briefly
from asyncrl.common.signals import Interrupt, Terminated
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


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGINT, Interrupt), (signal.SIGTERM, Terminated)])
def test_nothing_is_reported_of_a_training_that_a_signal_stopped(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals, raised: type[Interrupt]
) -> None:
    write = RecordCollector.write

    def write_and_interrupt(collector: RecordCollector, record: Record) -> None:
        write(collector, record)
        if len(collector.records) == 4 and record["kind"] == "train":
            signal.raise_signal(number)

    monkeypatch.setattr(RecordCollector, "write", write_and_interrupt)
    with pytest.raises(Interrupt) as end:
        bench(configure("worlds:Corridor-v0", "a3c", engine="serial", eval_episodes=0), 0.1)
    assert end.type is raised  # and so the exit code of the command


def test_a_signal_in_a_trial_is_the_one_that_ends_the_command(tmp_path: Path) -> None:
    kwargs = json.dumps({"sent": str(tmp_path / "sent"), "name": "SIGTERM"})
    with pytest.raises(Terminated):
        train_briefly(configure("worlds:Signalling-v0", "a3c", engine="serial", env_kwargs=kwargs), 60.0)
