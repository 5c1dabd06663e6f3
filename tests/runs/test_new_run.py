"""The run folder: made whole or not at all, and one process's at a time."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from asyncrl.api import configure
from asyncrl.envs import describe
from asyncrl.errors import SystemFault, UsageError
from asyncrl.runs.new_run import create_run, create_run_in

CONFIG, CONTRACT = configure("worlds:Corridor-v0", "a3c"), describe("worlds:Corridor-v0")


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("file/run", "/file: Not a directory; a file stands where a folder must be"),
        ("a" * 300, "File name too long; shorten it, or choose another --run-dir"),
        ("loop/run", "/loop.*: Too many levels of symbolic links"),
    ],
)
def test_a_place_where_no_folder_can_be_is_the_users_mistake(tmp_path: Path, place: str, sentence: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UsageError, match=sentence):
        create_run(tmp_path / place, CONFIG, CONTRACT)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("was_there", [False, True])
def test_a_folder_that_cannot_be_filled_is_not_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, was_there: bool
) -> None:
    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "runs" / "one"
    if was_there:
        path.mkdir(parents=True)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(SystemFault, match=r"one/config\.json: No space left on device; free some space there"):
            create_run(path, CONFIG, CONTRACT)
    assert path.exists() == was_there
    assert not was_there or list(path.iterdir()) == []
    assert create_run(path, CONFIG, CONTRACT).beginning() == (CONFIG, CONTRACT)


def test_what_a_start_that_was_killed_has_left_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / ".lock").touch()
    (tmp_path / "run" / ".config.json.tmp").write_text("{")
    create_run(tmp_path / "run", CONFIG, CONTRACT)
    (tmp_path / "other" / "checkpoints" / "mine").mkdir(parents=True)
    with pytest.raises(UsageError, match="not an empty folder"):
        create_run(tmp_path / "other", CONFIG, CONTRACT)


def test_runs_of_the_same_second_have_folders_of_their_own(tmp_path: Path) -> None:
    runs = [create_run_in(tmp_path, CONFIG, CONTRACT) for _ in range(3)]
    assert len({run.path for run in runs}) == 3


def test_a_run_that_is_being_trained_is_refused_with_its_process(tmp_path: Path) -> None:
    run = create_run(tmp_path / "run", CONFIG, CONTRACT)
    with run.locked():
        with pytest.raises(UsageError, match=rf"run is being trained by process {os.getpid()}; wait"), run.locked():
            pass
        with pytest.raises(UsageError, match=rf"already holds a run, which process {os.getpid()} is training"):
            create_run(tmp_path / "run", CONFIG, CONTRACT)
    with pytest.raises(UsageError, match="continue it with --resume"):
        create_run(tmp_path / "run", CONFIG, CONTRACT)
