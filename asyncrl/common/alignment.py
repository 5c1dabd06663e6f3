"""Alignment of arrays that share one block of memory."""

from __future__ import annotations

__all__ = ["aligned"]

_CACHE_LINE = 64
"""Bytes. Arrays aligned to cache lines never share one, so two cores never write to the same line."""


def aligned(nbytes: int) -> int:
    """Return the smallest multiple of a cache line that holds `nbytes` bytes."""
    return -(-nbytes // _CACHE_LINE) * _CACHE_LINE
