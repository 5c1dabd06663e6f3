"""Creates run folders, completely or not at all. Nothing is ever overwritten."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import time
from pathlib import Path

from asyncrl.common.file_lock import AlreadyLocked, check_unlocked, file_lock
from asyncrl.common.os_errors import describe_os_error, is_path_error
from asyncrl.common.quoting import quoted
from asyncrl.envs import Contract
from asyncrl.errors import SystemFault, UsageError
from asyncrl.runs.config.run_config import RunConfig
from asyncrl.runs.run import Run
from asyncrl.runs.run_state import LOCK

__all__ = ["create_run", "create_run_in", "run_name"]


class _TakenError(UsageError):
    """The folder is in use."""


def create_run(path: Path, config: RunConfig, contract: Contract, *, video: bool = False) -> Run:
    """Create the folder `path`. `video`: an episode is to be recorded at the end.

    Raises UsageError if the folder is in use or cannot be created, SystemFault if the disk fails.
    """
    run, was_there = Run(path.absolute()), os.path.lexists(path)
    try:
        _check_vacant(run.path)
        run.path.mkdir(parents=True, exist_ok=True)
        with file_lock(run.path / LOCK):
            _check_vacant(run.path)
            run.write_config(config, contract, video=video)
    except AlreadyLocked as lock:
        raise _TakenError(f"{run.path} is in use by {lock}; choose another --run-dir") from None
    except OSError as problem:
        _remove(run.path, folder=not was_there)
        why = f"the run folder cannot be created: {describe_os_error(problem)}"
        if is_path_error(problem):
            raise UsageError(f"{why}, or choose another --run-dir") from None
        raise SystemFault(why) from problem
    return run


def create_run_in(runs: Path, config: RunConfig, contract: Contract, *, video: bool = False) -> Run:
    """Create a folder in `runs` named after the algorithm, the environment and the time."""
    name = run_name(config)
    for number in itertools.count(1):
        path = runs / (name if number == 1 else f"{name}-{number}")
        if not path.exists():
            with contextlib.suppress(_TakenError):  # another process was faster
                return create_run(path, config, contract, video=video)
    raise AssertionError


def run_name(config: RunConfig) -> str:
    """The name of a run that begins now: algorithm, environment and time."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    return re.sub("[^a-zA-Z0-9_.+-]+", "-", f"{config.algorithm.name}-{config.env}-{stamp}")


def _check_vacant(path: Path) -> None:
    """Raise UsageError if the folder holds anything but the remains of a run that was killed while it started."""
    if (path / "config.json").exists():
        try:
            check_unlocked(path / LOCK)
        except AlreadyLocked as lock:
            raise _TakenError(f"{path} already holds a run, which {lock} is training; choose another --run-dir") from None
        resume = f"--resume {quoted(path)}"
        raise _TakenError(f"{path} already holds a run; choose another --run-dir, or continue it with {resume}")
    if path.exists() and not (path.is_dir() and all(map(_is_left_by_a_start, path.iterdir()))):
        raise _TakenError(f"{path} exists and is not an empty folder; choose another --run-dir")


def _is_left_by_a_start(path: Path) -> bool:
    """Whether this file or folder is created before config.json."""
    if path.name == "checkpoints":
        return path.is_dir() and not any(path.iterdir())
    return path.name in (LOCK, ".config.json.tmp")


def _remove(path: Path, *, folder: bool) -> None:
    """Remove what a failed start has created."""
    with contextlib.suppress(OSError):
        for name in (LOCK, ".config.json.tmp"):
            (path / name).unlink(missing_ok=True)
        (path / "checkpoints").rmdir()
    with contextlib.suppress(OSError):
        if folder:
            path.rmdir()
