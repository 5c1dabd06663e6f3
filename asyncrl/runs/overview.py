"""Runs in a folder at a glance. Their files are data: without torch, and without importing what they name."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
import warnings
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from asyncrl.common.file_lock import AlreadyLocked, check_unlocked
from asyncrl.errors import DamageWarning, UsageError, suggestions
from asyncrl.runs.config.saved_config import current_settings, saved_facts
from asyncrl.runs.metrics.metrics_file import read_records
from asyncrl.runs.remote.folder import RemoteFolder, remote_errors
from asyncrl.runs.run_state import LOCK, RunState, end_of

__all__ = ["RunOverview", "find_remote_runs", "find_runs", "overview", "run_folders"]

_DEEPEST = 6
"""Levels of folders in which runs are looked for; those of a study are four below its folder."""


@dataclass(frozen=True)
class RunOverview:
    """A run in one line."""

    path: Path
    algorithm: str
    env: str
    seed: int | None
    step: int
    """Environment steps so far."""
    steps: int | None
    """Environment steps of the whole run."""
    best: float | None
    """The best mean return of an evaluation, or without evaluations of the last 100 training episodes."""
    last: float | None
    """The newest one."""
    state: RunState
    age: float
    """Seconds since its files last changed."""


def find_runs(folder: Path) -> list[RunOverview]:
    """The runs in a folder and the folders below it, the newest first. Raises UsageError if there are none."""
    if not folder.is_dir():
        near = suggestions(str(folder), (str(path) for path in folder.parent.glob("*/")))
        raise UsageError(f"there is no folder {folder}{near}")
    found = sorted(map(overview, run_folders(folder)), key=lambda run: run.age)
    if not found:
        raise UsageError(f"there are no runs in {folder}: asyncrl train ALGO ENV makes one")
    return found


def run_folders(path: Path, depth: int = 0) -> Iterator[Path]:
    """`path` if it is a run folder, else those below it, in order. Of links, only its own entries are followed."""
    if (path / "config.json").is_file():
        yield path
    elif path.is_dir() and depth < _DEEPEST:
        with contextlib.suppress(OSError):  # a folder that may not be read, or that is being removed
            for entry in sorted(path.iterdir()):
                if not entry.is_symlink() or depth == 0:
                    yield from run_folders(entry, depth + 1)


def find_remote_runs(url: str) -> dict[str, RunOverview]:
    """The runs in a storage by their URLs, the newest first; their paths are those in the storage.

    Only their settings and metrics are copied. Raises UsageError if there are none.
    """
    storage, found = RemoteFolder(url), {}
    with remote_errors(f"{storage.url} cannot be read"):
        names = storage.sizes().keys()
        for config in (name for name in names if f"/{name}".endswith("/config.json")):
            place = config.removesuffix("config.json")
            found[f"{storage.url}/{place}".rstrip("/")] = _remote_overview(storage, place, names)
    if not found:
        raise UsageError(f"there are no runs in {storage.url}: asyncrl train ALGO ENV --storage {storage.url} makes one")
    return dict(sorted(found.items(), key=lambda item: item[1].age))


def _remote_overview(storage: RemoteFolder, place: str, names: Collection[str]) -> RunOverview:
    """A run in a storage at a glance; `names` are those of the storage's files, `place` is how the run's begin."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("config.json", "metrics.jsonl", "interrupted"):
            if place + name in names:
                storage.download(place + name, Path(folder) / name)
                os.utime(Path(folder) / name, (storage.modified(place + name),) * 2)
        run = overview(Path(folder))
    state = RunState.UNFINISHED if run.state is RunState.CRASHED else run.state
    return replace(run, path=Path(place or storage.url.rpartition("/")[2]), state=state)


def overview(path: Path) -> RunOverview:
    """A run at a glance."""
    config = current_settings(saved_facts(path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DamageWarning)
        records = read_records(path / "metrics.jsonl", ("train", "eval", "stop", "pretrain"))
    evaluations = [float(record["mean"]) for record in records if record["kind"] == "eval"]
    training = [record["mean_return"] for record in records if isinstance(record.get("mean_return"), int | float)]
    scores = evaluations or training
    steps, seed = (config.get(name) for name in ("steps", "seed"))
    return RunOverview(
        path,
        algorithm=str(_table(config.get("algorithm")).get("name", "?")),
        env=str(config.get("env", "?")),
        seed=seed if isinstance(seed, int) else None,
        step=max((record["step"] for record in records), default=0),
        steps=steps if isinstance(steps, int) else None,
        best=max(scores, default=None),
        last=scores[-1] if scores else None,
        state=RunState.RUNNING if _is_locked(path) else end_of(path, config, {one["kind"]: one for one in records}),
        age=max(0.0, time.time() - max(map(_modified, (path / "metrics.jsonl", path / "config.json")))),
    )


def _is_locked(path: Path) -> bool:
    """Whether a process holds the run's lock."""
    try:
        check_unlocked(path / LOCK)
    except AlreadyLocked:
        return True
    except OSError:
        return False
    return False


def _modified(file: Path) -> float:
    with contextlib.suppress(OSError):
        return file.stat().st_mtime
    return 0.0


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
