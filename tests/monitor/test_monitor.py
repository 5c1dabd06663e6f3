"""Sinks of records: the panel, plain lines, files and TensorBoard."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import math
import os
import re
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer.record_writer import RecordWriter

from asyncrl.api import configure
from asyncrl.errors import UsageError
from asyncrl.launch import start
from asyncrl.monitor import JsonLines, Live, Monitor, Plain, Quiet, TensorBoard, terminal_view
from asyncrl.monitor import events as event_files
from asyncrl.monitor.csv_files import CsvFiles
from asyncrl.monitor.panel import RunPanel
from asyncrl.monitor.progress import episode_progress
from asyncrl.monitor.table import scalars

FINITE = st.floats(-1e9, 1e9)


def train_record(step: int, seconds: float, **more: Any) -> dict[str, Any]:
    facts = dict(steps_per_second=12_345.6, frames_per_second=49_382.4, episodes=17, mean_return=0.75, policy_lag=1.25)
    facts |= dict(
        policy_lag_max=2, queue_fill=0.4, waiting_share=0.25, learning_share=0.75, entropy=0.693, learning_rate=7e-4
    )
    return {"step": step, "update": step // 100, "time": seconds, "kind": "train", **facts, **more}


def eval_record(step: int) -> dict[str, Any]:
    facts = dict(mean=0.5, std=0.1, median=0.6, iqm=0.55, iqm_interval=[0.4, 0.7], episodes=2, returns=[0.4, 0.6])
    return {"step": step, "update": step // 100, "time": 1.0, "kind": "eval", "mode": "greedy", **facts}


def stage_record(step: int, verdict: str, kind: str = "stages") -> dict[str, Any]:
    return {
        "step": step,
        "update": step // 100,
        "time": 2.0,
        "kind": kind,
        "bottleneck": "environments",
        "verdict": verdict,
    }


@pytest.mark.parametrize("name", ["log.txt", "metrics.jsonl"])
def test_records_go_only_to_plain_files(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)  # opening it would wait for a reader
    with pytest.raises(UsageError, match=f"{name} is not a plain file"):
        JsonLines(tmp_path)


def test_plain_lines_come_every_ten_seconds_and_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    view = Plain(1_000)
    for step, seconds in [(100, 1.0), (200, 5.0), (300, 11.0), (400, 12.0), (1_000, 13.0)]:
        view.write(train_record(step, seconds))
    view.write({"kind": "episode", "step": 1_000, "return": 1.0})
    view.write(eval_record(1_000))
    view.write(stage_record(1_000, "Still measured.", kind="stages"))
    view.write(stage_record(1_000, "Acting takes it all.", kind="verdict"))
    view.say("a sentence")
    lines = capsys.readouterr().out.splitlines()
    assert [re.split(r"\s+", line)[1] for line in lines[:3]] == ["100", "300", "1,000"]
    rates = [re.search(r"([\d,]+) steps/s", line) for line in lines[:3]]
    assert [rate and rate[1] for rate in rates] == ["12,346", "20", "75"]  # the first has only its own; then of ten seconds
    assert "return     0.75" in lines[1]
    assert "left 0:00:35" in lines[1]  # 200 steps took ten seconds, 700 are left
    assert lines[3].startswith("evaluation at step 1,000 (greedy): mean 0.50, median 0.60, IQM 0.55 over 2 episodes")
    assert lines[4:] == ["speed: Acting takes it all.", "a sentence"]


def test_two_records_within_a_millisecond_do_not_divide_by_zero(capsys: pytest.CaptureFixture[str]) -> None:
    view = Plain(200)
    view.write(train_record(100, 0.005))
    view.write(train_record(200, 0.005))
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_run_without_end_has_no_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    view = Plain(2**63 - 1)
    for step, seconds in ((100, 1.0), (200, 11.0)):
        view.write(train_record(step, seconds))
    assert capsys.readouterr().out.splitlines()[1].endswith("left …")


def test_the_panel_shows_the_numbers_and_sentences_stay_above_it() -> None:
    written = StringIO()
    view = Live("a3c on Corridor", 1_000, Console(file=written, force_terminal=True, width=100, color_system=None))
    view.say("before anything")
    view.write(train_record(100, 1.0, mean_return=None))
    for score in range(7):
        view.write({"kind": "episode", "step": 200, "return": float(score)})
    view.write(eval_record(200))
    view.write(train_record(300, 11.0))
    view.write(stage_record(300, "The environments take 71% of the time, and the learner waits."))
    view.close()
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.getvalue())
    last = shown[shown.rindex("a3c on Corridor") :]
    for text in ("steps/s     20", "frames/s    80", "1.25 updates", "40% full", "75% of the time"):
        assert text in last
    for text in (
        "0.75 (last 100)",
        "17",
        "0.693",
        "0.50 at 200",
        "2, 3, 4, 5, 6",
        "300 / 1,000",
        "left 0:00:35",
        "● evaluations",
        "300 steps",
        "the learner waits",
    ):
        assert text in last
    assert shown.startswith("before anything")


@settings(max_examples=40)
@given(st.integers(20, 200), st.text(st.characters(exclude_categories=["C", "Z"]), max_size=90))
@example(80, "evaluating: 3 of 30 episodes in an_environment_with_a_long_name:AndAClassWithALongerOne")
def test_the_panel_is_as_wide_as_the_terminal_and_never_wraps(width: int, text: str) -> None:
    heights = set()
    for status in ("", text):
        written = StringIO()
        view = Live(f"a3c on {text}", 320_000_000, Console(file=written, width=width, color_system=None))
        for _ in range(5):
            view.write({"kind": "episode", "step": 200, "return": -1234.567})
        view.write(train_record(123_456_789, 1.0, mean_return=-1234.567))
        view.write({**eval_record(123_456_789), "mean": -123_456.789})
        view.status(status)
        view.close()  # where nothing can be drawn over, it is shown at the end
        lines = written.getvalue().splitlines()
        assert {cell_len(line) for line in lines} == {width}
        heights.add(len(lines))
    assert heights == {19}


@pytest.mark.parametrize("width", [40, 73, 74])
def test_numbers_are_whole_in_a_narrow_terminal(width: int) -> None:
    panel, console = RunPanel("a run", 1_000), Console(width=width)
    panel.take(train_record(100, 1.0, learning_share=1.0))
    panel.take(eval_record(100))
    with console.capture() as text:
        console.print(panel.draw(width))
    assert "…" not in text.get().replace("goes …", "").replace("left …", "")
    for words in ("steps/s 12,346", "mean return 0.75 (last 100)", "evaluation 0.50 at 100", "episodes 17"):
        assert re.search(words.replace(" ", " +").replace("(", r"\(").replace(")", r"\)") + " ", text.get())


@pytest.mark.parametrize("view", [Plain(1_000), Live("a run", 1_000)], ids=["lines", "panel"])
def test_a_terminal_may_lack_characters(view: Plain | Live, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, "iso8859-1", write_through=True))
    view.say("seconds → steps")
    view.write(train_record(100, 1.0, mean_return=None))
    view.close()
    shown = written.getvalue().decode("iso8859-1")
    assert shown.startswith("seconds ? steps\n")
    assert "100 / 1,000" in shown
    assert "????" not in shown  # as a chart would be


@pytest.mark.parametrize(("terminal", "view"), [("xterm", Live), ("dumb", Plain)])
def test_lines_are_printed_where_a_panel_cannot_be_drawn(
    terminal: str, view: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", terminal)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert type(terminal_view("a run", 1_000, quiet=False)) is view


def test_lines_tell_how_far_an_evaluation_is_where_a_bar_cannot_be_drawn(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setattr("asyncrl.monitor.progress._SECONDS", 0.0)
    with episode_progress(3, None) as report:
        report(1)
    assert capsys.readouterr().err == "evaluating: 1 of 3 episodes\n"


def test_messages_above_the_panel_are_as_they_were_said() -> None:
    said = f"continue with: asyncrl train --resume {'a_long_folder/' * 9}run:fire:[bold]"
    written = StringIO()
    view = Live("a run", 1_000, Console(file=written, width=40, color_system=None))
    view.say(said)
    assert written.getvalue() == f"{said}\n"


def test_the_panel_shows_the_status() -> None:
    written = StringIO()
    view = Live("a3c on Corridor", 1_000, Console(file=written, force_terminal=True, width=80, color_system=None))
    view.write(train_record(300, 11.0))
    view.status("evaluating: 3 of 30 episodes")
    view.close()
    assert "evaluating: 3 of 30 episodes" in written.getvalue()


def test_plain_lines_show_a_long_evaluation(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    view = Plain(1_000)
    for seconds, done in [(100, 0), (109, 3), (111, 5), (112, 6), (122, 9), (123, None), (200, 0)]:
        monkeypatch.setattr("time.monotonic", lambda seconds=seconds: seconds)
        view.status("" if done is None else f"evaluating: {done} of 30 episodes")
    assert capsys.readouterr().out.splitlines() == ["evaluating: 5 of 30 episodes", "evaluating: 9 of 30 episodes"]


def test_lines_of_json_hold_every_record_and_are_appended_to(tmp_path: Path) -> None:
    records = [train_record(100, 1.0), {"kind": "episode", "step": 100, "return": 1.0}, eval_record(100)]
    for record in records:
        with Monitor([JsonLines(tmp_path)]).open() as monitor:
            monitor.write(record)
            monitor.say("a sentence")
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == records
    assert (tmp_path / "log.txt").read_text().count("a sentence\n") == 3


def test_numbers_that_are_not_finite_are_null(tmp_path: Path) -> None:
    odd = {"loss": math.nan, "kl": -math.inf, "means": {"a": math.inf}, "actions": [math.nan, 1.0]}
    with Monitor([JsonLines(tmp_path), CsvFiles(tmp_path / "csv")]).open() as monitor:
        monitor.write(train_record(100, 1.0, **odd))

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is not JSON")

    read = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=refuse)
    assert read == train_record(100, 1.0, loss=None, kl=None, means={"a": None}, actions=[None, 1.0])
    assert (tmp_path / "csv" / "train.csv").read_text().splitlines()[1].endswith(",,,")


def test_a_line_can_be_read_as_soon_as_it_is_written(tmp_path: Path) -> None:
    with Monitor([JsonLines(tmp_path)]).open() as monitor:
        monitor.write(train_record(100, 1.0))
        assert json.loads((tmp_path / "metrics.jsonl").read_text()) == train_record(100, 1.0)


def test_returns_that_differ_by_rounding_only_are_drawn(tmp_path: Path) -> None:
    tensorboard = TensorBoard(tmp_path)
    for returns in ([0.3, 0.1 + 0.2], [1e6, 1e6 + 1e-9]):
        for number, value in enumerate(returns):
            episode = {"actor": 0, "env": number, "return": value, "length": 5}
            tensorboard.write({"step": 100, "update": 1, "time": 1.0, "kind": "episode", **episode})
        tensorboard.write(train_record(100, 1.0))
    tensorboard.close()


def test_lines_go_on_after_a_rewind(capsys: pytest.CaptureFixture[str]) -> None:
    view = Plain(1_000)
    view.write(train_record(100, 3_600.0))
    view.write({"kind": "rewind", "step": 40})
    for step, seconds in ((50, 600.0), (60, 605.0), (70, 612.0)):
        view.write(train_record(step, seconds))
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["100", "50", "70"]


def test_the_panel_shows_no_evaluation_or_episode_that_a_rewind_has_dropped() -> None:
    panel, console = RunPanel("a run", 1_000), Console(width=100)
    for step in (100, 200):
        panel.take(train_record(step, step / 100))
        panel.take({"kind": "episode", "step": step, "return": step / 10})
        panel.take(eval_record(step) | {"mean": step / 10})
    shown = {None: ("20.00 at 200", "10, 20 "), 150: ("10.00 at 100", "10 "), 50: ("–", " ")}
    for dropped_after, (evaluation, returns) in shown.items():
        if dropped_after is not None:
            panel.take({"kind": "rewind", "step": dropped_after})
        with console.capture() as text:
            console.print(panel.draw(100))
        assert re.search(f"evaluation +{evaluation}", text.get())
        assert re.search(f"last returns +{returns} *│", text.get())


def test_every_sink_is_closed_even_if_the_run_breaks(tmp_path: Path) -> None:
    first, second = JsonLines(tmp_path), TensorBoard(tmp_path)
    with contextlib.suppress(KeyboardInterrupt), Monitor([first, second]).open() as monitor:
        monitor.write(train_record(100, 1.0))
        raise KeyboardInterrupt
    with pytest.raises(ValueError, match="closed file"):
        first.write(train_record(200, 2.0))


class Full(Quiet):
    """A sink on a full disk."""

    def write(self, record: dict[str, Any]) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "disk")

    def close(self) -> None:
        raise OSError(errno.EIO, "Input/output error", "disk")


def test_a_sink_that_fails_does_not_affect_the_others(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left"), Monitor([Full(), JsonLines(tmp_path)]).open() as monitor:
        monitor.write(train_record(100, 1.0))
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == train_record(100, 1.0)
    with pytest.raises(OSError, match="Input/output"), Monitor([Full(), JsonLines(tmp_path)]).open():
        pass


@given(st.binary(max_size=300))
def test_records_are_framed_as_by_tensorboard(data: bytes) -> None:
    file = io.BytesIO()
    RecordWriter(file).write(data)
    assert event_files._framed(data) == file.getvalue()


def test_tensorboard_shows_the_values_of_the_lines(tmp_path: Path) -> None:
    settings: dict[str, Any] = dict(steps=960, actors=2, envs_per_actor=4, t_max=8, eval_episodes=2, log_every=192)
    run, _ = start(configure("worlds:Corridor-v0", "a3c", engine="serial", **settings), tmp_path / "run")
    events = EventAccumulator(str(run.path / "tensorboard")).Reload()
    records = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    for kind, name in [("train", "mean_return"), ("train", "learning_rate"), ("train", "policy_lag"), ("eval", "mean")]:
        written = [(r["step"], r[name]) for r in records if r["kind"] == kind and r[name] is not None]
        drawn = [(event.step, event.value) for event in events.Scalars(f"{kind}/{name}")]
        assert written
        assert drawn == [(step, pytest.approx(value)) for step, value in written]


def test_tensorboard_shows_a_resumed_run_whose_clock_was_set_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for resumed_at, loss in ((None, 1.0), (20, 2.0)):
        sink = TensorBoard(tmp_path, resumed_at)
        for step in (10, 20, 30) if resumed_at is None else (30, 40):
            sink.write({"kind": "train", "step": step, "update": 1, "time": 1.0, "loss": loss})
        sink.close()
        monkeypatch.setattr("time.time_ns", lambda: 10**18)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("train/loss")
    assert [(event.step, event.value) for event in events] == [(10, 1.0), (20, 1.0), (30, 2.0), (40, 2.0)]


def test_a_metric_may_have_the_name_of_a_field_of_other_records() -> None:
    names = ("returns", "measures", "learner", "verdict", "flag")
    record = train_record(100, 1.0, means={"ALE/Pong-v5": 2.0}, actions=[0.25, 0.75]) | dict.fromkeys(names, 0.5)
    found = scalars(record)
    assert {f"train/{name}": 0.5 for name in names}.items() <= found.items()
    assert {"train/mean of ALE-Pong-v5": 2.0, "actions/1": 0.75}.items() <= found.items()
    assert "train/step" not in found
