"""Writes asyncrl/typed_settings.py, which tells editors and type checkers the settings of `asyncrl.train`.

python tools/typed_settings.py
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from asyncrl.algorithms import ALGORITHMS
from asyncrl.envs.family_options import combined_options
from asyncrl.runs.config.changes import may_change
from asyncrl.runs.config.run_config import RunConfig

FILE = Path(__file__).parents[1] / "asyncrl" / "typed_settings.py"
NOT_SETTINGS = {"env", "algorithm", "preset"}
WIDER = {
    "actors": 'int | Literal["auto"]',
    "env_kwargs": "str | Mapping[str, Any] | None",
    "extra_envs": "Sequence[EnvSource]",
    "init_from": "str | PathLike[str] | None",
    "network": "NetworkSource",
    "storage": "str | PathLike[str] | None",
}
"""Settings that take more in Python than in a file."""

HEAD = '''"""Types of the settings of `asyncrl.train` and `asyncrl.resume`. Generated: `make settings` writes this file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, Literal, TypedDict

from asyncrl.envs import EnvSource
from asyncrl.networks import NetworkSource

__all__ = ["Changes", "Settings"]
'''


def fields_of(cls: Any, section: str) -> Iterator[tuple[str, str, Any]]:
    """Section, name and type of each setting of a dataclass, nested dataclasses included."""
    hints = get_type_hints(cls)
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint):
            yield from fields_of(hint, field.name)
        elif field.name not in NOT_SETTINGS:
            yield section, field.name, hint


def all_fields() -> dict[str, dict[str, list[Any]]]:
    """The types of each setting, by section and name. Algorithms may share a name."""
    found: dict[str, dict[str, list[Any]]] = {}
    parts = [*fields_of(RunConfig, "run"), *fields_of(combined_options(), "environment")]
    for cls in ALGORITHMS.values():
        parts += fields_of(cls, "algorithm")
    for section, name, hint in parts:
        hints = found.setdefault(section, {}).setdefault(name, [])
        if hint not in hints:
            hints.append(hint)
    return found


def written(hint: Any) -> str:
    """A type as it is written; enums by the alias of their values."""
    arguments = get_args(hint)
    if get_origin(hint) in (Union, types.UnionType):
        return " | ".join(written(one) for one in arguments)
    if get_origin(hint) is tuple:
        return f"Sequence[{written(arguments[0])}]"
    if hint is types.NoneType:
        return "None"
    return f"{hint.__name__}Name" if issubclass(hint, Enum) else str(hint.__name__)


def enums_in(hint: Any) -> Iterator[type[Enum]]:
    """The enums in a type."""
    if isinstance(hint, type) and issubclass(hint, Enum):
        yield hint
    for argument in get_args(hint):
        yield from enums_in(argument)


def source() -> str:
    """The text of asyncrl/typed_settings.py."""
    sections = all_fields()
    hints = [hint for section in sections.values() for found in section.values() for hint in found]
    enums = sorted({enum for hint in hints for enum in enums_in(hint)}, key=lambda enum: enum.__name__)
    imports = [f"from {enum.__module__} import {enum.__name__}\n" for enum in enums]
    head = HEAD.replace("from asyncrl.envs import EnvSource\nfrom asyncrl.networks import NetworkSource\n", "%s")
    plain = ["from asyncrl.envs import EnvSource\n", "from asyncrl.networks import NetworkSource\n"]
    lines = [head % "".join(merged_imports([*imports, *plain])), ""]
    for enum in enums:
        values = "".join(f'    "{member.value}",\n' for member in enum)
        lines.append(f"{enum.__name__}Name = (\n    {enum.__name__}\n    | Literal[\n{indented(values)}    ]\n)\n")
    lines += ["", "class Settings(TypedDict, total=False):", '    """Keyword arguments of `asyncrl.train`."""', ""]
    types_of = {}
    for section, found in sections.items():
        lines.append(f"    # {section}")
        for name, kinds in found.items():
            types_of[name] = WIDER.get(name) or " | ".join(dict.fromkeys(map(written, kinds)))
            lines.append(f"    {name}: {types_of[name]}")
    lines += ["", "", "class Changes(TypedDict, total=False):", '    """Keyword arguments of `asyncrl.resume`."""', ""]
    lines += [f"    {name}: {types_of[name]}" for name in may_change(diverged=True)]
    return "\n".join(lines) + "\n"


def merged_imports(lines: list[str]) -> list[str]:
    """Sorted import lines, one for each module."""
    names: dict[str, list[str]] = {}
    for line in lines:
        _, module, _, name = line.split()
        names.setdefault(module, []).append(name)
    return [f"from {module} import {', '.join(sorted(names[module]))}\n" for module in sorted(names)]


def indented(text: str) -> str:
    """The lines of a text, four columns further right."""
    return "".join(f"    {line}" for line in text.splitlines(keepends=True))


if __name__ == "__main__":
    FILE.write_text(source(), encoding="utf-8")
