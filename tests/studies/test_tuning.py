"""Tuning: trials as `asyncrl train` makes them, continued after a kill, and the settings file that repeats the best."""

from __future__ import annotations

import signal
import tomllib
from pathlib import Path
from typing import Any

import pytest
from commands import ran
from interrupted_runs import handled_by

import asyncrl
from asyncrl.studies.tuning.runs import FollowedRun
from asyncrl.studies.tuning.storage import State

SMALL: dict[str, Any] = dict(steps=640, actors=1, envs_per_actor=4, eval_every=160, eval_episodes=3, seed=4)


class Killed(BaseException):
    """Ends the study as a kill does: running trials get no result."""


def test_a_killed_study_continues_and_its_best_settings_repeat_the_best_score(tmp_path: Path) -> None:
    asked: dict[str, Any] = dict(trials=2, seeds=1, search=["learning_rate", "t_max"], folder=tmp_path / "study", **SMALL)

    def die(line: str) -> None:
        if line.startswith("[1/2]"):
            raise Killed

    with pytest.raises(Killed):
        asyncrl.tune("worlds:Corridor-v0", "a3c", jobs=2, say=die, **asked)
    result = asyncrl.tune("worlds:Corridor-v0", "a3c", jobs=2, **asked)
    assert [one.state for one in result.trials] == [State.COMPLETE] * 2
    assert result.trials[0].settings == {"learning_rate": 1e-3, "t_max": 16}  # those of the preset
    assert result.trials[1].settings != result.trials[0].settings
    assert {number: list(found) for number, found in result.seeds.items()} == {result.best.number: [5]}
    assert {file.name for file in result.folder.iterdir()} >= {"best.toml", "tuning.html", "tuning.png", "study.db"}

    description = tomllib.loads(result.settings_file.read_text())["description"]
    assert description.startswith(f"a3c on worlds:Corridor-v0, trial {result.best.number} of 2 of asyncrl tune")
    again = asyncrl.train(config=result.settings_file, run_dir=tmp_path / "again")
    assert again.metrics("eval")["mean"][-1] == result.best.score
    tried = asyncrl.Run(result.folder / "trials" / f"{result.best.number:03}")
    assert tried.metrics("eval") == again.metrics("eval") | {"time": tried.metrics("eval")["time"]}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 128 + signal.SIGTERM)])
def test_a_study_without_results_ends_as_the_signal_that_stopped_it_says(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
    code: int,
) -> None:
    begin = FollowedRun.begin

    def begin_and_stop(*arguments: Any, **options: Any) -> FollowedRun:
        run = begin(*arguments, **options)
        signal.raise_signal(number)
        return run

    monkeypatch.setattr(FollowedRun, "begin", begin_and_stop)
    with handled_by(signal.SIG_DFL):
        assert ran("tune", "a3c", "worlds:Corridor-v0", "--trials", 1, "--folder", tmp_path / "study") == code
    assert capsys.readouterr().out.splitlines()[-1] == "stopped after 0 of 1 trials; the same command continues"


def test_trials_that_cannot_be_made_end_the_study_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(asyncrl.UsageError, match=r"the first trial has failed: .*the walk collapsed"):
        asyncrl.tune("failing_envs:Raising", "a3c", trials=1, seeds=0, folder=tmp_path, **SMALL | {"env_kwargs": "{}"})


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["--search", "lerning-rate"],
            "the setting 'lerning_rate' does not exist; did you mean 'learning_rate'? There are t_max,",
        ),
        (["--search", "steps"], "the setting 'steps' has no search space; there are t_max, discount"),
        (["--search", "recurrent-size"], "--recurrent-size has no effect without --recurrent lstm or gru"),
        (["--search", "discount", "--discount", "0.9"], "--discount is given a value, so --search discount cannot vary it"),
        (["--objectives", "time"], "'time' is not one of score, seconds"),
        (["--objectives", "score,seconds,score"], "--objectives: score is given twice"),
        (["--trials", "0"], "--trials must be 1 or more, not 0"),
        (["--eval-episodes", "0"], "trials are compared by their evaluations"),
        (["--learning-rat", "1"], "unknown option --learning-rat; did you mean '--learning-rate'"),
        (["--folder", "taken"], "taken/study.db is not the storage of a tuning study; choose another --folder"),
    ],
)
def test_mistakes_are_answered_in_one_sentence(
    words: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("taken").mkdir()
    Path("taken/study.db").write_text("not a database")
    assert ran("tune", "a3c", "worlds:Corridor-v0", *words) == 2
    assert sentence in capsys.readouterr().err.splitlines()[-1]


def test_one_setting_to_search_may_be_given_as_text() -> None:
    with pytest.raises(asyncrl.UsageError, match="the setting 'lerning_rate' does not exist; did you mean 'learning_rate'"):
        asyncrl.tune("worlds:Corridor-v0", "a3c", search="lerning_rate")


def test_random_has_nothing_to_tune() -> None:
    with pytest.raises(asyncrl.UsageError, match="random learns nothing"):
        asyncrl.tune("worlds:Corridor-v0", "random")
