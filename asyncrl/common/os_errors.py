"""Readable messages for errors of the operating system."""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["attach_path", "describe_os_error", "is_full", "is_of_users_code", "is_path_error", "name_target"]

_NOT_A_FOLDER = "a file stands where a folder must be; move it away"
_REMEDIES = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some space there, or raise the quota",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f)",
    errno.EROFS: "make it writable",
    errno.EACCES: "allow this user to write there",
    errno.EPERM: "allow this user to write there",
    errno.ENAMETOOLONG: "shorten it",
    errno.EINVAL: "choose another name",
    errno.ENOTDIR: _NOT_A_FOLDER,
    errno.EEXIST: _NOT_A_FOLDER,
    errno.EISDIR: "a folder stands where a file must be; move it away",
    errno.ENOTEMPTY: "a folder that is not empty is in the way; move it away",
    errno.ELOOP: "a symbolic link there leads back to itself; remove it",
    errno.ENOENT: "create the missing folder",
    errno.EMFILE: "allow more open files (ulimit -n 4096), or reduce --actors or --envs-per-actor",
    errno.ENFILE: "the whole machine has too many open files; close some programs",
    errno.ENOMEM: "free some memory, or reduce --actors or --envs-per-actor",
    errno.EAGAIN: "the machine has too many processes or locks; end some, or reduce --actors",
    errno.EIO: "the disk or terminal no longer responds; check it",
    errno.EPIPE: "its reader has exited",
}
_PATH_ERRORS = {
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENAMETOOLONG,
    errno.EINVAL,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.EISDIR,
    errno.ENOTEMPTY,
    errno.ELOOP,
    errno.ENOENT,
}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_RESOURCE_ERRORS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN}
_OUTPUT_ERRORS = {errno.EPIPE, errno.EIO, errno.ENOSPC, errno.EBADF}
_CALLERS = ("asyncrl.algorithms", "asyncrl.gradients", "asyncrl.monitor.callbacks", "asyncrl.networks")
"""Modules that call the user's networks, algorithms and callbacks, and use no files themselves."""


def describe_os_error(error: OSError) -> str:
    """Return `PATH: REASON; REMEDY`, as `/data/runs: No space left on device; free some space there`."""
    path = error.filename if error.filename2 is None else error.filename2  # of a renamed file: where it should be
    if error.errno in _RESOURCE_ERRORS:
        path = None
    elif path is None and error.errno in _OUTPUT_ERRORS:
        path = "standard output"  # files attach their path: see `attach_path`
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    if isinstance(path, str) and error.errno in (errno.ENOTDIR, errno.EEXIST):
        candidates = [Path(path), *Path(path).parents]
        path = next((p for p in candidates if os.path.lexists(p) and not p.is_dir()), path)
    reason = error.strerror or next((arg for arg in error.args if isinstance(arg, str)), type(error).__name__)
    remedy = _REMEDIES.get(error.errno or 0)
    return (f"{path}: " if path is not None else "") + reason.splitlines()[0] + (f"; {remedy}" if remedy else "")


def is_path_error(error: OSError) -> bool:
    """Return whether the requested path is at fault, rather than the machine's resources."""
    return error.errno in _PATH_ERRORS


def is_full(error: OSError) -> bool:
    """Return whether a disk, or what this user may write to it, is full."""
    return error.errno in _FULL


def is_of_users_code(error: OSError) -> bool:
    """Return whether the user's network, algorithm or callback raised it: then it is the user's to handle."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_globals.get("__name__", "").startswith(_CALLERS) for frame, _ in frames)


@contextmanager
def attach_path(path: Path | str) -> Iterator[None]:
    """Set the `filename` of an OSError that has none, such as one raised by writing to an open file."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


@contextmanager
def name_target(path: Path, temporary: Path) -> Iterator[None]:
    """Name `path` in an OSError that names `temporary`, which is to replace it, or a file in that.

    What is in the way of `temporary` keeps its name.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EISDIR, errno.EEXIST):
            for attribute in ("filename", "filename2"):
                name = getattr(error, attribute)
                if isinstance(name, str | os.PathLike) and Path(name).is_relative_to(temporary):
                    setattr(error, attribute, str(path / Path(name).relative_to(temporary)))
        raise
