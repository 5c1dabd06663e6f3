"""Distributions against torch's, and samples against their probabilities."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Categorical as TorchCategorical
from torch.distributions import Normal

from asyncrl.envs.spaces import Actions
from asyncrl.networks.distributions import (
    Categorical,
    DiagonalGaussian,
    SquashedGaussian,
    distribution,
    parameter_count,
)

numbers = st.floats(-5, 5, width=32)
DISCRETE = Actions((3,), (0,))
SEVERAL = Actions((2, 4), (0, 0), shape=(2,))
CONTINUOUS = Actions(low=(-1.0, -2.0), high=(1.0, 2.0), shape=(2,), dtype="float32")


@given(st.lists(numbers, min_size=4, max_size=4), st.lists(numbers, min_size=2, max_size=2))
def test_a_gaussians_variance_is_softplus_of_the_second_half(outputs: list[float], action: list[float]) -> None:
    policy = distribution(CONTINUOUS, torch.tensor([outputs]))
    assert isinstance(policy, DiagonalGaussian)
    variance = torch.nn.functional.softplus(torch.tensor(outputs[2:])) + 1e-6
    theirs = Normal(torch.tensor(outputs[:2]), variance.sqrt())
    assert torch.allclose(policy.log_prob(torch.tensor([action])), theirs.log_prob(torch.tensor(action)).sum(), rtol=1e-3)
    assert torch.allclose(policy.entropy(), theirs.entropy().sum(), atol=1e-4)
    assert torch.equal(policy.mode()[0], torch.tensor(outputs[:2]))


@given(st.lists(numbers, min_size=6, max_size=6), st.integers(0, 1), st.integers(0, 3))
def test_several_choices_are_independent(outputs: list[float], first: int, second: int) -> None:
    policy = distribution(SEVERAL, torch.tensor([outputs]))
    parts = [TorchCategorical(logits=torch.tensor(outputs[:2])), TorchCategorical(logits=torch.tensor(outputs[2:]))]
    together = sum(p.log_prob(torch.tensor(a)) for p, a in zip(parts, (first, second), strict=True))
    assert torch.allclose(policy.log_prob(torch.tensor([[first, second]])), torch.as_tensor(together), atol=1e-4)
    assert torch.allclose(policy.entropy(), torch.as_tensor(sum(p.entropy() for p in parts)), atol=1e-4)
    assert policy.mode().tolist() == [
        [max(range(2), key=lambda i: outputs[i]), max(range(4), key=lambda i: outputs[2 + i])]
    ]


@pytest.mark.parametrize("actions", [DISCRETE, SEVERAL, CONTINUOUS], ids=["one choice", "several", "numbers"])
def test_actions_have_the_shape_that_rollouts_store(actions: Actions) -> None:
    policy = distribution(actions, torch.zeros(5, 7, parameter_count(actions)))
    action = policy.sample(torch.Generator().manual_seed(1))
    assert action.shape == policy.mode().shape == (5, 7, *actions.policy_shape)
    assert policy.log_prob(action).shape == policy.entropy().shape == (5, 7)


def test_categorical_samples_follow_the_probabilities() -> None:
    policy = Categorical(torch.tensor([0.5, 0.3, 0.2]).log().expand(20_000, 3), (3,))
    drawn = policy.sample(torch.Generator().manual_seed(1))
    assert (torch.bincount(drawn) / 20_000).tolist() == pytest.approx([0.5, 0.3, 0.2], abs=0.015)


@given(st.integers(0, 10**9), st.integers(1, 20), st.integers(1, 12), st.floats(0.01, 100.0))
def test_categorical_samples_are_those_of_multinomial(seed: int, rows: int, choices: int, scale: float) -> None:
    logits = scale * torch.randn(rows, choices, generator=torch.Generator().manual_seed(seed))
    ours, theirs = (torch.Generator().manual_seed(seed) for _ in range(2))
    for _ in range(3):  # the same numbers are drawn, so later samples are the same, too
        drawn = Categorical(logits, (choices,)).sample(ours)
        assert torch.equal(drawn, torch.multinomial(logits.softmax(-1), 1, generator=theirs)[:, 0])


def test_a_squashed_gaussian_draws_the_same_with_and_without_probabilities() -> None:
    policy = SquashedGaussian(torch.randn(1, 5, 2), torch.randn(1, 5, 2))
    ours, theirs = (torch.Generator().manual_seed(1) for _ in range(2))
    assert torch.equal(policy.sample(ours), policy.sample_with_log_prob(theirs)[0])


def test_gaussian_samples_follow_mean_and_variance() -> None:
    policy = DiagonalGaussian(torch.full((20_000, 1), 2.0), torch.full((20_000, 1), 1.0))
    drawn = policy.sample(torch.Generator().manual_seed(1))
    assert float(drawn.mean()) == pytest.approx(2.0, abs=0.03)
    assert float(drawn.var()) == pytest.approx(float(policy.variance[0]), rel=0.05)


def test_nan_logits_still_give_an_action_and_leave_other_rows_alone() -> None:
    """The learner reports diverged weights at a definite update; an actor would fail at an arbitrary one."""
    logits = torch.tensor([[0.0, -torch.inf, -torch.inf], [torch.nan] * 3])
    drawn = Categorical(logits.expand(50, 2, 3), (3,)).sample(torch.Generator().manual_seed(1))
    assert (drawn[:, 0] == 0).all()
    assert set(drawn[:, 1].tolist()) == {0, 1, 2}
    action = CONTINUOUS.for_environment(torch.full((1, 2), torch.nan).numpy())
    assert action.tolist() == [[-1.0, -2.0]]
