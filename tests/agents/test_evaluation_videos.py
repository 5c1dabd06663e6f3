"""Videos of evaluations: `video_every` records them and changes nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import asyncrl
from asyncrl import UsageError

ENV = "worlds:Corridor-v0"
BATCH = 48
SETTINGS: dict[str, Any] = dict(
    steps=BATCH * 8, actors=2, envs_per_actor=3, t_max=8, eval_episodes=2, eval_every=BATCH * 2, engine="serial", seed=5
)


def weights_of(run: asyncrl.Run) -> str:
    latest = run.marked("latest")
    assert latest is not None
    return str(json.loads((latest / "manifest.json").read_text())["weights_sha256"])


def test_videos_are_of_evaluations_and_leave_the_weights_as_they_are(tmp_path: Path) -> None:
    plain = asyncrl.train(ENV, "a3c", run_dir=tmp_path / "plain", **SETTINGS)
    run = asyncrl.train(ENV, "a3c", run_dir=tmp_path / "run", video_every=BATCH * 4, **SETTINGS)
    table = run.metrics("video")
    assert table["step"] == [BATCH * 4, BATCH * 8]
    assert all((run.path / file).is_file() for file in table["video"] + table["animation"])
    assert weights_of(run) == weights_of(plain)
    evaluated = (record["returns"] for record in run.records() if record["kind"] == "eval")
    assert list(evaluated) == [record["returns"] for record in plain.records() if record["kind"] == "eval"]
    events = EventAccumulator(str(run.path / "tensorboard")).Reload()
    shown = events.Images("eval/video")
    assert [image.step for image in shown] == table["step"]
    assert (shown[0].width, shown[0].height) == (192, 32)


def test_a_run_that_stops_and_goes_on_records_none_twice(tmp_path: Path) -> None:
    def stop_halfway(record: dict[str, Any]) -> asyncrl.Stop | None:
        return asyncrl.Stop("half") if record["kind"] == "video" else None

    run = asyncrl.train(ENV, "a3c", run_dir=tmp_path / "run", video_every=BATCH * 4, callbacks=[stop_halfway], **SETTINGS)
    assert asyncrl.resume(run).metrics("video")["step"] == [BATCH * 4, BATCH * 8]


def test_without_evaluations_or_pictures_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match="--video-every has no effect without evaluations during the run; add --eval-every"
    ):
        asyncrl.train(ENV, "a3c", run_dir=tmp_path / "run", video_every=48, steps=480)
    with pytest.raises(UsageError, match=r"--video-every: .* cannot be drawn: its constructor takes no render_mode"):
        asyncrl.train("worlds:Toolbox", "a3c", run_dir=tmp_path / "run", video_every=BATCH, **SETTINGS)
    assert not (tmp_path / "run").exists()
