"""All stages and the whole in one run on one machine."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from asyncrl.bench.stages import WARM_UP, Stage, capacity
from asyncrl.bench.usage import Usage
from asyncrl.envs import describe
from asyncrl.errors import AsyncRLError
from asyncrl.launch import start
from asyncrl.monitor import Record
from asyncrl.runs.config import RunConfig
from asyncrl.runs.provenance import machine
from asyncrl.runs.resolution import resolve

__all__ = ["Report", "bench"]


@dataclass(frozen=True)
class Report:
    """Rates are environment steps per second."""

    environment: float
    acting: float
    learning: float
    update_seconds: float
    """One update on one core."""
    end_to_end: float
    """Steps learned from, after a warm-up."""
    first_update_seconds: float
    """From the call to the first update: actors and environments have started by then."""
    policy_lag: float
    memory_bytes: int
    """Proportional set size of all processes, at its largest."""
    cpu: float
    """Share of all cores that was used."""
    config: RunConfig
    frame_skip: int

    @property
    def bound(self) -> float:
        """Every step is an environment's, an actor's and the learner's: 1 / (1/a + 1/b + 1/c)."""
        return 1 / (1 / self.environment + 1 / self.acting + 1 / self.learning)

    @property
    def share_of_bound(self) -> float:
        return self.end_to_end / self.bound

    def to_json(self) -> dict[str, Any]:
        rates = {name: getattr(self, name) for name in ("environment", "acting", "learning", "end_to_end")}
        return {
            **{name: {"steps_per_second": round(rate, 1)} for name, rate in rates.items()},
            "bound": round(self.bound, 1),
            "share_of_bound": round(self.share_of_bound, 4),
            "policy_lag": self.policy_lag,
            "update_seconds": round(self.update_seconds, 6),
            "first_update_seconds": round(self.first_update_seconds, 2),
            "memory": {"pss_bytes": self.memory_bytes},
            "cpu": round(self.cpu, 3),
            "machine": machine(),
            "config": self.config.to_json(),
        }


def bench(config: RunConfig, seconds: float) -> Report:
    """Measure each stage for `seconds`, then training itself for about as long."""
    contract = describe(config.env, config.environment)
    config = resolve(config, contract)
    alone = {stage: capacity(stage, config, contract, seconds) for stage in Stage}
    rates = {stage: found.steps_per_second for stage, found in alone.items()}
    bound = 1 / sum(1 / rate for rate in rates.values())
    steps = max(20 * config.batch_steps, round(bound * seconds))
    unwatched: dict[str, Any] = dict(eval_episodes=0, eval_every=0, target_return=None)
    trial = replace(config, steps=steps, checkpoint_every=2 * steps, log_every=steps // 100, **unwatched)
    ear = _RecordCollector()
    with tempfile.TemporaryDirectory() as folder, Usage() as usage:
        start(trial, Path(folder) / "run", ear)
    first, last = ear.records[round(len(ear.records) * WARM_UP)], ear.records[-1]
    if last["time"] <= first["time"]:
        raise AsyncRLError("the trial was too short to measure; ask for more --seconds")
    return Report(
        environment=rates[Stage.ENVIRONMENT],
        acting=rates[Stage.ACTING],
        learning=rates[Stage.LEARNING],
        update_seconds=alone[Stage.LEARNING].seconds_per_call,
        end_to_end=(last["step"] - first["step"]) / (last["time"] - first["time"]),
        first_update_seconds=ear.records[0]["time"],
        policy_lag=last["policy_lag"],
        memory_bytes=usage.memory,
        cpu=usage.cpu,
        config=config,
        frame_skip=contract.frame_skip,
    )


class _RecordCollector:
    """Keeps the records of a run."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def write(self, record: Record) -> None:
        if record["kind"] == "train":
            self.records.append(record)

    def say(self, line: str) -> None:
        pass

    def close(self) -> None:
        pass
