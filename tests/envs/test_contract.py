"""The description of a contract has the rows that apply to its environment, and no others."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from asyncrl.envs import Contract, contract_lines, describe, describe_all
from asyncrl.envs.families.atari import AtariOptions

ATARI_ROWS = {"frame skip", "sticky actions", "life loss", "no-op starts"}


def rows(contract: Contract) -> dict[str, str]:
    """The rows by heading."""
    return {line[:20].strip(): line[20:] for line in contract_lines(contract)}


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "worlds:Toolbox-v0", "MiniGrid-Empty-5x5-v0"])
def test_rows_on_atari_are_left_out_elsewhere(env_id: str) -> None:
    said = set(rows(describe(env_id)))
    assert not said & ATARI_ROWS
    assert said >= {"environment", "observation", "actions", "episode cap"}


def test_ataris_rules_are_always_shown() -> None:
    plain, stochastic = rows(describe("PongNoFrameskip-v4")), rows(describe("ALE/Pong-v5", AtariOptions(life_loss=True)))
    assert set(plain) & set(stochastic) >= ATARI_ROWS
    assert plain["sticky actions"] == "none"
    assert stochastic["sticky actions"] == "probability 0.25"
    assert plain["life loss"] == "ignored"
    assert stochastic["life loss"] == "ends the return in training"
    assert plain["no-op starts"] == "0 to 29 frames, not counted in the cap"
    assert plain["actions"] == "6 choices (the game's own)"


def test_the_learned_reward_is_shown_if_it_differs() -> None:
    cartpole = describe("CartPole-v1")
    assert "learned reward" not in rows(cartpole)
    assert rows(replace(cartpole, reward_scale=0.05))["learned reward"] == "× 0.05"
    changed = replace(cartpole, reward_scale=0.05, reward_clip=1.0, final_reward=-1.0)
    assert rows(changed)["learned reward"] == "× 0.05, clipped to ±1, -1 for a terminating step"


def test_each_of_several_environments_has_its_own_line() -> None:
    lines = contract_lines(describe_all(["CartPole-v0", "CartPole-v1"]))
    assert [line.split()[-3] for line in lines[:2]] == ["CartPole-v0", "CartPole-v1"]
    assert all(re.match(r"[a-z ]{20}\S", line) or line.startswith(" " * 20) for line in lines)
