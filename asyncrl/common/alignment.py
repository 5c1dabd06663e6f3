"""Alignment of arrays that share one block of memory."""

from __future__ import annotations

__all__ = ["aligned"]

_CACHE_LINE = 64
"""Bytes. Arrays that begin on a cache line of their own are never written by two cores at once."""


def aligned(nbytes: int) -> int:
    """Return the smallest multiple of a cache line that holds `nbytes` bytes."""
    return -(-nbytes // _CACHE_LINE) * _CACHE_LINE
