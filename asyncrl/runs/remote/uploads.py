"""Copies a run into its storage in a separate thread, which neither slows nor stops training."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from asyncrl.common.quoting import quoted
from asyncrl.errors import UsageError
from asyncrl.monitor.guarded import warn
from asyncrl.runs.checkpoints import checkpoint
from asyncrl.runs.checkpoints.manifest import REPLAY_FILE
from asyncrl.runs.remote.folder import RemoteFolder, describe, remote_errors
from asyncrl.runs.remote.run_copy import TOP_FILES, RemoteRun, newest_complete, undamaged
from asyncrl.runs.run import Run

__all__ = ["Uploads", "uploads_of"]

_TIMEOUT = 600.0
"""Seconds that the end of a run waits for the last upload."""
_SILENCE = 2.0
"""Seconds of waiting after which there is a message."""
_FOLDER = ".upload"
"""Folder in the run folder with links to what is waiting to be copied."""


@contextmanager
def uploads_of(run: Run, storage: str | None, say: Callable[[str], None]) -> Iterator[Uploads | None]:
    """Copy the run into a folder of its name in `storage` during the block, and what it ends with after the block.

    None if it has no storage, or is in its place there. Ctrl-C is not kept waiting: a SinkWarning says what to do. Raises
    UsageError if the storage cannot be written, or if it has a later checkpoint than the run folder.
    """
    if storage is None:
        yield None
        return
    remote = RemoteFolder(storage) / run.path.name
    if remote.local is not None and remote.local.resolve() == run.path.resolve():
        yield None
        return
    uploads = Uploads(run, remote)
    try:
        with _finished(uploads, say):
            yield uploads
    except KeyboardInterrupt:
        uploads.abandon()
        raise


@contextmanager
def _finished(uploads: Uploads, say: Callable[[str], None]) -> Iterator[None]:
    """Copy the end of the run after the block, however it ends; only Ctrl-C skips it."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException:
        uploads.finish(say)
        raise
    uploads.finish(say)


class Uploads:
    """Copies the newest state of the run that was offered; older ones that still wait are dropped."""

    def __init__(self, run: Run, remote: RemoteFolder, *, timeout: float = _TIMEOUT) -> None:
        """Copies what the run folder has now, and waits for that. `timeout`: seconds that `finish` waits.

        Raises UsageError if the storage cannot be written, or if it has a later checkpoint than the run folder.
        """
        self.url = remote.url
        self._run = run
        self._timeout = timeout
        self._changed = threading.Condition()
        self._waiting: Run | None = None
        self._busy = self._ends = False
        self._news: list[str] = []
        self._problem: str | None = None
        self._numbers = itertools.count()
        shutil.rmtree(run.path / _FOLDER, ignore_errors=True)  # left by a crash
        with remote_errors(f"the run cannot be copied to {self.url}"):
            self._check_newest(remote)
            self._copy = RemoteRun(remote)
            self._copy.push(run)
        self._thread = threading.Thread(target=self._work, name="uploads", daemon=True)
        self._thread.start()

    def _check_newest(self, remote: RemoteFolder) -> None:
        mine = max((int(path.name) for path in undamaged(self._run)), default=-1)
        theirs = newest_complete(remote)
        if theirs is not None and theirs > mine:
            raise UsageError(
                f"{self.url} has step {theirs:,} of this run, and the folder {self._run.path} ends before that: continue "
                f"it with --resume {quoted(self.url)}, or without the storage: --storage None"
            )

    def offer(self) -> None:
        """Let the run folder be copied as it is now. It may change meanwhile."""
        try:
            state = self._linked()
        except OSError as problem:
            return self._note(describe(problem))
        with self._changed:
            before, self._waiting = self._waiting, state
            self._changed.notify_all()
        if before is not None:
            _remove(before)

    def news(self) -> list[str]:
        """Sentences about what failed, or works again, since this was last called."""
        if not self._news:
            return []
        with self._changed:
            found, self._news = self._news, []
        return found

    def finish(self, say: Callable[[str], None]) -> None:
        """Copy what the run folder has at the end, and wait for that. If it fails, a SinkWarning says so."""
        self.offer()
        self._end()
        self._thread.join(_SILENCE)
        if self._thread.is_alive():
            say(f"copying the end of the run to {self.url} …")
            self._thread.join(self._timeout)
        why = f"not done after {self._timeout:,.0f} s" if self._thread.is_alive() else self._problem
        if why is not None:
            self._warn(why)
        shutil.rmtree(self._run.path / _FOLDER, ignore_errors=True)

    def abandon(self) -> None:
        """Copy nothing more, and wait for nothing. A SinkWarning says that the storage lacks the end of the run."""
        with self._changed:
            self._waiting = None
        self._end()
        self._warn("it was interrupted")
        shutil.rmtree(self._run.path / _FOLDER, ignore_errors=True)

    def _end(self) -> None:
        """Let the thread end when it has copied what waits."""
        with self._changed:
            self._ends = True
            self._changed.notify_all()

    def _warn(self, why: str) -> None:
        warn(
            f"the end of the run could not be copied to {self.url}: {why}; the folder {self._run.path} has all of it, "
            f"and asyncrl train --resume {quoted(self._run.path)} copies it again"
        )

    @property
    def is_complete(self) -> bool:
        """Whether everything that was offered has been copied."""
        with self._changed:
            return self._waiting is None and not self._busy and self._problem is None

    def _work(self) -> None:
        while (state := self._next()) is not None:
            try:
                self._copy.push(state)
                self._note(None)
            except Exception as problem:  # the packages of fsspec raise many kinds of exceptions
                self._note(describe(problem))
            _remove(state)

    def _next(self) -> Run | None:
        """Wait for a state of the run; None at the end."""
        with self._changed:
            self._busy = False
            self._changed.wait_for(lambda: self._waiting is not None or self._ends)
            state, self._waiting = self._waiting, None
            self._busy = state is not None
            return state

    def _note(self, problem: str | None) -> None:
        with self._changed:
            before, self._problem = self._problem, problem
            if problem is not None:
                self._news.append(
                    f"The run could not be copied to {self.url}: {problem}; retrying with the next checkpoint."
                )
            elif before is not None:
                self._news.append(f"Copying to {self.url} works again.")

    def _linked(self) -> Run:
        """A folder with links to the files of the run, which stay what they are while the run goes on."""
        run, state = self._run, Run(self._run.path / _FOLDER / f"{next(self._numbers)}-{time.time_ns():x}")
        files = [path for name in TOP_FILES if (path := run.path / name).is_file()]
        for folder in run.checkpoints():
            files += filter(checkpoint.is_checkpoint_file, folder.iterdir())
        if run.replay_folder.is_dir():
            files += (path for path in run.replay_folder.iterdir() if REPLAY_FILE.fullmatch(path.name))
        for path in files:
            link = state.path / path.relative_to(run.path)
            link.parent.mkdir(parents=True, exist_ok=True)
            _link(path, link)
        return state


def _link(path: Path, link: Path) -> None:
    """Make a hard link, or a symbolic one to another disk or where there are no others."""
    try:
        os.link(path, link)
    except OSError:
        os.symlink(path, link)


def _remove(state: Run) -> None:
    with contextlib.suppress(OSError):
        shutil.rmtree(state.path)
