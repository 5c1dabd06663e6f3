"""Versions of installed packages."""

from __future__ import annotations

import functools

__all__ = ["version_of"]


@functools.cache
def version_of(package: str) -> str:
    """Return the installed version of a package; read once. Raises ModuleNotFoundError if it is missing."""
    from importlib.metadata import version  # environment workers start sooner without it

    return version(package)
