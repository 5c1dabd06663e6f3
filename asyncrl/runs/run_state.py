"""What a run does, or how it ended, from its files: without torch, and without importing what they name."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from asyncrl.monitor import Record

__all__ = ["LOCK", "RunState", "end_of"]

LOCK = ".lock"
"""The file that a process keeps locked while it trains the run."""


class RunState(Enum):
    """What a run does, or how it ended."""

    RUNNING = "running"
    FINISHED = "finished"
    STOPPED = "stopped"
    """by a callback, or because its patience was exhausted"""
    INTERRUPTED = "interrupted"
    """by a signal, with everything saved"""
    CRASHED = "crashed"
    """ended without a final record: killed, or after an error"""
    UNFINISHED = "unfinished"
    """a copy in a storage without a final record: the run continues elsewhere, or crashed"""


def end_of(path: Path, settings: Mapping[str, Any], newest: Mapping[str, Record]) -> RunState:
    """Return how the run in the folder `path`, which no process trains, ended.

    Args:
        path: The folder.
        settings: Its `current_settings`.
        newest: Its newest record of each kind.
    """
    if (path / "interrupted").exists():
        return RunState.INTERRUPTED
    step = max((record["step"] for record in newest.values()), default=0)
    steps, target, mean = settings.get("steps"), settings.get("target_return"), newest.get("eval", {}).get("mean")
    reached = isinstance(target, int | float) and isinstance(mean, int | float) and mean >= target
    stop = newest.get("stop")
    if stop is not None and stop["step"] >= step and not reached:  # its last evaluation follows at the same step
        return RunState.STOPPED
    imitated = "pretrain" in newest and not step and (path / "latest").exists()
    if reached or imitated or (isinstance(steps, int) and step >= steps):
        return RunState.FINISHED
    return RunState.CRASHED
