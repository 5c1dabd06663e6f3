"""What the operating system refuses, as a sentence; and a lock that its process takes along."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from asyncrl.common.system import Locked, check_unlocked, describe_os_error, exclusive, naming

HOLDER = """
import os, sys, time
from pathlib import Path
from asyncrl.common.system import exclusive

with exclusive(Path(sys.argv[1])):
    child = os.fork()
    if child:
        print(child, flush=True)
    time.sleep(60)
"""


def test_a_sentence_names_the_path_and_the_remedy(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match="left") as full,
        naming(tmp_path / "metrics.jsonl"),
        open("/dev/full", "wb", 0) as file,
    ):
        file.write(b"a line")
    assert describe_os_error(full.value) == f"{tmp_path}/metrics.jsonl: No space left on device; free some space there"
    (tmp_path / "runs").touch()
    with pytest.raises(NotADirectoryError) as below_a_file:
        (tmp_path / "runs" / "a" / "b").mkdir(parents=True)
    assert describe_os_error(below_a_file.value).startswith(f"{tmp_path}/runs: Not a directory; a file stands where")
    assert "ulimit -n" in describe_os_error(OSError(errno.EMFILE, os.strerror(errno.EMFILE), "/usr/lib/python/x.py"))
    assert describe_os_error(BrokenPipeError(errno.EPIPE, "Broken pipe")).startswith("standard output: Broken pipe; ")
    assert describe_os_error(OSError("some package's own words\nand more")) == "some package's own words"


def test_a_lock_is_one_processs_and_says_whose(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    check_unlocked(lock)
    with exclusive(lock):
        with pytest.raises(Locked, match=f"process {os.getpid()}"), exclusive(lock):
            pass
        with pytest.raises(Locked):
            check_unlocked(lock)
    with exclusive(lock):
        pass


def test_a_lock_ends_with_its_process_whatever_that_has_forked(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(lock)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    forked = int(holder.stdout.readline())
    try:
        with pytest.raises(Locked, match=f"process {holder.pid}"):
            check_unlocked(lock)
        holder.kill()
        holder.wait()
        os.kill(forked, 0)  # it lives, and has no part in the lock
        with exclusive(lock):
            pass
    finally:
        os.kill(forked, signal.SIGKILL)
        holder.stdout.close()
