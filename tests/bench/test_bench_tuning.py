"""`asyncrl bench ENV --tune`, and `--actors auto`: real trainings of a fraction of a second."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import ran

import asyncrl
from asyncrl.api import tailor
from asyncrl.bench import automatic, tuning
from asyncrl.bench.tuning import tune
from asyncrl.cli.bench_table import command_line
from asyncrl.envs import describe_all
from asyncrl.errors import UsageError
from asyncrl.runs.config.resolution import resolve
from asyncrl.runs.config.run_config import EngineKind, RunConfig

CORRIDOR = "worlds:Corridor-v0"
SMALL: dict[str, Any] = dict(steps=400, envs_per_actor=2, eval_episodes=0)


def config_of(run: asyncrl.Run) -> RunConfig:
    return run.beginning()[0]


@pytest.mark.parametrize("algorithm", ["a3c", "dqn"])
def test_what_was_found_can_be_trained_with(algorithm: str, tmp_path: Path) -> None:
    config = tailor(CORRIDOR, algorithm, engine="serial")
    found = tune(config, 1.0, {"engine"})
    assert found.present in found.measured
    assert {one.engine for one in found.measured} == {EngineKind.SERIAL}
    assert found.best == found.present or found.gain > 1.03
    assert command_line(found, {"engine": "serial"}).startswith(f"asyncrl train {algorithm} {CORRIDOR} --engine serial")
    run = asyncrl.train(
        CORRIDOR, algorithm, run_dir=tmp_path / "run", engine="serial", steps=400, eval_episodes=0, **found.changes
    )
    assert config_of(run).batch_steps == config.batch_steps


def test_a_candidate_that_cannot_be_measured_is_skipped_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = tuning.train_briefly

    def refuse_threads(config: Any, *rest: Any) -> Any:
        if config.engine is EngineKind.THREADS:
            raise UsageError("no threads here")
        return trained(config, *rest)

    monkeypatch.setattr(tuning, "train_briefly", refuse_threads)
    monkeypatch.setattr(tuning, "prepare", lambda: None)
    monkeypatch.setattr(tuning, "placements", lambda present, *rest: [present, replace(present, engine=EngineKind.THREADS)])
    monkeypatch.setattr(tuning, "refinements", lambda *rest: [])
    found = tune(tailor(CORRIDOR, "a3c", engine="serial"), 20.0)  # nothing is left to fill that time with
    assert list(found.skipped.values()) == ["no threads here"]
    assert found.best == found.present


def test_the_command_prints_one_json_object_or_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    line = ["bench", CORRIDOR, "--tune", "--seconds", 0.5, "--engine", "serial", "--actors", 2]
    assert ran(*line, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["tried"][0] == found["tried"][0] | found["present"]
    assert {one["actors"] for one in found["tried"]} == {2}, "what is given is held"
    assert ran(*line) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "current" in "".join(lines)
    assert lines[-1].startswith(f"asyncrl train a3c {CORRIDOR} --actors 2 --engine serial")


def test_the_number_of_actors_that_was_found_is_written_with_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(automatic, "_SECONDS", 0.1)
    line = ["train", "a3c", CORRIDOR, "--actors", "auto", "--steps", 400, "--eval-episodes", 0, "--no-video"]
    assert ran(*line, "--run-dir", "run") == 0
    assert "--actors auto: " in capsys.readouterr().out
    plain, config = tailor(CORRIDOR, "a3c"), config_of(asyncrl.Run(Path("run")))
    assert isinstance(config.actors, int)
    assert config.batch_steps == plain.batch_steps
    assert config.actors * config.envs_per_actor == plain.actors * plain.envs_per_actor
    assert ran("train", "--resume", "run", "--steps", 800, "--no-video") == 0
    assert ran("train", "--config", "run/config.toml", "--run-dir", "again", "--no-video", "--quiet") == 0
    assert config_of(asyncrl.Run(Path("again"))).actors == config.actors


def test_a_file_and_python_take_auto_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(automatic, "_SECONDS", 0.1)
    file = tmp_path / "mine.toml"
    file.write_text(
        f'[algorithm]\nname = "a3c"\n[run]\nenv = "{CORRIDOR}"\nactors = "auto"\nsteps = 400\neval_episodes = 0\n'
    )
    run = asyncrl.train(config=file, run_dir=tmp_path / "one")
    assert isinstance(config_of(run).actors, int)
    held = asyncrl.train(CORRIDOR, "a3c", run_dir=tmp_path / "two", actors="auto", **SMALL)
    assert config_of(held).envs_per_actor == 2
    assert config_of(asyncrl.train(config=file, run_dir=tmp_path / "three", actors=3)).actors == 3


@pytest.mark.parametrize(
    ("settings", "least"),
    [
        ({"envs_per_actor": 2}, {"actors": 5}),
        ({"engine": "hogwild"}, {"actors": 5}),
        ({"rollouts_per_update": 1}, {"actors": 5}),
        ({}, {"actors": 8, "envs_per_actor": 4}),
    ],
)
def test_every_environment_has_an_actor(
    settings: dict[str, Any], least: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where an update has a rollout of every actor, the preset's 32 environments are divided among more actors."""
    monkeypatch.setattr(automatic, "_SECONDS", 0.1)
    monkeypatch.setattr(automatic, "cores", lambda: 2)
    monkeypatch.setattr(automatic, "expected_gains", lambda *rest: {})  # nothing is faster than the least
    several: dict[str, Any] = {"extra_envs": ["CartPole-v1"] * 4, "engine": "serial", **settings}
    found, (sentence,) = automatic.found_actors("CartPole-v1", "a3c", None, {"actors": "auto", **several})
    assert found == least
    assert sentence.startswith(f"--actors auto: {found['actors']} ")
    config = tailor("CartPole-v1", "a3c", **several, **found)
    assert resolve(config, describe_all(config.env_ids, config.environment)).actors >= 5


def test_a_worker_of_hogwild_is_one_per_core() -> None:
    found, (sentence,) = automatic.found_actors(CORRIDOR, "n-step-q", None, {"actors": "auto", "engine": "hogwild"})
    assert found == {"actors": automatic.cores()}
    assert sentence.startswith(f"--actors auto: {automatic.cores()} workers")


def test_auto_is_refused_where_the_machine_is_not_looked_at() -> None:
    with pytest.raises(UsageError, match=r"only `asyncrl train` measures the machine; give a number"):
        asyncrl.tune(CORRIDOR, "a3c", actors="auto", trials=1)
    with pytest.raises(UsageError, match="says nothing about a Ray cluster: give a number"):
        automatic.found_actors(CORRIDOR, "a3c", None, {"actors": "auto", "engine": "ray"})
