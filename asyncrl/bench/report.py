"""Measures every stage alone, then training as a whole."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from asyncrl.bench.stages import (
    WARM_UP,
    Stage,
    capacity,
    learning_starts,
    stages_on_gpu,
    upper_bound,
    with_early_learning,
)
from asyncrl.bench.trials import RecordCollector, without_evaluation
from asyncrl.bench.usage import Usage
from asyncrl.common.signals import interrupt_by
from asyncrl.envs import describe
from asyncrl.errors import AsyncRLError
from asyncrl.launch import start
from asyncrl.monitor import Record
from asyncrl.runs.config.resolution import resolve
from asyncrl.runs.config.run_config import RunConfig
from asyncrl.runs.provenance import machine

__all__ = ["Report", "bench"]


@dataclass(frozen=True)
class Report:
    """Results of a benchmark; rates are environment steps per second."""

    environment: float
    """Stepping environments alone."""
    acting: float
    """Acting alone."""
    learning: float
    """Learning alone."""
    bound: float
    """Upper bound of `end_to_end`: every step passes all three stages, on the same cores or the GPU."""
    uses_gpu: bool
    update_seconds: float
    """Duration of one update, on one core or the GPU."""
    end_to_end: float
    """Training, after a warm-up."""
    first_update_seconds: float
    """From the start, with actors and environments, to the end of the first update."""
    policy_lag: float
    memory_bytes: int
    """Peak of the proportional set size of all processes."""
    cpu: float
    """Fraction of all cores' time that was used."""
    config: RunConfig
    frame_skip: int
    verdict: Record
    """The training's record of kind `verdict`: where its time went, and which setting to change."""

    @property
    def share_of_bound(self) -> float:
        """`end_to_end` divided by `bound`."""
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
            "verdict": {name: self.verdict[name] for name in ("bottleneck", "verdict", "flag", "gain")},
            "machine": machine(),
            "config": self.config.to_json(),
        }


def bench(config: RunConfig, seconds: float) -> Report:
    """Measure each stage for `seconds`, then training for about as long, with a `config` that is not yet resolved.

    Methods with a replay buffer start to learn from it early, and are measured from then on. Raises AsyncRLError if the
    training was too short, and KeyboardInterrupt after a signal.
    """
    contract = describe(config.env, config.environment)
    given, config = config, resolve(config, contract)
    capacities = {stage: capacity(stage, config, contract, seconds) for stage in Stage}
    rates = {stage: found.steps_per_second for stage, found in capacities.items()}
    on_gpu = stages_on_gpu(config, contract)
    bound = upper_bound(rates, on_gpu)
    steps, early = max(20 * config.batch_steps, round(bound * seconds)), with_early_learning(given)
    skipped = learning_starts(early)
    trial = replace(without_evaluation(early, skipped + steps), log_every=max(1, steps // 100))
    collector = RecordCollector()
    with tempfile.TemporaryDirectory() as folder, Usage() as usage:
        _, result = start(trial, Path(folder) / "run", collector)
    if result.signal is not None:
        raise interrupt_by(result.signal)
    counted = [record for record in collector.records if record["step"] > skipped]
    first, last = counted[round(len(counted) * WARM_UP)], counted[-1]
    if last["time"] <= first["time"]:
        raise AsyncRLError("the training was too short to measure; raise --seconds")
    return Report(
        environment=rates[Stage.ENVIRONMENT],
        acting=rates[Stage.ACTING],
        learning=rates[Stage.LEARNING],
        bound=bound,
        uses_gpu=bool(on_gpu),
        update_seconds=capacities[Stage.LEARNING].seconds_per_call,
        end_to_end=(last["step"] - first["step"]) / (last["time"] - first["time"]),
        first_update_seconds=collector.records[0]["time"],
        policy_lag=last["policy_lag"],
        memory_bytes=usage.memory,
        cpu=usage.cpu,
        config=config,
        frame_skip=contract.frame_skip,
        verdict=collector.verdict,
    )
