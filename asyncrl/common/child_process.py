"""Python child processes that ignore signals meant for their parent, and that end when it ends."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import importlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence

from asyncrl.common.close_on_fork import close, set_close_on_fork
from asyncrl.errors import UsageError

__all__ = [
    "HAS_WORKERS",
    "ChildProcess",
    "anonymous_file",
    "describe_exit_code",
    "end_with_parent",
    "main",
    "report_crashes",
    "working_directory",
]

_BOOT = "import sys; sys.path[:] = sys.argv[2:]; from asyncrl.common.child_process import main; main(*sys.argv[1].split())"

HAS_WORKERS = hasattr(os, "fork")
"""Whether this system can run worker processes: Linux and macOS can, Windows cannot."""

_PARENT_SIGNALS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))


class ChildProcess:
    """A Python interpreter that runs ``module.main(*descriptors)`` in its own process group.

    It inherits only the file descriptors, standard output and standard error: no threads and no `__main__`. It ignores
    SIGINT, SIGTERM and SIGHUP from the start. When this process ends, even by SIGKILL, the kernel kills the child's
    whole process group, and so the processes that it started. Raises UsageError on Windows.
    """

    def __init__(self, module: str, descriptors: Sequence[int]) -> None:
        if not HAS_WORKERS:
            raise UsageError(
                "worker processes need Linux or macOS; on Windows use --engine serial or threads, and --env-backend sync"
            )
        parent_pipe, self._parent_end = os.pipe()
        set_close_on_fork(self._parent_end)
        arguments = " ".join([module, *map(str, (parent_pipe, *descriptors))])
        previous_mask = signal.pthread_sigmask(signal.SIG_BLOCK, _PARENT_SIGNALS)
        try:
            self._process = subprocess.Popen(
                # -P: modules in the working directory do not shadow the standard library
                [sys.executable, "-P", "-c", _BOOT, arguments, *map(str, sys.path)],
                pass_fds=(parent_pipe, *descriptors),
                stdin=subprocess.DEVNULL,
                process_group=0,
                env={"OMP_NUM_THREADS": "1", **os.environ},
            )
        except BaseException:
            close(self._parent_end)
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, previous_mask)
            os.close(parent_pipe)
        self._killed = False

    @property
    def pid(self) -> int:
        return self._process.pid

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        return self._process.poll()

    def wait(self, seconds: float) -> int:
        """Wait for its end and return the exit code. Raises subprocess.TimeoutExpired after `seconds`."""
        return self._process.wait(seconds)

    def kill(self) -> None:
        """Kill the process and its descendants, and wait for it. Idempotent."""
        if self._killed:
            return
        self._killed = True
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)  # even if the child has ended: its descendants may live
        self._process.wait()
        close(self._parent_end)


def main(module: str, parent_pipe: str, *descriptors: str) -> None:
    """Run `module.main` in a child process; the arguments are those of its command line."""
    for number in _PARENT_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _PARENT_SIGNALS)
    inherited = [int(number) for number in descriptors]
    for descriptor in (int(parent_pipe), *inherited):
        os.set_inheritable(descriptor, False)
    end_with_parent(int(parent_pipe))
    gc.disable()  # as in `cli.run_and_exit`
    run = importlib.import_module(module).main
    gc.freeze()
    gc.enable()
    run(*inherited)


def end_with_parent(parent_pipe: int) -> None:
    """Kill this process group when the parent's end of the pipe closes, even during a step, or if it is closed already.

    Nothing is ever written to the pipe, so its only event is the end of the parent. Linux reports that by SIGIO, whose
    default action is to kill; elsewhere the default is to ignore it, and a thread waits instead.
    """
    if sys.platform != "linux":
        threading.Thread(target=_kill_group_at_end, args=(parent_pipe,), daemon=True).start()
        return
    import fcntl

    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(parent_pipe, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(parent_pipe, fcntl.F_SETFL, fcntl.fcntl(parent_pipe, fcntl.F_GETFL) | os.O_ASYNC)
    ended = select.poll()
    ended.register(parent_pipe, select.POLLIN)
    if ended.poll(0):  # before SIGIO could report it
        os.killpg(os.getpgrp(), signal.SIGKILL)


def _kill_group_at_end(pipe: int) -> None:
    os.read(pipe, 1)
    os.killpg(os.getpgrp(), signal.SIGKILL)


@contextlib.contextmanager
def report_crashes() -> Iterator[None]:
    """Write every thread's traceback to standard error if native code crashes this process during the block."""
    enables = not faulthandler.is_enabled()
    if enables:
        with contextlib.suppress(RuntimeError, ValueError, OSError):  # no standard error
            faulthandler.enable()
    try:
        yield
    finally:
        if enables:
            faulthandler.disable()


def describe_exit_code(code: int) -> tuple[str, str]:
    """Return an exit code as text, such as `signal SIGABRT` or `exit code 3`, and a hint at its reason or ""."""
    cause = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return cause, "; the machine may be out of memory" if code == -signal.SIGKILL else ""


def anonymous_file(nbytes: int = 0) -> int:
    """Return the descriptor of a file in memory. It is freed when the last process closes it."""
    is_in_memory = hasattr(os, "memfd_create")
    if is_in_memory:
        descriptor = os.memfd_create("asyncrl")
    else:
        with tempfile.TemporaryFile() as temporary:
            descriptor = os.dup(temporary.fileno())
    try:
        if nbytes and not is_in_memory and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, nbytes)  # a full disk raises here, instead of a SIGBUS at the first write
        else:
            os.ftruncate(descriptor, nbytes)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def working_directory() -> str | None:
    """The folder that this process works in; None if it was removed."""
    try:
        return os.getcwd()
    except OSError:
        return None
