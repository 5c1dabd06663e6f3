"""Where a configuration has each of its settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from asyncrl.runs.config.run_config import RunConfig

__all__ = ["paths_in", "setting_paths"]


def setting_paths(cls: Any, *prefix: str) -> Iterator[tuple[str, ...]]:
    """The path of each setting of a dataclass, nested dataclasses included."""
    for field in dataclasses.fields(cls):
        default = None if field.default_factory is dataclasses.MISSING else field.default_factory()
        if dataclasses.is_dataclass(default):
            yield from setting_paths(default, *prefix, field.name)
        else:
            yield (*prefix, field.name)


def paths_in(config: RunConfig) -> dict[str, tuple[str, ...]]:
    """Return the path of each setting of a configuration, by name: those of its algorithm and its environment too."""
    algorithm, environment = type(config.algorithm), type(config.environment)
    paths = [*setting_paths(RunConfig), *setting_paths(algorithm, "algorithm"), *setting_paths(environment, "environment")]
    return {path[-1]: path for path in paths}
