"""What the operating system may refuse, in sentences; and a lock that ends with its process."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Locked", "check_unlocked", "describe_os_error", "exclusive", "is_from_the_request", "naming"]

_NOT_A_FOLDER = "a file stands where a folder must be; move it away"
_REMEDIES = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some space there, or raise the quota",
    errno.EFBIG: "raise the limit of a file's size (ulimit -f)",
    errno.EROFS: "make it writable",
    errno.EACCES: "allow this user to write there",
    errno.EPERM: "allow this user to write there",
    errno.ENAMETOOLONG: "shorten it",
    errno.EINVAL: "call it otherwise",
    errno.ENOTDIR: _NOT_A_FOLDER,
    errno.EEXIST: _NOT_A_FOLDER,
    errno.EISDIR: "a folder stands where a file must be; move it away",
    errno.ENOTEMPTY: "a folder that is not empty is in the way; move it away",
    errno.ELOOP: "a symbolic link there leads back to itself; remove it",
    errno.ENOENT: "its folder must be there",
    errno.EMFILE: "allow more open files (ulimit -n 4096), or take fewer --actors and --envs-per-actor",
    errno.ENFILE: "the whole machine has too many open files; close some programs",
    errno.ENOMEM: "free some memory, or take fewer --actors and --envs-per-actor",
    errno.EAGAIN: "the machine has too many processes or locks; end some, or take fewer --actors",
    errno.EIO: "the disk or terminal does not answer any more; check it",
    errno.EPIPE: "whoever read it has gone",
}
_OF_THE_NAME = {
    *(errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.EINVAL, errno.ENOTDIR, errno.EEXIST),
    *(errno.EISDIR, errno.ENOTEMPTY, errno.ELOOP, errno.ENOENT),
}
_OF_NO_FILE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN}
_OF_OUTPUT = {errno.EPIPE, errno.EIO, errno.ENOSPC, errno.EBADF}


def describe_os_error(problem: OSError) -> str:
    """`PATH: No space left on device; free some space there`."""
    number, where = problem.errno, problem.filename
    if number in _OF_NO_FILE:
        where = None
    elif where is None and number in _OF_OUTPUT:
        where = "standard output"  # errors of files name them: see `naming`
    if isinstance(where, bytes):
        where = os.fsdecode(where)
    if isinstance(where, str) and number in (errno.ENOTDIR, errno.EEXIST):
        above = [Path(where), *Path(where).parents]
        where = next((path for path in above if os.path.lexists(path) and not path.is_dir()), where)
    what = problem.strerror or next((str(x) for x in problem.args if isinstance(x, str)), type(problem).__name__)
    remedy = _REMEDIES.get(number or 0)
    return (f"{where}: " if where is not None else "") + what.splitlines()[0] + (f"; {remedy}" if remedy else "")


def is_from_the_request(problem: OSError) -> bool:
    """Does it lie in the name or place that was asked for, not in the machine?"""
    return problem.errno in _OF_THE_NAME


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Add `path` to an OSError that does not say which file it is about: those of open files do not."""
    try:
        yield
    except OSError as problem:
        if problem.filename is None:
            problem.filename = str(path)
        raise


class Locked(Exception):
    """Somebody else has the lock; `owner` is the process id, where it is known."""

    def __init__(self, owner: int | None) -> None:
        super().__init__(owner)
        self.owner = owner

    def __str__(self) -> str:
        return "another process" if self.owner is None else f"process {self.owner}"


_WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
"""What file systems answer that know no locks: there is none there, then."""


_held: set[int] = set()
"""Descriptors of the locks that this process holds."""


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock `path` for the length of the block. Raises Locked where somebody else has it.

    The kernel gives it up with this process, also at `kill -9`: processes that are started or forked in the block have
    no part in it.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    _held.add(file)
    try:
        _lock(file, fcntl.LOCK_EX)
        with naming(path):
            os.ftruncate(file, 0)
            os.write(file, b"%d\n" % os.getpid())
        yield
    finally:
        if file in _held:  # not so in a forked process
            _held.remove(file)
            os.close(file)


def check_unlocked(path: Path) -> None:
    """Raise Locked where somebody has the lock `path`."""
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
        _lock(file.fileno(), fcntl.LOCK_SH)


def _lock(file: int, kind: int) -> None:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(file, 20, 0).strip()
        raise Locked(int(owner) if owner.isdigit() else None) from None
    except OSError as problem:
        if problem.errno not in _WITHOUT_LOCKS:
            raise


def _drop_locks() -> None:
    """In a forked process: a copy of the descriptor would keep the lock alive after its owner."""
    for file in _held:
        os.close(file)
    _held.clear()


os.register_at_fork(after_in_child=_drop_locks)
