"""Evaluation is a pure function of weights and seed, and does not affect training."""

from __future__ import annotations

import contextlib
import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from worlds import Corridor, Endless, Lonely

from asyncrl.agents.evaluation import Evaluation, watch
from asyncrl.api import Agent, configure, evaluate, load, play_episode, train
from asyncrl.common.randomness import Stream, environment_seeds
from asyncrl.common.statistics import summarize
from asyncrl.envs import Backend, EnvOptions, Step, View, describe
from asyncrl.envs.seeding import next_seed
from asyncrl.errors import EnvironmentFault, UsageError
from asyncrl.launch import newest_checkpoint, start
from asyncrl.runs.run import Run

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


@pytest.mark.parametrize(("backend", "envs"), [("sync", 1), ("sync", 3), ("sync", 69), ("async", 2)])
def test_the_same_episodes_are_played_however_many_environments_are_stepped(agent: Agent, backend: str, envs: int) -> None:
    other_backend = EnvOptions(env_backend=Backend(backend))
    assert evaluate(agent, 69, 7, greedy=True, envs=envs, env_options=other_backend) == evaluate(agent, 69, 7, greedy=True)


def test_native_cartpole_plays_the_episodes_of_other_backends(tmp_path: Path) -> None:
    pole = load(start(configure("CartPole-v1", "a3c", engine="serial", **SMALL), tmp_path / "run")[0].path)
    alone, three, sync = (
        evaluate(pole, 7, 7, greedy=True, envs=envs, env_options=EnvOptions(env_backend=Backend(backend)))
        for envs, backend in ((1, "auto"), (3, "auto"), (2, "sync"))
    )
    assert alone == three == sync


def test_no_episode_is_asked_for_in_vain(agent: Agent) -> None:
    with pytest.raises(UsageError, match="--episodes must be 1 or more, not 0"):
        evaluate(agent, 0)


ONE: dict[str, Any] = dict(SMALL, steps=200, actors=1, envs_per_actor=1, engine="serial")


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run where nothing ends an episode, evaluated at its end."""
    settings = {**ONE, "eval_episodes": 3}
    return train("worlds:Endless", "a3c", run_dir=tmp_path_factory.mktemp("endless") / "run", **settings)


def said(run: Run) -> str:
    return (run.path / "log.txt").read_text()


def test_an_evaluation_ends_where_its_episodes_do_not_and_says_how_to_change_that(endless: Run) -> None:
    assert "3 of 3 episodes had not ended after 1,000 steps (--eval-episode-steps)" in said(endless)
    assert evaluate(endless.path, 2).lengths == (1_000, 1_000)


def test_after_an_episode_that_was_cut_off_the_next_one_begins_with_its_own_seed(endless: Run) -> None:
    agent, env, expected = load(endless.path), Endless(), []
    for seed in environment_seeds(1, Stream.EVALUATION, 4):
        observation, _ = env.reset(seed=seed)
        score = 0.0
        for _ in range(7):
            observation, reward, *_ = env.step(int(agent.act(observation, greedy=True)))
            score += reward
        expected.append(score)
    result = evaluate(agent, 4, 1, greedy=True, envs=2, max_steps=7)
    assert (result.lengths, result.cut_off) == ((7,) * 4, 4)
    assert result.returns == pytest.approx(expected)
    assert len(set(expected)) > 1


def test_a_vector_environment_of_another_package_is_not_given_a_cap_that_it_may_not_know(tmp_path: Path) -> None:
    run = train("worlds:Endless-v0", "a3c", **ONE, env_backend="native", run_dir=tmp_path / "run")
    assert evaluate(run.path, 3, max_steps=7).lengths == (7, 7, 7)


def test_a_setting_without_effect_on_a_trained_agent_is_refused(agent: Agent) -> None:
    with pytest.raises(UsageError, match="--standardize has no effect on a trained agent"):
        evaluate(agent, 1, env_options=EnvOptions(standardize=100))


def test_an_episode_that_ends_at_the_environments_own_cap_is_not_cut_off(agent: Agent) -> None:
    lengths = {}
    for limit in (2, 3, 4):
        rules = EnvOptions(episode_steps=3)
        result = evaluate(agent, 64, 7, greedy=True, max_steps=limit, env_options=rules, force=True)
        lengths[limit] = max(result.lengths)
        assert (result.cut_off > 0) == (limit < 3)
    assert lengths == {2: 2, 3: 3, 4: 3}


@pytest.mark.parametrize(("steps", "limit"), [(200, 1_000), (5_000, 5_000), (1_000_000, 27_000)])
def test_the_limit_follows_the_runs_length_where_an_environment_has_no_cap(steps: int, limit: int) -> None:
    config, capped = configure("worlds:Endless", "a3c", steps=steps), describe("CartPole-v1")
    assert config.episode_limit(describe("worlds:Endless")) == limit
    assert config.episode_limit(capped) is None
    assert replace(config, eval_episode_steps=50).episode_limit(capped) == 50


def test_a_game_that_is_watched_ends_at_the_limit_too(endless: Run) -> None:
    agent, pictures = load(endless.path), Pictures()
    with contextlib.closing(View(agent.contract)) as view:
        played = play_episode(agent, view, pictures, 1)
    assert pictures.count == 1_001
    assert (played.lengths, played.cut_off) == ((1_000,), 1)


class Pictures:
    """A screen that counts."""

    count = 0

    def show(self, picture: np.ndarray) -> None:
        self.count += 1

    def __enter__(self) -> Pictures:
        return self

    def __exit__(self, *fault: object) -> None:
        pass


@pytest.mark.parametrize("when", [dict(eval_every=0), dict(eval_every=96)])
def test_who_asks_to_stop_during_an_evaluation_is_heard_at_its_next_step(tmp_path: Path, when: dict[str, Any]) -> None:
    settings = {**ONE, "eval_episodes": 3, "eval_episode_steps": 10**9, **when}
    run, outcome = start(configure("worlds:Alerting", "a3c", **settings), tmp_path / "run")
    assert outcome.signal == signal.SIGTERM
    assert outcome.evaluation is None
    assert outcome.step == newest_checkpoint(run).step == (96 if when["eval_every"] else 200)
    assert [record for record in run.records() if record["kind"] == "eval"] == []


def test_a_simulator_that_a_process_can_have_one_of_is_evaluated_after_it_was_trained_in(tmp_path: Path) -> None:
    settings = {**ONE, "eval_episodes": 3}
    _, outcome = start(configure("worlds:Lonely", "a3c", **settings), tmp_path / "run")
    assert outcome.evaluation is not None
    assert len(outcome.evaluation.returns) == 3


@pytest.mark.parametrize(
    ("how", "step", "sentence"),
    [
        (dict(eval_envs=2), 200, r"after the last step failed: .* is running already .*--eval-envs 1"),
        (dict(eval_every=96), 96, r"after 96 steps failed: .* is running already .*--eval-every 0"),
    ],
)
def test_an_evaluation_that_fails_loses_nothing_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: dict[str, int], step: int, sentence: str
) -> None:
    monkeypatch.setattr(Lonely, "open", False)  # and again at the end: what could not be made is not closed
    settings = {**ONE, "eval_episodes": 3, **how}
    with pytest.raises(EnvironmentFault, match=sentence):
        start(configure("worlds:Lonely", "a3c", **settings), tmp_path / "run")
    assert load(tmp_path / "run").checkpoint.step == step


def test_an_evaluation_steps_as_many_environments_as_an_actor_or_as_asked() -> None:
    config = configure("worlds:Corridor-v0", "a3c", actors=3, envs_per_actor=4)
    corridor = describe("worlds:Corridor-v0")
    assert config.evaluation_envs(corridor) == 4
    assert replace(config, eval_envs=7).evaluation_envs(corridor) == 7
    assert config.evaluation_envs(describe("CartPole-v1")) == 64, "its environments are rows of one array"


def test_a_run_without_evaluation_episodes_is_not_evaluated_and_can_have_no_target(tmp_path: Path) -> None:
    config = configure("CartPole-v1", "dqn", steps=10_240, learning_starts=10_200, eval_episodes=0)
    assert config.eval_every == 10_000, "so the preset has it"
    run, outcome = start(config, tmp_path / "run")
    assert outcome.evaluation is None
    assert [record for record in run.records() if record["kind"] == "eval"] == []
    with pytest.raises(UsageError, match="--target-return 1 needs evaluations: --eval-episodes must be 1 or more, not 0"):
        start(configure("worlds:Corridor-v0", "a3c", **ONE, target_return=1.0), tmp_path / "other")


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
    assert [scene.done for scene in scenes] == [False] * len(view.rewards) + [True]
    assert {scene.picture.shape for scene in scenes} == {(32, 192, 3)}


def test_training_stops_once_the_target_is_reached(tmp_path: Path) -> None:
    settings = dict(SMALL, steps=1_000_000, eval_every=960, eval_episodes=10, target_return=0.0)
    run, outcome = start(configure("worlds:Corridor-v0", "a3c", engine="serial", **settings), tmp_path / "run")
    assert outcome.step < 100_000
    assert outcome.signal is None
    assert outcome.evaluation is not None
    assert outcome.evaluation.mean >= 0.0
    assert load(run.path).checkpoint.step == outcome.step


def test_an_evaluation_has_the_figures_of_its_record() -> None:
    found = Evaluation(returns=(1.0, 2.0, 4.0, 8.0, 100.0), lengths=(1, 1, 1, 1, 1))
    recorded = summarize(list(found.returns))
    assert {name: getattr(found, name) for name in ("mean", "std", "median", "iqm")} == pytest.approx(
        {name: recorded[name] for name in ("mean", "std", "median", "iqm")}
    )
    assert list(found.iqm_interval) == recorded["iqm_interval"]
