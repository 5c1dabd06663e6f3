"""A3C: loss and gradient against hand-computed ones, reset steps, and acting."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from tabular_networks import LN3, PolicyTable, batch, side_by_side
from torch import Tensor

from asyncrl.algorithms import A3C, ActContext, Loss
from asyncrl.envs.spaces import Actions, Spaces
from asyncrl.errors import UsageError
from asyncrl.experience import Batch
from asyncrl.networks import NetworkConfig

LN2 = math.log(2)
EXACT = A3C(discount=0.5, value_cost=0.5, entropy_cost=0.1)


def gradients(algorithm: A3C, of: Batch) -> tuple[Tensor, Tensor]:
    """Of the loss by the table's logits [4, 2] and values [4]."""
    table = PolicyTable()
    algorithm.loss(table, table, of).total.backward()
    assert table.logits.grad is not None
    assert table.value.grad is not None
    return table.logits.grad, table.value.grad


def loss_of(algorithm: A3C, of: Batch) -> Loss:
    table = PolicyTable()
    return algorithm.loss(table, table, of)


TWO_STEPS = batch([0, 1, 2], [0, 1], [1.0, 3.0])
# R1 = 3 + 0.5·V2 = 3 + 0.5·4 = 5      A1 = R1 − V1 = 5 − 2 = 3        π(a1|s1) = 1/2
# R0 = 1 + 0.5·R1 = 1 + 0.5·5 = 3.5    A0 = R0 − V0 = 3.5 − 1 = 2.5    π(a0|s0) = 3/4


def test_the_loss_equals_a_hand_computed_one() -> None:
    loss = loss_of(EXACT, TWO_STEPS)
    policy = (2.5 * math.log(4 / 3) + 3 * LN2) / 2
    value = (2.5**2 + 3**2) / 2
    entropy = (0.75 * math.log(4 / 3) + 0.25 * math.log(4) + LN2) / 2
    expected = dict(policy_loss=policy, value_loss=value, entropy=entropy, value=1.5)
    assert {name: float(x) for name, x in loss.metrics.items()} == pytest.approx(expected)
    assert float(loss.total.detach()) == pytest.approx(policy + 0.5 * value - 0.1 * entropy)


def test_the_policys_gradient_equals_a_hand_computed_one() -> None:
    logits, _ = gradients(replace(EXACT, entropy_cost=0.0), TWO_STEPS)
    # (π − [a])·A / 2: (3/4 − 1, 1/4)·2.5 / 2 = ∓0.3125 and (1/2, 1/2 − 1)·3 / 2 = ±0.75
    assert torch.allclose(logits[:2], torch.tensor([[-0.3125, 0.3125], [0.75, -0.75]]))


def test_targets_and_advantages_carry_no_gradient() -> None:
    logits, value = gradients(EXACT, TWO_STEPS)
    # 0.5·2·(V − R) / 2 = −A / 2; V2 only enters the targets, V1 enters R0 too
    assert torch.allclose(value, torch.tensor([-1.25, -1.5, 0.0, 0.0]))
    assert not logits[2:].any()


def test_lambda_weights_later_errors() -> None:
    _, value = gradients(replace(EXACT, gae_lambda=0.5), TWO_STEPS)
    # δ0 = 1 + 0.5·V1 − V0 = 1, δ1 = A1 = 3: A0 = δ0 + 0.5·λ·δ1 = 1.75
    assert torch.allclose(value[:2], -torch.tensor([1.75, 3.0]) / 2)


def test_the_entropy_bonus_makes_the_policy_less_certain() -> None:
    nothing_to_learn = batch([0, 1], [0], [0.0])  # R0 = 0.5·V1 = 1 = V0
    logits, value = gradients(EXACT, nothing_to_learn)
    # −0.1·∂H/∂z0 = 0.1·π0·(ln π0 + H), H = 2·ln 2 − 3/4·ln 3: descending lowers the larger logit
    slope = 0.1 * 0.75 * (math.log(0.75) + 2 * LN2 - 0.75 * LN3)
    assert slope > 0
    assert torch.allclose(logits[0], torch.tensor([slope, -slope]), atol=1e-6)
    assert not value.any()


def test_a_terminated_step_is_worth_its_reward_alone() -> None:
    ended = replace(TWO_STEPS, terminated=torch.tensor([[False], [True]]))
    _, value = gradients(EXACT, ended)  # R1 = 3, R0 = 1 + 0.5·3 = 2.5
    assert torch.allclose(value[:2], -torch.tensor([2.5 - 1, 3.0 - 2]) / 2)


@pytest.mark.parametrize("changed", [dict(actions=[0, 1, 1]), dict(states=[0, 3, 1, 2]), dict(rewards=[1.0, 1e6, 3.0])])
def test_a_reset_step_does_not_contribute(changed: dict[str, list[float]]) -> None:
    plain = dict(states=[0, 2, 1, 2], actions=[0, 0, 1], rewards=[1.0, 0.0, 3.0])
    masks = dict(terminated=[True, False, False], valid=[True, False, True])
    before, after = (gradients(EXACT, batch(**values, **masks)) for values in (plain, plain | changed))
    losses = [loss_of(EXACT, batch(**values, **masks)).total for values in (plain, plain | changed)]
    assert losses[0] == losses[1]
    assert all(torch.equal(b, a) for b, a in zip(before, after, strict=True))


def test_reset_steps_do_not_count_in_the_mean() -> None:
    padded = batch([0, 1, 2, 3], [0, 1, 0], [1.0, 3.0, 0.0], valid=[True, True, False])  # V2 is the bootstrap still
    assert torch.isclose(loss_of(EXACT, padded).total, loss_of(EXACT, TWO_STEPS).total)


def test_the_gradient_is_the_mean_over_environments() -> None:
    for alone, both in zip(gradients(EXACT, TWO_STEPS), gradients(EXACT, side_by_side([TWO_STEPS] * 2)), strict=True):
        assert torch.allclose(alone, both)


STATES = torch.arange(4.0)[:, None]


def act(states: Tensor, seed: int = 1, *, greedy: bool = False) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return (
        A3C().act(PolicyTable(), states, torch.zeros(len(states), 0), ActContext.evaluation(random, greedy=greedy)).action
    )


def test_a_greedy_policy_takes_the_likeliest_action() -> None:
    assert act(STATES, greedy=True)[[0, 2, 3]].tolist() == [0, 1, 1]


def test_a_sampled_action_depends_on_the_generator_alone() -> None:
    many = STATES.repeat(8, 1)
    assert torch.equal(act(many, 1), act(many, 1))
    assert not torch.equal(act(many, 1), act(many, 2))


def test_actions_are_sampled_from_the_policy() -> None:
    first = torch.zeros(10_000, 1)  # state 0: π = (3/4, 1/4)
    assert act(first).float().mean() == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (dict(t_max=0), "--t-max must be 1 or more, not 0"),
        (dict(discount=1.1), "--discount must be between 0 and 1, not 1.1"),
        (dict(gae_lambda=-0.1), "--gae-lambda must be between 0 and 1"),
    ],
)
def test_hyperparameters_out_of_range_raise(wrong: dict[str, float], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        A3C(**wrong).check(Spaces((1,), "float32", Actions((2,), (0,))), NetworkConfig())
