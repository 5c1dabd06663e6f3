"""Commands that are printed can be copied, whatever their paths are called."""

from __future__ import annotations

import re
import shlex
import signal
from pathlib import Path

import pytest

import asyncrl
from asyncrl.api import _end_if_stopped
from asyncrl.common.quoting import quoted
from asyncrl.runs.run import Run
from asyncrl.training import TrainingResult

COMMANDS = re.compile(
    r"""(asyncrl (play|evaluate|repro|benchmark|export)|--resume|asyncrl train .*(--init-from|--config)) \{"""
)


@pytest.mark.parametrize("path", ["runs/a3c-CartPole-v1", "runs/ü ber 日本", "it's", "$HOME/`x`"])
def test_a_shell_reads_a_quoted_path_as_it_is(path: str) -> None:
    assert shlex.split(f"asyncrl play {quoted(Path(path))}") == ["asyncrl", "play", path]


def test_paths_without_special_characters_stay_as_they_are() -> None:
    assert quoted(Path("/tmp/runs/a3c-CartPole-v1")) == "/tmp/runs/a3c-CartPole-v1"


def test_every_path_in_a_command_that_is_printed_is_quoted() -> None:
    found = []
    for file in Path(asyncrl.__file__).parent.rglob("*.py"):
        for line in file.read_text(encoding="utf-8").splitlines():
            found += [line.strip() for match in COMMANDS.finditer(line) if not line[match.end() :].startswith("quoted(")]
    assert found == []


def test_after_ctrl_c_the_command_that_continues_can_be_copied(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt) as stopped:
        _end_if_stopped(Run(tmp_path / "int run"), TrainingResult(1, 8, 1.0, signal.SIGINT, None))
    command = str(stopped.value).partition("continue with: ")[2]
    assert shlex.split(command) == ["asyncrl", "train", "--resume", str(tmp_path / "int run")]
