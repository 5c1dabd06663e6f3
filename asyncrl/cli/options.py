"""How every command reads its arguments: a dataclass in, flags and help out."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, TypeVar

import tyro

from asyncrl.common.validation import check_numbers, within
from asyncrl.errors import UsageError

__all__ = ["ParserExit", "given", "mode", "parse", "shown", "take_out"]

T = TypeVar("T")

_COUNTS = tyro.constructors.ConstructorRegistry()
_FACTORS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9}


@_COUNTS.primitive_rule
def _whole_numbers(kind: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec[int] | None:
    """Whole numbers may be written as 1e6, 1M, 1_000_000 and 1,000,000 too."""
    if kind.type is not int:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT",
        instance_from_str=lambda words: whole_number(words[0]),
        is_instance=lambda value: isinstance(value, int) and not isinstance(value, bool),
        str_from_instance=lambda value: [str(value)],
    )


def whole_number(word: str) -> int:
    """The whole number that is written as `word`. Raises ValueError where it is none."""
    found = re.fullmatch(r"([+-]?[\d_,]*\.?\d*(?:e[+-]?\d{1,3})?)([kmgb]?)", word.strip().casefold())
    try:
        number = Decimal("nan" if found is None else re.sub("[_,]", "", found[1])) * (
            1 if found is None else _FACTORS[found[2]]
        )
    except InvalidOperation:
        number = Decimal("nan")
    if not number.is_finite() or number != int(number):
        raise ValueError(f"{word!r} is not a whole number")
    return int(number)


_folder = [Path()]
"""Where commands were called; the last is this one's."""


class ParserExit(SystemExit):
    """The help was shown (code 0), or a mistake explained (code 2)."""


def parse(cls: type[T], command: str, arguments: Sequence[str], description: str, default: Any = None) -> T:
    """`arguments` as an instance of `cls`. A mistake is explained and raises ParserExit with 2."""
    _folder.append(Path.cwd())
    extra = {} if default is None else {"default": default}
    try:
        parsed: T = tyro.cli(
            cls,
            prog=f"asyncrl {command}",
            description=description,
            args=list(arguments),
            config=(
                tyro.conf.OmitArgPrefixes,
                tyro.conf.EnumChoicesFromValues,
                tyro.conf.PositionalRequiredArgs,
            ),
            registry=_COUNTS,
            **extra,
        )
    except SystemExit as end:
        raise ParserExit(end.code) from None
    check_numbers(parsed)
    if hasattr(parsed, "seed"):
        within(parsed, 0, math.inf, "seed")
    return parsed


def given(arguments: Sequence[str], known: Collection[str]) -> set[str]:
    """The options among `arguments`, by the names of their fields, which are `known`."""
    words = {word[2:].partition("=")[0].replace("-", "_") for word in arguments if word.startswith("--")}
    return {name for name in known if name in words or f"no_{name}" in words}


def take_out(words: list[str], option: str) -> list[str]:
    """Remove every `option VALUE` and `option=VALUE` from `words`; returns the values."""
    values = []
    for i in reversed(range(len(words))):
        if words[i].startswith(f"{option}="):
            values.append(words.pop(i).partition("=")[2])
        elif words[i] == option:
            if i + 1 == len(words):
                raise UsageError(f"{option} needs a name")
            values.append(words.pop(i + 1))
            del words[i]
    return values[::-1]


def shown(path: Path) -> Path:
    """`path` as somebody calls it in the folder where the command was called: an environment may have gone elsewhere."""
    return path.relative_to(_folder[-1]) if path.is_relative_to(_folder[-1]) else path


def mode(greedy: bool, sample: bool) -> bool | None:
    """--greedy and --sample as one choice; None where neither is asked for."""
    if greedy and sample:
        raise UsageError("--greedy and --sample exclude each other")
    return greedy if greedy or sample else None
