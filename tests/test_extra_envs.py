"""One agent in several environments: actors are shared out, and every environment has a separate score."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from worlds import Corridor

from asyncrl.api import configure, evaluate, share
from asyncrl.cli import main
from asyncrl.envs import describe_all
from asyncrl.errors import UsageError
from asyncrl.launch import start
from asyncrl.runs.checkpoints import checkpoint

HERE, THERE = "worlds:Corridor-v0", "Backwards-v0"


class Backwards(Corridor):
    """The goal is on the left."""

    def step(self, action: int) -> Any:
        return super().step(1 - action)


gymnasium.register(id=THERE, entry_point=Backwards)
SMALL: dict[str, Any] = dict(steps=960, actors=2, envs_per_actor=4, t_max=8, eval_episodes=3, seed=5, engine="serial")


def records(folder: Path, kind: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [record for record in found if record["kind"] == kind]


def test_actors_take_turns_and_scores_are_kept_apart(tmp_path: Path) -> None:
    start(configure(HERE, "a3c", extra_envs=(THERE,), **SMALL), tmp_path / "run")
    episodes = records(tmp_path / "run", "episode")
    assert {(one["actor"], one["environment"]) for one in episodes} == {(0, HERE), (1, THERE)}
    last = records(tmp_path / "run", "train")[-1]
    for env in (HERE, THERE):
        scores = [one["return"] for one in episodes if one["environment"] == env][-100:]
        assert last["means"][env] == pytest.approx(sum(scores) / len(scores), abs=1e-3)
    score = records(tmp_path / "run", "eval")[-1]
    assert score["episodes"] == 6
    assert score["mean"] == pytest.approx(sum(score["means"].values()) / 2, abs=1e-3)
    assert score["means"][THERE] == pytest.approx(evaluate(tmp_path / "run", 3, 5, env=THERE).mean, abs=1e-3)
    assert [
        one.env for one in checkpoint.load((tmp_path / "run" / "checkpoints").glob("0*").__next__()).contract.contracts
    ] == [
        HERE,
        THERE,
    ]


def test_a_run_in_one_environment_says_nothing_of_that(tmp_path: Path) -> None:
    start(configure(HERE, "a3c", **SMALL), tmp_path / "run")
    assert not any({"means", "environment"} & record.keys() for kind in ("episode", "train", "eval")
                   for record in records(tmp_path / "run", kind))  # fmt: skip


def test_what_does_not_go_together_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"CartPole-v1 has \(4,\) and 2 discrete actions: one agent needs the same spaces"):
        describe_all([HERE, "CartPole-v1"])
    with pytest.raises(UsageError, match="--actors 1: 2 environments need an actor each"):
        start(configure(HERE, "a3c", extra_envs=(THERE,), **SMALL | dict(actors=1)), tmp_path / "run")
    start(configure(HERE, "a3c", extra_envs=(THERE,), **SMALL), tmp_path / "run")
    unknown = "the agent was trained in worlds:Corridor-v0, Backwards-v0, not in 'Backward-v0'; did you mean 'Backwards-v0'"
    with pytest.raises(UsageError, match=rf"{unknown}\? Use --force \(force=True\) to accept it$"):
        evaluate(tmp_path / "run", 3, env="Backward-v0")
    with pytest.raises(UsageError, match=rf"{unknown}\?$"):
        share(tmp_path / "run", tmp_path / "shared", env="Backward-v0")


def test_the_command_line_takes_them_one_after_the_other(tmp_path: Path) -> None:
    options = ["--steps", "100", "--engine", "serial", "--eval-episodes", "2", "--quiet", "--no-video"]
    run = str(tmp_path / "run")
    assert main(["train", "a3c", "--env", HERE, "--env=worlds:Dawdling-v0", *options, "--run-dir", run]) == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    assert (config["env"], config["extra_envs"]) == (HERE, ["worlds:Dawdling-v0"])
