"""A metrics.jsonl is followed while it grows, is torn, replaced and huge."""

from __future__ import annotations

import itertools
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from asyncrl.runs.metrics.follower import MetricsFollower
from asyncrl.runs.metrics.series import Series


def line(kind: str, step: int, **fields: Any) -> str:
    return json.dumps({"step": step, "update": step // 10, "time": step / 100, "kind": kind, **fields}) + "\n"


def episode(step: int, score: float) -> str:
    return line("episode", step, **{"return": score, "length": step % 50, "actor": 0, "env": 1})


def append(path: Path, *lines: str) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.writelines(lines)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def test_what_is_appended_is_read_and_a_torn_line_waits_for_its_end(path: Path) -> None:
    follower = MetricsFollower(path)
    assert not follower.read()
    append(
        path,
        line("train", 10, loss=1.0),
        line("eval", 10, mean=3.0, iqm_interval=[2.0, 4.0]),
        line("train", 20, loss=0.5)[:25],
    )
    assert follower.read()
    assert list(follower.series["train"].columns["loss"]) == [1.0]
    assert follower.series["eval"].last["mean"] == 3.0
    assert not follower.read()
    append(path, line("train", 20, loss=0.5)[25:])
    assert follower.read()
    assert list(follower.series["train"].columns["loss"]) == [1.0, 0.5]


def test_damaged_lines_are_skipped(path: Path) -> None:
    path.write_bytes(
        b'{"kind": "train", "ste\n\xff\xfe\n[1]\n{"kind": "episode", "return": x, }\n'
        + line("train", 10, loss=2.0).encode()
    )
    follower = MetricsFollower(path)
    follower.read()
    assert list(follower.series["train"].columns["loss"]) == [2.0]
    assert follower.ranking.best == []


@pytest.mark.parametrize("change", ["shorter", "replaced", "removed"])
def test_a_file_that_is_not_the_same_is_read_again(path: Path, change: str) -> None:
    append(path, *(line("train", step, loss=1.0) for step in range(10, 60, 10)))
    follower = MetricsFollower(path)
    follower.read()
    fewer = line("train", 10, loss=7.0)
    if change == "shorter":
        path.write_text(fewer, encoding="utf-8")
    elif change == "replaced":
        new = path.with_name("new")
        new.write_text(fewer, encoding="utf-8")
        os.replace(new, path)
    else:
        path.unlink()
    assert follower.read()
    assert follower.generation == 1
    losses = [] if change == "removed" else [7.0]
    assert [list(series.columns["loss"]) for series in follower.series.values()] == ([losses] if losses else [])


def test_of_many_episodes_the_best_the_worst_the_newest_and_a_sample_are_kept(path: Path) -> None:
    scores = [(step * 7919) % 30_011 for step in range(30_000)]
    append(path, *(episode(step, score) for step, score in enumerate(scores)), line("train", 30_000, loss=1.0))
    append(path, *(episode(30_000 + step, -step) for step in range(30)))
    follower = MetricsFollower(path)
    while follower.read() or follower.is_behind:
        pass
    assert [one["return"] for one in follower.ranking.best] == sorted(scores, reverse=True)[:20]
    assert [one["return"] for one in follower.ranking.worst] == [-float(29 - n) for n in range(20)]
    assert [one["step"] for one in follower.latest] == list(range(30_010, 30_030))
    assert follower.ranking.episodes == 30_030
    steps = list(follower.sample.columns["step"])
    assert 4_000 < len(steps) < 8_193
    assert steps == sorted(set(steps))
    assert max(b - a for a, b in itertools.pairwise(steps)) < 15
    assert list(follower.series["train"].columns["loss"]) == [1.0]


def test_a_video_with_the_return_of_an_episode_does_not_hide_it(path: Path) -> None:
    append(path, line("video", 9, **{"return": 21.0, "length": 3}), episode(10, 21.0), episode(11, 20.0))
    follower = MetricsFollower(path)
    follower.read()
    assert [one["return"] for one in follower.ranking.best] == [21.0, 20.0]


def test_a_sample_is_halved_as_a_file_grows(path: Path) -> None:
    follower = MetricsFollower(path)
    for begin in range(0, 40_000, 2_000):
        append(path, *(episode(step, float(step)) for step in range(begin, begin + 2_000)))
        follower.read()
    steps = list(follower.sample.columns["step"])
    assert 2_000 < len(steps) <= 8_193
    assert steps == sorted(set(steps))
    assert steps[-1] > 39_000


def test_small_and_large_numbers_keep_their_digits() -> None:
    series = Series()
    series.add({"step": 123_456_789, "update": 1, "time": 0.1, "kind": "train", "learning_rate": 2.34567e-7})
    assert series.since(0)["step"] == [123_456_789]
    assert series.since(0)["learning_rate"] == [2.34567e-7]


def test_the_loss_of_a_run_that_diverges_is_kept() -> None:
    series = Series()
    for step, loss in enumerate([1.0, 1e30, math.nan, math.inf]):
        series.add({"step": step, "update": step, "time": 0.0, "kind": "train", "loss": loss})
    assert series.since(0)["loss"] == [1.0, 1e30, None, None]


def test_rows_are_thinned_to_means_with_their_range() -> None:
    series = Series()
    for step in range(1_000):
        series.add(
            {"step": step, "update": step, "time": 0.1 * step, "kind": "train", "loss": math.nan if step < 500 else step}
        )
    series.add({"step": 1_000, "update": 1_000, "time": 100.0, "kind": "train", "loss": None, "means": {"A": 1.5}})
    thin = series.thinned(10)
    assert thin["mean"]["step"][-1] == 1_000
    assert thin["mean"]["loss"][0] is None
    assert thin["low"]["loss"][-1] == 900
    assert thin["high"]["loss"][-1] == 999
    assert thin["mean"]["loss"][-1] == 949.5
    assert thin["mean"]["means/A"][-1] == 1.5
    assert series.since(1_000) == {"step": [1_000], "update": [1_000], "time": [100.0], "loss": [None], "means/A": [1.5]}
