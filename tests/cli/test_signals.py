"""Signals to a training process: it saves, sets its exit code, and leaves no process behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from commands import ran
from process_ends import still_running

from asyncrl.cli import main
from asyncrl.common.signals import TERMINATING
from asyncrl.runs.checkpoints import checkpoint

STOPPING = "stopping after this update and saving; press Ctrl-C again to stop at once"

STUCK = """
import threading
import gymnasium
from worlds import Corridor

from asyncrl.engines import workers

workers._CLOSE_TIMEOUT = 0.5  # a stuck one does not end by itself


class Stuck(Corridor):
    steps = 0

    def step(self, action):
        self.steps += 1
        if self.steps == 100:
            open("stuck", "w").close()
            threading.Event().wait()
        return super().step(action)


gymnasium.register(id="Stuck-v0", entry_point=Stuck)
"""


def until(ready: Callable[[], bool], child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while not ready():
        assert child.poll() is None, "the process ended early"
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.05)


@contextmanager
def training(folder: Path, env: str, *words: str) -> Iterator[tuple[subprocess.Popen[bytes], list[psutil.Process]]]:
    """A training process after its first updates, and all processes that it has started."""
    command = [sys.executable, "-m", "asyncrl", "train", "a3c", env, "--engine", "processes", "--steps", "100000000"]
    command += ["--run-dir", "run", "--log-every", "100", "--checkpoint-every", "100", *words]
    with open(folder / "out", "wb") as out, open(folder / "err", "wb") as err:
        (folder / "temporary").mkdir()
        environment = {**os.environ, "TMPDIR": str(folder / "temporary")}
        child = subprocess.Popen(command, cwd=folder, stdout=out, stderr=err, start_new_session=True, env=environment)
    started: list[psutil.Process] = []
    try:
        metrics = folder / "run" / "metrics.jsonl"
        until(
            lambda: metrics.is_file() and '"train"' in metrics.read_text() and (folder / "run" / "latest").is_file(), child
        )
        started += psutil.Process(child.pid).children(recursive=True)
        yield child, started
    finally:
        for process in [child, *started]:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        child.wait()


def assert_all_have_ended(processes: list[psutil.Process]) -> None:
    assert len(processes) >= 2, "the fork server and an actor"
    assert still_running(processes) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_run_stopped_by_a_signal_continues_to_the_same_result(tmp_path: Path, number: signal.Signals, code: int) -> None:
    settings = ["--actors", "2", "--envs-per-actor", "4", "--learning-rate-schedule", "constant"]
    with training(tmp_path, "worlds:Dawdling-v0", *settings) as (child, started):
        os.kill(child.pid, number)
        assert child.wait(60) == code
        assert_all_have_ended(started)
    left = [file.name for file in (tmp_path / "temporary").iterdir() if not file.name.startswith("torchinductor_")]
    assert left == [], "torch keeps an empty folder there; nothing of ours stays"
    run = tmp_path / "run"
    saved = checkpoint.load(run / "checkpoints" / (run / "latest").read_text().strip())
    if number != signal.SIGKILL:
        assert f"stopped by {number.name} at step {saved.step:,}" in (tmp_path / "out").read_text()
        assert (tmp_path / "err").read_text().strip() == STOPPING

    end, whole = ["--steps", str(saved.step + 200), "--no-video", "--quiet"], tmp_path / "whole"
    assert main(["train", "--resume", str(run), *end]) == 0
    assert main(["train", "a3c", "worlds:Dawdling-v0", *settings, "--run-dir", str(whole), "--engine", "serial", *end]) == 0
    uninterrupted = checkpoint.load(whole / "checkpoints" / (whole / "latest").read_text().strip())
    resumed = checkpoint.load(run / "checkpoints" / (run / "latest").read_text().strip())
    assert resumed.step >= saved.step + 200
    assert (resumed.step, resumed.weights_sha256) == (uninterrupted.step, uninterrupted.weights_sha256)
    updates = [
        record["update"]
        for record in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
        if record["kind"] == "train"
    ]
    assert updates == sorted(set(updates))


def test_several_learners_end_with_the_run_even_if_it_is_killed(tmp_path: Path) -> None:
    with training(tmp_path, "worlds:Dawdling-v0", "--learners", "2", "--actors", "1") as (child, started):
        child.kill()
        child.wait()
        assert len(started) == 4, "a fork server and an actor, a fork server and the second learner"
        assert_all_have_ended(started)
    left = [file.name for file in (tmp_path / "temporary").iterdir() if not file.name.startswith("torchinductor_")]
    assert left == []


def test_a_run_whose_environment_hangs_is_saved_and_ends(tmp_path: Path) -> None:
    (tmp_path / "stuck.py").write_text(STUCK)
    with training(tmp_path, "stuck:Stuck-v0", "--actors", "1", "--envs-per-actor", "2") as (child, started):
        until((tmp_path / "stuck").exists, child)
        os.kill(child.pid, signal.SIGTERM)
        assert child.wait(60) == 0
        assert_all_have_ended(started)
    run = tmp_path / "run"
    saved = checkpoint.load(run / "checkpoints" / (run / "latest").read_text().strip())
    assert saved.step >= 120  # 100 steps of two environments, but for two rollouts of 40, of which one hangs
    assert f"stopped by SIGTERM at step {saved.step:,}" in (tmp_path / "out").read_text()


def test_the_second_interrupt_ends_a_hanging_run_at_once(tmp_path: Path) -> None:
    (tmp_path / "stuck.py").write_text(STUCK)
    with training(tmp_path, "stuck:Stuck-v0", "--actors", "1", "--envs-per-actor", "2") as (child, started):
        until((tmp_path / "stuck").exists, child)
        os.kill(child.pid, signal.SIGINT)
        until(lambda: STOPPING in (tmp_path / "err").read_text(), child)
        os.kill(child.pid, signal.SIGINT)  # it waits for the actor, which may yet answer; or for its end
        assert child.wait(60) == 130
        assert_all_have_ended(started)
    assert (tmp_path / "err").read_text().strip().splitlines() == [STOPPING, "asyncrl: stopped"]


@pytest.mark.parametrize("number", TERMINATING)
def test_a_signal_to_a_command_that_does_not_train_ends_it_without_leftovers(
    tmp_path: Path, number: signal.Signals
) -> None:
    run, videos = tmp_path / "run", tmp_path / "videos"
    videos.mkdir()
    assert ran("train", "random", "CartPole-v1", "--steps", 32, "--run-dir", run, "--no-video", "--quiet") == 0
    command = [sys.executable, "-m", "asyncrl", "play", str(run), "--video", str(videos / "v.mp4"), "--episodes", "100000"]
    with open(tmp_path / "err", "wb") as err:
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=err, start_new_session=True)
    try:
        until(lambda: any(videos.iterdir()), child)
        started = psutil.Process(child.pid).children(recursive=True)
        os.kill(child.pid, number)
        assert child.wait(60) == -number
        assert still_running(started) == [], "the encoder"
    finally:
        child.kill()
        child.wait()
    assert not any(videos.iterdir())
    assert "Traceback" not in (tmp_path / "err").read_text()
