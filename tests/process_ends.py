"""The ends of processes that are not children of the test process."""

from __future__ import annotations

import time
from collections.abc import Iterable

import psutil


def still_running(processes: Iterable[psutil.Process], seconds: float = 30.0) -> list[psutil.Process]:
    """Wait until the processes have ended; returns those that have not after `seconds`.

    A zombie has ended. `psutil.wait_procs` waits until it is collected, which happens late or never in some containers.
    """
    deadline = time.monotonic() + seconds
    while (running := [process for process in processes if _runs(process)]) and time.monotonic() < deadline:
        time.sleep(0.01)
    return running


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
