"""What the player's panels show: bars of the outputs, pictures of observations, and sensitivity."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

import asyncrl
from asyncrl.api import configure
from asyncrl.dashboard.player.outputs import bars
from asyncrl.dashboard.player.saliency import Spread, join, saliency
from asyncrl.dashboard.player.stage import input_picture
from asyncrl.envs import describe
from asyncrl.envs.actions import Actions
from asyncrl.envs.families.atari import AtariOptions
from asyncrl.launch import start
from asyncrl.networks import ActionValues


def test_of_many_choices_the_best_that_are_allowed_are_shown() -> None:
    q = torch.arange(40.0)
    q[30:] = torch.finfo(q.dtype).min  # as a mask does
    outputs = ActionValues(q[None, None], q[None, None, :, None], torch.zeros(1, 0))
    names = [[str(i) for i in range(40)]]
    (shown,) = bars(outputs, Actions((40,)), names, np.array([2]))
    assert shown.names == ("2", *(str(i) for i in range(7, 30)))
    assert shown.chosen == (0,)


def test_three_gray_frames_are_no_colours() -> None:
    contract = describe("ALE/Pong-v5", AtariOptions(frame_stack=3))
    observation = np.random.default_rng(1).integers(0, 256, (1, *contract.spaces.observation_shape), dtype=np.uint8)
    picture = input_picture(contract, observation)
    assert picture is not None
    for channel in range(3):
        assert np.array_equal(picture[:, :, channel], observation[0, -1])


def test_sensitivity_finds_the_number_that_the_network_looks_at(tmp_path: Path) -> None:
    small = configure("CartPole-v1", "a3c", steps=10, actors=1, envs_per_actor=2, t_max=5, engine="serial", eval_episodes=0)
    agent = asyncrl.load(start(small, tmp_path / "run")[0])
    named = {name: torch.zeros(x.shape) for name, x in agent.checkpoint.network().items()}
    random = torch.Generator().manual_seed(1)
    for x in named.values():
        x.copy_(torch.randn(x.shape, generator=random))
        if x.shape[-1:] == (4,):
            x[:, [0, 1, 3]] = 0
    agent.policy.load(torch.cat([x.flatten() for x in named.values()]))
    observation = np.array([[0.1, 0.2, 0.3, 0.4]], np.float32)
    found = saliency(agent.policy, agent.contract.spaces, observation, agent.policy.initial_state(1), Spread())
    assert found is not None
    assert [name for name, change in found.numbers.items() if change > 1e-3] == ["observation[2]"]


def test_parts_of_an_observation_are_joined_as_they_were_split() -> None:
    contract = describe("worlds:Toolbox-v0")
    observation = np.random.default_rng(1).integers(0, 3, (2, *contract.spaces.observation_shape), dtype=np.uint8)
    parts = contract.spaces.split(observation)
    assert [(x.shape[1:], x.dtype) for x in parts] == [(entry.shape, entry.dtype) for entry in contract.spaces.entries]
    assert np.array_equal(join(contract.spaces, parts), observation)
