"""Football: the minimap is observed and drawn."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from asyncrl import evaluate, train
from asyncrl.envs import Environments, EnvOptions, View, describe
from asyncrl.envs.families.atari import AtariOptions
from asyncrl.envs.families.football import FootballOptions, FootballRewards
from asyncrl.errors import UsageError

if find_spec("envpool") is None:  # not imported here: Procgen's Qt goes first
    pytest.skip("pip install 'asyncrl[football]'", allow_module_level=True)
CLOSE = "academy_empty_goal_close"


def test_a_scenario_has_several_names_and_one_contract() -> None:
    contract = describe(CLOSE)
    assert (contract.family, contract.frame_stack, contract.spaces.actions.count) == ("football", 4, 19)
    assert contract.spaces.observation_shape == (4, 4, 72, 96)
    for name in (f"football/{CLOSE}", f"gfootball/{CLOSE}-v1"):
        assert describe(name).differences(contract) == [f"env: {name}, not {CLOSE}"]


@pytest.mark.parametrize(
    ("env", "options", "sentence"),
    [
        ("academy_empty_goal_clse", EnvOptions(), "no football scenario .*; did you mean 'academy_empty_goal_close'"),
        (CLOSE, AtariOptions(sticky=0.1), "takes no --sticky"),
    ],
)
def test_impossible_requests_are_refused_with_a_reason(env: str, options: EnvOptions, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        describe(env, options)


def test_a_stack_holds_the_newest_minimap_last_and_none_of_an_earlier_episode() -> None:
    environments = Environments(describe(CLOSE), 1)
    before = environments.reset([2])
    assert not before[0, :3].any()
    assert set(np.unique(before)) == {0, 255}
    shots, begun = 0, False
    for t in range(400):
        step = environments.step(np.array([12 if t % 10 == 9 else 5]))  # to the right, and a shot now and then
        if begun:
            assert not step.observation[0, :3].any()
            shots += 1
        else:
            assert np.array_equal(step.observation[0, :-1], before[0, 1:])
        before, begun = step.observation, bool(step.done[0])
    assert shots >= 2, "episodes end with a goal"


def test_checkpoints_are_rewarded_once_and_a_goal_brings_the_rest() -> None:
    contract = describe(CLOSE, FootballOptions(football_rewards=FootballRewards.CHECKPOINTS))
    shaped, plain = Environments(contract, 1), Environments(describe(CLOSE), 1)
    shaped.reset([2])
    plain.reset([2])
    returns, goals, earned = [], [], np.zeros(2)
    for t in range(400):
        action = np.array([12 if t % 10 == 9 else 5])
        one, other = shaped.step(action), plain.step(action)
        assert np.array_equal(one.observation, other.observation)
        assert round(10 * float(one.reward[0] - other.reward[0]), 4) in range(11)
        earned += [one.reward[0], other.reward[0]]
        if one.done[0]:
            returns.append(round(float(earned[0]), 4))
            goals.append(float(earned[1]))
            earned[:] = 0
    assert goals.count(1.0) >= 2
    assert all(earned == 2 for earned, goal in zip(returns, goals, strict=True) if goal == 1)


def test_the_picture_shows_pitch_teams_and_ball() -> None:
    view = View(describe(CLOSE))
    view.reset(2)
    picture = view.picture()
    view.close()
    assert picture.shape == (576, 768, 3)
    for colour in ((46, 125, 50), (255, 255, 255), (33, 90, 220), (214, 40, 40)):
        assert (np.abs(picture.astype(int) - colour).sum(-1) < 40).any(), colour
    assert len(view.meanings()) == 19


def test_it_trains(tmp_path: Path) -> None:
    settings = dict(engine="serial", actors=1, envs_per_actor=4, t_max=16, epochs=1, eval_episodes=0)
    run = train(CLOSE, "ppo", steps=128, run_dir=tmp_path / "run", **settings)
    assert 0 <= evaluate(run.path, episodes=1).mean <= 1
