"""Makes run folders: whole or not at all, and nothing is ever overwritten."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import time
from pathlib import Path

from asyncrl.common.file_lock import AlreadyLocked, check_unlocked, file_lock
from asyncrl.common.os_errors import describe_os_error, is_path_error
from asyncrl.envs import Contract
from asyncrl.errors import SystemFault, UsageError
from asyncrl.runs.config import RunConfig
from asyncrl.runs.run import LOCK, Run

__all__ = ["create_run", "create_run_in"]


class _TakenError(UsageError):
    """The folder is somebody's already."""


def create_run(path: Path, config: RunConfig, contract: Contract, *, video: bool = False) -> Run:
    """A new folder; `video`: a game is to be recorded at the end. Raises UsageError where the folder cannot be."""
    run, was_there = Run(path.absolute()), os.path.lexists(path)
    try:
        _check_vacant(run.path)
        run.path.mkdir(parents=True, exist_ok=True)
        with file_lock(run.path / LOCK):
            _check_vacant(run.path)
            run.write_config(config, contract, video=video)
    except AlreadyLocked as lock:
        raise _TakenError(f"{run.path} is taken by {lock}; choose another --run-dir") from None
    except OSError as problem:
        _remove(run.path, folder=not was_there)
        why = f"no run folder can be made: {describe_os_error(problem)}"
        if is_path_error(problem):
            raise UsageError(f"{why}, or choose another --run-dir") from None
        raise SystemFault(why) from problem
    return run


def create_run_in(runs: Path, config: RunConfig, contract: Contract, *, video: bool = False) -> Run:
    """A new folder inside of `runs`, called after the algorithm, the environment and the time."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    name = f"{config.algorithm.name}-{re.sub('[^a-zA-Z0-9_.+-]+', '-', config.env)}-{stamp}"
    for number in itertools.count(1):
        path = runs / (name if number == 1 else f"{name}-{number}")
        if not path.exists():
            with contextlib.suppress(_TakenError):  # another process was faster
                return create_run(path, config, contract, video=video)
    raise AssertionError


def _check_vacant(path: Path) -> None:
    """Raise UsageError where somebody's files are here; what a start that was killed has left is nobody's."""
    if (path / "config.json").exists():
        try:
            check_unlocked(path / LOCK)
        except AlreadyLocked as lock:
            raise _TakenError(f"{path} already holds a run, which {lock} is training; choose another --run-dir") from None
        raise _TakenError(f"{path} already holds a run; choose another --run-dir, or continue it with --resume {path}")
    if path.exists() and not (path.is_dir() and all(map(_is_of_a_start, path.iterdir()))):
        raise _TakenError(f"{path} exists and is not an empty folder; choose another --run-dir")


def _is_of_a_start(path: Path) -> bool:
    """Is this what is made before config.json, and nothing else?"""
    if path.name == "checkpoints":
        return path.is_dir() and not any(path.iterdir())
    return path.name in (LOCK, ".config.json.tmp")


def _remove(path: Path, *, folder: bool) -> None:
    """Remove what a start that failed has made."""
    with contextlib.suppress(OSError):
        for name in (LOCK, ".config.json.tmp"):
            (path / name).unlink(missing_ok=True)
        (path / "checkpoints").rmdir()
    with contextlib.suppress(OSError):
        if folder:
            path.rmdir()
