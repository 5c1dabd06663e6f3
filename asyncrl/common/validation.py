"""Range checks of options. An error names the option, its limits and its value."""

from __future__ import annotations

import dataclasses
import math
import os
from numbers import Integral
from pathlib import Path
from typing import Any

from asyncrl.errors import UsageError

__all__ = ["MAX_INT", "as_path", "check_numbers", "check_whole", "flag", "within"]

MAX_INT = 2**63 - 1
"""Counts and seeds are stored as 64-bit integers."""

_MAX_FLOAT = 3.4e38
"""All other numbers are used as float32."""


def flag(name: str) -> str:
    """Return the command-line option of a field: `--learning-rate` for `learning_rate`."""
    return f"--{name.replace('_', '-')}"


def within(options: object, low: float, high: float, *names: str, above: bool = False) -> None:
    """Raise UsageError if a field of `options` in `names` is outside [low, high] or not finite.

    `above` excludes `low` itself. Every number of a tuple is checked; None passes.
    """
    for name in names:
        value = getattr(options, name)
        for number in value if isinstance(value, tuple) else (value,):
            if number is None or ((low < number if above else low <= number) and number <= high and _is_storable(number)):
                continue
            storable = number != number or _is_storable(number)  # NaN is outside of every range
            extra = "" if storable else " and finite" if isinstance(number, float) else f" and at most {MAX_INT}"
            raise UsageError(f"{flag(name)} must be {_range(low, high, above=above)}{extra}, not {number}")


def as_path(name: str, value: object) -> Path:
    """Return the argument `name`, a path. Raises UsageError for anything else, also for what no path can contain."""
    if not isinstance(value, str | os.PathLike) or "\0" in str(value):
        raise UsageError(f"{name} is the path of a file or folder, not {value!r:.80}")
    return Path(value)


def check_whole(name: str, value: Any, least: int = 1) -> None:
    """Raise UsageError if the argument `name` is not a whole number, or below `least`."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise UsageError(f"{flag(name)} must be a whole number, not {value!r:.80}")
    if not least <= int(value) <= MAX_INT:
        limit = f"{least} or more" if int(value) < least else f"at most {MAX_INT}"
        raise UsageError(f"{flag(name)} must be {limit}, not {value}")


def check_numbers(options: Any) -> None:
    """Raise UsageError if a number in a dataclass, or in one nested in it, is not finite or exceeds 64 bits."""
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if dataclasses.is_dataclass(value):
            check_numbers(value)
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int | float) and not _is_storable(number):
                rule = "fit into 64 bits" if isinstance(number, int) else "be a finite number below 3.4e38"
                raise UsageError(f"{flag(field.name)} must {rule}, not {number}")


def _is_storable(number: float) -> bool:
    return abs(number) <= (MAX_INT if isinstance(number, int) else _MAX_FLOAT)


def _range(low: float, high: float, *, above: bool) -> str:
    """Return the range in words."""
    if high < math.inf:
        return f"above {low:g} and at most {high:g}" if above else f"between {low:g} and {high:g}"
    return ("positive" if low == 0 else f"above {low:g}") if above else f"{low:g} or more"
