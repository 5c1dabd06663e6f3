"""A run writes its newest weights for viewers, only while there is one."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from asyncrl.api import configure
from asyncrl.common.serialization import save_tensors
from asyncrl.errors import CheckpointError
from asyncrl.launch import resume, start
from asyncrl.learner import Learner
from asyncrl.runs.checkpoints.checkpoint import load
from asyncrl.runs.components import make_learner
from asyncrl.runs.live_weights import FRESH, LiveWriter, announce_viewer, live_weights_file, read_live_weights
from asyncrl.runs.run import Run

SETTINGS: dict[str, Any] = dict(steps=160, actors=1, envs_per_actor=4, engine="serial", eval_episodes=0)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return start(configure("worlds:Corridor-v0", "a3c", **SETTINGS), tmp_path_factory.mktemp("live") / "run")[0]


@pytest.fixture
def learner(run: Run) -> Learner:
    config, contract = run.beginning()
    learner = make_learner(config, contract)
    learner.updates, learner.step = 7, 140
    return learner


def written(folder: Path, *, wait: float) -> bool:
    """Whether the file of weights appears within `wait` seconds."""
    until = time.monotonic() + wait
    while not live_weights_file(folder).exists():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def test_a_viewer_gets_the_weights_of_the_newest_update(tmp_path: Path, learner: Learner) -> None:
    assert announce_viewer(tmp_path)
    LiveWriter(tmp_path, learner).offer()
    assert written(tmp_path, wait=30)
    found = read_live_weights(tmp_path, len(learner.weights))
    assert found is not None
    assert (found.update, found.step) == (7, 140)
    assert torch.equal(found.weights, learner.weights)


def test_a_run_that_nobody_watches_writes_nothing(tmp_path: Path, learner: Learner) -> None:
    LiveWriter(tmp_path, learner).offer()
    assert not written(tmp_path, wait=0.1)


def test_a_viewer_that_has_gone_is_forgotten(tmp_path: Path, learner: Learner) -> None:
    announce_viewer(tmp_path)
    long_ago = time.time() - FRESH - 1
    os.utime(tmp_path / "live" / "viewer", (long_ago, long_ago))
    LiveWriter(tmp_path, learner).offer()
    assert not written(tmp_path, wait=0.1)


def test_nothing_is_written_through_a_link(tmp_path: Path, learner: Learner) -> None:
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    run.mkdir()
    elsewhere.mkdir()
    (elsewhere / "viewer").touch()
    (run / "live").symlink_to(elsewhere)
    assert not announce_viewer(run)
    LiveWriter(run, learner).offer()
    assert not written(run, wait=0.1)


def test_a_resumed_run_removes_the_weights_of_its_earlier_part(run: Run, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run.path, tmp_path / "run"))
    announce_viewer(folder)
    live_weights_file(folder).touch()
    resume(Run(folder), steps=200)
    assert not live_weights_file(folder).exists()


def test_a_watched_run_ends_with_the_same_weights(run: Run, tmp_path: Path) -> None:
    def watch(record: dict[str, Any]) -> None:
        announce_viewer(tmp_path / "run")

    settings = dict(SETTINGS, log_every=20)
    watched, _ = start(configure("worlds:Corridor-v0", "a3c", **settings), tmp_path / "run", callbacks=[watch])
    ends = [load(path) for one in (run, watched) if (path := one.marked("latest"))]
    assert ends[0].weights_sha256 == ends[1].weights_sha256


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    (tmp_path / "live").mkdir()
    save_tensors(
        live_weights_file(tmp_path), {"weights": torch.zeros(3), "update": torch.tensor(1), "step": torch.tensor(1)}
    )
    with pytest.raises(CheckpointError, match="does not fit"):
        read_live_weights(tmp_path, 4)
