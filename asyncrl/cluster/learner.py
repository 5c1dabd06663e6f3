"""Runs a command of `asyncrl` on a node of a Ray cluster as if it ran here, and again elsewhere if it is lost there."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from asyncrl.cluster.connection import WorkerSetup, first_line, import_ray
from asyncrl.cluster.node_folder import NodeFolder
from asyncrl.common.signals import StopRequest
from asyncrl.errors import ActorDied

__all__ = ["run_on_a_node"]

_MAX_RESTARTS = 10
"""A command that is lost more often ends."""
_SLOW_START = 10.0
"""Seconds without a place on the cluster after which a command is reported."""
_EVERY = 0.3
"""Seconds between polls of a command."""
_DEADLINE = 120.0
"""Seconds in which a node must answer."""
_BOOT = (
    "import signal; signal.pthread_sigmask(signal.SIG_SETMASK, []);"  # Ray's processes block SIGINT
    "from asyncrl.common.child_process import end_with_parent; end_with_parent({pipe});"
    "from asyncrl.cli import run_and_exit; run_and_exit()"
)


def run_on_a_node(
    command: Callable[[], Sequence[str]],
    files: Mapping[str, str],
    *,
    num_gpus: int,
    show: Callable[[bytes, bytes], None],
    say: Callable[[str], None],
    stop: StopRequest,
) -> int:
    """Run a command on a node of the cluster that this process is connected to. Returns its exit code.

    Args:
        command: Returns the words after `asyncrl`; called for every start.
        files: Text of files in the command's working folder, by name.
        num_gpus: GPUs that its node must have free; without them it takes a processor.
        show: Gets what it writes to standard output and standard error.
        say: Gets a sentence when it waits for a place or starts again.
        stop: A stop signal in it is passed on to the command.

    Raises ActorDied if the command is lost more than ten times.
    """
    ray = import_ray()
    resources = {"num_gpus": num_gpus, "num_cpus": 0} if num_gpus else {"num_cpus": 1}
    remote = ray.remote(max_restarts=0, max_task_retries=0, **resources)(_Command)
    for _ in range(_MAX_RESTARTS + 1):
        handle = remote.remote(WorkerSetup.here(), ray.get_runtime_context().gcs_address, command(), files)
        try:
            code = _follow(ray, handle, num_gpus, show, say, stop)
            if code >= 0:
                return code
            reason = f"signal {-code} ended it"
        except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError) as error:
            reason = first_line(error)
        finally:
            ray.kill(handle)
        if stop:
            raise ActorDied(f"the learner was lost while it stopped: {reason}")
        say(f"the learner was lost: {reason}; it starts again")
    raise ActorDied(f"the learner was lost {_MAX_RESTARTS + 1} times; the last time: {reason}")


def _follow(
    ray: Any,
    handle: Any,
    num_gpus: int,
    show: Callable[[bytes, bytes], None],
    say: Callable[[str], None],
    stop: StopRequest,
) -> int:
    """Show what a command writes until it ends. Returns its exit code, which is negative if a signal ended it."""
    began, is_placed, is_told, is_stopped = time.monotonic(), False, False, False
    while True:
        answer = handle.poll.remote()
        while not ray.wait([answer], timeout=_EVERY)[0]:
            waited = time.monotonic() - began
            if stop and not is_placed:
                return 130 if stop.signal == 2 else 0  # it has not begun
            if is_placed and waited > _DEADLINE:
                raise ray.exceptions.GetTimeoutError(f"its node has not answered for {waited:.0f} s")
            if not is_placed and not is_told and waited > _SLOW_START:
                is_told = True
                say(f"the learner waits for a node with a free {'GPU' if num_gpus else 'processor'}")
        out, errors, code = ray.get(answer)
        is_placed, began = True, time.monotonic()
        show(out, errors)
        if code is not None:
            return int(code)
        if stop and not is_stopped:
            is_stopped = True
            ray.get(handle.signal.remote(stop.signal), timeout=_DEADLINE)
        time.sleep(_EVERY)


class _Command:
    """A Ray actor with a command as its child process, in a temporary folder, which ends with it."""

    def __init__(self, setup: WorkerSetup, address: str, command: Sequence[str], files: Mapping[str, str]) -> None:
        self._temporary = NodeFolder()
        self._folder = self._temporary.path
        for name, text in files.items():
            (self._folder / name).write_text(text, encoding="utf-8")
        places = [place or setup.working_directory or "" for place in setup.search_path]
        environment = {
            **{name: value for name, value in os.environ.items() if name != "RAY_JOB_ID"},
            "PYTHONPATH": os.pathsep.join(filter(None, [*places, setup.working_directory])),
            "RAY_ADDRESS": address,
        }
        pipe, self._parent_end = os.pipe()
        with open(self._folder / ".out", "wb") as out, open(self._folder / ".errors", "wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _BOOT.format(pipe=pipe), *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
                cwd=self._folder,
                env=environment,
                pass_fds=(pipe,),
                process_group=0,
            )
        os.close(pipe)
        self._shown = {".out": 0, ".errors": 0}
        """Bytes of each file that were returned."""

    def poll(self) -> tuple[bytes, bytes, int | None]:
        """What was written since this was last called to standard output and error, and the exit code if it has ended."""
        code = self._process.poll()
        out, errors = (self._new(name) for name in self._shown)
        if code is not None:
            self._temporary.remove()
        return out, errors, code

    def _new(self, name: str) -> bytes:
        with open(self._folder / name, "rb") as file:
            file.seek(self._shown[name])
            found = file.read()
        self._shown[name] += len(found)
        return found

    def signal(self, number: int) -> None:
        """Pass a signal on to the command."""
        if self._process.poll() is None:
            self._process.send_signal(number)
