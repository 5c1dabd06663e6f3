"""asyncrl list algorithms|envs|presets|networks|pretrained [NAME] · list runs [FOLDER|URL]"""

from __future__ import annotations

import fnmatch
import json
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from asyncrl.cli.help import page_width, wrapped
from asyncrl.cli.options import parse
from asyncrl.errors import UsageError, suggestions


class What(Enum):
    ALGORITHMS = "algorithms"
    ENVS = "envs"
    PRESETS = "presets"
    NETWORKS = "networks"
    PRETRAINED = "pretrained"
    RUNS = "runs"
    """in the folder or storage NAME, else in runs/"""


@dataclass(frozen=True)
class Arguments:
    what: What
    """Things to list."""
    name: str | None = field(default=None, metadata={"positional": True})
    """Part of a name, or a pattern (* and ?). The whole name of a preset shows its settings. Of runs, the folder or URL."""
    json: bool = False
    """Print the runs as one JSON array."""


def run(arguments: Sequence[str]) -> int:
    about = "List algorithms, environments, presets, networks, pretrained agents or the runs of a folder."
    asked = parse(Arguments, "list", arguments, about, {"Options": ("json",)})
    if asked.json and asked.what is not What.RUNS:
        raise UsageError("--json is for list runs alone")
    for line in _lines(asked.what, asked.name, as_json=asked.json):
        print(line)
    return 0


def _lines(what: What, name: str | None, *, as_json: bool) -> list[str]:
    match what:
        case What.ALGORITHMS:
            from asyncrl.algorithms import ALGORITHMS, installed_algorithms

            summaries = {name: cls.summary for name, cls in ALGORITHMS.items()}
            return _with_hint(name, summaries | installed_algorithms(), "Your own algorithm is named module:Name.")
        case What.ENVS:
            return _environments(name)
        case What.PRESETS:
            return _presets(name)
        case What.NETWORKS:
            from asyncrl.networks import BUILT_IN, installed_networks

            return _with_hint(name, BUILT_IN | installed_networks(), "Your own network is named module:Name.")
        case What.PRETRAINED:
            return wrapped(_matching(name, _pretrained()))
        case What.RUNS:
            return _runs(name or "runs", as_json=as_json)


def _runs(folder: str, *, as_json: bool) -> list[str]:
    from asyncrl.cli.run_table import run_json, run_table
    from asyncrl.runs.overview import find_remote_runs, find_runs
    from asyncrl.runs.remote.folder import is_url

    if is_url(folder):
        found, above = find_remote_runs(folder), Path()
    else:
        found, above = {str(run.path): run for run in find_runs(Path(folder))}, Path(folder)
    return [run_json(found)] if as_json else list(run_table([*found.values()], above))


def _with_hint(name: str | None, texts: dict[str, str], hint: str) -> list[str]:
    """The entries that match `name`, and the hint after the whole list."""
    return [*wrapped(_matching(name, texts)), *([] if name else ["", hint])]


def _environments(name: str | None) -> list[str]:
    """The environments that match `name`, or the size of each family and examples."""
    from asyncrl.envs import ids_by_family
    from asyncrl.envs.registry import family_named

    families = ids_by_family()
    if name in families:
        return families[name]
    if name:
        return list(_matching(name, {env_id: "" for ids in families.values() for env_id in ids}))
    lines = []
    for family, ids in families.items():
        if not ids:
            lines.append(f"{family}: not installed (asyncrl doctor)")
            continue
        examples = [env_id for env_id in family_named(family).examples if env_id in ids] or ids[:3]
        lines += [f"{family}: {len(ids):,} environments, for example", *(f"  {env_id}" for env_id in examples)]
    hint = (
        "`asyncrl list envs NAME` lists a family, the ids that contain NAME, or those that match a pattern such as "
        "'MiniGrid-Empty-*'. Your own environment is named module:Class."
    )
    return [*lines, "", *textwrap.wrap(hint, page_width(), break_on_hyphens=False)]


def _presets(name: str | None) -> list[str]:
    """The titles of the presets that match `name`, or all of the preset of this name."""
    from asyncrl.presets import preset_names, read_preset

    if name in preset_names():
        return list(_preset(name, read_preset(name)))
    titles = {preset: read_preset(preset)["description"].partition(":")[0] for preset in preset_names()}
    return [*wrapped(_matching(name, titles)), "", "`asyncrl list presets NAME` shows the settings of a preset."]


def _pretrained() -> dict[str, str]:
    """Algorithm, environment and training steps of each pretrained agent."""
    from asyncrl.runs.checkpoints.manifest import read_manifest
    from asyncrl.runs.names import PRETRAINED, pretrained_names

    agents = {name: read_manifest(PRETRAINED / Path(name).name) for name in pretrained_names()}
    return {
        name: f"{agent['config']['algorithm']['name']} on {agent['config']['env']}, {agent['step']:,} steps"
        for name, agent in agents.items()
    }


def _preset(name: str, preset: dict[str, Any]) -> Iterator[str]:
    """The description and the settings of a preset."""
    from asyncrl.presets import purpose

    yield name
    notes: dict[str, str] = {key: preset[key] for key in ("description", "source", "deviations") if key in preset}
    chosen_for = [*preset["environments"], *filter(None, [purpose(name, "").removeprefix("for ")])]
    notes["environments"] = ", ".join(chosen_for) or "any, if named by --preset"
    yield from wrapped(notes)
    for key, table in preset.items():
        if isinstance(table, dict):
            yield from _settings(key, table)


def _settings(name: str, table: dict[str, Any]) -> Iterator[str]:
    """A table in TOML."""
    inner = {key: value for key, value in table.items() if isinstance(value, dict)}
    yield from ("", f"[{name}]")
    for key, value in table.items():
        if key not in inner:
            yield f"{key} = {json.dumps(value, ensure_ascii=False)}"
    for key, value in inner.items():
        yield from _settings(f"{name}.{key}", value)


def _matching(name: str | None, texts: dict[str, str]) -> dict[str, str]:
    """The entries whose names contain `name` or match it as a pattern. Raises UsageError if there are none."""
    if not name:
        return texts
    pattern = name.casefold() if any(sign in name for sign in "*?[") else f"*{name.casefold()}*"
    found = {key: text for key, text in texts.items() if fnmatch.fnmatchcase(key.casefold(), pattern)}
    if not found:
        raise UsageError(f"nothing matches {name!r}{suggestions(name, texts)}")
    return found
