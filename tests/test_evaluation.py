"""Evaluation: a pure function of weights and seed that disturbs nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from worlds import Corridor

from asyncrl.api import Agent, configure, evaluate, load, newest_checkpoint, start
from asyncrl.envs import Step, View
from asyncrl.envs.seeding import next_seed
from asyncrl.errors import UsageError
from asyncrl.evaluation import watch
from asyncrl.randomness import Stream, environment_seeds

SMALL: dict[str, Any] = dict(steps=1_920, actors=3, envs_per_actor=4, t_max=8, eval_episodes=0, seed=5)


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Agent:
    """One that acts at random, nearly: hardly trained."""
    folder = tmp_path_factory.mktemp("evaluation") / "run"
    return load(start(configure("worlds:Corridor-v0", "a3c", engine="serial", **SMALL), folder)[0].path)


def steps_to_the_end(agent: Agent, seed: int, episodes: int) -> list[int]:
    """The same game without any of our machinery: one environment, episode after episode, greedy."""
    env, lengths = Corridor(), []
    for _ in range(episodes):
        observation, _ = env.reset(seed=seed)
        seed = next_seed(seed)
        steps, over = 0, False
        while not over:
            action = agent.act(observation, greedy=True)
            observation, _, terminated, truncated, _ = env.step(int(action))
            steps, over = steps + 1, terminated or truncated
        lengths.append(steps)
    return lengths


def test_the_same_seed_gives_the_same_returns_and_another_gives_others(agent: Agent) -> None:
    one, again, other = (evaluate(agent, 20, seed, greedy=False) for seed in (1, 1, 2))
    assert one == again
    assert one.returns != other.returns


@pytest.mark.parametrize("episodes", [1, 5, 64, 133])
def test_as_many_episodes_are_played_as_asked(agent: Agent, episodes: int) -> None:
    result = evaluate(agent, episodes, 1, greedy=False)
    assert len(result.returns) == len(result.lengths) == episodes
    assert result.mean == pytest.approx(np.mean(result.returns))
    # +1 at the goal, -0.01 in each other step, ten steps at most
    for score, length in zip(result.returns, result.lengths, strict=True):
        assert score == pytest.approx(1 - 0.01 * (length - 1)) or (length == 10 and score == pytest.approx(-0.1))


def test_every_environment_plays_its_own_share_however_short_the_others_episodes_are(agent: Agent) -> None:
    result = evaluate(agent, 64 + 64 + 5, 7, greedy=True)
    seeds = environment_seeds(7, Stream.EVALUATION, 64)
    expected = [n for i, seed in enumerate(seeds) for n in steps_to_the_end(agent, seed, 3 if i < 5 else 2)]
    assert list(result.lengths) == expected
    assert len(set(expected)) > 1


def test_no_episode_is_asked_for_in_vain(agent: Agent) -> None:
    with pytest.raises(UsageError, match="--episodes must be 1 or more, not 0"):
        evaluate(agent, 0)


@pytest.mark.parametrize("engine", ["serial", "processes"])
def test_training_does_not_notice_that_it_is_evaluated(tmp_path: Path, engine: str) -> None:
    watched = dict(SMALL, eval_every=192, eval_episodes=3)
    hashes = []
    for name, settings in (("alone", SMALL), ("watched", watched)):
        run, _ = start(configure("worlds:Corridor-v0", "a3c", engine=engine, **settings), tmp_path / name)
        hashes.append(newest_checkpoint(run).weights_sha256)
    assert hashes[0] == hashes[1]
    records = [json.loads(line) for line in (tmp_path / "watched" / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records if r["kind"] == "eval"] == list(range(192, 1_921, 192))


def test_best_is_the_checkpoint_with_the_best_evaluation(tmp_path: Path) -> None:
    settings = dict(SMALL, eval_every=192, eval_episodes=10, checkpoint_every=10_000, keep_checkpoints=1)
    run, _ = start(configure("worlds:Corridor-v0", "a3c", engine="serial", **settings), tmp_path / "run")
    records = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    evaluations = [r for r in records if r["kind"] == "eval"]
    best = max(evaluations, key=lambda r: (r["mean"], r["step"]))
    assert load(run.path).checkpoint.step == best["step"]
    assert list(evaluate(run.path, 10, seed=5).returns) == best["returns"]


class Recording(View):
    """A view that notes what the environment gave."""

    def __init__(self, agent: Agent) -> None:
        super().__init__(agent.contract)
        self.rewards: list[float] = []

    def step(self, action: np.ndarray) -> Step:
        step = super().step(action)
        self.rewards.append(float(step.reward[0]))
        return step


def test_a_game_that_is_watched_shows_every_moment_and_adds_up(agent: Agent) -> None:
    view = Recording(agent)
    scenes = list(watch(agent.policy, view, 3, greedy=False))
    view.close()
    assert [scene.score for scene in scenes] == pytest.approx([sum(view.rewards[:n]) for n in range(len(scenes))])
    assert len(scenes) == len(view.rewards) + 1
    assert [scene.over for scene in scenes] == [False] * len(view.rewards) + [True]
    assert {scene.picture.shape for scene in scenes} == {(32, 192, 3)}


def test_training_stops_once_the_target_is_reached(tmp_path: Path) -> None:
    settings = dict(SMALL, steps=1_000_000, eval_every=960, eval_episodes=10, target_return=0.0)
    run, outcome = start(configure("worlds:Corridor-v0", "a3c", engine="serial", **settings), tmp_path / "run")
    assert outcome.step < 100_000
    assert outcome.signal is None
    assert outcome.evaluation is not None
    assert outcome.evaluation.mean >= 0.0
    assert load(run.path).checkpoint.step == outcome.step
