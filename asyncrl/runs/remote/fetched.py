"""Runs that are named by the URL of their copy in a storage, as s3://bucket/runs/NAME."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable
from pathlib import Path

from asyncrl.errors import DamageWarning, UsageError
from asyncrl.runs.remote.folder import RemoteFolder, is_url
from asyncrl.runs.remote.run_copy import check_exists, pull
from asyncrl.runs.run import Run

__all__ = ["cached", "fetched"]

_IN_A_RUN = ("best", "latest")


def fetched(
    name: str | os.PathLike[str], say: Callable[[str], None]
) -> tuple[str | os.PathLike[str], dict[str, str | None]]:
    """Copy the run with the URL `name` into the folder of its name in `runs/`, to be resumed there.

    Returns the folder, and the settings that follow: its storage stays the one it came from. Other names are returned as
    they are. `say` is called with a sentence that names the folder. Raises UsageError if the run does not exist, or if
    the folder holds another one.
    """
    if not isinstance(name, str | os.PathLike) or not is_url(name):  # other types are refused where it is opened
        return name, {}
    remote = RemoteFolder(os.fspath(name))
    above, _, base = remote.url.rpartition("/")
    run = Run((Path("runs") / _checked(base, remote.url)).absolute())
    check_exists(remote)
    try:
        run.path.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise UsageError(f"{remote.url} cannot be copied to {run.path}: {problem.strerror}") from None
    with run.locked():
        pull(remote, run, replay=True, say=say)
    say(f"{remote.url} is copied to {run.path}")
    return run.path, {"storage": above}


def cached(name: str | os.PathLike[str]) -> Path:
    """Copy what acting needs of the run with the URL `name` into the user's cache. Returns its path there.

    URL/best and URL/latest are marks in the run folder. Files that are there already are not copied again; without a
    connection, an earlier copy serves, with a DamageWarning. Raises UsageError if there is no such run.
    """
    url = os.fspath(name).rstrip("/")
    above, _, mark = url.rpartition("/")
    url, mark = (above, mark) if mark in _IN_A_RUN else (url, "")
    remote, key = RemoteFolder(url), hashlib.sha256(url.encode()).hexdigest()[:16]
    run = Run(_cache() / key / _checked(url.rpartition("/")[2], url))
    try:
        check_exists(remote)
        pull(remote, run, replay=False)
    except UsageError as problem:
        if not (run.path / "config.json").is_file():
            raise
        warnings.warn(f"{problem}; using the copy in {run.path}", DamageWarning, stacklevel=2)
    return run.path / mark


def _checked(name: str, url: str) -> str:
    """The name of a run's folder. Raises UsageError if it is none."""
    if name in ("", ".", "..") or "\\" in name:
        raise UsageError(f"{url} is not the URL of a run: its last part is the name of the run folder")
    return name


def _cache() -> Path:
    """The folder for copies of runs: asyncrl/runs in XDG_CACHE_HOME or ~/.cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (cache if cache.is_absolute() else Path.home() / ".cache") / "asyncrl" / "runs"
