"""The processes of a study: how many fit a machine, and why one failed."""

from __future__ import annotations

from pathlib import Path

from asyncrl.common.child_process import HAS_WORKERS
from asyncrl.runs.config.run_config import EngineKind, RunConfig

__all__ = ["cores_of", "last_line"]


def last_line(log: Path, code: int | None) -> str:
    """The last line of a command's log, which says why it failed, or its exit code; the signal if one ended it."""
    if code is not None and code < 0:
        return f"signal {-code} ended it"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.is_file() else []
    return lines[-1].removeprefix("asyncrl: ")[:300] if lines else f"exit code {code}"


def cores_of(config: RunConfig) -> int:
    """The cores that a run of a resolved configuration keeps busy."""
    learner = config.learners * (config.learner_threads or 1)
    if config.engine is EngineKind.HOGWILD and HAS_WORKERS:
        return config.actors
    return learner if config.engine is EngineKind.SERIAL else config.actors + learner
