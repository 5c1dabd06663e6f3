"""Which runs to plot, and which of them differ in nothing but the seed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from asyncrl.common.serialization import read_json
from asyncrl.errors import UsageError
from asyncrl.monitor import Record
from asyncrl.runs.config.saved_config import current_settings, saved_facts
from asyncrl.runs.metrics.metrics_file import read_records
from asyncrl.runs.names import PRETRAINED, existing_path, pretrained_names
from asyncrl.runs.overview import run_folders

__all__ = ["Group", "PlottedRun", "find_runs", "flat_settings", "group_runs", "line_numbers"]

_MAX_EPISODES = 20_000
"""Episodes of a run that are read."""
_MAX_NAMED = 3
"""Settings in a label."""

_WITHOUT_EFFECT = {
    *("seed", "engine", "env_threads", "log_every", "track", "video_every", "checkpoint_every", "keep_checkpoints"),
    *("capsules", "preset", "storage"),
}
"""Settings that do not keep runs from being one group: the seed, and those that change neither weights nor evaluations."""
_DERIVED = {"queue_size", "rollouts_per_update", "learner_threads", "precision", "device", "anneal_steps"}
"""Settings that follow from others or from the machine: they are named only where nothing else differs."""


@dataclass(frozen=True)
class PlottedRun:
    """A run's name, its settings as they are in its files, and its records. Nothing that they name is imported."""

    path: Path
    name: str
    """The path as the user gave it, or below the folder that the user gave."""
    settings: Mapping[str, Any]
    """All settings by name; `algorithm` is the algorithm's name."""

    @property
    def env(self) -> str:
        """The environments that it was trained in."""
        others = self.settings.get("extra_envs")
        return " + ".join([str(self.settings.get("env")), *map(str, others if isinstance(others, list) else ())])

    @property
    def algorithm(self) -> str:
        return str(self.settings.get("algorithm"))

    @property
    def has_data(self) -> bool:
        """Whether an update or an evaluation has been recorded."""
        return bool(self._curves)

    def records(self, *kinds: str) -> list[Record]:
        """The records of these kinds: "train", "eval", or "episode", of which it is a sample if there are many."""
        if kinds == ("episode",):
            return read_records(self.path / "metrics.jsonl", kinds, most=_MAX_EPISODES)
        return [record for record in self._curves if record["kind"] in kinds]

    @cached_property
    def _curves(self) -> list[Record]:
        return read_records(self.path / "metrics.jsonl", ("train", "eval"))


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but the seed."""

    label: str
    """The algorithm, and the settings in which other groups differ from this one."""
    env: str
    runs: Sequence[PlottedRun]

    def __str__(self) -> str:
        if len(self.runs) == 1:
            return self.label
        seeds = len({run.settings.get("seed") for run in self.runs})
        return f"{self.label} ({len(self.runs)} {'seeds' if seeds == len(self.runs) else 'runs'})"


def find_runs(names: Sequence[str | os.PathLike[str]]) -> list[PlottedRun]:
    """The runs that are named: run folders, pretrained agents, and folders with runs below them.

    Raises UsageError for a name without runs.
    """
    if not names:
        raise UsageError("RUN is missing: name run folders, or a folder that contains them")
    found: dict[Path, PlottedRun] = {}
    for name in names:
        if str(name) in pretrained_names() and not Path(name).exists():
            path = PRETRAINED / Path(name).name
            found[path] = _pretrained(path, str(name))
            continue
        path = existing_path(name)
        folders = list(run_folders(path))
        if not folders:
            raise UsageError(f"there are no runs in {path}: no folder below it has a config.json")
        found |= {folder.resolve(): _plotted(folder) for folder in folders}
    return list(found.values())


def _plotted(folder: Path) -> PlottedRun:
    config = current_settings(saved_facts(folder))
    return PlottedRun(folder, str(folder), flat_settings(config) if config else {"env": "?", "algorithm": "?"})


def _pretrained(folder: Path, name: str) -> PlottedRun:
    return PlottedRun(folder, name, flat_settings(read_json(folder / "manifest.json")["config"]))


def flat_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in the JSON of a configuration by name, without its tables."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            inner = flat_settings(value)
            found |= {"algorithm": inner.pop("name", "?"), **inner} if name == "algorithm" else inner
        else:
            found[name] = value
    return found


def group_runs(runs: Sequence[PlottedRun]) -> list[Group]:
    """The runs in groups that differ in nothing but the seed, each with a label that distinguishes it from the others."""
    members: dict[str, list[PlottedRun]] = {}
    for run in runs:
        kept = {name: value for name, value in run.settings.items() if name not in _WITHOUT_EFFECT}
        members.setdefault(repr(sorted(kept.items())), []).append(run)
    groups = list(members.values())
    labels = [_label(group, [other for other in groups if _is_rival(group, other)]) for group in groups]
    keys = [(label, group[0].env) for label, group in zip(labels, groups, strict=True)]
    return [
        Group(label if keys.count((label, group[0].env)) == 1 else group[0].name, group[0].env, group)
        for label, group in zip(labels, groups, strict=True)
    ]


def _is_rival(group: Sequence[PlottedRun], other: Sequence[PlottedRun]) -> bool:
    """Whether two groups are of the same algorithm and environment."""
    return group is not other and (group[0].env, group[0].algorithm) == (other[0].env, other[0].algorithm)


def _label(group: Sequence[PlottedRun], rivals: Sequence[Sequence[PlottedRun]]) -> str:
    """The algorithm and, if there are `rivals`, the settings in which one of them differs."""
    own = group[0].settings
    names = sorted(
        {
            name
            for rival in rivals
            for name in own.keys() | rival[0].settings.keys()
            if name not in _WITHOUT_EFFECT and own.get(name) != rival[0].settings.get(name)
        }
    )
    names = [name for name in names if name not in _DERIVED] or names
    if len(names) > _MAX_NAMED:
        presets = [one[0].settings.get("preset") for one in (group, *rivals)]
        return str(presets[0]) if presets[0] is not None and presets.count(presets[0]) == 1 else group[0].name
    return ", ".join([group[0].algorithm, *(f"{_words(name)} {_value(own.get(name))}" for name in names)])


def _words(name: str) -> str:
    return name.replace("_", " ")


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "×".join(map(str, value)) if isinstance(value, list) else str(value)


def line_numbers(panels: Mapping[str, Sequence[Group]]) -> dict[str, int]:
    """A number for each label: the same line has the same colour in every panel."""
    labels = dict.fromkeys(group.label for groups in panels.values() for group in groups)
    return {label: index for index, label in enumerate(labels)}
