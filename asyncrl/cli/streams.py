"""Standard streams that may be closed, broken or of another encoding."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys

__all__ = ["flush", "prepare", "silence", "silence_if_broken"]


def prepare() -> None:
    """Open streams that the caller closed, and replace characters that the terminal's encoding lacks.

    The next file to be opened would otherwise become standard output, in this process and its children.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest free number
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  open until the process ends
        elif isinstance(stream, io.TextIOWrapper):
            utf8 = codecs.lookup(stream.encoding).name == "utf-8"
            if stream.errors == "strict" or (stream.errors in ("surrogateescape", "surrogatepass") and not utf8):
                stream.reconfigure(errors="replace")


def flush() -> None:
    """Write what was printed. Raises OSError if standard output takes no more."""
    sys.stdout.flush()


def silence_if_broken() -> None:
    """Call `silence` if standard output takes no more."""
    try:
        flush()
    except (OSError, ValueError):
        silence()


def silence() -> None:
    """Discard what was printed but cannot be written, so that Python does not complain at exit."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        sys.stdout.flush()
