"""A command of `asyncrl` as a process beside this one."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import asyncrl
from asyncrl.common.child_process import HAS_WORKERS
from asyncrl.common.close_on_fork import close, set_close_on_fork

__all__ = ["CommandProcess"]

_BOOT_ALONE = "from asyncrl.cli import run_and_exit; run_and_exit()"
_BOOT = f"from asyncrl.common.child_process import end_with_parent; end_with_parent({{pipe}}); {_BOOT_ALONE}"


class CommandProcess:
    """A command in a separate process group, which ends when this process ends. Output goes to files."""

    def __init__(
        self,
        command: Sequence[str],
        out: Path,
        errors: Path,
        *,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`folder`: its working directory, None for this process's; `environment`: None for this process's variables."""
        self._parent_end, pipe = -1, -1
        if HAS_WORKERS:
            pipe, self._parent_end = os.pipe()
            set_close_on_fork(self._parent_end)
        package = str(Path(asyncrl.__file__).parents[1])
        variables = dict(os.environ if environment is None else environment)
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, [package, variables.get("PYTHONPATH")]))
        boot = _BOOT.format(pipe=pipe) if HAS_WORKERS else _BOOT_ALONE
        try:
            with open(out, "w" if out != errors else "a", encoding="utf-8") as stdout, open(errors, "a") as stderr:
                own_group: dict[str, Any] = {"pass_fds": (pipe,), "process_group": 0} if HAS_WORKERS else {}
                self._process: subprocess.Popen[bytes] = subprocess.Popen(
                    [sys.executable, "-c", boot, *command],
                    stdin=subprocess.DEVNULL,
                    stdout=stdout,
                    stderr=stderr,
                    env=variables,
                    cwd=folder,
                    **own_group,
                )
        except BaseException:
            self._close()
            raise
        finally:
            if HAS_WORKERS:
                os.close(pipe)
        self._interrupted = False

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        code = self._process.poll()
        if code is not None:
            self._close()
        return code

    def interrupt(self) -> None:
        """Ask the process to save and end; only the first call does."""
        if not self._interrupted:
            self._interrupted = True
            self._process.terminate()

    def kill(self) -> None:
        """Kill the process and those that it started, and wait for it. Idempotent."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL) if HAS_WORKERS else self._process.kill()
        self._process.wait()
        self._close()

    def _close(self) -> None:
        close(self._parent_end)
        self._parent_end = -1
