"""Worker processes: what they inherit, how their end is reported, and errors on starting them."""

from __future__ import annotations

import importlib.util
import os
import resource
import signal
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

import failing_envs
import pytest
from forks import idle_fork

from asyncrl.common import fork_pool
from asyncrl.engines import shared_memory
from asyncrl.engines.shared_memory import SharedMemory, available_memory
from asyncrl.engines.workers import Workers
from asyncrl.envs import Backend, Contract, describe, make
from asyncrl.errors import ActorDied, UsageError


@pytest.fixture(scope="module")
def contract() -> Contract:
    return describe("worlds:Corridor-v0")


def answers(workers: Workers, count: int) -> list[Any]:
    replies: list[Any] = []
    deadline = time.monotonic() + 60
    while len(replies) < count and time.monotonic() < deadline:
        replies += workers.receive(1.0)
    return replies


def surroundings(index: int, pipe: Connection, memory: SharedMemory) -> None:
    """A worker that says where it is and writes its number into shared memory."""
    memory.tensor[index] = index + 1
    pipe.send((os.getcwd(), os.environ.get("COLOUR"), "elsewhere" in sys.path, __name__))
    pipe.poll(None)


def test_workers_have_their_owners_folder_search_path_and_environment_as_they_are_now_and_share_its_memory(
    contract: Contract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fork_pool.prepare()  # before all that changes
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLOUR", "red")
    monkeypatch.syspath_prepend("elsewhere")
    memory = SharedMemory.allocate(4)
    workers = Workers(surroundings, 3, contract, memory)
    try:
        assert answers(workers, 3) == [(str(tmp_path), "red", True, __name__)] * 3
        assert memory.tensor.tolist() == [1, 2, 3, 0]
    finally:
        workers.close()


def fail_or_answer(index: int, pipe: Connection) -> None:
    if index == 0:
        raise UsageError("the first one fails")
    pipe.send(index)
    pipe.poll(None)


def test_what_others_sent_is_received_before_the_failure_of_one(contract: Contract) -> None:
    with closing(Workers(fail_or_answer, 3, contract)) as workers:
        for pipe in workers._pipes:
            assert pipe.poll(60.0)
        assert workers.receive(1.0) == [1, 2]
        assert workers.running == {1, 2}
        with pytest.raises(UsageError, match="the first one fails"):
            workers.receive(1.0)


def answer_thrice(index: int, pipe: Connection, memory: SharedMemory) -> None:
    for answer in range(3):
        pipe.send(answer)
    memory.tensor[0] = 1
    pipe.poll(None)


def test_all_that_one_worker_sent_is_received_at_once(contract: Contract) -> None:
    memory = SharedMemory.allocate(1)
    with closing(Workers(answer_thrice, 1, contract, memory)) as workers:
        deadline = time.monotonic() + 60
        while not memory.tensor[0] and time.monotonic() < deadline:
            time.sleep(0.01)
        assert workers.receive(1.0) == [0, 1, 2]


def die(index: int, pipe: Connection, how: str) -> None:
    """A worker that ends without a word."""
    if how == "exits":
        os._exit(7)
    if how == "is killed in the middle of a message":
        os.write(pipe.fileno(), struct.pack("!i", 100) + b"half of it")
    if how == "is killed and leaves a fork" and os.fork() == 0:
        signal.pause()
    os.kill(os.getpid(), signal.SIGSEGV if how == "crashes" else signal.SIGKILL)


KILLED = r"^actor 0 died \(killed by SIGKILL\) in worlds:Corridor-v0; the machine may be out of memory$"


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("exits", r"^actor 0 died \(exit code 7\) in worlds:Corridor-v0; --env-backend async survives"),
        ("crashes", r"^actor 0 died \(killed by SIGSEGV\) in worlds:Corridor-v0; --env-backend async survives"),
        ("is killed", KILLED),
        ("is killed in the middle of a message", KILLED),
        ("is killed and leaves a fork", KILLED),
    ],
)
def test_a_worker_that_ends_without_a_word_is_named_with_its_environment(
    contract: Contract, how: str, sentence: str
) -> None:
    workers = Workers(die, 1, contract, how)
    try:
        with pytest.raises(ActorDied, match=sentence):
            answers(workers, 1)
    finally:
        workers.close()
        fork_pool.shutdown_idle()  # with what a worker has left


def say_goodbye(index: int, pipe: Connection, file: Path) -> None:
    pipe.send("hello")
    pipe.poll(None)  # until its owner closes it
    file.write_text("goodbye")


def test_workers_end_by_themselves_although_a_fork_of_their_owner_lives_on(contract: Contract, tmp_path: Path) -> None:
    workers = Workers(say_goodbye, 1, contract, tmp_path / "words")
    try:
        assert answers(workers, 1) == ["hello"]
        with idle_fork():
            workers.close()
            assert (tmp_path / "words").read_text() == "goodbye"
    finally:
        workers.close()


def test_where_a_worker_crashed_is_written_to_standard_error(contract: Contract, capfd: pytest.CaptureFixture[str]) -> None:
    fork_pool.shutdown_idle()  # the next server has the standard error of this test
    workers = Workers(die, 1, contract, "crashes")
    try:
        with pytest.raises(ActorDied):
            answers(workers, 1)
    finally:
        workers.close()
        fork_pool.shutdown_idle()
    printed = capfd.readouterr().err
    assert "Fatal Python error: Segmentation fault" in printed
    assert 'test_workers.py", line' in printed


def test_more_workers_than_the_system_allows_are_refused_in_a_sentence(contract: Contract) -> None:
    fork_pool.prepare()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 6, hard))
    try:
        with pytest.raises(UsageError, match=r"^--actors 64: the limit on open files is too low: .*ulimit -n"):
            Workers(failing_envs.hang, 64, contract)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_files_that_the_system_caches_take_no_memory_of_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_memory, "_GROUP", tmp_path)
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("900000\n")
    (tmp_path / "memory.stat").write_text("anon 300000\nfile 600000\ninactive_file 400000\nactive_file 100000\n")
    assert available_memory() == 600_000


def test_memory_that_cannot_be_had_is_a_sentence() -> None:
    with pytest.raises(UsageError, match=r"cannot allocate .* of memory shared by actors and learner .*--actors"):
        SharedMemory.allocate(2**61)


@pytest.mark.parametrize("has_memfd", [True, False])
@pytest.mark.parametrize("nbytes", [2**62, 2**64])
def test_memory_that_cannot_be_had_leaves_no_file_open(
    nbytes: int, has_memfd: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_memfd:
        monkeypatch.delattr(os, "memfd_create")
    open_before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        with pytest.raises(UsageError, match="cannot allocate"):
            SharedMemory.allocate(nbytes)
    assert len(os.listdir("/proc/self/fd")) <= open_before


@pytest.fixture
def hidden(tmp_path: Path) -> Iterator[ModuleType]:
    """A module that is imported here and that no search path leads to."""
    file = tmp_path / "hidden_rooms.py"
    file.write_text("from worlds import Corridor\n\n\nclass Room(Corridor):\n    pass\n")
    spec = importlib.util.spec_from_file_location("hidden_rooms", file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["hidden_rooms"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["hidden_rooms"]


def test_a_class_of_a_module_that_no_other_process_finds_is_sent(hidden: ModuleType) -> None:
    with closing(make(hidden.Room, 1, seed=1, env_backend=Backend.ASYNC)) as envs:
        assert envs.num_envs == 1


def test_a_function_that_refers_to_such_a_module_is_refused_where_it_cannot_be_made(hidden: ModuleType) -> None:
    room = hidden.Room
    workers = Workers(failing_envs.hang, 1, describe(lambda: room()))
    try:
        with pytest.raises(
            UsageError, match=r"cannot be created in another process \(ModuleNotFoundError: No module named 'hid"
        ):
            answers(workers, 1)
    finally:
        workers.close()
