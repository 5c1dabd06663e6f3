"""Masked outputs of networks against distributions and values over the allowed choices alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces as gym
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Categorical as TorchCategorical

from asyncrl.algorithms import C51, DQN, ActContext
from asyncrl.algorithms.exploration import explore
from asyncrl.envs.space_reading import spaces_of
from asyncrl.envs.spaces import MaskSource, Spaces, pack
from asyncrl.networks import ActorCritic, MaskReader, NetworkConfig, QNetwork, mask_out
from asyncrl.networks.distributions import Categorical, distribution

masks = st.lists(st.booleans(), min_size=4, max_size=4).filter(any)
numbers = st.lists(st.floats(-50, 50, width=32), min_size=4, max_size=4)
CONFIG = NetworkConfig(hidden=(8,))


def spaces_for(observation: gym.Space, action: gym.Space) -> Spaces:
    return spaces_of("Some-v0", observation, action, MaskSource.INFO)


BOX = gym.Box(-1.0, 1.0, (3,), np.float32)
SPACES = spaces_for(BOX, gym.Discrete(4))


def observed(spaces: Spaces, observation: Any, mask: list[Any]) -> torch.Tensor:
    """[1, 1, *O]"""
    packed = pack(spaces, {"observation": observation, "action_mask": np.array(mask, np.uint8)}, single=True)
    return torch.from_numpy(packed)[None]


def network(kind: Any, config: NetworkConfig = CONFIG, spaces: Spaces = SPACES, **more: Any) -> Any:
    return kind(config, spaces, torch.float32, torch.Generator().manual_seed(1), **more)


@given(numbers, masks)
def test_a_masked_policy_is_one_over_the_allowed_choices(logits: list[float], mask: list[bool]) -> None:
    legal, given_logits = torch.tensor(mask), torch.tensor(logits, requires_grad=True)
    policy = distribution(SPACES.actions, mask_out(given_logits, legal)[None])
    kept = torch.tensor(logits)[legal]
    expected, places = TorchCategorical(logits=kept), legal.nonzero()[:, 0]
    log_prob = torch.stack([policy.log_prob(place[None])[0] for place in places])
    assert torch.allclose(log_prob, expected.logits, atol=1e-5)
    assert torch.allclose(policy.entropy()[0], expected.entropy(), atol=1e-5)
    assert policy.mode()[0] == places[kept.argmax()]
    sampled = policy.sample(torch.Generator().manual_seed(1))
    assert legal[sampled[0]]
    (policy.entropy().sum() + log_prob.sum()).backward()
    assert given_logits.grad is not None
    assert torch.isfinite(given_logits.grad).all()
    assert (given_logits.grad[~legal] == 0).all()


@given(masks, st.booleans())
def test_masked_values_and_their_mean_are_over_the_allowed_actions(mask: list[bool], dueling: bool) -> None:
    q_network = network(QNetwork, NetworkConfig(hidden=(8,), dueling=dueling))
    seen, state, legal = np.float32([0.3, -0.2, 0.9]), torch.zeros(1, 0), torch.tensor(mask)
    q = q_network(observed(SPACES, seen, mask), state).q[0, 0]
    features = q_network.body.encoder(torch.from_numpy(seen)[None])
    values = q_network.q(features)[0]
    if dueling:
        values = values - values[legal].mean() + q_network.value(features)[0]
    assert torch.allclose(q[legal], values[legal], atol=1e-6)
    assert (q[~legal] == torch.finfo(torch.float32).min).all()
    assert torch.allclose(q.logsumexp(-1), values[legal].logsumexp(-1), atol=1e-6)


def test_a_categorical_network_keeps_the_outputs_and_masks_their_means() -> None:
    c51 = C51().build(CONFIG, SPACES, torch.float32, torch.Generator().manual_seed(1))
    output = c51(observed(SPACES, np.zeros(3, np.float32), [0, 1, 0, 0]), torch.zeros(1, 0))
    assert output.q.argmax(-1).item() == 1
    assert torch.isfinite(output.outputs).all()


@pytest.mark.parametrize("number", [torch.nan, torch.inf, -torch.inf])
def test_a_diverged_policy_takes_allowed_actions(number: float) -> None:
    """The learner reports the divergence; the environment would blame the action."""
    legal = torch.tensor([False, True, False, True, True])
    logits = mask_out(torch.full((200, 5), number), legal)
    policy = Categorical(logits, (2, 3))
    drawn = policy.sample(torch.Generator().manual_seed(1))
    assert (drawn[:, 0] == 1).all()
    assert set(drawn[:, 1].tolist()) == {1, 2}
    assert policy.mode()[0].tolist() == [1, 1]


@pytest.mark.parametrize("number", [torch.nan, torch.inf, -torch.inf])
def test_diverged_action_values_give_allowed_actions(number: float) -> None:
    q_network = network(QNetwork)
    torch.nn.init.constant_(q_network.q.bias, number)
    seen = observed(SPACES, np.zeros(3, np.float32), [False, True, False, True])[0]
    output = DQN().act(q_network, seen, torch.zeros(1, 0), ActContext.evaluation(torch.Generator()))
    assert output.action.tolist() == [1]


def test_features_are_those_without_a_mask() -> None:
    """The same weights, and the same outputs where everything is allowed."""
    plain = spaces_of("Some-v0", BOX, gym.Discrete(4))
    with_mask, without = network(ActorCritic), network(ActorCritic, spaces=plain)
    seen, state = np.float32([0.3, -0.2, 0.9]), torch.zeros(1, 0)
    one = with_mask(observed(SPACES, seen, [1, 1, 1, 1]), state)
    other = without(torch.from_numpy(seen)[None, None], state)
    assert torch.equal(one.policy.logits, other.policy.logits)
    assert torch.equal(one.value, other.value)


@pytest.mark.parametrize(
    ("observation", "kind"),
    [
        (gym.Box(0, 255, (36, 40, 3), np.uint8), "nature-cnn"),
        (gym.Box(-1, 1, (5,)), "radial"),
        (gym.Discrete(5), "mlp"),
        (gym.Dict({"a": BOX, "b": gym.Discrete(3)}), "auto"),
    ],
)
@pytest.mark.parametrize("frames", [1, 3])
def test_any_observation_may_have_a_mask(observation: gym.Space, kind: str, frames: int) -> None:
    spaces = spaces_for(observation, gym.MultiDiscrete([2, 3])).stacked(frames)
    packed = torch.zeros(2, 1, *spaces.observation_shape, dtype=torch.uint8)
    packed[..., -5:] = torch.tensor([0, 1, 1, 0, 0], dtype=torch.uint8)
    output = network(ActorCritic, NetworkConfig(network=kind, hidden=(8,)), spaces)(packed, torch.zeros(1, 0))
    assert output.policy.mode().tolist() == [[[1, 0]], [[1, 0]]]
    assert output.policy.entropy().tolist() == [[0.0], [0.0]]


def test_the_newest_frames_mask_counts() -> None:
    spaces = SPACES.stacked(2)
    packed = torch.zeros(1, *spaces.observation_shape, dtype=torch.uint8)
    packed[0, 0, -4:] = torch.tensor([1, 0, 0, 0], dtype=torch.uint8)
    packed[0, 1, -4:] = torch.tensor([0, 0, 1, 1], dtype=torch.uint8)
    assert MaskReader(spaces).legal(packed).tolist() == [[False, False, True, True]]
    assert spaces.legal(packed.numpy()).tolist() == [[False, False, True, True]]


def test_where_nothing_is_allowed_everything_is() -> None:
    """So losses stay finite on padding and last observations."""
    assert MaskReader(SPACES).legal(torch.zeros(2, *SPACES.observation_shape, dtype=torch.uint8)).all()


def test_random_actions_are_uniform_over_the_allowed_ones() -> None:
    legal = torch.tensor([[0, 1, 0, 1, 1], [1, 0, 0, 0, 0]], dtype=torch.bool).repeat_interleave(30_000, 0)
    action, explored = explore(torch.full((60_000,), 3), 5, 1.0, torch.Generator().manual_seed(1), legal)
    assert explored.all()
    shares = [(torch.bincount(rows, minlength=5) / 30_000).tolist() for rows in action.split(30_000)]
    assert shares[0] == pytest.approx([0, 1 / 3, 0, 1 / 3, 1 / 3], abs=0.01)
    assert shares[1] == [1.0, 0, 0, 0, 0]
