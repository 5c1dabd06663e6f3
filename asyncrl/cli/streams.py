"""Standard input, output and error as a command needs them: open, and never in the way of what it has to say."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys

__all__ = ["flush", "prepare", "silence", "silence_if_broken"]


def prepare() -> None:
    """Open what the caller has closed, and replace characters that the terminal's encoding lacks.

    Otherwise the next file that is opened would become standard output, for us and for all that we start.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  for the process's life
        elif isinstance(stream, io.TextIOWrapper):
            utf8 = codecs.lookup(stream.encoding).name == "utf-8"
            if stream.errors == "strict" or (stream.errors in ("surrogateescape", "surrogatepass") and not utf8):
                stream.reconfigure(errors="replace")


def flush() -> None:
    """Write what was printed. Raises OSError where that cannot be done."""
    sys.stdout.flush()


def silence_if_broken() -> None:
    """As `silence`, where standard output takes nothing more."""
    try:
        flush()
    except (OSError, ValueError):
        silence()


def silence() -> None:
    """Let what was printed and cannot be written go nowhere, so that Python does not complain of it at its end."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        sys.stdout.flush()
