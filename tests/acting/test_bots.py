"""Bots: their steps in the replay buffer, their share of episodes, equality on every engine, and their errors."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import asyncrl.runs.checkpoints.checkpoint
from asyncrl.acting.bots import ScriptedBot, open_bot
from asyncrl.algorithms import DQN, ActionOutput
from asyncrl.api import configure
from asyncrl.envs import describe
from asyncrl.errors import BotFault, UsageError
from asyncrl.experience import ReplayBuffer, Sample
from asyncrl.launch import start
from asyncrl.runs.config.resolution import resolve

BOTS = """
from asyncrl.acting.bots import ScriptedBot

def to_the_right():
    return lambda observation, info: 1

def to_the_left_of_what_it_sees():
    return lambda observation, info: int(observation.argmax() % 2)

def one_step():
    return ScriptedBot([1], fallback=0)

def too_far():
    return lambda observation, info: 7

def confused():
    def bot(observation, info):
        raise ValueError("which way?")
    return bot

def undecided():
    return lambda observation, info: 0.5

def nothing():
    return 3

def leaving():
    def bot(observation, info):
        raise SystemExit
    return bot

def of_whole_numbers():
    return lambda observation, info: int({True: 1}[bool((observation == observation.round()).all())])

def of_choices():
    return lambda observation, info: int({-2: 0, -1: 1, 0: 0, 1: 1, 2: 0}[observation])

def of_parts():
    return lambda observation, info: int(observation["'arm.left'"])

def random_ones():
    import random
    import numpy as np
    from gymnasium import spaces
    bias, space = np.random.rand(), spaces.Discrete(2)
    return lambda observation, info: int(np.random.rand() + random.random() + space.sample() > 1 + bias)

def direct(observation, info):
    return 1
"""
SMALL: dict[str, Any] = dict(steps=960, actors=2, envs_per_actor=4, learning_starts=200, capacity=2_000, batch_size=16)
SMALL |= dict(target_every=200, eval_episodes=0, seed=5, engine="serial", epsilon_steps=1, final_epsilons=(0.0,))
SMALL |= dict(replay_ratio=0.1)


@pytest.fixture
def bots(tmp_path: Path) -> Path:
    file = tmp_path / "bots.py"
    file.write_text(BOTS)
    return file


def test_bots_that_draw_random_numbers_play_alike_on_every_engine(bots: Path, tmp_path: Path) -> None:
    small = SMALL | dict(steps=320, bot=f"{bots}:random_ones", bot_share=0.5)

    def weights(name: str, engine: str) -> torch.Tensor:
        run = asyncrl.train("CartPole-v1", "dqn", run_dir=tmp_path / name, **small | dict(engine=engine))
        return asyncrl.load(run.path).checkpoint.weights()

    one = weights("one", "serial")
    assert torch.equal(one, weights("other", "serial"))
    assert torch.equal(one, weights("threads", "threads"))


@pytest.fixture
def memories(monkeypatch: pytest.MonkeyPatch) -> list[ReplayBuffer]:
    """The replay buffers of a test's runs."""
    made: list[ReplayBuffer] = []

    class Kept(ReplayBuffer):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr("asyncrl.runs.components.ReplayBuffer", Kept)
    return made


def everything(memory: ReplayBuffer) -> Sample:
    """So many stored steps that none is missing."""
    memory._options = replace(memory._options, batch_size=5_000)
    return next(memory.samples(1, torch.Generator().manual_seed(1)))


def test_a_step_is_stored_with_the_observation_the_bot_acted_on(
    tmp_path: Path, bots: Path, memories: list[ReplayBuffer]
) -> None:
    """This bot's action can be read from what it saw: stored off by one, it could not."""
    asked = dict(bot=f"{bots}:to_the_left_of_what_it_sees", bot_share=0.0, bot_explores=True, final_epsilons=(1.0,))
    settings = {name: value for name, value in (SMALL | asked).items() if name != "epsilon_steps"}  # ε stays at 1
    start(configure("worlds:Corridor-v0", "dqn", **settings), tmp_path / "run")
    sample = everything(memories[0])
    cell = sample.observation.argmax(1)
    assert torch.equal(sample.action, cell % 2)
    later = (cell + 2 * sample.action - 1).clamp(0, 5)
    assert torch.equal(sample.next_observation.argmax(1), later)
    assert torch.equal(sample.reward[0] > 0, later == 5)


@pytest.mark.parametrize(
    ("kind", "bot", "more"),
    [("uint16", "of_whole_numbers", dict(standardize=100)), ("negative", "of_choices", {}), ("keys", "of_parts", {})],
)
def test_a_bot_gets_the_environments_own_observations(
    tmp_path: Path, bots: Path, kind: str, bot: str, more: dict[str, Any]
) -> None:
    """Neither standardized nor packed; these bots raise over anything else."""
    settings = dict(steps=240, actors=1, env_kwargs=json.dumps({"kind": kind}), bot=f"{bots}:{bot}")
    start(configure("space_envs:SpaceEnv", "dqn", **SMALL | settings | more, bot_explores=True), tmp_path / "run")


@pytest.mark.parametrize("share", [0.25, 0.75])
def test_bots_play_their_share_of_the_episodes(
    tmp_path: Path, bots: Path, memories: list[ReplayBuffer], monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    """The policy always walks left here and the bot right, so actions tell them apart."""
    monkeypatch.setattr(
        DQN, "act", lambda self, network, observation, state, context: ActionOutput(zeros(observation), state, {})
    )
    asked = dict(bot=f"{bots}:to_the_right", bot_share=share, steps=3_000, learning_starts=2_900, capacity=3_000)
    start(configure("worlds:Corridor-v0", "dqn", **SMALL | asked), tmp_path / "run")
    played = everything(memories[0])
    bots_steps, others = (played.action == 1).sum().item(), (played.action == 0).sum().item()
    episodes = bots_steps / 4, others / 10  # the bot needs 3, 4 or 5 steps to the goal, the others are cut off after 10
    assert episodes[0] / sum(episodes) == pytest.approx(share, abs=0.05)


def zeros(observation: torch.Tensor) -> torch.Tensor:
    return torch.zeros(len(observation), dtype=torch.int64)


def test_the_bot_plays_the_whole_prefill(tmp_path: Path, bots: Path, memories: list[ReplayBuffer]) -> None:
    asked = dict(bot=f"{bots}:to_the_right", bot_prefill=960, learning_starts=960, steps=968)
    start(configure("worlds:Corridor-v0", "dqn", **SMALL | asked), tmp_path / "run")
    assert (everything(memories[0]).action == 1).double().mean() > 0.98


def test_a_run_with_a_bot_is_the_same_on_every_engine(tmp_path: Path, bots: Path) -> None:
    asked = dict(bot=f"{bots}:to_the_right", bot_share=0.3, bot_explores=True, final_epsilons=(0.4,))
    asked |= dict(steps=400, learning_starts=100)
    hashes = set()
    for engine in ("serial", "threads", "processes"):
        run, _ = start(configure("worlds:Corridor-v0", "dqn", **SMALL | asked | dict(engine=engine)), tmp_path / engine)
        hashes.add(asyncrl.runs.checkpoints.checkpoint.load(run.marked("latest")).weights_sha256)
    assert len(hashes) == 1


def test_a_script_plays_its_actions_then_the_fallback() -> None:
    script = ScriptedBot([3, 1], fallback=0)
    assert [script(np.zeros(1), {}) for _ in range(4)] == [3, 1, 0, 0]


def test_every_episode_has_a_new_bot(bots: Path) -> None:
    make = open_bot(f"{bots}:one_step")
    assert [make()(np.zeros(1), {}) for _ in range(3)] == [1, 1, 1]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("too_far", "too_far returned 7, which is not a valid action; the environment has 2 discrete actions"),
        ("undecided", r"undecided returned 0\.5, which is not a valid action; the environment has 2 discrete"),
        ("confused", r"raised ValueError: which way\? \(.*bots.py, line 18\)"),
        ("nothing", "nothing returned 3; a bot must be a function"),
        ("leaving", r"raised SystemExit \(.*bots.py, line 29\)"),
    ],
)
def test_a_bots_error_names_its_file(tmp_path: Path, bots: Path, name: str, sentence: str) -> None:
    with pytest.raises(BotFault, match=sentence):
        start(configure("worlds:Corridor-v0", "dqn", **SMALL | dict(bot=f"{bots}:{name}", bot_share=0.9)), tmp_path / "run")


def test_it_does_from_another_process_too(tmp_path: Path, bots: Path) -> None:
    asked = dict(bot=f"{bots}:confused", bot_share=0.9, engine="processes")
    with pytest.raises(BotFault, match=r"raised ValueError: which way\? \(.*bots.py, line 18\)"):
        start(configure("worlds:Corridor-v0", "dqn", **SMALL | asked), tmp_path / "run")


def test_a_bot_that_cannot_be_made_leaves_no_run_folder(tmp_path: Path, bots: Path) -> None:
    asked = dict(bot=f"{bots}:nothing", bot_share=0.9)
    with pytest.raises(BotFault, match="nothing returned 3; a bot must be a function"):
        start(configure("worlds:Corridor-v0", "dqn", **SMALL | asked), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("algorithm", "asked", "sentence"),
    [
        ("dqn", dict(bot_share=1.0), "--bot-share must be 0 or more and below 1, not 1"),
        ("dqn", dict(bot_share=0.5), "need a bot; add --bot FILE.py:NAME"),
        ("dqn", dict(bot="bots.py:to_the_right", bot_share=0.5), "bots.py:to_the_right: there is no file bots.py$"),
        ("dqn", dict(bot="HERE:to_the_rigth", bot_share=0.5), "has no 'to_the_rigth'; did you mean 'to_the_right'"),
        (
            "dqn",
            dict(bot="HERE:direct", bot_share=0.5),
            r"direct\(observation, info\) needs arguments; .* returns a bot: def make\(\): return direct$",
        ),
        ("dqn", dict(bot="HERE:to_the_right"), "--bot .*:to_the_right has no effect; add --bot-share"),
        ("dqn", dict(bot="HERE:to_the_right", bot_prefill=500), "--bot-prefill 500 is more than --learning-starts "),
        ("a3c", dict(bot="HERE:to_the_right", bot_share=0.5), "--bot fills a replay buffer, and a3c has none"),
    ],
)
def test_invalid_bot_options_raise(bots: Path, algorithm: str, asked: dict[str, Any], sentence: str) -> None:
    asked = {name: str(value).replace("HERE", str(bots)) if name == "bot" else value for name, value in asked.items()}
    settings = SMALL if algorithm == "dqn" else dict(steps=960)
    with pytest.raises(UsageError, match=sentence):
        resolve(configure("worlds:Corridor-v0", algorithm, **settings | asked), describe("worlds:Corridor-v0"))


def test_a_bot_that_ignores_an_action_mask_is_stopped_by_a_sentence(tmp_path: Path, bots: Path) -> None:
    bots.write_text("def zero():\n    return lambda observation, info: 0\n")
    config = configure("masked_envs:Moves", "dqn", bot=f"{bots}:zero", bot_share=0.5, **SMALL)
    with pytest.raises(
        UsageError, match=r"the action 0 was chosen in step .* custom algorithms and bots must obey the mask"
    ):
        start(config, tmp_path / "run")
