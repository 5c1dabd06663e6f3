"""Settings that may change when a run is resumed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asyncrl.algorithms.optimizers import LearningRate
from asyncrl.common.serialization import to_json
from asyncrl.common.validation import flag
from asyncrl.errors import UsageError
from asyncrl.runs.config.foreign_names import explain_unknown
from asyncrl.runs.config.run_config import EngineKind, RunConfig
from asyncrl.runs.config.setting_paths import paths_in

__all__ = [
    "annealed_anew",
    "changed",
    "check_change",
    "check_length",
    "differences_of",
    "may_change",
]

_NEW_RUN = "a new run with another value can start from these weights: --init-from RUN"


def may_change(*, diverged: bool) -> tuple[str, ...]:
    """Names of the settings that may change; the learning rate may if the run has diverged."""
    return ("steps", *RunConfig.CHANGEABLE, *(("learning_rate",) if diverged else ()))


def differences_of(before: RunConfig, after: RunConfig) -> dict[str, tuple[Any, Any]]:
    """The settings that differ: by name, the JSON values before and after."""
    places = [(name,) for name in may_change(diverged=False)] + [("optimizer", "learning_rate")]
    old, new = to_json(before), to_json(after)
    values = {path[-1]: (_at(old, path), _at(new, path)) for path in places}
    return {name: (one, other) for name, (one, other) in values.items() if one != other}


def _at(table: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        table = table[name]
    return table


def changed(config: RunConfig, changes: Mapping[str, Any], *, diverged: bool) -> RunConfig:
    """`config` with `changes`, by name. Raises UsageError for settings that cannot change."""
    for name in changes:
        check_change(config, name, diverged=diverged)
    own = {name: value for name, value in changes.items() if name != "learning_rate"}
    rate = changes.get("learning_rate", config.optimizer.learning_rate)
    optimizer = {**to_json(config.optimizer), "learning_rate": rate}
    new = RunConfig.from_json({**config.to_json(), **own, "optimizer": optimizer})
    if (new.engine is EngineKind.HOGWILD) != (config.engine is EngineKind.HOGWILD):
        before, after = config.engine.value, new.engine.value
        raise UsageError(
            f"a run of --engine {before} cannot be resumed with --engine {after}: hogwild checkpoints hold a different "
            "optimizer state"
        )
    return new


def check_length(before: int, after: int, step: int) -> None:
    """Raise UsageError for a new length that a run at `step` has exceeded; `before` and `after` are in steps."""
    if after != before and after < step:
        raise UsageError(
            f"--steps {after}: the run has taken {step:,} steps already; --steps is its whole length (it was {before:,})"
        )


def annealed_anew(before: RunConfig, config: RunConfig, step: int) -> list[str]:
    """A sentence about the learning rate if a run that continues at `step` with another length anneals it differently."""
    if config.steps == before.steps or config.optimizer.learning_rate != before.optimizer.learning_rate:
        return []
    old, new = LearningRate(before.optimizer, before.steps), LearningRate(config.optimizer, config.steps)
    if old.at(step) == new.at(step):
        return []
    newest_update = max(0, step - before.batch_steps) if step >= before.steps else step
    old_rate, rate = old.at(newest_update), new.at(step)
    return [
        f"The learning rate, which falls over the whole run, {'rises' if rate > old_rate else 'falls'} from "
        f"{old_rate:g} to {rate:g}: results differ from those of a run of {config.steps:,} steps."
    ]


def check_change(config: RunConfig, name: str, *, diverged: bool) -> None:
    """Raise UsageError, with the reason, for a setting that cannot change."""
    if name in may_change(diverged=diverged):
        return
    if name == "learning_rate":
        raise UsageError(f"--learning-rate cannot change unless the run has diverged: it affects the weights; {_NEW_RUN}")
    places = paths_in(config)
    if name not in places:
        raise UsageError(f"unknown setting {name!r}{explain_unknown(name, places)}")
    why = "belongs to the environment's contract" if places[name][0] == "environment" else "affects the weights"
    may = ", ".join(map(flag, may_change(diverged=diverged)))
    raise UsageError(f"{flag(name)} cannot change when a run is resumed: it {why}. These can: {may}; {_NEW_RUN}")
