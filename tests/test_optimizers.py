"""RMSprop is the formula of the paper, number by number."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from asyncrl.optimizers import RMSprop

GRADIENTS = [[0.5, -2.0, 0.0], [1.0, 0.25, -1e-3], [-3.0, 0.25, 4.0], [0.1, 0.0, 4.0]]


def by_formula(theta: float, gradients: list[float], lr: float, alpha: float, eps: float) -> float:
    """g ← α·g + (1 − α)·Δθ², θ ← θ − η·Δθ / √(g + ε), from g = 0."""
    g = 0.0
    for gradient in gradients:
        g = alpha * g + (1 - alpha) * gradient**2
        theta -= lr * gradient / math.sqrt(g + eps)
    return theta


def descend(optimizer: torch.optim.Optimizer, parameter: Tensor, gradients: list[list[float]]) -> list[float]:
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
    return [float(x) for x in parameter.detach()]


@given(st.floats(1e-3, 1), st.floats(0, 1), st.floats(1e-5, 1))
def test_steps_follow_the_formula(lr: float, alpha: float, eps: float) -> None:
    parameter = torch.nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))
    stepped = descend(RMSprop([parameter], lr, alpha, eps), parameter, GRADIENTS)
    for place, theta in enumerate([1.0, 2.0, 3.0]):
        expected = by_formula(theta, [gradient[place] for gradient in GRADIENTS], lr, alpha, eps)
        assert math.isclose(stepped[place], expected, rel_tol=1e-4, abs_tol=1e-3)


def test_epsilon_is_inside_the_root_where_torch_has_it_outside() -> None:
    ours, theirs = torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(torch.ones(1))
    (inside,) = descend(RMSprop([ours], lr=1.0, alpha=0.99, eps=0.1), ours, [[1.0]])
    (outside,) = descend(torch.optim.RMSprop([theirs], lr=1.0, alpha=0.99, eps=0.1), theirs, [[1.0]])
    assert math.isclose(inside, 1 - 1 / math.sqrt(0.01 + 0.1), rel_tol=1e-5)
    assert math.isclose(outside, 1 - 1 / (math.sqrt(0.01) + 0.1), rel_tol=1e-5)


def test_a_changed_learning_rate_counts_from_the_next_step() -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = RMSprop([parameter], lr=1.0)
    optimizer.param_groups[0]["lr"] = 0.0
    assert descend(optimizer, parameter, GRADIENTS) == [1, 1, 1]


def test_the_state_survives_a_round_trip() -> None:
    whole, halves = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(3))
    expected = descend(RMSprop([whole], lr=0.1), whole, GRADIENTS)
    first = RMSprop([halves], lr=0.1)
    descend(first, halves, GRADIENTS[:2])
    second = RMSprop([halves], lr=0.1)
    second.load_state_dict(first.state_dict())
    assert descend(second, halves, GRADIENTS[2:]) == expected
