"""MiniGrid: observations are the view and the direction, without the mission."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np
import pytest

from asyncrl import evaluate, train
from asyncrl.envs import Environments, EnvOptions, describe
from asyncrl.envs.seeding import next_seed
from asyncrl.errors import UsageError

pytest.importorskip("minigrid", reason="pip install 'asyncrl[minigrid]'")
ROOM = "MiniGrid-Empty-8x8-v0"


def test_the_contract_of_a_room() -> None:
    contract = describe(ROOM)
    assert [(e.name, e.shape, e.choices) for e in contract.spaces.entries] == [
        ("direction", (), 4),
        ("image", (3, 7, 7), 0),
    ]
    assert (contract.family, contract.episode_cap, contract.spaces.actions.count) == ("minigrid", 256, 7)


@pytest.mark.parametrize(
    ("env", "options", "sentence"),
    [
        ("MiniGrid-Emty-8x8-v0", EnvOptions(), "did you mean 'MiniGrid-Empty-8x8-v0'"),
        (ROOM, EnvOptions(episode_steps=999), "ends after 256 steps, before --episode-steps 999; .*max_steps"),
    ],
)
def test_impossible_requests_are_refused_with_a_reason(env: str, options: EnvOptions, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        describe(env, options)


def test_episodes_equal_the_packages_own() -> None:
    bare, random = gymnasium.make("MiniGrid-DoorKey-5x5-v0", disable_env_checker=True), np.random.default_rng(0)
    seed = 2
    seen, _ = bare.reset(seed=seed)
    ours, episodes = Environments(describe("MiniGrid-DoorKey-5x5-v0", EnvOptions(episode_steps=40)), 1), 0
    packed = ours.reset([seed])
    for _ in range(100):
        assert packed[0, 8:].reshape(3, 7, 7).tolist() == seen["image"].transpose(2, 0, 1).tolist()
        assert packed[0, :8].copy().view(np.int64)[0] == seen["direction"]
        action = random.integers(0, 6, 1)
        seen, reward, terminated, _, _ = bare.step(int(action[0]))
        step = ours.step(action)
        assert (step.reward[0], step.terminated[0]) == (pytest.approx(float(reward)), terminated)
        packed = step.observation
        if step.done[0]:
            episodes += 1
            seen, _ = bare.reset(seed=(seed := next_seed(seed)))
            packed = ours.step(action).observation
    assert episodes >= 2


def test_it_trains(tmp_path: Path) -> None:
    run = train(ROOM, "a3c", steps=1_000, envs_per_actor=8, eval_episodes=0, run_dir=tmp_path / "run")
    assert 0 <= evaluate(run.path, episodes=2).mean <= 1
