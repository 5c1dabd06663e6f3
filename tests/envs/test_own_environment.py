"""The user's environment of docs/environments.md, and observations and actions of every kind."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import command_here

import asyncrl
from asyncrl.api import configure
from asyncrl.cli import main
from asyncrl.errors import UsageError
from asyncrl.launch import start

GUIDE = Path(__file__).parents[2] / "docs" / "environments.md"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the guide's example in it and a run that was trained there."""
    folder = tmp_path_factory.mktemp("home")
    code, *_ = re.findall(r"```python[^\n]*\n(.*?)```", GUIDE.read_text(), re.S)
    (folder / "room.py").write_text(code)
    command = ["train", "a3c", "room:Room", "--env-kwargs", '{"size": 7}', "--episode-steps", "50", "--steps", "6000"]
    done = command_here(*command, "--engine", "serial", "--run-dir", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "goal: 1 float32, here: one of 7" in done.stdout
    return folder


def test_the_guides_environment_is_learned_and_filmed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    assert list((home / "run" / "videos").iterdir())
    assert asyncrl.evaluate("run", episodes=20, greedy=True).mean > 0.85, "two steps at -0.05 and the goal, always"


def test_an_agent_acts_on_what_the_environment_gives(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    agent = asyncrl.load("run")
    seen = [{"here": 3, "goal": np.array([goal / 7], np.float32)} for goal in (0, 6)]
    assert [int(agent.act(one, greedy=True)) for one in seen] == [0, 1]


def test_another_contract_takes_force_and_other_spaces_are_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(home)
    asked = ["evaluate", "run", "--episodes", "2", "--episode-steps", "10"]
    assert main(asked) == 2
    assert "differs from the one in training (episode_cap: 10, not 50); use --force" in capsys.readouterr().err
    assert main([*asked, "--force"]) == 0
    assert "10 steps" in capsys.readouterr().out
    with pytest.raises(UsageError, match=r"here: one of 9, not .*here: one of 7"):
        asyncrl.load("run").contract_of(env_options=asyncrl.envs.EnvOptions(env_kwargs='{"size": 9}'), force=True)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("room:Rom", "there is no environment 'room:Rom'; did you mean 'room:Room'"),
        ("""room:Room --env-kwargs {"sze":5}""", "unexpected keyword argument 'sze'"),
        ("room:Room --env-kwargs [5]", "is not a JSON object"),
        ("room:Room --env-kwargs size=5", "is not valid JSON:"),
        ("""room:Room --env-kwargs {"size":5,"size":7}""", "is not valid JSON: a key occurs twice"),
        (f"room:Room --env-kwargs {'[' * 100_000}", "is not valid JSON: it is nested too deep"),
        ("room:Room --import nowhere", "--import nowhere: there is no module 'nowhere'"),
    ],
)
def test_mistakes_are_named(
    home: Path, line: str, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(home)
    assert main(["train", "a3c", *line.split()]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(("algorithm", "more"), [("a3c", {}), ("ppo", dict(epochs=1)), ("reinforce", {})])
def test_parts_inside_of_parts_and_several_choices_train(algorithm: str, more: dict[str, Any], tmp_path: Path) -> None:
    """Dict of Discrete and a Tuple of images, bits and numbers; MultiDiscrete actions."""
    settings = dict(steps=320, engine="serial", eval_episodes=2) | more
    run = asyncrl.train("worlds:Toolbox-v0", algorithm, run_dir=tmp_path / "run", **settings)
    assert 0 <= asyncrl.evaluate(run.path, episodes=2).mean <= 5


def test_packed_observations_are_stored_and_every_engine_gives_the_same_weights(tmp_path: Path) -> None:
    settings = dict(steps=400, learning_starts=200, replay_ratio=0.1, eval_episodes=2)
    for engine in ("serial", "processes"):
        asyncrl.train("FrozenLake-v1", "dqn", run_dir=tmp_path / engine, engine=engine, seed=3, **settings)
    one, other = (asyncrl.load(tmp_path / engine).checkpoint.weights() for engine in ("serial", "processes"))
    assert one.equal(other)


def test_under_other_rules_observations_are_standardized_as_they_were_learned(tmp_path: Path) -> None:
    run = asyncrl.train("MountainCar-v0", "linear-q", steps=320, eval_episodes=0, run_dir=tmp_path / "run")
    agent = asyncrl.load(run.path)
    longer = agent.contract_of(env_options=asyncrl.envs.EnvOptions(episode_steps=1500), force=True)
    assert longer.differences(agent.contract) == ["episode_cap: 1500, not 200"]
    assert longer.observation_mean == agent.contract.observation_mean != ()


class Said:
    """A sink that keeps its messages."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines += line.splitlines()

    def write(self, record: object) -> None: ...

    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [("plane", "40×36 float32 is flattened to 1,440 numbers, not convolved: images are"), ("scalar", None)],
)
def test_a_run_says_of_what_may_be_an_image_that_it_is_not_convolved(
    kind: str, sentence: str | None, tmp_path: Path
) -> None:
    said = Said()
    asked = dict(env_kwargs=f'{{"kind": "{kind}"}}', steps=40, engine="serial", eval_episodes=0)
    start(configure("space_envs:SpaceEnv", "a3c", **asked), tmp_path / "run", said)
    (found,) = [line for line in said.lines if line.startswith("network ")] or [None]
    assert (found is None) if sentence is None else (sentence in found)
