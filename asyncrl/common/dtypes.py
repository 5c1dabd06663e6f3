"""Conversions between dtypes that must not change the numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["LARGEST_EXACT", "exact", "first_rounded", "limits"]

LARGEST_EXACT = 2**24
"""Up to this number float32 represents every integer."""


def exact(values: np.ndarray, dtype: Any) -> np.ndarray:
    """Return `values` as `dtype`; floating-point numbers may be rounded.

    Raises ValueError if a number would wrap around, lose its fraction or become infinite.
    """
    target = np.dtype(dtype)
    if values.dtype == target:
        return values
    if values.dtype.kind not in "biuf":
        raise ValueError(f"has the dtype {values.dtype}, not {target}")
    with np.errstate(all="ignore"):
        converted = values.astype(target)
    if np.can_cast(values.dtype, target, "safe"):
        return converted
    wrong = np.isinf(converted) & np.isfinite(values) if target.kind == "f" else converted != values
    if wrong.any():
        index = tuple(map(int, np.argwhere(wrong)[0]))
        place = f" at {index}" if index else ""
        raise ValueError(f"holds {values[index].item()}{place}, which {target} cannot hold")
    return converted


def first_rounded(values: np.ndarray) -> tuple[Any, float] | None:
    """Return the first number beyond ±2^24 that float32 rounds, and the rounded number; None if there is none."""
    large = (values >= LARGEST_EXACT) | (values <= -LARGEST_EXACT)
    if not large.any():
        return None
    candidates = values[large]
    with np.errstate(all="ignore"):
        rounded = candidates.astype(np.float32)
    for value, as_float32 in zip(candidates.tolist(), rounded.tolist(), strict=True):
        if value != as_float32 and np.isfinite(as_float32):
            return value, as_float32
    return None


def limits(dtype: Any) -> tuple[float, float]:
    """Return the smallest and the largest number of a dtype: ±inf for floating-point ones."""
    target = np.dtype(dtype)
    if target.kind == "f":
        return -np.inf, np.inf
    return (0, 1) if target.kind == "b" else (np.iinfo(target).min, np.iinfo(target).max)
