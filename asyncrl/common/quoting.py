"""Words of commands that are printed to be copied."""

from __future__ import annotations

import os
import shlex

__all__ = ["quoted"]


def quoted(word: str | os.PathLike[str]) -> str:
    """A path, or another word, as it is typed in a shell: quoted if it has spaces or other special characters."""
    return shlex.quote(os.fspath(word))
