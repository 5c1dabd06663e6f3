"""Standard streams that are closed, full, of another encoding, or without a reader."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from asyncrl.cli import main, streams
from asyncrl.launch import newest_checkpoint
from asyncrl.runs.lookup import open_run

ASYNCRL = f"{sys.executable} -m asyncrl"


def shell(line: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    env = {**os.environ, **environment}
    return subprocess.run(["bash", "-c", line], cwd=cwd, env=env, capture_output=True, timeout=300, check=False)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"PYTHONIOENCODING": "ascii"}, "--help"),
        ({"PYTHONIOENCODING": "latin-1:surrogateescape"}, "--help"),
        ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, "train a3c --help"),
    ],
)
def test_characters_that_an_encoding_lacks_are_replaced(tmp_path: Path, environment: dict[str, str], words: str) -> None:
    done = shell(f"{ASYNCRL} {words}", tmp_path, **environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"?" in done.stdout


def test_a_command_works_with_closed_streams(tmp_path: Path) -> None:
    train = "train a3c worlds:Corridor-v0 --steps 400 --eval-episodes 0 --run-dir run --no-video"
    done = shell(f"{ASYNCRL} {train} 0<&- 1>&- 2>&-", tmp_path)
    assert done.returncode == 0
    written = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert all(line.startswith("{") for line in written), (
        "what is printed lands in a file that took standard output's place"
    )


def test_output_that_cannot_be_written_is_a_fault(tmp_path: Path) -> None:
    for words in ("--help", "train a3c --help"):
        done = shell(f"{ASYNCRL} {words} >/dev/full", tmp_path)
        assert done.returncode == 1
        assert done.stderr == b"asyncrl: standard output: No space left on device; free some space there\n"


def test_a_list_whose_reader_closes_the_pipe_exits_with_0(tmp_path: Path) -> None:
    done = shell(f"{ASYNCRL} list algorithms | head -1; exit ${{PIPESTATUS[0]}}", tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("words", ["train a3c --help-all", "train a3c worlds:Corridor-v0 --print-config"])
def test_help_and_settings_whose_reader_closes_the_pipe_exit_with_0(
    words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(streams, "flush", refuse)
    monkeypatch.setattr(streams, "silence", lambda: None)
    assert main(words.split()) == 0
    assert capsys.readouterr().err == ""


def test_a_run_whose_reader_closes_the_pipe_is_saved(tmp_path: Path) -> None:
    train = "train a3c worlds:Corridor-v0 --steps 100000000 --eval-episodes 0 --run-dir run --engine serial"
    done = shell(f"{ASYNCRL} {train} | head -1; exit ${{PIPESTATUS[0]}}", tmp_path)
    assert done.returncode == 1
    saved = newest_checkpoint(open_run(tmp_path / "run"))
    assert saved.step > 0
    end = f"; resume from step {saved.step:,} with: asyncrl train --resume {tmp_path / 'run'}\n"
    assert done.stderr.decode() == f"asyncrl: standard output: Broken pipe; its reader has exited{end}"
