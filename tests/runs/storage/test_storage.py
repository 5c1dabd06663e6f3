"""Runs are copied into a storage, complete at every moment, and continue from there to the same weights."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import ran
from faulty_storage import FaultyStorage
from stored_runs import SMALL, assert_complete, files, sha256, stop_at_update_3, train

import asyncrl
from asyncrl.api import configure
from asyncrl.common import signing
from asyncrl.common.signals import Interrupt
from asyncrl.errors import SinkWarning, UsageError
from asyncrl.launch import resume, start
from asyncrl.runs.overview import overview
from asyncrl.runs.remote.folder import RemoteFolder
from asyncrl.runs.remote.run_copy import RemoteRun, pull
from asyncrl.runs.remote.uploads import uploads_of
from asyncrl.runs.run import Run


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
