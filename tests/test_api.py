"""The commands as functions: settings reach their fields, and a trained agent acts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import asyncrl
from asyncrl.algorithms import A3C
from asyncrl.api import configure
from asyncrl.config import EngineKind
from asyncrl.errors import UsageError
from asyncrl.networks import Network


def test_a_setting_reaches_the_field_of_its_name_wherever_that_is() -> None:
    config = configure("ALE/Pong-v5", "a3c", network="nature-cnn", t_max=7, sticky=0.1, engine="threads", actors=3)
    assert config.network.network is Network.NATURE_CNN
    assert isinstance(config.algorithm, A3C)
    assert config.algorithm.t_max == 7
    assert config.environment.sticky == 0.1
    assert (config.engine, config.actors) == (EngineKind.THREADS, 3)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"learning_rat": 1.0}, "did you mean 'learning_rate'"),
        ({"steps": "many"}, "steps: expected int"),
        ({"engine": "thread"}, "did you mean 'threads'"),
        ({"algorithm": "a3c", "preset": "a3c/cartpol"}, "did you mean 'a3c/cartpole'"),
    ],
)
def test_a_setting_that_cannot_be_is_named(settings: dict[str, object], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        configure("CartPole-v1", **settings)  # type: ignore[arg-type]


def test_train_load_act_evaluate(tmp_path: Path) -> None:
    run = asyncrl.train("worlds:Corridor-v0", "a3c", run_dir=tmp_path / "run", steps=500, eval_episodes=0)
    agent = asyncrl.load(run.path)
    observation = np.eye(6, dtype=np.float32)
    assert agent.act(observation[0]) in (0, 1)
    assert agent.act(observation).shape == (6,)
    assert (agent.act(observation, greedy=True) == agent.act(observation, greedy=True)).all()
    assert len(asyncrl.evaluate(agent, episodes=3).returns) == 3
    with pytest.raises(UsageError, match=r"an observation of shape \(6, 5\); the agent takes what worlds"):
        agent.act(observation[:, :5])
