"""How every command reads its arguments: a dataclass in, flags and help out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import tyro

from asyncrl.errors import UsageError
from asyncrl.ranges import check_numbers, within

__all__ = ["ParserExit", "mode", "parse"]

T = TypeVar("T")


class ParserExit(SystemExit):
    """The help was shown (code 0), or a mistake explained (code 2)."""


def parse(cls: type[T], command: str, arguments: Sequence[str], description: str, default: Any = None) -> T:
    """`arguments` as an instance of `cls`. A mistake is explained and raises ParserExit with 2."""
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
            **extra,
        )
    except SystemExit as end:
        raise ParserExit(end.code) from None
    check_numbers(parsed)
    if hasattr(parsed, "seed"):
        within(parsed, 0, math.inf, "seed")
    return parsed


def mode(greedy: bool, sample: bool) -> bool | None:
    """--greedy and --sample as one choice; None where neither is asked for."""
    if greedy and sample:
        raise UsageError("--greedy and --sample exclude each other")
    return greedy if greedy or sample else None
