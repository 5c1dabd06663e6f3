"""What `asyncrl train` begins before its imports."""

from __future__ import annotations

import subprocess
import sys

import pytest

from asyncrl.cli import head_start
from asyncrl.common import fork_pool

GUESS = """
import sys
from asyncrl.cli import head_start
from asyncrl.common import fork_pool
fork_pool.prepare = lambda: print("torch" in sys.modules)
head_start.cores = lambda: 2
head_start.begin(["a3c", "ALE/Pong-v5", "--steps", "100"])
"""


def test_the_fork_server_is_started_before_torch_is_imported() -> None:
    finished = subprocess.run([sys.executable, "-c", GUESS], capture_output=True, text=True)
    assert finished.stdout == "False\n", finished.stderr


@pytest.mark.parametrize(
    ("words", "starts"),
    [
        ("a3c ALE/Pong-v5", 1),
        ("ALE/Pong-v5 --seed 3", 1),
        ("a3c CartPole-v1 --engine processes", 1),
        ("a3c CartPole-v1 --engine=hogwild", 1),
        ("a3c ALE/Pong-v5 --engine threads", 0),
        ("a3c CartPole-v1", 0),
        ("a3c ALE/Pong-v5 --help", 0),
        ("a3c", 0),
        ("--resume runs/pong", 0),
        ("", 0),
    ],
)
def test_it_is_started_if_actors_will_probably_be_processes(
    words: str, starts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = list[int]()
    monkeypatch.setattr(fork_pool, "prepare", lambda: started.append(1))
    monkeypatch.setattr(head_start, "cores", lambda: 2)
    head_start.begin(words.split())
    assert len(started) == starts


def test_auto_takes_no_processes_on_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_start, "cores", lambda: 1)
    assert not head_start.takes_processes([], "auto", "ALE/Pong-v5")
    assert head_start.takes_processes([], "processes", "ALE/Pong-v5")
