"""Warnings that say nothing to the user."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator

__all__ = ["hidden_warnings"]

_lock = threading.Lock()
_blocks = 0
"""Number of blocks that threads are in."""
_filters = contextlib.ExitStack()


@contextlib.contextmanager
def hidden_warnings() -> Iterator[None]:
    """Hide the process's warnings during the block.

    Threads may be in such blocks at the same time. The filters are restored after the last one: each for itself would
    restore the filters that another one had set.
    """
    global _blocks
    with _lock:
        if not _blocks:
            _filters.enter_context(warnings.catch_warnings(action="ignore"))
        _blocks += 1
    try:
        yield
    finally:
        with _lock:
            _blocks -= 1
            if not _blocks:
                _filters.close()
