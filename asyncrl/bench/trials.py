"""Short real trainings, and the steps per second that they reach."""

from __future__ import annotations

import contextlib
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from asyncrl.bench.stages import WARM_UP, learning_starts, with_early_learning
from asyncrl.common.fork_pool import kept_idle
from asyncrl.common.signals import interrupt_by
from asyncrl.envs import describe_all
from asyncrl.errors import AsyncRLError
from asyncrl.launch import start
from asyncrl.monitor import Record, Stop
from asyncrl.runs.config.resolution import resolve
from asyncrl.runs.config.run_config import EngineKind, RunConfig
from asyncrl.runs.speed.stage_times import StageTimes

__all__ = ["RecordCollector", "Trial", "train_briefly", "without_evaluation"]

_ENDLESS = 10**12
"""Steps of a run that is stopped by its time."""


@dataclass(frozen=True)
class Trial:
    """What a short training showed."""

    rate: float
    """Environment steps per second, after a warm-up."""
    times: StageTimes | None
    """Where its time went; None if it was too short."""
    seconds: float
    """Duration of all of it, with starting and stopping."""


class RecordCollector:
    """A sink that keeps the training records of a run, and its verdict."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.verdict: Record = {}

    def write(self, record: Record) -> None:
        if record["kind"] == "train":
            self.records.append(record)
        elif record["kind"] == "verdict":
            self.verdict = record

    def say(self, line: str) -> None:
        pass

    def close(self) -> None:
        pass


def without_evaluation(config: RunConfig, steps: int) -> RunConfig:
    """A copy that does nothing for `steps` steps but train: no evaluation, checkpoint, tracker or copy."""
    off: dict[str, Any] = dict(eval_episodes=0, eval_every=0, target_return=None, patience=None, video_every=0)
    return replace(config, steps=steps, checkpoint_every=2 * steps, track=(), storage=None, **off)


def train_briefly(config: RunConfig, seconds: float, rate: float = 0.0) -> Trial:
    """Train for `seconds` after the first update, or for one update more if that takes longer.

    Methods with a replay buffer start to learn from it early, and are measured from then on.

    Args:
        config: The configuration, not yet resolved.
        seconds: Duration of what is measured.
        rate: Roughly expected steps per second, so that records are as seldom as in a real run.

    Raises:
        AsyncRLError: If such a run cannot start, or fails.
        KeyboardInterrupt: After a signal.
    """
    began = time.monotonic()
    resolved = resolve(config, describe_all(config.env_ids, config.environment))
    trial = without_evaluation(with_early_learning(config), _ENDLESS)
    trial = replace(trial, log_every=max(resolved.batch_steps, round(rate * seconds / 40)))
    skipped = learning_starts(trial)
    counted: list[Record] = []

    def stop_in_time(record: Record) -> Stop | None:
        if record["kind"] != "train" or record["step"] <= skipped:
            return None
        counted.append(record)
        is_enough = len(counted) > 1 and counted[-1]["time"] - counted[0]["time"] >= seconds
        return Stop("the trial is over") if is_enough else None

    has_workers = resolved.engine in (EngineKind.PROCESSES, EngineKind.HOGWILD)
    with tempfile.TemporaryDirectory() as folder, contextlib.nullcontext() if has_workers else kept_idle():
        _, result = start(trial, Path(folder) / "run", callbacks=[stop_in_time])
    if result.signal is not None:
        raise interrupt_by(result.signal)
    if len(counted) < 2:
        raise AsyncRLError("the trial ended before two updates were made")
    first, last = counted[int(len(counted) * WARM_UP)], counted[-1]
    elapsed = max(last["time"] - first["time"], 1e-3)
    return Trial((last["step"] - first["step"]) / elapsed, result.times, time.monotonic() - began)
