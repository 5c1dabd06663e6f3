"""The file lock, which ends with its process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from asyncrl.common import close_on_fork
from asyncrl.common.file_lock import AlreadyLocked, check_unlocked, file_lock

HOLDER = """
import os, sys, time
from pathlib import Path
from asyncrl.common.file_lock import file_lock

with file_lock(Path(sys.argv[1])):
    if os.fork() == 0:
        print(os.getpid(), flush=True)
    time.sleep(60)
"""


def test_a_lock_is_exclusive_and_names_its_owner(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    check_unlocked(lock)
    with file_lock(lock):
        with pytest.raises(AlreadyLocked, match=f"process {os.getpid()}"), file_lock(lock):
            pass
        with pytest.raises(AlreadyLocked):
            check_unlocked(lock)
    with file_lock(lock):
        pass


def test_a_lock_ends_with_its_block_while_a_child_that_is_being_started_has_its_descriptor(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    before = {*close_on_fork._descriptors}
    with file_lock(lock):
        (held,) = close_on_fork._descriptors - before
        copy = os.dup(held)  # as between fork and exec
    try:
        with file_lock(lock):
            pass
    finally:
        os.close(copy)


def test_a_lock_ends_with_its_process_even_if_a_fork_survives(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(lock)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    forked = int(holder.stdout.readline())
    try:
        with pytest.raises(AlreadyLocked, match=f"process {holder.pid}"):
            check_unlocked(lock)
        holder.kill()
        holder.wait()
        os.kill(forked, 0)  # the fork is alive and does not hold the lock
        with file_lock(lock):
            pass
    finally:
        os.kill(forked, signal.SIGKILL)
        holder.stdout.close()
