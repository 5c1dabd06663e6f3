"""Python processes that this one starts: they leave signals to it, and end with it, however it ends."""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence

from asyncrl.errors import UsageError

__all__ = ["HAS_WORKERS", "ChildProcess", "anonymous_file", "how_it_ended", "main", "reporting_crashes"]

_BOOT = "import sys; sys.path[:] = sys.argv[2:]; from asyncrl.common.child_process import main; main(*sys.argv[1].split())"

HAS_WORKERS = hasattr(os, "fork")
"""Whether this system can run worker processes: Linux and macOS can, Windows cannot."""

_LEFT_TO_THE_PARENT = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))


class ChildProcess:
    """A Python interpreter that runs ``module.main(*descriptors)``, in a process group of its own.

    It inherits the file descriptors, standard output and standard error, and nothing else: no threads, no `__main__`.
    SIGINT, SIGTERM and SIGHUP are blocked when it starts and ignored from then on. Its process group, which is all that
    it starts in turn, is killed by the kernel when this process ends, even where that was killed itself.

    Raises UsageError on Windows.
    """

    def __init__(self, module: str, descriptors: Sequence[int]) -> None:
        if not HAS_WORKERS:
            raise UsageError(
                "worker processes need Linux or macOS; on Windows use --engine serial or threads, and --env-backend sync"
            )
        watched, self._lifeline = os.pipe()
        words = " ".join([module, *map(str, (watched, *descriptors))])
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _LEFT_TO_THE_PARENT)
        try:
            self._process = subprocess.Popen(
                # -P: what lies in the working directory does not shadow the standard library
                [sys.executable, "-P", "-c", _BOOT, words, *map(str, sys.path)],
                pass_fds=(watched, *descriptors),
                stdin=subprocess.DEVNULL,
                process_group=0,
                env={"OMP_NUM_THREADS": "1", **os.environ},
            )
        except BaseException:
            os.close(self._lifeline)
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.close(watched)
        self._killed = False

    @property
    def pid(self) -> int:
        return self._process.pid

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()

    def wait(self, seconds: float) -> int:
        """Its exit code. Raises subprocess.TimeoutExpired where it runs longer than that."""
        return self._process.wait(seconds)

    def kill(self) -> None:
        """End it and all that it started, at once."""
        if self._killed:
            return
        self._killed = True
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)  # also where the leader is gone: what it started may live
        self._process.wait()
        os.close(self._lifeline)


def main(module: str, lifeline: str, *descriptors: str) -> None:
    """The life of a child process, as its command line says it."""
    for number in _LEFT_TO_THE_PARENT:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _LEFT_TO_THE_PARENT)
    numbers = [int(word) for word in descriptors]
    for descriptor in (int(lifeline), *numbers):
        os.set_inheritable(descriptor, False)
    _end_with(int(lifeline))
    importlib.import_module(module).main(*numbers)


def _end_with(lifeline: int) -> None:
    """Have this process group killed when the other end of a pipe closes, also inside a step.

    Nothing is ever written to the pipe, so its only event is the end of the parent. Linux reports that by a signal whose
    default action is to kill; elsewhere the default is to ignore it, and a thread waits instead.
    """
    if sys.platform != "linux":
        threading.Thread(target=_kill_group_at_end, args=(lifeline,), daemon=True).start()
        return
    import fcntl

    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)


def _kill_group_at_end(pipe: int) -> None:
    os.read(pipe, 1)
    os.killpg(os.getpgrp(), signal.SIGKILL)


@contextlib.contextmanager
def reporting_crashes() -> Iterator[None]:
    """Have every thread's stack written to standard error where native code, an environment's say, ends this process."""
    begins = not faulthandler.is_enabled()
    if begins:
        with contextlib.suppress(RuntimeError, ValueError, OSError):  # there is no standard error
            faulthandler.enable()
    try:
        yield
    finally:
        if begins:
            faulthandler.disable()


def how_it_ended(code: int) -> tuple[str, str]:
    """An exit code in words, as `signal SIGABRT` or `exit code 3`; and what may be the reason, "" where nobody knows."""
    cause = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return cause, "; the machine may be out of memory" if code == -signal.SIGKILL else ""


def anonymous_file(nbytes: int = 0) -> int:
    """The descriptor of a file in memory, which is gone with the last process that has it open: nothing can be left."""
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("asyncrl")
        os.ftruncate(file, nbytes)
        return file
    with tempfile.TemporaryFile() as temporary:
        file = os.dup(temporary.fileno())
    if nbytes and hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, nbytes)  # a full disk is an error here, not a signal at the first write
    else:
        os.ftruncate(file, nbytes)
    return file
