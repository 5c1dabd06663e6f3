"""Runs are copied into a storage, complete at every moment, and continue from there to the same weights."""

from __future__ import annotations

import json
import math
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import ran
from faulty_storage import FaultyStorage

import asyncrl
from asyncrl.api import configure
from asyncrl.common import serialization, signing
from asyncrl.common.signals import Interrupt
from asyncrl.errors import SinkWarning, UsageError
from asyncrl.launch import newest_checkpoint, resume, start
from asyncrl.runs.overview import overview
from asyncrl.runs.remote.folder import RemoteFolder
from asyncrl.runs.remote.run_copy import RemoteRun, pull
from asyncrl.runs.remote.uploads import uploads_of
from asyncrl.runs.run import Run

SMALL: dict[str, Any] = dict(
    actors=2, envs_per_actor=2, hidden=(8,), seed=5, engine="serial", eval_episodes=2, eval_envs=2, steps=96,
    checkpoint_every=16, keep_checkpoints=1, capacity=40, batch_size=4, learning_starts=16,
    t_max=4, log_every=8, eval_every=32,
)  # fmt: skip
"""A run of dqn of 6 updates, with replay files that checkpoints share and drop."""


@pytest.fixture(autouse=True)
def faults() -> Iterator[type[FaultyStorage]]:
    yield FaultyStorage
    FaultyStorage.left = math.inf
    FaultyStorage.answers.set()


def train(folder: Path, **settings: Any) -> Run:
    return start(configure("CartPole-v1", "dqn", **{**SMALL, **settings}), folder)[0]


def stop_at_update_3(record: dict[str, Any]) -> None:
    if record["kind"] == "train" and record["update"] == 3:
        signal.raise_signal(signal.SIGTERM)


def sha256(run: Run) -> str:
    return newest_checkpoint(run).weights_sha256


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The undisturbed run."""
    return train(tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """A run after each of its checkpoints, in folders of their own."""
    folder = tmp_path_factory.mktemp("states")
    found = []
    for steps in (32, 64, 96):
        run = train(folder / "run", steps=steps) if not found else resume(folder / "run", steps=steps)[0]
        found.append(Run(shutil.copytree(run.path, folder / f"after-{steps}" / "run")))
    return found


def assert_complete(url: str, folder: Path, weights: set[str]) -> str:
    """Open what is in the storage: a checkpoint with one of these weights, and the metrics up to it."""
    run = Run(folder)
    pull(RemoteFolder(url), run, replay=True)
    newest = newest_checkpoint(run)
    assert newest.weights_sha256 in weights
    trained = [record["update"] for record in run.records() if record["kind"] == "train"]
    assert newest.update in trained
    return newest.weights_sha256


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


def files(folder: Path) -> dict[str, bytes]:
    """What a storage has of a run."""
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not name.startswith((".lock", "tensorboard"))}


def test_nothing_is_sent_twice(states: list[Run], tmp_path: Path, faults: type[FaultyStorage]) -> None:
    remote = RemoteFolder(f"faulty://{tmp_path}/run")
    RemoteRun(remote).push(states[0])
    faults.left = 2 * 6  # two files of settings, messages, metrics and two marks, whose hashes are in no manifest
    again = RemoteRun(remote)
    again.push(Run(shutil.copytree(states[0].path, tmp_path / "same")))
    faults.left = 0
    again.push(states[0])


@pytest.mark.parametrize("kind", ["memory", "file", "path", "s3"])
def test_a_run_continues_from_its_storage_to_the_same_weights(
    kind: str, whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(tmp_path)
    store = tmp_path / "store"
    bucket = request.getfixturevalue("bucket") if kind == "s3" else ""
    storage = {"memory": f"memory://{store}", "file": f"file://{store}", "path": "store", "s3": f"{bucket}/runs"}[kind]
    config = configure("CartPole-v1", "dqn", **SMALL, storage=storage)
    first, _ = start(config, tmp_path / "here" / "run", callbacks=[stop_at_update_3])
    url = f"file://{store}/run" if kind == "path" else f"{storage}/run"
    shutil.rmtree(first.path)
    run = asyncrl.resume(url, progress=False)
    assert run.path == tmp_path / "runs" / "run"
    assert sha256(run) == sha256(whole)
    assert run.best_mean() == whole.best_mean()
    remote = Run(tmp_path / "copy")
    pull(RemoteFolder(url), remote, replay=True)
    assert [(record["kind"], record["update"]) for record in remote.records()] == [
        (record["kind"], record["update"]) for record in run.records()
    ]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert asyncrl.load(f"{url}/latest").checkpoint.weights_sha256 == sha256(whole)


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


@pytest.mark.parametrize("kind", ["memory", "file", "s3"])
def test_the_runs_in_a_storage_are_listed_as_those_of_a_folder(
    kind: str, states: list[Run], tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    bucket = request.getfixturevalue("bucket") if kind == "s3" else ""
    url = {"memory": f"memory://{tmp_path}", "file": f"file://{tmp_path}", "s3": bucket}[kind] + "/list"
    (lost := Run(shutil.copytree(states[0].path, tmp_path / "lost"))).write_config(
        configure("CartPole-v1", "dqn", **SMALL), lost.beginning()[1]
    )
    RemoteRun(RemoteFolder(f"{url}/study/whole")).push(states[2])
    RemoteRun(RemoteFolder(f"{url}/lost")).push(lost)
    assert ran("list", "runs", url, "--json") == 0
    found = {one["path"]: one for one in json.loads(capsys.readouterr().out)}
    assert {place: one["state"] for place, one in found.items()} == {
        f"{url}/study/whole": "finished",
        f"{url}/lost": "unfinished",
    }
    here = overview(states[2].path)
    there = found[f"{url}/study/whole"]
    assert (there["step"], there["best"], there["last"]) == (here.step, here.best, here.last)
    assert 0 <= there["age"] < 3_600
    assert ran("list", "runs", url) == 0
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()} == {"run", "study/whole", "lost"}
    assert ran("list", "runs", f"{url}/lost") == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("lost ")


@pytest.mark.parametrize(
    ("url", "sentence"),
    [("memory://none/here", "there are no runs in memory://none/here"), ("nosuch://b", "there is no storage nosuch://")],
)
def test_a_storage_without_runs_is_refused_in_a_sentence(
    url: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ran("list", "runs", url) == 2
    assert sentence in capsys.readouterr().err


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a bucket on an S3 server on this machine."""
    boto3 = pytest.importorskip("boto3")
    pytest.importorskip("s3fs").S3FileSystem.clear_instance_cache()  # of an earlier server
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in dict(KEY_ID="test", SECRET="test", URL=f"http://{host}:{port}").items():
        full = {"KEY_ID": "AWS_ACCESS_KEY_ID", "SECRET": "AWS_SECRET_ACCESS_KEY", "URL": "AWS_ENDPOINT_URL"}[name]
        monkeypatch.setenv(full, value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = boto3.client("s3")
    client.create_bucket(Bucket="bucket")
    client.close()
    yield "s3://bucket"
    server.stop()


SCRIPT = """
import sys
from faulty_storage import FaultyStorage
from asyncrl.api import configure
from asyncrl.launch import start

FaultyStorage.left, FaultyStorage.kills = int(sys.argv[1]), True
start(configure("CartPole-v1", "dqn", **eval(sys.argv[2])), sys.argv[3])
"""


@pytest.mark.slow
@pytest.mark.parametrize("operations", [60])
def test_a_process_that_is_killed_while_it_uploads_continues_elsewhere_to_the_same_weights(
    operations: int, whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = {**SMALL, "storage": f"faulty://{tmp_path}/store"}
    command = [sys.executable, "-c", SCRIPT, f"{operations}", repr(settings), str(tmp_path / "run")]
    assert subprocess.run(command, check=False).returncode == -9
    run = asyncrl.resume(f"faulty://{tmp_path}/store/run", progress=False)
    assert sha256(run) == sha256(whole)


class Listener:
    def __init__(self) -> None:
        self.said: list[str] = []

    def write(self, record: dict[str, Any]) -> None: ...

    def say(self, line: str) -> None:
        self.said.append(line)

    def close(self) -> None: ...


def test_a_storage_that_fails_does_not_stop_the_run_and_is_told(
    whole: Run, tmp_path: Path, faults: type[FaultyStorage]
) -> None:
    config = configure("CartPole-v1", "dqn", **SMALL, storage=f"faulty://{tmp_path}/store")
    listener = Listener()
    faults.left = 10
    with pytest.warns(SinkWarning, match=r"the end of the run could not be copied to .* does not answer"):
        run, result = start(config, tmp_path / "run", listener)
    assert sha256(run) == sha256(whole)
    assert not result.is_copied
    faults.left = math.inf
    assert resume(run)[1] is None  # complete: only copied
    assert assert_complete(f"faulty://{tmp_path}/store/run", tmp_path / "opened", {sha256(whole)})


def test_training_does_not_wait_for_the_storage(tmp_path: Path, faults: type[FaultyStorage]) -> None:
    """It holds the first upload back until the last checkpoint is saved; those between are dropped."""
    config = configure("CartPole-v1", "dqn", **SMALL, storage=f"faulty://{tmp_path}/store")

    def block(record: dict[str, Any]) -> None:
        if record["kind"] == "train" and record["update"] == 1:
            faults.answers.clear()
        if record["kind"] == "verdict":
            faults.answers.set()

    run, result = start(config, tmp_path / "run", callbacks=[block])
    assert result.is_copied
    assert assert_complete(f"faulty://{tmp_path}/store/run", tmp_path / "opened", {sha256(run)})
    assert not (run.path / ".upload").exists()


@pytest.mark.parametrize("is_over", [False, True], ids=["during the run", "at its end"])
def test_who_stops_a_run_at_once_does_not_wait_for_the_storage(
    is_over: bool, states: list[Run], tmp_path: Path, faults: type[FaultyStorage]
) -> None:
    run, url = Run(shutil.copytree(states[2].path, tmp_path / "run")), f"faulty://{tmp_path}/store"
    RemoteRun(RemoteFolder(f"{url}/run")).push(states[0])

    def press_ctrl_c(line: str = "") -> None:
        raise Interrupt

    def go_on() -> None:
        with uploads_of(run, url, press_ctrl_c) as uploads:
            assert uploads is not None
            faults.answers.clear()
            (run.path / "log.txt").write_text("more")
            uploads.offer()
            if not is_over:
                press_ctrl_c()

    sentence = f"could not be copied to .*: it was interrupted; .* asyncrl train --resume {run.path} copies it again"
    with pytest.warns(SinkWarning, match=sentence), pytest.raises(Interrupt):
        go_on()
    assert not faults.answers.is_set()
    assert (tmp_path / "store" / "run" / "log.txt").read_text() != "more"
    assert not (run.path / ".upload").exists()
    faults.answers.set()
    for thread in threading.enumerate():
        if thread.name == "uploads":
            thread.join(60)
    with uploads_of(run, url, print):  # as --resume
        assert files(tmp_path / "store" / "run") == files(run.path)


@pytest.mark.parametrize(
    ("storage", "sentence"),
    [
        ("s3://key:secret@bucket/runs", "holds a password"),
        ("nosuch://bucket/runs", "there is no storage nosuch://"),
        ("{file}/runs", r"cannot be written: .* a file stands where a folder must be"),
        ("{runs}", "has no effect: the run folder .* is in it anyway"),
        ("{taken}", "already holds a run; continue it with --resume"),
    ],
)
def test_a_storage_that_cannot_be_used_is_refused_before_the_run_starts(
    storage: str, sentence: str, whole: Run, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    shutil.copytree(whole.path, tmp_path / "taken" / "run")
    places = {name: str(tmp_path / name) for name in ("file", "runs", "taken")}
    with pytest.raises(UsageError, match=sentence):
        train(tmp_path / "runs" / "run", storage=storage.format(**places))
    assert not (tmp_path / "runs" / "run").exists()


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
    weights = run.checkpoints()[-1] / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    said: list[str] = []
    pull(RemoteFolder(str(run.path)), Run(tmp_path / "opened"), replay=True, say=said.append)
    assert [path.name for path in Run(tmp_path / "opened").checkpoints()] == [states[0].checkpoints()[-1].name]
    assert "its sha256 is not the manifest's; it is left out" in said[0]


def test_a_strangers_run_in_a_storage_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = configure("worlds:Corridor-v0", "dqn", **{**SMALL, "storage": "store", "steps": 32})
    start(config, tmp_path / "here" / "run")
    signing.key_file().rename(signing.key_file().with_name("theirs"))  # another user, or another machine
    try:
        with pytest.raises(UsageError, match=r"worlds:Corridor-v0.*--trust"):
            asyncrl.resume(f"file://{tmp_path}/store/run", steps=64)
    finally:
        signing.key_file().with_name("theirs").rename(signing.key_file())
    assert asyncrl.resume(f"file://{tmp_path}/store/run", steps=64, progress=False).path.is_dir()
