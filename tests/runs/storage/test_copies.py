"""Copies of a run in a storage are complete at every moment, and nothing is sent or read twice."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from pathlib import Path

import pytest
from commands import ran
from faulty_storage import FaultyStorage
from interrupted_runs import damage
from stored_runs import SMALL, assert_complete, files, sha256, stop_at_update_3

import asyncrl
from asyncrl.api import configure
from asyncrl.common import serialization
from asyncrl.errors import UsageError
from asyncrl.launch import newest_checkpoint, resume, start
from asyncrl.runs.remote.folder import RemoteFolder
from asyncrl.runs.remote.run_copy import RemoteRun, pull
from asyncrl.runs.run import Run


@pytest.mark.parametrize("back", [False, True], ids=["forward", "back"])
def test_an_upload_that_stops_anywhere_leaves_the_checkpoint_before_or_after(
    back: bool, states: list[Run], tmp_path: Path, faults: type[FaultyStorage]
) -> None:
    """`back`: the run went back to an earlier checkpoint, as after a divergence."""
    before, after = (states[2], states[1]) if back else (states[0], states[2])
    both = {sha256(before), sha256(after)}
    RemoteRun(RemoteFolder(f"faulty://{tmp_path}/first/run")).push(before)
    number, done = 0, False
    while not done:
        place = tmp_path / f"{number}"
        shutil.copytree(tmp_path / "first", place)
        url = f"faulty://{place}/run"
        copy = RemoteRun(RemoteFolder(url))
        faults.left = number
        try:
            copy.push(after)
            done = True
        except OSError:
            number += 1
        faults.left = math.inf
        found = assert_complete(url, tmp_path / "opened" / f"{number}{done}", both)
        RemoteRun(RemoteFolder(url)).push(after)  # a new process continues
        assert files(place / "run") == files(after.path)
        shutil.rmtree(place)
    assert (number > 10, found) == (True, sha256(after))


def test_nothing_is_sent_twice(states: list[Run], tmp_path: Path, faults: type[FaultyStorage]) -> None:
    remote = RemoteFolder(f"faulty://{tmp_path}/run")
    RemoteRun(remote).push(states[0])
    faults.left = 2 * 6  # two files of settings, messages, metrics and two marks, whose hashes are in no manifest
    again = RemoteRun(remote)
    again.push(Run(shutil.copytree(states[0].path, tmp_path / "same")))
    faults.left = 0
    again.push(states[0])


def test_a_run_that_was_killed_while_it_removed_an_old_checkpoint_continues_with_its_storage(
    whole: Run, tmp_path: Path
) -> None:
    config = configure("CartPole-v1", "dqn", **SMALL, storage=str(tmp_path / "store"))
    run, _ = start(config, tmp_path / "run", callbacks=[stop_at_update_3])
    newest = newest_checkpoint(run).path
    (rest := newest.with_name("000000000008")).mkdir()
    shutil.copy(newest / "weights.safetensors", rest)
    resume(run)
    assert sha256(run) == sha256(whole)
    assert not rest.exists()
    assert files(tmp_path / "store" / "run") == files(run.path)


def test_a_checkpoint_that_is_damaged_here_stays_in_the_storage_as_long_as_it_is_one_of_the_run(
    states: list[Run], tmp_path: Path
) -> None:
    run, store = Run(shutil.copytree(states[2].path, tmp_path / "run")), tmp_path / "store"
    RemoteRun(RemoteFolder(str(store))).push(run)
    copied = files(store)
    old = run.checkpoints()[0]
    assert old != newest_checkpoint(run).path
    (old / "manifest.json").write_text("{")
    RemoteRun(RemoteFolder(str(store))).push(run)
    assert files(store) == copied
    shutil.rmtree(old)
    RemoteRun(RemoteFolder(str(store))).push(run)
    assert files(store) == files(run.path)


def test_a_run_that_is_further_in_its_storage_is_not_continued_from_an_older_folder(
    states: list[Run], tmp_path: Path
) -> None:
    RemoteRun(RemoteFolder(f"{tmp_path}/store/run")).push(states[2])
    older = shutil.copytree(states[0].path, tmp_path / "run")
    with pytest.raises(UsageError, match=r"has step 96 of this run, .* --resume .*store/run, .* --storage None"):
        resume(older, steps=200, storage=str(tmp_path / "store"))


def test_another_run_in_the_folder_is_not_touched(
    states: list[Run], whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(whole.path, tmp_path / "runs" / "run")
    RemoteRun(RemoteFolder(f"{tmp_path}/store/run")).push(states[0])
    with pytest.raises(UsageError, match="holds a run other than file://"):
        asyncrl.resume(f"file://{tmp_path}/store/run")


@pytest.mark.parametrize("damaged", ["[]", "{", "[" * 100_000])
def test_a_storage_whose_configuration_is_damaged_is_not_taken_for_the_run(
    states: list[Run], tmp_path: Path, damaged: str
) -> None:
    stored, here = (Run(shutil.copytree(states[0].path, tmp_path / name)) for name in ("stored", "here"))
    (stored.path / "config.json").write_text(damaged)
    with pytest.raises(UsageError, match="holds a run other than file://"):
        pull(RemoteFolder(f"file://{stored.path}"), here, replay=True)


def test_a_copy_for_acting_gets_what_came_after_its_newest_checkpoint(states: list[Run], tmp_path: Path) -> None:
    """The last evaluation, the best agent and what stopped the run are written after the last checkpoint."""
    stored, copy = Run(shutil.copytree(states[2].path, tmp_path / "stored")), Run(tmp_path / "copy")
    remote = RemoteFolder(f"file://{stored.path}")
    (stored.path / "interrupted").write_text("SIGTERM")
    before, last = stored.checkpoints()
    stored.mark("best", before)
    pull(remote, copy, replay=False)
    (stored.path / "interrupted").unlink()
    stored.mark("best", last)
    with (stored.path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 96, "update": 12, "time": 9.0, "kind": "eval", "mean": 77.0}) + "\n")
    pull(remote, copy, replay=False)
    assert copy.marked("best") == copy.path / "checkpoints" / last.name
    assert list(copy.records())[-1]["mean"] == 77.0
    assert not copy.interrupted


def test_a_copy_that_two_processes_make_at_once_is_complete_for_both(
    states: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before or after each of its downloads, the slower process meets the faster one's whole copy."""
    remote, download = RemoteFolder(str(states[2].path)), RemoteFolder.download
    pull(remote, Run(tmp_path / "alone"), replay=False)
    wanted, number, done = files(tmp_path / "alone"), 0, False
    while not done:
        copy, left = Run(tmp_path / f"copy-{number}"), [number]

        def meet(self: RemoteFolder, name: str, path: Path, copy: Run = copy, left: list[int] = left) -> None:
            for moment in range(2):
                left[0] -= 1
                if left[0] == -1:
                    pull(remote, copy, replay=False)
                if moment == 0:
                    download(self, name, path)

        monkeypatch.setattr(RemoteFolder, "download", meet)
        pull(remote, copy, replay=False)
        assert files(copy.path) == wanted
        done, number = left[0] >= 0, number + 1
    assert number > 10


def test_what_a_copy_that_was_killed_leaves_is_removed_by_the_next(states: list[Run], tmp_path: Path) -> None:
    remote, run = RemoteFolder(f"file://{states[0].path}"), Run(tmp_path / "run")
    torn = run.path / ".metrics.0123456789abcdef.tmp"
    half = run.path / "checkpoints" / ".000000000008.0123456789abcdef.tmp"
    files_left = [torn, half / ".weights.0123456789abcdef.tmp", run.path / ".notes.tmp"]
    for seconds, replay, is_kept in ((0, False, True), (2 * 86_400, False, False), (0, True, False)):
        half.mkdir(parents=True, exist_ok=True)
        for path in (*files_left, half):
            path.touch()
            os.utime(path, (time.time() - seconds,) * 2)
        pull(remote, run, replay=replay)
        assert [path.exists() for path in (torn, half, files_left[-1])] == [is_kept, is_kept, True]


def test_a_run_that_went_on_elsewhere_is_no_longer_interrupted_here(states: list[Run], tmp_path: Path) -> None:
    run = Run(shutil.copytree(states[0].path, tmp_path / "run"))
    (run.path / "interrupted").write_text("SIGTERM")
    pull(RemoteFolder(str(states[2].path)), run, replay=True)
    assert sha256(run) == sha256(states[2])
    assert not run.interrupted


def test_the_files_of_a_run_that_continues_are_hashed_once(
    states: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(shutil.copytree(states[0].path, tmp_path / "run"))
    newest, hashed, file_sha256 = newest_checkpoint(run), list[Path](), serialization.file_sha256
    monkeypatch.setattr(serialization, "file_sha256", lambda path: (hashed.append(path), file_sha256(path))[1])
    assert ran("train", "--resume", run.path, "--steps", 64, "--no-video", "--quiet") == 0
    for path in (*map(newest.path.joinpath, newest.files), *map(run.replay_folder.joinpath, newest.replay)):
        assert hashed.count(path) == 1


def test_a_damaged_checkpoint_in_the_storage_is_left_out(states: list[Run], tmp_path: Path) -> None:
    run = Run(shutil.copytree(states[0].path, tmp_path / "run"))
    shutil.copytree(newest_checkpoint(states[1]).path, run.path / "checkpoints" / "000000000064")
    shutil.copytree(states[1].replay_folder, run.replay_folder, dirs_exist_ok=True)
    damage(run.checkpoints()[-1])
    said: list[str] = []
    pull(RemoteFolder(str(run.path)), Run(tmp_path / "opened"), replay=True, say=said.append)
    assert [path.name for path in Run(tmp_path / "opened").checkpoints()] == [states[0].checkpoints()[-1].name]
    assert "its sha256 is not the manifest's; it is left out" in said[0]
