"""Search spaces of settings: what `asyncrl tune` tries. They stand in a field's type, beside its default.

learning_rate: Annotated[float, Range(1e-5, 1e-2, log=True)] = 7e-4
t_max: Annotated[int, Choices(5, 10, 20, 40)] = 5
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

__all__ = ["DISCOUNTS", "ENTROPY_COSTS", "TRACES", "Choices", "Range"]


@dataclass(frozen=True)
class Range:
    """Numbers between `low` and `high`, both included; with `log`, equally likely in every decade."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not -math.inf < self.low < self.high < math.inf or (self.log and self.low <= 0):
            raise ValueError(f"a range goes from a number to a larger one, with log=True from a positive one, not {self}")

    def including(self, value: Any) -> Range:
        """The range, widened to `value` if that is a number it can hold."""
        if not isinstance(value, int | float) or (self.log and value <= 0):
            return self
        return Range(min(self.low, value), max(self.high, value), self.log)


class Choices:
    """Some values of a setting."""

    def __init__(self, *values: Any) -> None:
        self.values = values

    def __repr__(self) -> str:
        return f"Choices({', '.join(map(repr, self.values))})"

    def including(self, value: Any) -> Choices:
        """The choices, and `value` if it is not among them."""
        return self if value in self.values else Choices(*self.values, value)


DISCOUNTS = Choices(0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
TRACES = Choices(0.8, 0.9, 0.95, 0.98, 1.0)
"""Of the λ of advantages and returns."""
ENTROPY_COSTS = Choices(0.0, 0.0001, 0.001, 0.003, 0.01, 0.03)
