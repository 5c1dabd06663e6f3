"""Numbers of one dtype as another, and whether they are still the same numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["LARGEST_EXACT", "exact", "first_rounded", "limits"]

LARGEST_EXACT = 2**24
"""float32 holds every whole number up to this one."""


def exact(values: np.ndarray, dtype: Any) -> np.ndarray:
    """`values` as `dtype`. Raises ValueError where one would be another number: it wraps, is cut off or infinite.

    Floating-point numbers may be rounded.
    """
    wanted = np.dtype(dtype)
    if values.dtype == wanted:
        return values
    if values.dtype.kind not in "biuf":
        raise ValueError(f"has the dtype {values.dtype}, not {wanted}")
    with np.errstate(all="ignore"):
        converted = values.astype(wanted)
    if np.can_cast(values.dtype, wanted, "safe"):
        return converted
    wrong = np.isinf(converted) & np.isfinite(values) if wanted.kind == "f" else converted != values
    if wrong.any():
        where = _first(wrong)
        raise ValueError(f"holds {values[where].item()}{_at(where)}, which {wanted} cannot hold")
    return converted


def first_rounded(values: np.ndarray) -> tuple[Any, float] | None:
    """The first number above 2^24 that float32 rounds, and what it becomes; None where there is none."""
    large = (values >= LARGEST_EXACT) | (values <= -LARGEST_EXACT)
    if not large.any():
        return None
    found = values[large]
    with np.errstate(all="ignore"):
        rounded = found.astype(np.float32)
    for value, seen in zip(found.tolist(), rounded.tolist(), strict=True):
        if value != seen and np.isfinite(seen):
            return value, seen
    return None


def limits(dtype: Any) -> tuple[float, float]:
    """The least and the largest number of a dtype."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return -np.inf, np.inf
    return (0, 1) if kind.kind == "b" else (np.iinfo(kind).min, np.iinfo(kind).max)


def _first(wrong: np.ndarray) -> tuple[int, ...]:
    return tuple(map(int, np.argwhere(wrong)[0]))


def _at(where: tuple[int, ...]) -> str:
    return f" at {where}" if where else ""
