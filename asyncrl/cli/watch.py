"""asyncrl watch RUN…"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from asyncrl.cli.options import parse
from asyncrl.common.validation import within
from asyncrl.dashboard import watch

_ABOUT = "Show runs on a live page in the browser, finished ones or ones in training."
BASIC = {"Options": ("port", "trust")}
"""Options of the short help, by section."""


@dataclass(frozen=True)
class Arguments:
    runs: tuple[str, ...] = field(default=("runs",), metadata={"positional": True})
    """Run folders, folders of runs, or pretrained agents. Default: the folder runs."""
    port: int | None = None
    """Port on 127.0.0.1. Default: 8765, or the next free one."""
    trust: bool = False
    """Run code that a run folder names, to let its agent play, even if someone else made the folder."""


def run(arguments: Sequence[str]) -> int:
    asked = parse(Arguments, "watch", arguments, _ABOUT, BASIC)
    within(asked, 0, 65_535, "port")
    watch(*asked.runs, port=asked.port, trust=asked.trust)
    return 0
