"""Folders that are removed again if writing into them fails."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

__all__ = ["new_folders"]


@contextlib.contextmanager
def new_folders(path: Path) -> Iterator[None]:
    """Create a folder with its parents for the block. If the block raises, those created are removed unless in use."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for folder in missing:
            with contextlib.suppress(OSError):  # not created, or not empty
                folder.rmdir()
        raise
