"""Child processes ignore signals meant for their parent, and end when it ends."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest
from process_ends import still_running

from asyncrl.common.child_process import ChildProcess, describe_exit_code

STUBBORN = """
import os, signal, time

def main(pipe):
    os.write(pipe, b"ready")
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) - {signal.SIGIO})
    while True:
        time.sleep(60)
"""


def test_signals_for_the_parent_do_not_reach_a_child_not_even_while_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    monkeypatch.syspath_prepend(tmp_path)
    reads, writes = os.pipe()
    child = ChildProcess("stubborn", [writes])
    try:
        deadline = time.monotonic() + 60
        while not select.select([reads], [], [], 0.002)[0]:
            assert child.poll() is None, "a signal ended it"
            assert time.monotonic() < deadline
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                os.kill(child.pid, number)
        assert child.poll() is None
    finally:
        child.kill()
        os.close(reads)
        os.close(writes)
    assert describe_exit_code(child.wait(0)) == ("signal SIGKILL", "; the machine may be out of memory")


def test_a_child_whose_owner_ended_while_it_started_ends() -> None:
    reads, writes = os.pipe()
    os.close(writes)
    program = (
        f"from asyncrl.common.child_process import end_with_parent; end_with_parent({reads}); import time; time.sleep(30)"
    )
    child = subprocess.run([sys.executable, "-c", program], pass_fds=[reads], process_group=0, check=False)
    os.close(reads)
    assert child.returncode == -signal.SIGKILL


@pytest.mark.parametrize("forks", [False, True])
def test_a_child_and_all_that_it_started_end_with_their_owner_whatever_they_do(tmp_path: Path, forks: bool) -> None:
    """Also where a fork of the owner, such as a process of an environment in it, lives on."""
    (tmp_path / "stubborn.py").write_text(STUBBORN.replace("    os.write(pipe", "    os.fork()\n    os.write(pipe"))
    owner = textwrap.dedent("""
        import os, time
        from asyncrl.common.child_process import ChildProcess
        reads, writes = os.pipe()
        child = ChildProcess("stubborn", [writes])
        ready = b""
        while len(ready) < 10:
            ready += os.read(reads, 10)
        print(flush=True)
        time.sleep(60)
    """)
    if forks:
        owner = owner.replace("print(", "print(os.fork() or time.sleep(60), ")
    with subprocess.Popen([sys.executable, "-c", owner], stdout=subprocess.PIPE, cwd=tmp_path) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        fork = int(line) if forks else None
        children = [child for child in psutil.Process(process.pid).children(recursive=True) if child.pid != fork]
        assert len(children) == 2
        process.kill()
        alive = still_running(children)
        if fork is not None:
            os.kill(fork, signal.SIGKILL)
    assert alive == []
