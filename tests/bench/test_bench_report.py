"""`asyncrl bench`: short trainings, of which only the part that learns is measured."""

from __future__ import annotations

from asyncrl.api import configure
from asyncrl.bench.report import bench


def test_a_method_that_learns_late_is_measured_while_it_learns() -> None:
    late = dict(learning_starts=10_000_000, capacity=20_000_000, steps=30_000_000)
    report = bench(configure("worlds:Corridor-v0", "dqn", engine="serial", eval_episodes=0, **late), 0.1)
    assert report.verdict["learner"]["forward"] > 0.2
    assert report.config.algorithm.experience().replay.learning_starts == 10_000_000  # type: ignore[union-attr]
