"""Trackers get the records of a run in a thread of their own, and neither slow nor stop it."""

from __future__ import annotations

import contextlib
import csv
import functools
import json
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest

import asyncrl
from asyncrl import SinkWarning, Stop, UsageError
from asyncrl.cli import main
from asyncrl.errors import ActorDied
from asyncrl.monitor.background import Background
from asyncrl.monitor.csv_files import CsvFiles
from asyncrl.monitor.observers import Observers
from asyncrl.monitor.trackers import TrackedRun, Tracker, check_installed, describe_trackers, open_tracker

ENV = "worlds:Corridor-v0"
BATCH = 48
SETTINGS: dict[str, Any] = dict(
    steps=BATCH * 6, actors=2, envs_per_actor=3, t_max=8, eval_episodes=2, eval_every=BATCH * 2, log_every=BATCH
)
SETTINGS |= dict(engine="serial", seed=5)


def stop_halfway(record: dict[str, Any]) -> Stop | None:
    return Stop("half is enough") if record["kind"] == "train" and record["step"] == 3 * BATCH else None


class Slow:
    """A sink that waits for `go` before each record, or fails."""

    def __init__(self, problem: BaseException | None = None) -> None:
        self.go = threading.Event()
        self.seen: list[int] = []
        self.closed = False
        self._problem = problem

    def write(self, record: dict[str, Any]) -> None:
        self.go.wait()
        if self._problem is not None:
            raise self._problem
        self.seen.append(record["step"])

    def say(self, line: str) -> None: ...

    def close(self) -> None:
        self.closed = True


def finish_after(sink: Slow, background: Background) -> None:
    sink.go.set()
    background.finish()


def test_a_background_sink_gets_everything_in_order() -> None:
    sink = Slow()
    background = Background("slow", lambda: sink)
    for step in range(100):
        background.write({"kind": "train", "step": step})
    finish_after(sink, background)
    assert sink.seen == [*range(100)]
    assert sink.closed


def test_a_sink_that_buffers_is_flushed_while_the_run_goes_on() -> None:
    class Buffering(Slow):
        flushed = threading.Event()

        def flush(self) -> None:
            if self.seen:
                self.flushed.set()

    sink = Buffering()
    background = Background("buffering", lambda: sink)
    background.write({"kind": "train", "step": 1})
    sink.go.set()
    assert sink.flushed.wait(30)
    assert not sink.closed
    background.finish()


def test_what_a_sink_is_opened_with_is_freed_while_the_run_goes_on() -> None:
    class Records(list[int]): ...

    class Opened(Slow):
        is_open = threading.Event()

        def write(self, record: dict[str, Any]) -> None:
            self.is_open.set()
            super().write(record)

    sink, records = Opened(), Records([1, 2])
    is_freed = weakref.ref(records)
    background = Background("slow", functools.partial(lambda records: sink, records))
    del records
    background.write({"kind": "train", "step": 1})
    assert sink.is_open.wait(60)
    assert is_freed() is None
    finish_after(sink, background)


def test_a_full_buffer_drops_train_records_only_and_the_number_is_said() -> None:
    sink = Slow()
    background = Background("slow", lambda: sink, capacity=3)
    background.write({"kind": "train", "step": -1})
    while background._waiting:  # until the thread has taken it
        pass
    for step in range(10):
        background.write({"kind": "train", "step": step})
    background.write({"kind": "eval", "step": 10})
    with pytest.warns(SinkWarning, match=r"the tracker slow was too slow and missed 7 records"):
        finish_after(sink, background)
    assert sink.seen == [-1, 0, 1, 2, 10]


def test_a_sink_that_hangs_is_left_behind() -> None:
    background = Background("stuck", Slow, timeout=0.1)
    background.write({"kind": "train", "step": 1})
    with pytest.warns(SinkWarning, match=r"the tracker stuck did not take .* within 0.1 s, and the run ends without it"):
        background.finish()


@pytest.mark.parametrize("problem", [RuntimeError("no paper"), SystemExit(3)])
def test_a_sink_that_raises_gets_nothing_more(problem: BaseException) -> None:
    sink = Slow(problem)
    background = Background("broken", lambda: sink)
    background.write({"kind": "train", "step": 1})
    with pytest.warns(SinkWarning, match=rf"the tracker broken raised {type(problem).__name__}: .*; it gets no more"):
        finish_after(sink, background)
    background.write({"kind": "train", "step": 2})
    assert sink.seen == []


def test_a_process_ends_while_a_sink_hangs() -> None:
    code = (
        "import time\nfrom asyncrl.monitor.background import Background\n"
        "background = Background('stuck', lambda: time.sleep(3600), timeout=0.1)\nbackground.finish()\nprint('over')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "over\n"
    assert "the tracker stuck did not take its last records" in done.stderr


def rows(run: asyncrl.Run, kind: str) -> list[dict[str, str]]:
    with open(run.path / "csv" / f"{kind}.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_csv_has_the_records_of_every_kind_across_a_resumption(tmp_path: Path) -> None:
    run = asyncrl.train(ENV, "a3c", run_dir=tmp_path / "run", track=("csv",), callbacks=[stop_halfway], **SETTINGS)
    asyncrl.resume(run)
    for kind in ("train", "eval", "episode", "stop"):
        table = rows(run, kind)
        assert [int(row["step"]) for row in table] == run.metrics(kind)["step"]
    assert [float(row["mean"]) for row in rows(run, "eval")] == run.metrics("eval")["mean"]


def test_csv_has_no_records_that_a_resumption_or_a_rewind_has_dropped(tmp_path: Path) -> None:
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "eval.csv").write_text("step,mean\n90,1\n")
    files = CsvFiles(tmp_path / "csv", [{"kind": "train", "step": 30}])
    assert not (tmp_path / "csv" / "eval.csv").exists()
    for record in ({"kind": "train", "step": 60}, {"kind": "eval", "step": 60, "mean": 3.5}):
        files.write(record)
    files.write({"kind": "rewind", "step": 30, "number": 1})
    files.write({"kind": "train", "step": 45})
    files.close()
    written = {file.name: file.read_text() for file in (tmp_path / "csv").iterdir()}
    assert written == {"train.csv": "step\n30\n45\n", "eval.csv": "step,mean\n", "rewind.csv": "step,number\n30,1\n"}


def test_a_tracker_that_is_not_installed_is_refused_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    words = ["train", "a3c", ENV, "--track", "csv", "--track", "wandb", "--run-dir", str(tmp_path / "run")]
    assert main(words) == 2
    assert (
        capsys.readouterr().err
        == "asyncrl: --track wandb needs the package wandb, which is not installed: pip install wandb, or --track None\n"
    )
    assert not (tmp_path / "run").exists()
    with pytest.raises(
        UsageError, match=r"track.* 'wandbb' is not one of 'wandb', 'mlflow', 'trackio', 'csv'; did you mean"
    ):
        asyncrl.train(ENV, "a3c", track=("wandbb",))


def test_no_tracker_is_written_none(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "a3c", ENV, "--steps", "480", "--print-config", "--track", "csv"]
    assert main([*words, "--track", "None"]) == 0
    assert "track = []" in capsys.readouterr().out
    assert main([*words, "--track"]) == 2
    assert capsys.readouterr().err == "asyncrl: --track needs a value: wandb, mlflow, trackio, csv\n"


def test_wandb_is_offline_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert "wandb offline (WANDB_MODE=online uploads at once); upload with: wandb sync run/wandb/" in describe_trackers(
        [Tracker.WANDB], Path("run")
    )
    assert describe_trackers([Tracker.WANDB], Path("my run")).endswith("wandb sync 'my run/wandb'/offline-run-*")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert describe_trackers([Tracker.WANDB], Path("run")) == "wandb disabled (WANDB_MODE)"


class OfflineWandb:
    """Stands in for the package and its runs."""

    def __init__(self) -> None:
        self.parts: list[tuple[str, list[int]]] = []
        """The id and the logged steps of each part of a run."""
        self.exit_codes: list[int] = []

    def init(self, *, id: str, **_: Any) -> Any:
        self.parts.append((id, []))
        return self

    def log(self, values: dict[str, Any]) -> None:
        self.parts[-1][1].append(values["step"])

    def Settings(self, **_: Any) -> None: ...  # noqa: N802

    def define_metric(self, *_: Any, **__: Any) -> None: ...

    def finish(self, exit_code: int) -> None:
        self.exit_codes.append(exit_code)


def test_the_last_offline_part_of_a_wandb_run_has_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    wandb = OfflineWandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)  # type: ignore[arg-type]
    records = [{"kind": "train", "step": step, "loss": 0.5} for step in (10, 20, 30)]
    removed = {"kind": "video", "step": 20, "video": "videos/20.mp4"}
    for earlier, new in (([], records[:2]), ([records[0], removed], records[1:])):
        background = open_tracker(Tracker.WANDB, TrackedRun(tmp_path, {}, earlier))
        for record in new:
            background.write(record)
        background.finish()
    (one, before), (other, after) = wandb.parts
    assert one == other
    assert (before, after) == ([10, 20], [10, 20, 30])


@pytest.mark.parametrize(("problem", "code"), [(None, 0), (ActorDied("lost"), 1), (KeyboardInterrupt(), 0)])
def test_a_tracker_shows_that_an_error_ended_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: BaseException | None, code: int
) -> None:
    wandb = OfflineWandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)  # type: ignore[arg-type]
    observers = Observers()
    with contextlib.suppress(ActorDied, KeyboardInterrupt), observers.finished():
        observers.track([Tracker.WANDB], TrackedRun(tmp_path, {}, []))
        if problem is not None:
            raise problem
    assert wandb.exit_codes == [code]


def tracked_twice(folder: Path, tracker: str) -> asyncrl.Run:
    """A tracked run that was stopped and resumed."""
    try:
        check_installed([Tracker(tracker)])
    except UsageError as problem:
        pytest.skip(str(problem))
    run = asyncrl.train(ENV, "a3c", run_dir=folder / "run", track=(tracker,), callbacks=[stop_halfway], **SETTINGS)
    return asyncrl.resume(run)


@pytest.mark.slow
def test_wandb_keeps_one_run_and_goes_offline_without_a_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_MODE", "online")
    run = tracked_twice(tmp_path, "wandb")
    ids = {path.name.rpartition("-")[2] for path in (run.path / "wandb").glob("offline-run-*")}
    assert ids == {(run.path / "trackers" / "wandb").read_text()}
    assert "wandb offline (you are not logged in)" in (run.path / "log.txt").read_text()


@pytest.mark.slow
def test_mlflow_keeps_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    run = tracked_twice(tmp_path, "mlflow")
    from mlflow import MlflowClient  # type: ignore[import-not-found]

    client = MlflowClient()
    tracked = client.get_run((run.path / "trackers" / "mlflow").read_text())
    assert tracked.data.params["optimizer.learning_rate"] == str(run.beginning()[0].optimizer.learning_rate)
    history = client.get_metric_history(tracked.info.run_id, "eval/mean")
    assert {(metric.step, metric.value) for metric in history} == set(
        zip(run.metrics("eval")["step"], run.metrics("eval")["mean"], strict=True)
    )
    assert tracked.info.status == "FINISHED"


@pytest.mark.slow
def test_trackio_keeps_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    run = tracked_twice(tmp_path, "trackio")
    from trackio.sqlite_storage import SQLiteStorage  # type: ignore[import-not-found]

    assert SQLiteStorage.get_runs("asyncrl") == [f"run-{(run.path / 'trackers' / 'trackio').read_text()}"]
    logged = SQLiteStorage.get_logs("asyncrl", f"run-{(run.path / 'trackers' / 'trackio').read_text()}")
    steps = {entry["step"] for entry in logged}
    assert steps >= set(run.metrics("train")["step"])


def test_the_configuration_names_its_trackers_for_the_next_start(tmp_path: Path) -> None:
    run = asyncrl.train(ENV, "a3c", run_dir=tmp_path / "run", track=("csv",), **SETTINGS)
    assert json.loads((run.path / "config.json").read_text())["config"]["track"] == ["csv"]
    assert 'track = ["csv"]' in (run.path / "config.toml").read_text()
