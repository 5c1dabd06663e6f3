"""asyncrl train --remote-learner: the learner on a node of a cluster, and its end there."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from engines.ray_clusters import cluster

from asyncrl.cli import main
from asyncrl.launch import newest_checkpoint
from asyncrl.runs.run import Run
from asyncrl.version import __version__

pytest.importorskip("ray")

EVERY = 320
"""Steps between checkpoints."""
SETTINGS = f"--actors 1 --envs-per-actor 4 --t-max 8 --eval-episodes 0 --checkpoint-every {EVERY} --seed 5 --no-video"


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A cluster with places for the learner and an actor on each of two nodes that are not this one."""
    with cluster(0, 2, 2) as found:
        yield found


@pytest.fixture
def address(nodes: Any) -> str:
    return str(nodes.address)


def train(folder: Path, steps: int, *where: str) -> int:
    words = f"a3c worlds:Corridor-v0 --run-dir {folder} --steps {steps} {SETTINGS}"
    return main(["train", *words.split(), *where])


def elsewhere(address: str, folder: Path) -> list[str]:
    return ["--engine", "ray", "--ray-address", address, "--remote-learner", "--storage", f"{folder / 'store'}"]


def learners() -> list[psutil.Process]:
    """The processes of learners on the nodes of this test's cluster."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            words = process.cmdline()
            if "train" in words and any("end_with_parent" in word for word in words):
                found.append(process)
    return found


def once_saved(folder: Path, step: int, act: Callable[[], Any]) -> threading.Thread:
    """Call `act` once the storage has a checkpoint of this step or a later one."""

    def wait() -> None:
        checkpoints = folder / "store" / "run" / "checkpoints"
        for _ in range(6000):
            if checkpoints.is_dir() and any(int(path.name) >= step for path in checkpoints.iterdir()):
                act()
                return
            time.sleep(0.05)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_doctor_shows_the_nodes(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--ray-address", address]) == 0
    printed = capsys.readouterr().out
    assert printed.count(": CPUs: 2, ") == 2
    assert f"asyncrl {__version__} on every node; places for actors: 4" in printed


def test_a_learner_that_is_killed_and_then_loses_its_node_ends_with_the_same_weights(
    nodes: Any, address: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def kill() -> None:
        for one in learners():
            one.kill()

    def remove_node() -> None:
        above = {parent.pid for one in learners() for parent in one.parents()}
        for node in list(nodes.worker_nodes):
            if node.all_processes["raylet"][0].process.pid in above:
                nodes.remove_node(node, allow_graceful=False)

    train(tmp_path / "whole", 20 * EVERY, "--engine", "serial")
    losses = [once_saved(tmp_path, 2 * EVERY, kill), once_saved(tmp_path, 6 * EVERY, remove_node)]
    capfd.readouterr()
    assert train(tmp_path / "run", 20 * EVERY, *elsewhere(address, tmp_path)) == 0
    for loss in losses:
        loss.join()
    assert len(nodes.worker_nodes) == 1
    out, errors = capfd.readouterr()
    whole, run = Run(tmp_path / "whole"), Run(tmp_path / "run")
    assert newest_checkpoint(run).weights_sha256 == newest_checkpoint(whole).weights_sha256
    assert "the learner was lost: signal 9 ended it; it starts again" in errors
    assert errors.count("the learner was lost") == 2
    assert f"step {20 * EVERY:>12,} / {20 * EVERY:,}" in out


def test_a_signal_stops_the_learner_with_everything_saved(
    address: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    stopped = once_saved(tmp_path, EVERY, lambda: os.kill(os.getpid(), signal.SIGINT))
    assert train(tmp_path / "run", 1_000_000, *elsewhere(address, tmp_path)) == 130
    stopped.join()
    assert "stopped by SIGINT at step" in capfd.readouterr().out
    run = Run(tmp_path / "run")
    assert run.interrupted
    assert newest_checkpoint(run).step >= EVERY
    assert not learners()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--engine serial --storage s", "--remote-learner has no effect without --engine ray"),
        ("--engine ray --storage s", "--remote-learner needs a cluster: --ray-address auto, or HOST:PORT"),
        ("--engine ray --ray-address auto", "--remote-learner needs --storage URL: if the learner's node is lost"),
        ("--engine ray --ray-address auto --storage s --watch", "--watch needs the learner in this process"),
    ],
)
def test_what_a_learner_elsewhere_needs(
    words: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path / "run", 1_000, "--remote-learner", *words.split()) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
