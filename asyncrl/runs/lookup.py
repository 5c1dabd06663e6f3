"""From a name on the command line to a checkpoint: run folders, checkpoint folders, pretrained agents, hf:USER/NAME."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Collection
from pathlib import Path

from asyncrl.common.counting import counted
from asyncrl.common.quoting import quoted
from asyncrl.errors import CheckpointError, DamageWarning, UsageError, suggestions
from asyncrl.runs.checkpoints import checkpoint
from asyncrl.runs.checkpoints.checkpoint import Checkpoint
from asyncrl.runs.names import PRETRAINED, checked_name, existing_path, local_path, pretrained_names
from asyncrl.runs.remote.folder import is_url
from asyncrl.runs.run import Run

__all__ = [
    "checkpoint_folder",
    "load_checkpoint",
    "newer_checkpoint",
    "open_run",
    "open_to_resume",
]

_MARKS = ("best", "latest")


def open_run(name: str | os.PathLike[str], *, trust: bool = False) -> Run:
    """An existing run, whose code may run if it is the user's own or with `trust`. Raises UsageError if there is none."""
    path = existing_path(name)
    if (path / "study.json").is_file():
        raise UsageError(
            f"{path} is a study, not a run: asyncrl benchmark {quoted(path)} continues it, and its runs are in "
            f"{path / 'runs'}"
        )
    run = Run(path, trusted=trust)
    if not (path / "config.json").is_file() and not run.checkpoints():
        raise UsageError(_without_config(path))
    return run


def open_to_resume(name: str | os.PathLike[str], *, trust: bool = False) -> Run:
    """As `open_run`, for a run that is to be continued. Raises UsageError for a checkpoint or a pretrained agent too."""
    path = _path(name)
    if str(name) in pretrained_names() and not path.exists():
        raise UsageError(f"a pretrained agent cannot be resumed; --init-from {name} starts from its weights")
    is_mark = path.name in _MARKS and path.is_file()
    if is_mark or (path / "manifest.json").is_file():
        run = path.parent if is_mark else path.absolute().parent.parent
        known = (run / "config.json").is_file()
        remedy = f"name its run: {_near(run)}" if known else f"--init-from {quoted(name)} starts from its weights"
        raise UsageError(f"a checkpoint cannot be resumed; {remedy}")
    return open_run(path, trust=trust)


def _without_config(path: Path) -> str:
    """What is wrong with a folder that is not a run's; it may hold runs."""
    runs = sorted(file.parent for file in path.glob("*/config.json"))
    if not runs:
        return f"{path} is not a run folder: it has no config.json"
    return f"{path} holds {counted(len(runs), 'run')}; name {'one, such as' if runs[1:] else 'it:'} {runs[0]}"


def _near(path: Path) -> Path:
    """`path` relative to the working directory, if it lies inside."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def checkpoint_folder(name: str | os.PathLike[str], prefer: str = "best", *, trust: bool = False) -> Path:
    """The checkpoint of a run (its folder or the URL of its copy in a storage), checkpoint folder, or agent (pretrained, or
    hf:USER/NAME on the Hugging Face Hub).

    For a run it is the checkpoint marked `prefer` ("best" or "latest"), else the latest; RUN/best and RUN/latest choose
    one. Raises UsageError if there is none.
    """
    path = _path(name)
    if (path / "manifest.json").is_file():
        return path
    if path.name in _MARKS and path.is_file():
        path, prefer = path.parent, path.name
    if str(name).startswith("pretrained/") and not path.exists():
        if str(name) not in pretrained_names():
            raise UsageError(f"unknown agent {name}{suggestions(str(name), pretrained_names())}")
        return PRETRAINED / str(name).removeprefix("pretrained/")
    run = open_run(path, trust=trust)
    damaged = []
    for mark in dict.fromkeys((prefer, "latest")):
        found = run.marked(mark)
        if found is not None:
            break
        if (path / mark).exists():
            damaged.append(path / mark)
    found = found or run.newest_valid()
    if found is None:
        raise UsageError(f"{path} has no checkpoint yet")
    for file in damaged:
        warnings.warn(f"{file} names no checkpoint of this run; using the newest", DamageWarning, stacklevel=2)
    return found


def load_checkpoint(name: str | os.PathLike[str], *, trust: bool = False, asked: Collection[str] = ()) -> Checkpoint:
    """Load the checkpoint of `checkpoint_folder` (`checkpoint.load`). If it is damaged, the error names another one.

    One that the run removes meanwhile, because it has made a newer or better one, is not damaged: that one is loaded.
    """
    path = checkpoint_folder(name, trust=trust)
    try:
        return checkpoint.load(path, trust=trust, asked=asked)
    except CheckpointError as problem:
        now = path
        with contextlib.suppress(UsageError):
            now = checkpoint_folder(name, trust=trust)
        if now != path:
            return load_checkpoint(name, trust=trust, asked=asked)
        other = Run(path.parent.parent, trusted=trust).newest_valid() if path.parent.name == "checkpoints" else None
        if other is None:
            raise
        raise CheckpointError(f"{problem}; {other} is not damaged: name it instead") from None


def newer_checkpoint(name: str | Path, chosen: Path) -> str:
    """A sentence that says which checkpoint of a run was `chosen` if it is not the newest; else ""."""
    if is_url(name):
        return ""
    run = Run(Path(name))
    latest = run.marked("latest") if (run.path / "config.json").is_file() else None
    if latest is None or latest == chosen:
        return ""
    return (
        f"step {int(chosen.name):,} is the best of {run.path}; its newest, step {int(latest.name):,}, is {run.path}/latest"
    )


def _path(name: str | os.PathLike[str]) -> Path:
    return local_path(checked_name(name))
