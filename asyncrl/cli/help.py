"""The help of a command: a short page of the options that most people set, and the whole list."""

from __future__ import annotations

import dataclasses
import re
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from asyncrl.cli.options import Option, docstrings
from asyncrl.common.validation import flag

__all__ = ["Basic", "page_width", "print_help", "two_columns", "usage", "wrapped"]

Basic = Mapping[str, Sequence[str] | Mapping[str, str]]
"""Options of a short help: by section their names, or names with texts that replace their docstrings."""

_INDENT = 2
_COLUMN = 24
"""Where the text of an option begins."""
_WIDEST = 100
"""Columns of a page: longer lines are hard to read."""

_SHOWN_AS = {"extra_envs": "--env ENV", "imports": "--import MODULE"}
"""Options that the command line takes one at a time, by field name."""

_METAVARS = {
    "bot": "FILE:NAME",
    "capsules": "DIR",
    "env": "ENV",
    "folder": "DIR",
    "env_kwargs": "JSON",
    "init_from": "RUN",
    "objectives": "NAME",
    "offline": "DATASET",
    "onnx": "DIR",
    "data": "DATASET",
    "record": "DATASET",
    "recurrent": "CELL",
    "storage": "URL",
    "track": "TRACKER",
    "run_dir": "DIR",
    "x": "AXIS",
}
"""What stands for an option's value; others are named after their type."""

_TITLES = {
    "options": "Options",
    "run": "Run",
    "cloning": "Imitation",
    "algorithm": "Algorithm",
    "exploration": "Exploration",
    "munchausen_targets": "Munchausen targets",
    "replay": "Replay buffer",
    "sequences": "Replay of sequences (--recurrent)",
    "optimizer": "Optimizer",
    "network": "Network",
    "environment": "Environment",
    "env_options": "Environment",
    "supervision": "Environment workers (--env-backend async)",
    "bots": "Bots",
    "evaluation": "Evaluation",
    "checkpoints": "Checkpoints and logs",
    "output": "Output",
}
"""Titles of the sections of `--help-all`, by the field that holds a section's dataclass."""

_RUN_SECTIONS = {
    "eval_": "evaluation",
    "target_return": "evaluation",
    "patience": "evaluation",
    "video_every": "evaluation",
    "checkpoint_every": "checkpoints",
    "keep_checkpoints": "checkpoints",
    "log_every": "checkpoints",
    "track": "checkpoints",
    "storage": "checkpoints",
    "on_divergence": "checkpoints",
}
"""Sections of a run's own options, by the beginning of their names."""


def usage(command: str, options: Iterable[Option]) -> str:
    """The usage line of a command with the given options."""
    names = [o.word for o in options if o.positional and o.default is dataclasses.MISSING]
    more = [f"[{o.word}]" for o in options if o.positional and o.default is not dataclasses.MISSING]
    return " ".join(["asyncrl", command, *names, *more, *(["[options]"] * any(not o.positional for o in options))])


def print_help(
    usages: Sequence[str],
    about: str,
    options: Sequence[Option],
    basic: Basic,
    *,
    show_all: bool,
) -> None:
    """Print the help of a command.

    Args:
        usages: The usage lines.
        about: What the command does.
        options: All options, with their defaults.
        basic: Options on the short page, by section; those that are not among `options` are left out.
        show_all: Print every option with its whole docstring.
    """
    width = page_width()
    print(f"usage: {usages[0]}", *(f"       {line}" for line in usages[1:]), "", sep="\n")
    print(textwrap.fill(about, width, break_on_hyphens=False))
    arguments = [option for option in options if option.positional]
    options = [option for option in options if not option.positional]
    short = _short_sections(options, basic)
    if arguments:
        _print_section("", arguments, width, whole=True)
    for title, found in (_all_sections(options) if show_all else short).items():
        _print_section(title, found, width, whole=show_all)
    hidden = len(options) - sum(map(len, short.values()))
    if hidden and not show_all:
        print(f"\n--help-all shows {hidden} more options.")


def _short_sections(options: Sequence[Option], basic: Basic) -> dict[str, list[Option]]:
    by_name = {option.name: option for option in options}
    sections = {}
    for title, names in basic.items():
        texts = names if isinstance(names, Mapping) else dict.fromkeys(names, "")
        found = [by_name[name]._replace(short=text) for name, text in texts.items() if name in by_name]
        if found:
            sections[title] = found
    return sections


def _all_sections(options: Sequence[Option]) -> dict[str, list[Option]]:
    sections: dict[str, list[Option]] = {title: [] for title in _TITLES.values()}
    for option in options:
        sections.setdefault(_title(option), []).append(option)
    return {title: found for title, found in sections.items() if found}


def _title(option: Option) -> str:
    section = option.section
    if section == "run":
        section = next((there for start, there in _RUN_SECTIONS.items() if option.name.startswith(start)), section)
    return _TITLES.get(section, _TITLES["options"])


def _print_section(title: str, options: Iterable[Option], width: int, *, whole: bool) -> None:
    print(f"\n{title}" if title else "")
    for option in options:
        name = " " * _INDENT + _name(option)
        lines = list(_texts(option, width - _COLUMN, whole=whole))
        print("\n".join(two_columns(name, lines, _COLUMN)))


def two_columns(name: str, lines: Sequence[str], column: int) -> list[str]:
    """`name` with `lines` to its right, or below it if it is too long."""
    first = [f"{name:<{column}}{lines[0]}"] if len(name) < column else [name, " " * column + lines[0]]
    return [*first, *(" " * column + line for line in lines[1:])]


def _name(option: Option) -> str:
    """The option as it is written, with a word for its value."""
    if option.name in _SHOWN_AS:
        return _SHOWN_AS[option.name]
    if option.positional:
        return option.word
    if option.type is bool:
        return f"--[no-]{flag(option.name)[2:]}" if option.default is True else flag(option.name)
    return f"{flag(option.name)} {_metavar(option)}{' …' * option.is_tuple}"


def _metavar(option: Option) -> str:
    if option.name in _METAVARS:
        return _METAVARS[option.name]
    kind = option.type
    if issubclass(kind, Enum):
        return str(option.name.rsplit("_", 1)[-1].upper())
    return {int: "N", float: "X", Path: "FILE"}.get(kind, "NAME")


def _texts(option: Option, width: int, *, whole: bool) -> Iterator[str]:
    """The lines of an option's help: all of it if `whole`, else its first sentence."""
    text, default = _split_default(option)
    if not whole:
        text = _first_sentence(text)
    notes = []
    members = list(option.type) if isinstance(option.type, type) and issubclass(option.type, Enum) else []
    details = docstrings(option.type) if members and whole else {}
    if members and not details:
        notes.append(", ".join(str(member.value) for member in members))
    if default:
        notes.append(f"default: {default}")
    if option.type is bool and option.default is True:
        notes = ["default: on"]
    note = f" ({'; '.join(notes)})" if notes else ""
    line = f"{text if _first_sentence(text) != text else text.removesuffix('.')}{note}"
    yield from textwrap.wrap(line, width, break_on_hyphens=False) or [""]
    for member in members if details else ():
        detail = details.get(member.name, "")
        own = f"{member.value}: {detail}" if detail else str(member.value)
        yield from textwrap.wrap(own, width, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False)


def _split_default(option: Option) -> tuple[str, str]:
    """The help without its sentence on the default, and the default: that sentence if the value is None."""
    text, _, words = option.help.partition(" Default: ")
    if option.default is None:
        return text, words.removesuffix(".")
    if option.default is dataclasses.MISSING or option.type is bool or option.default in ("", ()):
        return text, ""
    return text, str(option.default) if option.name == "port" else _shown(option.default)


def _shown(value: Any) -> str:
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, tuple):
        return " ".join(map(_shown, value))
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _first_sentence(text: str) -> str:
    end = re.search(r"(?<!al)\.(?= [A-Z(0-9])", text)
    return text[: end.start() + 1] if end else text


def wrapped(texts: Mapping[str, str]) -> list[str]:
    """A table of names and texts, as wide as the page."""
    column = max(map(len, texts)) + 2
    rows = [(name, textwrap.wrap(text, page_width() - column, break_on_hyphens=False)) for name, text in texts.items()]
    return [line for name, lines in rows for line in two_columns(name, lines or [""], column)]


def page_width() -> int:
    """Columns of a printed page: the terminal's, within bounds."""
    return min(_WIDEST, max(40, shutil.get_terminal_size().columns))
