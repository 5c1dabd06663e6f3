"""Versions of installed packages."""

from __future__ import annotations

import functools
from importlib.metadata import PackageNotFoundError, version

__all__ = ["PackageNotFoundError", "version_of"]


@functools.cache
def version_of(package: str) -> str:
    """Return the installed version of a package; read once. Raises PackageNotFoundError if it is missing."""
    return version(package)
