"""An agent acts on the observations of its environment and returns actions of its action space."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from generated_spaces import action_spaces, observation_spaces
from gymnasium import spaces
from gymnasium.vector.utils import concatenate, create_empty_array
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncrl.agents import agent as agents
from asyncrl.agents.agent import Agent, load
from asyncrl.algorithms import A3C, ActContext, Policy
from asyncrl.algorithms.exploration import EnvSlots
from asyncrl.envs import Backend, Contract
from asyncrl.envs.space_reading import spaces_of
from asyncrl.envs.spaces import MaskSource, pack
from asyncrl.errors import UsageError
from asyncrl.networks import NetworkConfig
from asyncrl.runs.checkpoints.checkpoint import Checkpoint
from asyncrl.runs.config.run_config import RunConfig

NETWORK = NetworkConfig(hidden=(4,))


def agent_for(observation: spaces.Space, action: spaces.Space, stack: int = 1, mask: MaskSource = MaskSource.NONE) -> Agent:
    """One that has learned nothing."""
    seen = spaces_of("Some-v0", observation, action, mask).stacked(stack)
    contract = Contract("Some-v0", "gymnasium", Backend.SYNC, seen, frame_stack=stack)
    config = RunConfig("Some-v0", A3C(), network=NETWORK)
    made = Checkpoint(Path(), 0, 0, 0.0, "", (), contract, config, {}, "", {})
    return Agent(made, Policy(A3C(), NETWORK, seen, torch.float32), torch.Generator().manual_seed(1))


def several(space: spaces.Space, count: int) -> tuple[list[Any], Any]:
    """Observations, and the same as a vector environment gives them."""
    space.seed(1)
    each = [space.sample() for _ in range(count)]
    return each, concatenate(space, each, create_empty_array(space, count))


@settings(max_examples=60)
@given(observation_spaces, action_spaces, st.booleans())
def test_it_acts_on_any_observation_and_any_batch_of_them(
    observation: spaces.Space, action: spaces.Space, greedy: bool
) -> None:
    agent = agent_for(observation, action)
    each, batch = several(observation, 3)
    assert agent.act(each[0], greedy=greedy) in action
    actions = agent.act(batch, greedy=greedy)
    assert isinstance(actions, np.ndarray)
    assert actions.shape == (3, *(action.shape or ()))
    assert all(actions[i, ...] in action for i in range(3))


@settings(max_examples=30)
@given(observation_spaces)
def test_one_observation_and_a_batch_are_read_the_same(observation: spaces.Space) -> None:
    agent = agent_for(observation, spaces.Box(-np.inf, np.inf, (2,)))
    each, batch = several(observation, 3)
    kept = pack(agent.contract.spaces, batch)
    expected = np.stack([agent.act(one, greedy=True) for one in each])
    assert agent.act(batch, greedy=True) == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert agent.act(kept, greedy=True) == pytest.approx(expected, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize(
    "seen", [np.int64(3), 3, np.array(3), np.array(3, np.uint8)], ids=["numpy", "python", "array", "bytes"]
)
def test_the_answer_to_a_discrete_observation_can_be_a_key(seen: Any) -> None:
    action = agent_for(spaces.Discrete(5), spaces.Discrete(3)).act(seen)
    assert {action: "is hashable"}
    assert action in (0, 1, 2)


def test_lists_and_numbers_of_python_are_observations() -> None:
    assert agent_for(spaces.Box(0, 255, (3,), np.uint8), spaces.Discrete(2)).act([0, 7, 255]) in (0, 1)
    assert agent_for(spaces.Box(0, 1, ()), spaces.Discrete(2)).act(0.5) in (0, 1)
    assert agent_for(spaces.Tuple([spaces.Discrete(2), spaces.Box(0, 1, (2,))]), spaces.Discrete(2)).act([1, [0, 0]]) in (
        0,
        1,
    )


@pytest.mark.parametrize(
    ("space", "seen", "sentence"),
    [
        (
            spaces.Box(0, 1, (3,)),
            [0.0, 1.0],
            r"an observation of shape \(2,\); the agent takes what Some-v0 returns, 3 float32",
        ),
        (spaces.Box(0, 1, (3,)), [0.0, np.nan, 0.0], "an observation that is not finite"),
        (
            spaces.Box(0, 255, (2,), np.uint8),
            [7, 300],
            r"an observation that holds 300 at \(0, 1\), which uint8 cannot hold",
        ),
        (
            spaces.Box(0, 1, (3,)),
            (np.zeros(3), {}),
            r"^the observation is a tuple; env.reset\(\) returns \(observation, info\)$",
        ),
        (spaces.Discrete(3), (1, {}), "the observation is a tuple"),
        (spaces.Box(0, 1, (3,)), np.zeros((0, 3)), r"an observation of shape \(0, 3\); the agent takes what"),
        (spaces.Discrete(3), [], r"an observation of shape \(0,\); the agent takes what"),
        (spaces.Dict(arm=spaces.Discrete(2)), ({"arm": 1}, {}), "the observation is a tuple"),
        (spaces.Discrete(3, start=5), 2, r"an observation that is 2, outside the choices 5 … 7"),
        (spaces.Dict(arm=spaces.Discrete(2)), {"leg": 1}, "an observation without the part 'arm'"),
        (
            spaces.Dict(a=spaces.Discrete(2), b=spaces.Box(0, 1, (2,))),
            {"a": 1, "b": [0.0]},
            r"a part 'b' that has the shape",
        ),
    ],
)
def test_what_is_no_observation_is_refused_with_what_is_expected(space: spaces.Space, seen: Any, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        agent_for(space, spaces.Discrete(2)).act(seen)


def test_single_frames_are_refused_where_the_contract_stacks_them() -> None:
    agent = agent_for(spaces.Box(0, 255, (1, 40, 40), np.uint8), spaces.Discrete(2), stack=4)
    with pytest.raises(UsageError, match=r"the agent takes 4 stacked frames, an array \(4, 40, 40\) or a batch of them"):
        agent.act(np.zeros((1, 40, 40), np.uint8))
    assert agent.act(np.zeros((4, 40, 40), np.uint8)) in (0, 1)
    assert agent.act(np.zeros((3, 4, 40, 40), np.uint8)).shape == (3,)


@settings(max_examples=30)
@given(observation_spaces, st.integers(0, 5))
def test_it_takes_the_mask_beside_any_observation(observation: spaces.Space, only: int) -> None:
    agent = agent_for(observation, spaces.MultiDiscrete([2, 3]), mask=MaskSource.INFO)
    each, batch = several(observation, 3)
    wanted = [only // 3, only % 3]
    mask = np.concatenate([np.eye(2, dtype=np.int8)[wanted[0]], np.eye(3, dtype=np.int8)[wanted[1]]])
    assert agent.act(each[0], action_mask=mask).tolist() == wanted
    assert agent.act(each[0], action_mask=(mask[:2], mask[2:])).tolist() == wanted
    assert agent.act(batch, action_mask=np.stack([mask] * 3)).tolist() == [wanted] * 3


@pytest.mark.parametrize(
    ("source", "mask", "sentence"),
    [
        (MaskSource.INFO, None, r"gives an action mask by info\['action_mask'\]: pass it to act as action_mask"),
        (MaskSource.INFO, np.ones(4), "an action mask of 4 numbers, where 3 choices need one each"),
        (MaskSource.INFO, np.zeros(3), "an action mask that allows nothing"),
        (MaskSource.NONE, np.ones(3), "takes no action_mask: its environment gives none"),
    ],
)
def test_a_mask_that_is_missing_or_wrong_is_refused(source: MaskSource, mask: Any, sentence: str) -> None:
    agent = agent_for(spaces.Box(-1, 1, (2,)), spaces.Discrete(3), mask=source)
    with pytest.raises(UsageError, match=sentence):
        agent.act(np.zeros(2, np.float32), action_mask=mask)


def test_a_part_that_is_missing_beside_a_mask_is_named() -> None:
    parts = spaces.Dict(a=spaces.Discrete(2), b=spaces.Box(0, 1, (2,)))
    agent = agent_for(parts, spaces.Discrete(3), mask=MaskSource.INFO)
    with pytest.raises(UsageError, match=r"agent\.act got an observation without the part 'a'"):
        agent.act({"b": [0.0, 0.0]}, action_mask=np.ones(3))


@pytest.mark.parametrize(("has_bfloat16", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_an_agent_of_bfloat16_acts_in_float32_where_that_is_faster(
    monkeypatch: pytest.MonkeyPatch, has_bfloat16: bool, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(agents, "processor_has_bfloat16", lambda: has_bfloat16)
    agent = load("pretrained/pong-ppo")
    config, screens = agent.checkpoint.config, torch.randint(0, 255, (2, 4, 84, 84), dtype=torch.uint8)
    reference = Policy(config.algorithm, config.network, agent.contract.spaces, dtype)
    reference.load(agent.checkpoint.weights())

    def log_probabilities(policy: Policy) -> torch.Tensor:
        context = ActContext.training(torch.Generator().manual_seed(1), step=0, slots=EnvSlots.of(1, actor=0, envs=2))
        return policy.act(screens, policy.initial_state(2), context).extras["log_prob"]

    assert torch.equal(log_probabilities(agent.policy), log_probabilities(reference))
