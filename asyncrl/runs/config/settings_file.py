"""Settings of a run as a TOML file: the tables of a preset, read for `--config` and written into every run folder."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from asyncrl.algorithms import algorithm_name_of, algorithm_named
from asyncrl.common.serialization import read_text, to_json
from asyncrl.common.toml_text import Lines, at_line, line_of, lines_of, parse_toml
from asyncrl.common.validation import flag
from asyncrl.envs import Contract, reject_untrusted_code
from asyncrl.errors import UsageError, suggestions
from asyncrl.presets import read_preset
from asyncrl.runs.config.foreign_names import explain_foreign, named_by_place
from asyncrl.runs.config.option_checks import ineffective
from asyncrl.runs.config.resolution import resolve
from asyncrl.runs.config.run_config import RunConfig, code_named_in
from asyncrl.runs.config.settings import configure, leaves, setting_places
from asyncrl.runs.run import Run

__all__ = ["Entry", "SettingsFile", "located", "read_settings_file", "settings_text"]

_OF_PRESETS = ("description", "environments", "kinds")
"""Keys of a preset that are not settings."""
_NAMES = (("algorithm", "name"), ("run", "env"), ("run", "preset"))
_PLACES = {"algorithm": "`name` in [algorithm]", "environment": "`env` in [run]"}
_NONE = "None"
"""Stands for None, which TOML has no value for, as it does on the command line."""
_TITLES = {
    "run": "The environment, and the run itself",
    "algorithm": "The algorithm",
    "algorithm.exploration": "Exploration",
    "algorithm.replay": "The replay buffer",
    "algorithm.sequences": "Replay of sequences, for recurrent networks",
    "algorithm.munchausen_targets": "Munchausen targets",
    "optimizer": "The optimizer",
    "environment": "The environment's options",
    "environment.supervision": "Environment workers (env_backend = \"async\")",
    "network": "The network",
    "bots": "Scripted players",
}  # fmt: skip


class Entry(NamedTuple):
    """A setting in a file."""

    value: Any
    line: int
    place: str
    """What messages about a configuration call it, such as `optimizer.learning_rate`."""


@dataclass(frozen=True)
class SettingsFile:
    """A file of settings; `algorithm`, `env` and `preset` are None if it does not name them."""

    path: Path
    algorithm: str | None
    env: str | None
    preset: str | None
    entries: Mapping[str, Entry]
    """The other settings by name."""

    @property
    def settings(self) -> dict[str, Any]:
        return {name: entry.value for name, entry in self.entries.items()}

    def check_trust(self, config: RunConfig) -> None:
        """Raise UsageError if the file belongs to a run of another user and `config` names code outside this package."""
        _reject_foreign(self.path, config.named_outside())


def _reject_foreign(path: Path, names: list[str]) -> None:
    """Raise UsageError if there are `names` of code and the file belongs to a run that another user made."""
    run = Run(path.parent)
    if (run.path / "config.json").exists() and not run.is_signed_by_user:
        reject_untrusted_code(str(path), names)


@contextlib.contextmanager
def located(file: SettingsFile | None, *, overridden: Collection[str] = ()) -> Iterator[None]:
    """Add file and line to a UsageError about a setting of `file`, unless that is in `overridden`."""
    try:
        yield
    except UsageError as problem:
        found = {}
        for name, entry in () if file is None else file.entries.items():
            word = re.search(rf"(?<![\w.-])({flag(name)}|{re.escape(entry.place)})(?![\w-])", str(problem))
            if word is not None and name not in overridden:
                found[word.start()] = entry.line
        if file is not None and found:
            problem.args = (f"{file.path}, line {found[min(found)]}: {problem}", *problem.args[1:])
        raise


def read_settings_file(
    path: Path | str, algorithm: str | None = None, preset: str | None = None, *, trust: bool = False
) -> SettingsFile:
    """Read a settings file. `algorithm` and `preset` stand in for names that the file does not give.

    The module of an algorithm that is not built in is imported; if the file is in a run folder of another user, only with
    `trust`. Raises UsageError, with the line, for TOML that cannot be parsed and for tables and keys that do not exist.
    """
    if not isinstance(path, str | os.PathLike):
        raise UsageError(f"config is the path of a TOML file, not {path!r:.80}; settings are keywords: train(env, steps=…)")
    path = Path(path)
    if not path.is_file():
        inside = path / "config.toml"
        near = f"; did you mean {inside}?" if inside.is_file() else ""
        missing = f"{path} is not a file" if path.exists() else f"{path} does not exist"
        raise UsageError(f"--config: {missing}{near}")
    text = read_text(path, kind="TOML")
    data, lines = parse_toml(path, text), lines_of(text)
    values = dict(_values({key: value for key, value in data.items() if key not in _OF_PRESETS}))
    own, env, own_preset = (_name(path, place, values.pop(place, None), lines) for place in _NAMES)
    if own is not None and algorithm not in (None, own):
        raise UsageError(f"{path} is for {own}, not {algorithm}")
    if own is not None and not trust:
        named = code_named_in({"algorithm": {"name": own}})
        _reject_foreign(path, [f"{kind} {json.dumps(name)}" for kind, name in named.items()])
    with at_line(path, line_of(_NAMES[2], lines)):
        chosen = preset or own_preset
        base = "a3c" if chosen is None else read_preset(chosen)["algorithm"]["name"]
    with at_line(path, line_of(_NAMES[0], lines)):
        cls = algorithm_named(own or algorithm or base)
    known = {_file_place(place): name for name, place in setting_places(cls).items()}
    entries = {}
    for key, value in values.items():
        if key not in known:
            is_table_known = any(place[:-1] == key[:-1] for place in known)
            line = line_of(key, lines) if is_table_known else lines.get(key[:-1], line_of(key, lines))
            raise UsageError(f"{path}, line {line}: {_unknown(key, known)}")
        place = ".".join(key[1:] if key[0] == "run" else key)
        entries[known[key]] = Entry(None if value == _NONE else value, line_of(key, lines), place)
    return SettingsFile(path, own, env, own_preset, entries)


def _name(path: Path, key: tuple[str, ...], value: Any, lines: Lines) -> str | None:
    if isinstance(value, str | None):
        return value
    raise UsageError(f"{path}, line {line_of(key, lines)}: {'.'.join(key)} must be a string, not {value!r}")


def _values(table: Mapping[str, Any], *prefix: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value of nested tables, by its path."""
    for key, value in table.items():
        if isinstance(value, dict) and key != "env_kwargs":
            yield from _values(value, *prefix, key)
        else:
            yield (*prefix, key), value


def _file_place(place: tuple[str, ...]) -> tuple[str, ...]:
    """The tables and the key of a setting in a file: those of `RunConfig` itself are in [run]."""
    return place if len(place) > 1 else ("run", *place)


def _unknown(key: tuple[str, ...], known: Mapping[tuple[str, ...], str]) -> str:
    """What is wrong with a key that is not in `known`."""
    *table, name = key
    tables = {".".join(place[:-1]) for place in known}
    where = ".".join(table)
    if not table and any(place[0] == name for place in known):
        return f"{name!r} is a table: write [{name}] and its settings below"
    if not table:
        return f"{name!r} stands above the first table; settings belong to tables such as [run]"
    if where not in tables:
        return f"there is no table [{where}]{suggestions(where, tables)}"
    elsewhere = [".".join(place[:-1]) for place, setting in known.items() if setting == name]
    if elsewhere:
        return f"{name!r} belongs to the table [{elsewhere[0]}], not to [{where}]"
    here = [place[-1] for place in known if place[:-1] == tuple(table)]
    if what := named_by_place(name):
        return f"unknown setting {name!r} in [{where}]; the {what} is {_PLACES[what]}"
    near = explain_foreign(name, known.values()) or suggestions(name, here) or suggestions(name, known.values())
    return f"unknown setting {name!r} in [{where}]{near}"


def settings_text(config: RunConfig, contract: Contract, resolved: RunConfig | None = None) -> str:
    """A settings file that starts a run of `config` again.

    Settings that `resolve` chooses for this machine and that affect the weights are written as it chose them; settings
    without effect are left out. `resolved`: what it chose on another machine; None resolves `config` here.
    """
    resolved = resolved or resolve(config, contract)
    config = replace(
        config,
        device=resolved.device,
        precision=resolved.precision,
        learner_threads=resolved.learner_threads,
        network=replace(config.network, network=resolved.network.network),
    )
    plain, values = leaves(configure(config.env, type(config.algorithm), config.preset)), leaves(config)
    without = ineffective(config, resolved, contract)
    tables: dict[str, dict[str, Any]] = {
        "run": {"env": config.env},
        "algorithm": {"name": algorithm_name_of(config.algorithm)},
    }
    if config.preset is not None:
        tables["run"]["preset"] = config.preset
    for name, place in setting_places(type(config.algorithm)).items():
        if name not in values or name in without or (values[name] is None and plain.get(name) is None):
            continue
        *table, key = _file_place(place)
        tables.setdefault(".".join(table), {})[key] = to_json(values[name])
    sections = [_section(name, table) for name, table in tables.items() if table]
    text = "\n".join(["# Settings of a run: asyncrl train --config FILE\n", *sections])
    return text.encode("utf-8", "replace").decode()  # a path may hold bytes that are not UTF-8


def _section(name: str, table: Mapping[str, Any]) -> str:
    lines = [f"{key} = {_toml(value)}" for key, value in table.items()]
    title = [f"# {_TITLES[name]}"] * (name in _TITLES)
    return "\n".join([*title, f"[{name}]", *lines, ""])


def _toml(value: Any) -> str:
    """A setting's value in TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:_}"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(_NONE if value is None else value, ensure_ascii=False).replace("\x7f", "\\u007f")
