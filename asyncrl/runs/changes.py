"""What may change in the continuation of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from asyncrl.common.serialization import to_json
from asyncrl.common.validation import flag
from asyncrl.errors import UsageError, suggestions
from asyncrl.runs.config import EngineKind, RunConfig

__all__ = ["changed", "check_change", "differences_of", "may_change", "setting_paths"]


def setting_paths(cls: Any, *prefix: str) -> Iterator[tuple[str, ...]]:
    """Where each setting of a dataclass is; those of a nested one are settings too."""
    for field in dataclasses.fields(cls):
        default = None if field.default_factory is dataclasses.MISSING else field.default_factory()
        if dataclasses.is_dataclass(default):
            yield from setting_paths(default, *prefix, field.name)
        else:
            yield (*prefix, field.name)


def may_change(*, diverged: bool) -> tuple[str, ...]:
    """The settings that may change in the continuation of a run; the learning rate where it has diverged."""
    return ("steps", *RunConfig.CHANGEABLE, *(("learning_rate",) if diverged else ()))


def differences_of(before: RunConfig, after: RunConfig) -> dict[str, tuple[Any, Any]]:
    """By name, what changes: the value before, and after, as JSON has them."""
    places = [(name,) for name in may_change(diverged=False)] + [("optimizer", "learning_rate")]
    values = {path[-1]: (_at(to_json(before), path), _at(to_json(after), path)) for path in places}
    return {name: (one, other) for name, (one, other) in values.items() if one != other}


def _at(table: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        table = table[name]
    return table


def changed(config: RunConfig, changes: Mapping[str, Any], *, diverged: bool) -> RunConfig:
    """The configuration of a run with `changes` from now on. Raises UsageError for what cannot change."""
    for name in changes:
        check_change(config, name, diverged=diverged)
    own = {name: value for name, value in changes.items() if name != "learning_rate"}
    rate = changes.get("learning_rate", config.optimizer.learning_rate)
    optimizer = {**to_json(config.optimizer), "learning_rate": rate}
    new = RunConfig.from_json({**config.to_json(), **own, "optimizer": optimizer})
    if (new.engine is EngineKind.HOGWILD) != (config.engine is EngineKind.HOGWILD):
        raise UsageError(
            f"a run of --engine {config.engine.value} cannot go on with --engine {new.engine.value}: hogwild's checkpoints "
            "hold other optimizer states than one learner's"
        )
    return new


def check_change(config: RunConfig, name: str, *, diverged: bool) -> None:
    """Raise UsageError for a setting that cannot change in the continuation of a run, with the reason."""
    if name in may_change(diverged=diverged):
        return
    if name == "learning_rate":
        raise UsageError("--learning-rate cannot change in a run that has not diverged: it decides the weights")
    places = {path[-1]: path for path in [*setting_paths(RunConfig), *setting_paths(type(config.algorithm), "algorithm")]}
    if name not in places:
        raise UsageError(f"there is no setting {name!r}{suggestions(name, places)}")
    why = "belongs to the environment's contract" if places[name][0] == "environment" else "decides the weights"
    may = ", ".join(map(flag, may_change(diverged=diverged)))
    raise UsageError(f"{flag(name)} cannot change in a run: it {why}; what may change is {may}")
