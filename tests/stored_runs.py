"""A small run with a replay buffer, for tests of storages."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from asyncrl.api import configure
from asyncrl.launch import newest_checkpoint, start
from asyncrl.runs.remote.folder import RemoteFolder
from asyncrl.runs.remote.run_copy import pull
from asyncrl.runs.run import Run

SMALL: dict[str, Any] = dict(
    actors=2, envs_per_actor=2, hidden=(8,), seed=5, engine="serial", eval_episodes=2, eval_envs=2, steps=96,
    checkpoint_every=16, keep_checkpoints=1, capacity=40, batch_size=4, learning_starts=16,
    t_max=4, log_every=8, eval_every=32,
)  # fmt: skip
"""A run of dqn of 6 updates, with replay files that checkpoints share and drop."""


def train(folder: Path, **settings: Any) -> Run:
    return start(configure("CartPole-v1", "dqn", **{**SMALL, **settings}), folder)[0]


def stop_at_update_3(record: dict[str, Any]) -> None:
    if record["kind"] == "train" and record["update"] == 3:
        signal.raise_signal(signal.SIGTERM)


def sha256(run: Run) -> str:
    return newest_checkpoint(run).weights_sha256


def files(folder: Path) -> dict[str, bytes]:
    """What a storage has of a run."""
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not name.startswith((".lock", "tensorboard"))}


def assert_complete(url: str, folder: Path, weights: set[str]) -> str:
    """Open what is in the storage: a checkpoint with one of these weights, and the metrics up to it."""
    run = Run(folder)
    pull(RemoteFolder(url), run, replay=True)
    newest = newest_checkpoint(run)
    assert newest.weights_sha256 in weights
    trained = [record["update"] for record in run.records() if record["kind"] == "train"]
    assert newest.update in trained
    return newest.weights_sha256
