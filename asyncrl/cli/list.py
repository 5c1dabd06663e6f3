"""asyncrl list algorithms|envs|presets|networks|pretrained [NAME]"""

from __future__ import annotations

import fnmatch
import json
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from asyncrl.cli.options import parse
from asyncrl.errors import UsageError, suggestions

_EXAMPLES = 3
"""Environments of each family that are named where nothing in particular is asked for."""


class What(Enum):
    ALGORITHMS = "algorithms"
    ENVS = "envs"
    PRESETS = "presets"
    NETWORKS = "networks"
    PRETRAINED = "pretrained"


@dataclass(frozen=True)
class Arguments:
    what: What
    """Things to list."""
    name: str | None = field(default=None, metadata={"positional": True})
    """Part of a name, or a pattern with * and ?. The whole name of a preset shows its settings."""


def run(arguments: Sequence[str]) -> int:
    asked = parse(
        Arguments, "list", arguments, "List algorithms, environments, presets, networks or pretrained agents.", {}
    )
    for line in _lines(asked.what, asked.name):
        print(line)
    return 0


def _lines(what: What, name: str | None) -> list[str]:
    match what:
        case What.ALGORITHMS:
            from asyncrl.algorithms import ALGORITHMS

            return _wrapped(_found(name, {name: cls.summary for name, cls in ALGORITHMS.items()}))
        case What.ENVS:
            return _environments(name)
        case What.PRESETS:
            from asyncrl.presets import preset_names, read_preset

            if name in preset_names():
                return list(_preset(name, read_preset(name)))
            found = _found(name, {name: read_preset(name)["description"] for name in preset_names()})
            return [*_shortened(found), "asyncrl list presets NAME tells all of one."]
        case What.NETWORKS:
            from asyncrl.networks import DESCRIPTIONS

            return _wrapped(_found(name, {network.value: text for network, text in DESCRIPTIONS.items()}))
        case What.PRETRAINED:
            from asyncrl.runs.run import pretrained_names

            return _matching(name, pretrained_names()) if name else pretrained_names()


def _environments(name: str | None) -> list[str]:
    """Those that match, or how many there are of each family and some of them."""
    from asyncrl.envs import ids_by_family
    from asyncrl.presets import tuned_environments

    families = ids_by_family()
    if name in families:
        return families[name]
    if name:
        return _matching(name, [env_id for ids in families.values() for env_id in ids])
    lines = []
    for family, ids in families.items():
        if not ids:
            lines.append(f"{family}: none installed (asyncrl doctor)")
            continue
        tuned = [env_id for env_id in ids if any(fnmatch.fnmatch(env_id, pattern) for pattern in tuned_environments())]
        some = list(dict.fromkeys([*tuned, *ids]))[:_EXAMPLES]
        lines += [f"{family}: {len(ids):,} environments, such as", *(f"  {env_id}" for env_id in some)]
    hint = (
        "asyncrl list envs NAME lists all of a family, those whose id contains NAME, or those that match a pattern, as "
        "'MiniGrid-Empty-*'. An environment of your own is module:Class."
    )
    return [*lines, *textwrap.wrap(hint, _width(), break_on_hyphens=False)]


def _found(name: str | None, texts: dict[str, str]) -> dict[str, str]:
    return {found: texts[found] for found in _matching(name, list(texts))} if name else texts


def _width() -> int:
    return max(40, shutil.get_terminal_size().columns)


def _shortened(texts: dict[str, str]) -> list[str]:
    """A line for each, no wider than the terminal."""
    first = max(map(len, texts)) + 2
    lines = [f"{name:<{first}}{text}" for name, text in texts.items()]
    return [line if len(line) <= _width() else f"{line[: _width() - 1].rstrip()}…" for line in lines]


def _wrapped(texts: dict[str, str]) -> list[str]:
    """All of each, in lines no wider than the terminal."""
    first = max(map(len, texts)) + 2
    how: dict[str, Any] = dict(width=_width(), subsequent_indent=" " * first, break_on_hyphens=False)
    return [line for name, text in texts.items() for line in textwrap.wrap(f"{name:<{first}}{text}", **how)]


def _preset(name: str, preset: dict[str, Any]) -> Iterator[str]:
    """All of one preset."""
    yield name
    notes: dict[str, str] = {key: preset[key] for key in ("description", "source", "deviations") if key in preset}
    notes["environments"] = ", ".join(preset["environments"]) or "any, by --preset alone"
    yield from _wrapped(notes)
    for key, table in preset.items():
        if isinstance(table, dict):
            yield from _settings(key, table)


def _settings(name: str, table: dict[str, Any]) -> Iterator[str]:
    """A table as a preset's file has it."""
    inner = {key: value for key, value in table.items() if isinstance(value, dict)}
    yield from ("", f"[{name}]")
    for key, value in table.items():
        if key not in inner:
            yield f"{key} = {json.dumps(value, ensure_ascii=False)}"
    for key, value in inner.items():
        yield from _settings(f"{name}.{key}", value)


def _matching(name: str, known: list[str]) -> list[str]:
    """Those that contain `name` or match it as a pattern. Raises UsageError where there are none."""
    pattern = name.casefold() if any(sign in name for sign in "*?[") else f"*{name.casefold()}*"
    found = [one for one in known if fnmatch.fnmatchcase(one.casefold(), pattern)]
    if not found:
        raise UsageError(f"nothing here matches {name!r}{suggestions(name, known)}")
    return found
