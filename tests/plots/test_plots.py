"""Figures of small runs: what is in them, and the files that they are written to."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from commands import ran

import asyncrl
import asyncrl.plots
from asyncrl.launch import start
from asyncrl.plots.curves import Curve, XAxis, evaluations, mean_curve, mean_interval
from asyncrl.plots.filters import input_names
from asyncrl.plots.sources import find_runs, group_runs
from asyncrl.plots.style import short_number
from asyncrl.runs.config.settings import configure

SMALL: dict[str, Any] = dict(steps=480, actors=1, envs_per_actor=4, t_max=5, eval_every=160, eval_episodes=3, log_every=20)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seeds of one configuration, and one run of another."""
    folder = tmp_path_factory.mktemp("study")
    for name, settings in {"1": {}, "2": dict(seed=2), "3": dict(seed=3, engine="threads"), "fast": dict(lag=0)}.items():
        start(configure("worlds:Corridor-v0", "a3c", **SMALL | settings), folder / "cell" / name)
    return folder


def test_runs_that_differ_in_nothing_but_the_seed_are_one_group(study: Path) -> None:
    groups = group_runs(find_runs([study]))
    assert {group.label: len(group.runs) for group in groups} == {"a3c, lag 1": 3, "a3c, lag 0": 1}


def test_a_label_tells_runs_from_seeds_and_names_no_preset_where_there_is_none(study: Path, tmp_path: Path) -> None:
    for name in ("serial", "again"):
        shutil.copytree(study / "cell" / "1", tmp_path / name)
    assert [str(group) for group in group_runs(find_runs([tmp_path]))] == ["a3c (2 runs)"]
    assert [str(group) for group in group_runs(find_runs([study]))] == ["a3c, lag 1 (3 seeds)", "a3c, lag 0"]
    for number, changed in enumerate([dict(preset=None), dict(preset="a3c/discrete", lag=3, t_max=9, actors=7, steps=9)]):
        run = shutil.copytree(study / "cell" / "1", tmp_path / "presets" / str(number))
        facts = json.loads((run / "config.json").read_text())
        for table in (facts["config"], facts["config"]["algorithm"]):
            table |= {name: value for name, value in changed.items() if name in table}
        (run / "config.json").write_text(json.dumps(facts))
    labels = [group.label for group in group_runs(find_runs([tmp_path / "presets"]))]
    assert labels == [str(tmp_path / "presets" / "0"), "a3c/discrete"]


@pytest.mark.parametrize(
    ("channels", "stack", "names"),
    [
        (2, 2, ["frame t − 1", "frame t"]),
        (3, 1, ["channel 1", "channel 2", "channel 3"]),
        (3, 4, ["frame t − 2", "frame t − 1", "frame t"]),  # differences of frames
        (4, 2, ["frame t − 1, channel 1", "frame t − 1, channel 2", "frame t, channel 1", "frame t, channel 2"]),
    ],
)
def test_the_rows_of_filters_are_named_for_what_they_see(channels: int, stack: int, names: list[str]) -> None:
    assert input_names(channels, stack) == names


def test_the_interval_of_a_mean_is_student_s() -> None:
    mean, half = mean_interval(np.array([[1.0], [2.0], [3.0]]))
    assert (mean[0], half[0]) == (2.0, pytest.approx(2.484, abs=1e-3))
    _, half = mean_interval(np.arange(31.0))
    assert half == pytest.approx(2.0423 * np.std(np.arange(31), ddof=1) / np.sqrt(31), rel=1e-4)
    assert np.isnan(mean_interval(np.array([1.0, 2.0]))[1])


def test_the_mean_over_seeds_ends_where_the_first_run_does() -> None:
    band = mean_curve([Curve(np.array([0.0, 10]), np.array([0.0, 10])), Curve(np.array([2.0, 6]), np.array([4.0, 8]))])
    assert band is not None
    assert (band.x[0], band.x[-1]) == (2, 6)
    np.testing.assert_allclose(band.mean, band.x + 1)


def test_learning_curves_are_those_of_the_metrics(study: Path) -> None:
    run = asyncrl.Run(study / "cell" / "fast")
    (axes,) = asyncrl.plot(run, x="time").axes
    table = run.metrics("train")
    expected = [(t, y) for t, y in zip(table["time"], table["mean_return"], strict=True) if y is not None]
    np.testing.assert_allclose(axes.lines[0].get_xydata(), expected)
    points = run.metrics("eval")
    np.testing.assert_allclose(axes.lines[1].get_xydata(), list(zip(points["time"], points["mean"], strict=True)))
    assert (axes.get_title(loc="left"), axes.get_xlabel(), axes.get_ylabel()) == (run_env(run), "wall time (s)", "return")


def run_env(run: asyncrl.Run) -> str:
    return str(run.facts()["config"]["env"])


def test_every_environment_has_a_panel(study: Path, tmp_path: Path) -> None:
    start(configure("worlds:Forgetful", "a3c", **SMALL), tmp_path / "other")
    figure = asyncrl.plot(study, tmp_path, what="returns")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["worlds:Corridor-v0", "worlds:Forgetful"]


@pytest.mark.parametrize("count", [5, 7])
def test_no_empty_panel_is_drawn(study: Path, tmp_path: Path, count: int) -> None:
    for number in range(count):
        run = shutil.copytree(study / "cell" / "fast", tmp_path / str(number))
        config = (run / "config.json").read_text().replace("worlds:Corridor-v0", f"worlds:Corridor-v{number}")
        (run / "config.json").write_text(config)
    for what in ("returns", "scores", "lag"):
        figure = asyncrl.plot(tmp_path, what=what)
        shown = [axes for axes in figure.axes if axes.get_visible()]
        assert [bool(axes.get_title(loc="left")) for axes in shown] == [True] * count
        assert len({axes.get_subplotspec().colspan.start for axes in shown}) == 3


def test_the_axis_of_a_constant_has_its_scale(tmp_path: Path) -> None:
    constant = dict(learning_rate=2e-4, learning_rate_schedule="constant")
    start(configure("worlds:Corridor-v0", "a3c", **SMALL | constant), tmp_path / "run")
    panels = {axes.get_title(loc="left"): axes for axes in asyncrl.plot(tmp_path, what="losses").axes}
    assert panels["learning rate"].get_ylim() == pytest.approx((1e-4, 3e-4))


@pytest.mark.parametrize("x", ["steps", "episodes", "time"])
def test_all_is_everything_that_the_runs_have(study: Path, x: str) -> None:
    figure = asyncrl.plot(study, what="all", x=x)
    labels = {axes.get_xlabel() for axes in figure.axes}
    assert {"return of an episode", "length of an episode (steps)", "policy lag (updates)"} < labels
    assert "entropy" in {axes.get_title(loc="left") for axes in figure.axes}


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf", "html"])
def test_the_command_writes_a_file(study: Path, tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / f"curves.{suffix}"
    assert ran("plot", "--what", "returns,scores", study, "--out", file) == 0
    assert "worlds:Corridor-v0: a3c, lag 1 (3 seeds)" in capsys.readouterr().out
    begins = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF", "html": b"<!doctype html>"}
    assert file.read_bytes().startswith(begins[suffix])


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf", "html"])
def test_a_figure_that_cannot_be_written_leaves_the_old_one(
    study: Path, tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    resource = pytest.importorskip("resource", reason="Windows has no limits")
    path, limits = tmp_path / f"figure.{suffix}", resource.getrlimit(resource.RLIMIT_FSIZE)
    path.write_text("the old one")
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, limits[1]))
    try:
        assert ran("plot", study, "--out", path) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert f"asyncrl: {path}: File too large; " in capsys.readouterr().err
    assert (path.read_text(), list(tmp_path.iterdir())) == ("the old one", [path])


def test_a_name_that_is_too_long_is_refused(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / ("x" * 251 + ".svg")
    assert ran("plot", study, "--out", path) == 2
    assert capsys.readouterr().err == f"asyncrl: {path}: File name too long; shorten it\n"


def test_the_page_needs_no_other_file_and_its_ids_are_unique(study: Path, tmp_path: Path) -> None:
    asyncrl.plot(study, what=["returns", "lag"], out=tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    pictures = re.findall(r"<svg .*?</svg>", page, re.S)
    assert len(pictures) == 2
    ids = [element.get("id") for svg in pictures for element in ElementTree.fromstring(svg).iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    links = set(re.findall(r'(?:href|src)="([^"]*)"', page)) | set(re.findall(r"url\(([^)]*)\)", page))
    assert all(link.startswith("#") and link[1:] in ids for link in links)


def test_filters_are_drawn_where_there_are_convolutions(study: Path, tmp_path: Path) -> None:
    pytest.importorskip("ale_py")
    figure = asyncrl.plot("pretrained/pong-a3c", what="filters")
    assert len(figure.axes) == 16 * 5  # 16 filters of four frames, and their activations
    with pytest.raises(asyncrl.UsageError, match="no network of these runs has convolutions"):
        asyncrl.plot(study / "cell" / "1", what="filters")


def test_a_run_of_someone_else_is_plotted_without_running_its_code(study: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(study / "cell" / "1", tmp_path / "theirs"))
    config = run / "config.json"
    config.write_text(config.read_text().replace('"env": "worlds:Corridor-v0"', '"env": "bomb:$Bomb"'))
    (axes,) = asyncrl.plot(run).axes
    assert axes.get_title(loc="left") == "bomb:$Bomb"  # not read as mathematics


def test_odd_values_in_files_are_left_out(study: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(study / "cell" / "1", tmp_path / "odd"))
    config, metrics = run / "config.json", run / "metrics.jsonl"
    config.write_text(config.read_text().replace('"extra_envs": []', '"extra_envs": 7'))
    train = (
        '{"step": 500, "update": 99, "kind": "train", "time": NaN, "episodes": "x", "mean_return": 1e999, "policy_lag": []}'
    )
    test = '{"step": 500, "update": 99, "kind": "eval", "time": 1e999, "mean": 1, "std": NaN, "episodes": 3, "returns": 5}'
    metrics.write_text(metrics.read_text() + f"{train}\n{test}\n")
    for x in ("steps", "episodes", "time"):
        asyncrl.plot(run, what=["returns", "episodes", "lag", "losses"], x=x).savefig(tmp_path / "odd.png", dpi=20)


def test_evaluations_without_counted_episodes_are_not_drawn_over_them(tmp_path: Path) -> None:
    train = {"step": 5, "update": 1, "kind": "train", "mean_return": 1.0}
    tested = {"step": 5, "update": 1, "kind": "eval", "mean": 1.0}
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "metrics.jsonl").write_text(f"{json.dumps(train)}\n{json.dumps(tested)}\n")
    (run,) = find_runs([tmp_path])
    assert evaluations(run, run.records("train"), XAxis.EPISODES).x.size == 0


def test_nothing_global_is_changed(study: Path) -> None:
    assert not any("pyplot" in file.read_text() for file in Path(asyncrl.plots.__file__).parent.glob("*.py"))
    before = dict(matplotlib.rcParams)
    asyncrl.plot(study, what="all")
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    ("number", "text"),
    [(1_500_000, "1.5 M"), (21_525, "21.525 k"), (999_990, "999.99 k"), (2_500, "2500"), (-0.5, "−0.5")],
)
def test_ticks_are_short(number: float, text: str) -> None:
    assert short_number(number) == text


def test_runs_without_data_are_left_out(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    young = Path(shutil.copytree(study / "cell" / "fast", tmp_path / "young"))
    (young / "metrics.jsonl").unlink()
    assert ran("plot", study, young, "--out", tmp_path / "plot.svg") == 0
    assert f"left out, without data yet: {young}" in capsys.readouterr().out


def test_mistakes_are_answered_in_one_sentence(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    young = Path(shutil.copytree(study / "cell" / "1", tmp_path / "young"))
    (young / "metrics.jsonl").unlink()
    (tmp_path / "empty").mkdir()
    mistakes = {
        (): "RUN… is missing: asyncrl plot RUN… [options]",
        (tmp_path / "none",): "none does not exist",
        (tmp_path / "empty",): "there are no runs in",
        (young,): "has no data yet: no update has been recorded",
        (study, "--out", "x.jpg"): "--out x.jpg: the file must end in .png, .svg, .pdf or .html",
        (study, "--out", tmp_path / "no" / "x.png"): "there is no folder",
        (study, "--what", "retruns"): "did you mean 'returns'?",
        (study, "--x", "updates"): "'updates' is not one of steps, episodes, time",
    }
    for words, sentence in mistakes.items():
        assert ran("plot", *words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert sentence in line
        assert "'.png'" not in line
