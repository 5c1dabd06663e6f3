"""Which numbers an option may have. Every refusal is one sentence that names the option, its value and the limits."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from asyncrl.errors import UsageError

__all__ = ["check_numbers", "flag", "within"]

LARGEST = 2**63 - 1
"""Counts and seeds are 64-bit integers wherever they are stored."""

_LARGEST_FLOAT = 3.4e38
"""All else is computed with in float32."""


def flag(name: str) -> str:
    """A field's name as an option of the command line."""
    return f"--{name.replace('_', '-')}"


def within(options: object, low: float, high: float, *names: str, above: bool = False) -> None:
    """Raise UsageError for fields of `options` outside [low, high], or not finite; `above` excludes `low` itself.

    Each number of a tuple is checked. None is no number, and passes.
    """
    for name in names:
        value = getattr(options, name)
        for number in value if isinstance(value, tuple) else (value,):
            if number is None or ((low < number if above else low <= number) and number <= high and _is_storable(number)):
                continue
            storable = number != number or _is_storable(number)  # NaN is outside of every range
            beyond = "" if storable else " and finite" if isinstance(number, float) else f" and at most {LARGEST}"
            raise UsageError(f"{flag(name)} must be {_limits(low, high, above=above)}{beyond}, not {value}")


def check_numbers(options: Any) -> None:
    """Raise UsageError for a number anywhere in a dataclass that is not finite, or does not fit into 64 bits."""
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if dataclasses.is_dataclass(value):
            check_numbers(value)
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int | float) and not _is_storable(number):
                kind = "fit into 64 bits" if isinstance(number, int) else "be a finite number below 3.4e38"
                raise UsageError(f"{flag(field.name)} must {kind}, not {value}")


def _is_storable(number: float) -> bool:
    return abs(number) <= (LARGEST if isinstance(number, int) else _LARGEST_FLOAT)


def _limits(low: float, high: float, *, above: bool) -> str:
    if high < math.inf:
        return f"above {low:g} and at most {high:g}" if above else f"between {low:g} and {high:g}"
    return ("positive" if low == 0 else f"above {low:g}") if above else f"{low:g} or more"
