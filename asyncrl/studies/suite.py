"""Suites: which methods are compared in which environments, over how many seeds. TOML files, or dataclasses in Python."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from asyncrl.algorithms import ALGORITHMS, algorithm_named, is_algorithm
from asyncrl.common.serialization import from_json, read_text
from asyncrl.common.toml_text import Lines, at_line, line_of, lines_of, parse_toml
from asyncrl.common.validation import flag
from asyncrl.errors import UsageError, suggestions
from asyncrl.runs.config.foreign_names import explain_unknown
from asyncrl.runs.config.settings import setting_places
from asyncrl.studies.statistics import normalized

__all__ = ["Method", "Suite", "Task", "read_suite", "suite_names", "words"]

_FOLDER = Path(__file__).parent / "suites"


@dataclass(frozen=True)
class Method:
    """An algorithm with its settings. A preset or a settings file come first, `settings` override them."""

    name: str
    algorithm: str
    preset: str | None = None
    config: str | None = None
    """Path of a settings file."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Options of `asyncrl train` by name, as `learning_rate`."""


@dataclass(frozen=True)
class Task:
    """An environment, the methods that are trained in it, and the scores that normalize theirs."""

    env: str
    methods: tuple[Method, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    """Options of `asyncrl train` for every method; a method's own override them."""
    group: str = ""
    """Environments of one group are aggregated."""
    random: float | None = None
    """The score that becomes 0."""
    reference: float | None = None
    """The score that becomes 1."""
    source: str = ""
    """Where `random` and `reference` come from."""

    def normalized(self, scores: np.ndarray) -> np.ndarray:
        """Scores of which `random` is 0 and `reference` is 1."""
        assert self.random is not None
        assert self.reference is not None
        return normalized(scores, self.random, self.reference)


@dataclass(frozen=True)
class Suite:
    """A grid of environments, methods and seeds."""

    name: str
    tasks: tuple[Task, ...]
    title: str = ""
    description: str = ""
    seeds: int = 5
    first_seed: int = 1
    """The seeds are `first_seed` … `first_seed + seeds − 1`."""
    episodes: int = 100
    """Episodes of the evaluation after training, in environments with seeds of their own."""


def suite_names() -> list[str]:
    """The suites that come with the package."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def read_suite(name: Path | str) -> Suite:
    """The suite of this name or in this file. Raises UsageError, with the line, for what a suite file cannot hold."""
    if not isinstance(name, str | os.PathLike):
        raise UsageError(f"a suite is a Suite, a name or the path of a file, not {name!r:.80}")
    path = _FOLDER / f"{name}.toml" if str(name) in suite_names() else Path(name)
    if not path.is_file():
        known = [*suite_names(), *map(str, Path().glob("*.toml"))]
        raise UsageError(
            f"there is no suite {str(name)!r}{suggestions(str(name), known)} (these come with asyncrl: "
            f"{', '.join(suite_names())}; or name a .toml file)"
        )
    text = read_text(path, kind="TOML")
    return _Reader(path, lines_of(text)).suite(parse_toml(path, text))


class _Reader:
    """Reads the tables of a suite file."""

    def __init__(self, path: Path, lines: Lines) -> None:
        self._path, self._lines = path, lines

    def suite(self, data: Mapping[str, Any]) -> Suite:
        environments, methods = self._table(data, "environments"), self._table(data, "methods")
        common = {"title", "description", "seeds", "first_seed", "episodes", "settings", "environments", "methods"}
        self._check_keys(data, common, ())
        if not environments:
            raise UsageError(f'{self._path}: the suite has no environments: add a table [environments."CartPole-v1"]')
        known = {name: self._method(name, table) for name, table in methods.items()}
        shared = self._settings(data, ())
        tasks = tuple(self._task(env, table, known, shared) for env, table in environments.items())
        plain = {key: value for key, value in data.items() if key not in ("environments", "methods", "settings")}
        suite: Suite = self._decode(Suite, {"name": self._path.stem, "tasks": tasks, **plain}, ())
        for key in ("seeds", "episodes"):
            if getattr(suite, key) < 1:
                raise UsageError(f"{self._at((key,))}: {key} must be 1 or more, not {getattr(suite, key)}")
        return suite

    def _task(self, env: str, table: Any, known: Mapping[str, Method], shared: Mapping[str, Any]) -> Task:
        place = ("environments", env)
        self._check_table(table, place)
        self._check_keys(table, {"methods", "settings", "group", "random", "reference", "source"}, place)
        names = table.get("methods")
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise UsageError(f'{self._at((*place, "methods"))}: methods of {env} must be a list such as ["a3c", "ppo"]')
        if ("random" in table) != ("reference" in table) or table.get("random", 0) == table.get("reference", 1):
            raise UsageError(f"{self._at(place)}: {env} needs both random and reference, two different scores, or neither")
        methods = tuple(known[name] if name in known else self._named(name, (*place, "methods"), known) for name in names)
        own = self._settings(table, place)
        settings = {**shared, **own}
        for method in methods:
            self._check_settings(shared, method.algorithm, ("settings",))
            self._check_settings(own, method.algorithm, (*place, "settings"))
        task: Task = self._decode(Task, {**table, "env": env, "methods": methods, "settings": settings}, place)
        return task

    def _method(self, name: str, table: Any) -> Method:
        place = ("methods", name)
        self._check_table(table, place)
        self._check_keys(table, {"algorithm", "preset", "config", "settings"}, place)
        found = {"algorithm": name, **table, "name": name, "settings": self._settings(table, place)}
        method: Method = self._decode(Method, found, place)
        if method.config is not None:
            method = replace(method, config=str((self._path.parent / method.config).absolute()))
        self._named(method.algorithm, (*place, "algorithm"), ())
        self._check_settings(method.settings, method.algorithm, (*place, "settings"))
        return method

    def _check_settings(self, settings: Mapping[str, Any], algorithm: str, place: tuple[str, ...]) -> None:
        known = setting_places(algorithm_named(algorithm))
        for name in settings:
            if name not in known:
                problem = f"{algorithm} has no setting {name!r}{explain_unknown(name, known)}"
                raise UsageError(f"{self._at((*place, name))}: {problem}")
            if name == "seed":
                raise UsageError(f"{self._at((*place, name))}: seed is not a setting of a suite: use seeds and first_seed")

    def _named(self, name: str, place: tuple[str, ...], known: Mapping[str, Method] | Sequence[str]) -> Method:
        if not is_algorithm(name):
            near = suggestions(name, [*known, *ALGORITHMS])
            raise UsageError(
                f"{self._at(place)}: there is no method {name!r}{near} (an algorithm, or a table in [methods])"
            )
        return Method(name, name)

    def _settings(self, table: Mapping[str, Any], place: tuple[str, ...]) -> dict[str, Any]:
        settings = table.get("settings", {})
        self._check_table(settings, (*place, "settings"))
        return dict(settings)

    def _table(self, data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
        table: Mapping[str, Any] = data.get(key, {})
        self._check_table(table, (key,))
        return table

    def _check_table(self, table: Any, place: tuple[str, ...]) -> None:
        if not isinstance(table, dict):
            raise UsageError(f"{self._at(place)}: {place[-1]} must be a table, not {table!r:.60}")

    def _check_keys(self, table: Mapping[str, Any], known: set[str], place: tuple[str, ...]) -> None:
        for key in table:
            if key not in known:
                where = f" in [{'.'.join(place)}]" if place else ""
                near = suggestions(key, known) or f" (known: {', '.join(sorted(known))})"
                raise UsageError(f"{self._at((*place, key))}: there is no key {key!r}{where}{near}")

    def _decode(self, cls: Any, data: Mapping[str, Any], place: tuple[str, ...]) -> Any:
        with at_line(self._path, line_of(place, self._lines)):
            return from_json(cls, dict(data))

    def _at(self, place: tuple[str, ...]) -> str:
        return f"{self._path}, line {line_of(place, self._lines)}"


def words(method: Method, task: Task) -> list[str]:
    """The options of `asyncrl train` for a method in an environment."""
    named = [
        (f"--{key}", value) for key, value in (("preset", method.preset), ("config", method.config)) if value is not None
    ]
    found = [word for option in named for word in option]
    for name, value in {**task.settings, **method.settings}.items():
        found += _option(name, value)
    return found


def _option(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [flag(name) if value else f"--no-{flag(name)[2:]}"]
    if isinstance(value, list | tuple):
        return [flag(name), *map(str, value)]
    return [flag(name), json.dumps(value) if isinstance(value, dict) else str(value)]
