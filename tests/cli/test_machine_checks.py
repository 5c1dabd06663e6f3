"""What `asyncrl doctor` says to do, by what it finds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from asyncrl.cli.machine_checks import Facts, facts, remedies

GOOD = Facts(
    cores=8, usable=8, busy=0.4, memory=12, disk=100, open_files=1024, can_write=True, can_sign=True,
    torch_cuda=None, torch_sees_gpu=False, has_gpu=False,
)  # fmt: skip


def test_nothing_is_to_be_done_where_all_is_well() -> None:
    assert list(remedies(GOOD)) == []
    assert list(remedies(replace(GOOD, torch_cuda="12.8", torch_sees_gpu=True, has_gpu=True, open_files=None))) == []


@pytest.mark.parametrize(
    ("bad", "words", "command"),
    [
        (dict(unmet=("numpy>=2.1",)), "missing or too old", "pip install 'numpy>=2.1'"),
        (dict(can_write=False), "cannot be made in this folder", "--run-dir DIR"),
        (dict(has_gpu=True), "built without CUDA", "pip install --force-reinstall torch"),
        (dict(has_gpu=True, torch_cuda="12.8"), "CUDA 12.8 but finds no GPU", "nvidia-smi"),
        (dict(memory=0.5), "0.5 GiB of memory", "--actors 1"),
        (dict(disk=1.25), "1.2 GiB are free on this disk", "du -sh"),
        (dict(open_files=256), "At most 256 files", "ulimit -n"),
        (dict(busy=6.0), "6.0 of the 8 cores busy", "ps aux"),
        (dict(usable=2.0), "2 of the 8 cores", "docker run --cpus 8"),
        (dict(can_sign=False), "key that signs", "XDG_STATE_HOME"),
    ],
)
def test_each_problem_has_one_remedy_with_a_command(bad: dict[str, Any], words: str, command: str) -> None:
    (remedy,) = remedies(replace(GOOD, **bad))
    assert words in remedy.sentence
    assert command in remedy.command


def test_this_machine_can_be_looked_at() -> None:
    found = facts("asyncrl")
    assert min(found.cores, found.usable, found.memory, found.disk) > 0
    assert found.busy >= 0
    assert found.unmet == ()
