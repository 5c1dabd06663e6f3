"""Who may see the page, what it is told of runs, and what becomes of runs that change while they are watched."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asyncrl.common.file_lock import file_lock
from asyncrl.common.serialization import read_json
from asyncrl.dashboard import Page, server
from asyncrl.dashboard.feed import Feed
from asyncrl.dashboard.server import open_address
from asyncrl.dashboard.watched import WatchedRun, WatchedRuns
from asyncrl.errors import UsageError
from asyncrl.runs.metrics import follower as metrics_follower
from asyncrl.runs.overview import overview

testclient = pytest.importorskip("starlette.testclient", reason="pip install 'asyncrl[watch]'")
from asyncrl.dashboard.app import make_app  # noqa: E402

TOKEN, PORT = "right", 8765
CONFIG = {"env": "CartPole-v1", "algorithm": {"name": "a3c", "t_max": 5}, "steps": 100, "seed": 3}


def record(kind: str, step: int, **fields: Any) -> str:
    return json.dumps({"step": step, "update": step // 10, "time": step / 10, "kind": kind, **fields}) + "\n"


def write_run(folder: Path, *lines: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"config": CONFIG, "contract": {"frame_skip": 1}}), encoding="utf-8")
    if lines:
        (folder / "metrics.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "runs" / "one", record("train", 10, loss=float("nan")), record("train", 20, loss=0.5))


@pytest.fixture
def client(run: Path) -> Iterator[Any]:
    app = make_app(WatchedRuns([run.parent]), token=TOKEN, port=PORT, is_ending=lambda: True)
    with testclient.TestClient(app, base_url=f"http://127.0.0.1:{PORT}") as one:
        yield one


PATHS = ["", "main.js", "api/runs", "api/runs/0/curves", "api/events?runs=0"]


@pytest.mark.parametrize("path", PATHS)
def test_the_page_is_served_to_whoever_knows_the_token(client: Any, path: str) -> None:
    answer = client.get(f"/{TOKEN}/{path}")
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("token", ["", "wrong/", "righ/", "right2/"])
def test_a_missing_or_wrong_token_is_forbidden(client: Any, path: str, token: str) -> None:
    assert client.get(f"/{token}{path}").status_code == 403


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "127.0.0.1", "127.0.0.1:80", "192.168.1.2:8765", ""])
def test_a_wrong_host_is_forbidden(client: Any, host: str) -> None:
    assert client.get(f"/{TOKEN}/", headers={"host": host}).status_code == 403


def test_another_sites_script_is_forbidden(client: Any) -> None:
    assert client.get(f"/{TOKEN}/api/runs", headers={"origin": "http://evil.example"}).status_code == 403
    assert client.get(f"/{TOKEN}/api/runs", headers={"origin": f"http://127.0.0.1:{PORT}"}).status_code == 200


def test_files_outside_of_the_page_are_not_served(client: Any) -> None:
    for path in ("..%2fapp.py", "%2e%2e/app.py", "//etc/passwd"):
        assert client.get(f"/{TOKEN}/{path}").status_code in (403, 404)


def test_a_run_is_told_as_json_without_nan(client: Any, run: Path) -> None:
    (found,) = client.get(f"/{TOKEN}/api/runs").json()["runs"]
    assert (found["name"], found["algorithm"], found["step"], found["state"]) == ("one", "a3c", 20, "crashed")
    assert f"asyncrl train --resume {run}" in found["sentence"]
    assert client.get(f"/{TOKEN}/api/runs/0").json()["settings"]["seed"] == 3
    assert client.get(f"/{TOKEN}/api/runs/0/curves").json()["kinds"]["train"]["mean"]["loss"] == [None, 0.5]
    assert client.get(f"/{TOKEN}/api/runs/7").status_code == 404


def test_episodes_without_a_finite_return_are_told_as_json(client: Any, run: Path) -> None:
    (run / "checkpoints" / "000000000020").mkdir(parents=True)
    (run / "checkpoints" / "000000000020" / "manifest.json").touch()
    with open(run / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write(record("eval", 20, mean=float("nan"), returns=[float("nan")]))
    assert client.get(f"/{TOKEN}/api/player/0/episodes").json()["best"][0]["return"] is None


def news(feed: Feed) -> dict[str, Any]:
    return {name: value for message in feed.messages() for name, value in message.items()}


def test_a_page_gets_everything_and_then_what_is_new(run: Path) -> None:
    feed = Feed(WatchedRuns([run]), ["0"])
    first = news(feed)
    assert first["curves"]["kinds"]["train"]["mean"]["step"] == [10, 20]
    assert not news(feed)
    with open(run / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write(record("train", 30, loss=0.25) + episode(30))
    second = news(feed)
    assert second["rows"]["train"] == {"step": [30], "update": [3], "time": [3], "loss": [0.25]}
    assert second["rows"]["episode"]["return"] == [9]
    assert second["episodes"]["best"][0]["return"] == 9
    (run / "metrics.jsonl").write_text(record("train", 10, loss=1.0), encoding="utf-8")  # as a resumed run does
    assert news(feed)["curves"]["kinds"]["train"]["mean"]["step"] == [10]


def episode(step: int) -> str:
    return record("episode", step, **{"return": 9.0, "length": 9, "actor": 0, "env": 0})


def test_rows_that_another_page_had_read_are_sent_once(run: Path) -> None:
    runs = WatchedRuns([run])
    (watched,) = runs
    steps = iter(range(30, 1_000, 10))

    class Lock:
        """As soon as it is free, another page reads a record that has just been written."""

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None:
            write()
            watched.metrics.read()

    def write() -> None:
        with open(run / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(record("train", next(steps)))

    feed, lock = Feed(runs, ["0"]), watched.lock
    watched.lock = Lock()  # type: ignore[assignment]
    first = news(feed)["curves"]["kinds"]["train"]["mean"]["step"]
    watched.lock = lock
    write()
    assert first + news(feed)["rows"]["train"]["step"] == list(range(10, next(steps), 10))


def test_every_page_gets_the_last_record(run: Path) -> None:
    runs = WatchedRuns([run])
    feeds = [Feed(runs, ["0"]), Feed(runs, ["0"])]
    for feed in feeds:
        assert news(feed)["curves"]
    with open(run / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write(record("train", 30))
    assert [news(feed)["rows"]["train"]["step"] for feed in feeds] == [[30], [30]]


def test_evaluations_are_told_exactly_of_a_run_that_has_many(run: Path) -> None:
    checkpoint = run / "checkpoints" / "000000005010"
    checkpoint.mkdir(parents=True)
    (checkpoint / "manifest.json").touch()
    means = {20 + 10 * i: float(i % 3) for i in range(2_000)} | {5_010: 7.0, 9_000: 50.0}
    (run / "metrics.jsonl").write_text("".join(record("eval", step, mean=mean) for step, mean in means.items()))
    first = news(Feed(WatchedRuns([run]), ["0"]))
    assert max(first["curves"]["kinds"]["eval"]["mean"]["mean"]) < 50
    assert first["notes"]["evaluations"] == {"best": 50, "count": 2_000}
    assert first["facts"]["checkpoints"][0]["mean"] == 7


@pytest.mark.parametrize(
    "lines",
    [
        [record("train", 90), record("eval", 100, mean=5.0, returns=[0.1234567890123456] * 4_000)],
        [record("eval", 50, mean=5.0), *(episode(step) for step in range(51, 2_000)), record("train", 2_000)],
    ],
    ids=["a long last line", "many episodes since"],
)
def test_the_newest_evaluation_of_a_long_file_is_found(tmp_path: Path, lines: list[str]) -> None:
    run = write_run(tmp_path / "run", *lines)
    (watched,) = WatchedRuns([run])
    summary = watched.summary()
    assert summary["evaluation"] == overview(run).last
    assert summary["step"] == overview(run).step
    assert summary["state"] == "finished"
    with open(run / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.writelines(episode(step) for step in range(2_001, 4_001))
    summary = watched.summary()
    assert (summary["evaluation"], summary["step"]) == (5, 4_000)


def test_checkpoints_of_a_run_that_lost_its_settings_are_not_runs(tmp_path: Path) -> None:
    run = write_run(tmp_path / "runs" / "run")
    checkpoint = run / "checkpoints" / "000000000010"
    checkpoint.mkdir(parents=True)
    (checkpoint / "manifest.json").touch()
    (run / "config.json").unlink()
    assert not [*WatchedRuns([tmp_path / "runs"])]
    assert [watched.path for watched in WatchedRuns([checkpoint])] == [checkpoint]


def test_the_state_of_a_run_is_one_word_and_one_sentence(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    runs = WatchedRuns([run])
    (watched,) = runs

    def state() -> tuple[str, str]:
        summary = watched.summary()
        return summary["state"], summary["sentence"]

    assert state() == ("crashed", "The run ended before it recorded anything; log.txt in its folder may say why.")
    with file_lock(run / ".lock"):
        assert state() == ("running", "No data yet: the first record comes after some updates.")
        write_run(run, record("train", 50))
        assert state() == ("running", "")
    assert state()[1].startswith("The run ended at step 50 of 100; continue with: asyncrl train --resume")
    (run / "interrupted").write_text("SIGINT\n", encoding="utf-8")
    assert state()[1].startswith("Interrupted at step 50; continue with")
    (run / "interrupted").unlink()
    write_run(run, record("train", 50), record("stop", 50, reason="good enough"))
    assert state() == ("stopped", "Stopped at step 50: good enough")
    write_run(run, record("train", 100))
    assert state() == ("finished", "")
    write_run(run, record("pretrain", 0))
    assert state()[1] == "The imitation ended before its weights were saved; start it again in another folder."
    (run / "config.json").write_text("{", encoding="utf-8")
    assert state() == ("damaged", f"{run} has no readable config.json.")
    shutil.rmtree(run)
    assert state() == ("missing", f"The folder {run} was moved or removed.")
    assert Feed(runs, ["0"])
    assert news(Feed(runs, ["0"]))["curves"]["kinds"] == {}


def test_a_run_is_not_damaged_while_another_page_reads_its_settings(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (watched,) = WatchedRuns([run])
    states: list[str] = []

    def read(file: Path) -> Any:
        monkeypatch.undo()
        states.append(watched.summary()["state"])  # as another thread may ask meanwhile
        return read_json(file)

    monkeypatch.setattr("asyncrl.dashboard.watched.read_json", read)
    states.append(watched.summary()["state"])
    assert states == ["crashed", "crashed"]


def test_a_checkpoint_that_is_being_removed_does_not_hide_the_others(run: Path) -> None:
    for name in ("000000000010", "000000000020"):
        (run / "checkpoints" / name).mkdir(parents=True)
        (run / "checkpoints" / name / "manifest.json").touch()
    (run / "checkpoints" / "000000000010" / "network.safetensors").symlink_to("gone")  # a file that was deleted
    assert [one["step"] for one in WatchedRun("0", run, is_named=True).checkpoints()] == [20]


def test_a_page_of_more_names_than_a_pipe_holds_begins_and_ends_once(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages: list[Page] = []
    long = f"{run}{'/.' * 1_000}"
    begins = threading.Thread(target=lambda: pages.append(Page([long] * 100, port=0)), daemon=True)
    begins.start()
    begins.join(30)
    assert pages
    signals: list[int] = []
    kill = os.kill
    monkeypatch.setattr(os, "kill", lambda process, number: (signals.append(number), kill(process, number)))
    pages[0].close()
    pages[0].close()  # its number may be another process's by now
    assert signals == [signal.SIGTERM]


def test_runs_that_start_while_a_folder_is_watched_are_found(tmp_path: Path) -> None:
    runs = WatchedRuns([tmp_path])
    assert runs.note == f"There is no run in {tmp_path} yet; the page shows it as soon as one starts."
    write_run(tmp_path / "grid" / "cell" / "seed-1")
    write_run(tmp_path / ".hidden" / "run")
    runs.refresh()
    assert [run.name for run in runs] == ["seed-1"]
    assert runs.note == ""


def test_a_run_that_does_not_exist_is_refused_in_one_sentence(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.parent.parent)
    with pytest.raises(UsageError, match=r"^run folder runs/onee does not exist; did you mean 'runs/one'\?$"):
        WatchedRuns(["runs/onee"])
    with pytest.raises(UsageError, match=r"config\.json is a file, not a run folder or a folder of runs$"):
        WatchedRuns([run / "config.json"])


def test_a_pretrained_agent_is_a_finished_run() -> None:
    (agent,) = WatchedRuns(["pretrained/pong-ppo"])
    assert (agent.name, agent.summary()["state"]) == ("pretrained/pong-ppo", "finished")


def test_the_next_free_port_is_taken_unless_one_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"^port {port} is in use; without --port, a free one is taken$"):
            open_address(port)
        monkeypatch.setattr(server, "PORT", port)
        address = open_address()
        with address.socket:
            assert address.port > port
            assert address.url == f"http://127.0.0.1:{address.port}/{address.token}/"
            assert address.socket.getsockname()[0] == "127.0.0.1"


def test_the_curves_of_a_long_file_are_shown_while_it_is_read_and_are_whole_afterwards(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_follower, "_CHUNK", 256)
    with open(run / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.writelines(record("train", step, loss=0.1) for step in range(30, 3_000, 10))
    runs = WatchedRuns([run])
    monkeypatch.setattr(WatchedRun, "read", lambda self, seconds=0.0: self.metrics.read(seconds=1e-4))
    feed, shares = Feed(runs, ["0"]), []
    while not shares or feed.is_behind:
        shares += [message["curves"]["read"] for message in feed.messages() if "curves" in message]
    assert shares[0] < 1
    assert shares[-1] == 1
    assert sorted(shares) == shares
