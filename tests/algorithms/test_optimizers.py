"""Optimizers, learning-rate schedules and gradient clipping, against torch and the formula of the paper."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from asyncrl.algorithms.optimizers import (
    GradientClipping,
    LearningRate,
    LearningRateSchedule,
    Optimizer,
    OptimizerConfig,
    clip_,
)
from asyncrl.algorithms.weight_optimizer import initial_state, optimizer_step
from asyncrl.errors import UsageError

KL = OptimizerConfig(learning_rate=1e-3, learning_rate_schedule=LearningRateSchedule.KL, target_kl=0.01)
GRADIENTS = [[0.5, -2.0, 0.0], [1.0, 0.25, -1e-3], [-3.0, 0.25, 4.0], [0.1, 0.0, 4.0]]


def by_formula(theta: float, gradients: list[float], lr: float, alpha: float, eps: float) -> float:
    """g ← α·g + (1 − α)·Δθ², θ ← θ − η·Δθ / √(g + ε), from g = 0."""
    g = 0.0
    for gradient in gradients:
        g = alpha * g + (1 - alpha) * gradient**2
        theta -= lr * gradient / math.sqrt(g + eps)
    return theta


def descend(config: OptimizerConfig, gradients: list[list[float]], start: list[float]) -> list[float]:
    """The weights after a step along each gradient."""
    weights = torch.tensor(start)
    state = initial_state(config, weights)
    for gradient in gradients:
        optimizer_step(config, weights, torch.tensor(gradient), state, config.learning_rate)
    found: list[float] = weights.tolist()
    return found


@given(st.floats(1e-3, 1), st.floats(0, 1), st.floats(1e-5, 1))
def test_rmsprop_follows_the_formula(lr: float, alpha: float, eps: float) -> None:
    config = OptimizerConfig(Optimizer.RMSPROP, learning_rate=lr, decay=alpha, optimizer_epsilon=eps)
    stepped = descend(config, GRADIENTS, [1.0, 2.0, 3.0])
    for place, theta in enumerate([1.0, 2.0, 3.0]):
        expected = by_formula(theta, [gradient[place] for gradient in GRADIENTS], lr, alpha, eps)
        assert math.isclose(stepped[place], expected, rel_tol=1e-4, abs_tol=1e-3)


def test_epsilon_is_inside_the_root_or_outside() -> None:
    config = OptimizerConfig(Optimizer.RMSPROP, learning_rate=1.0, decay=0.99, optimizer_epsilon=0.1)
    (inside,) = descend(config, [[1.0]], [1.0])
    (outside,) = descend(replace(config, optimizer=Optimizer.RMSPROP_OUTSIDE), [[1.0]], [1.0])
    assert math.isclose(inside, 1 - 1 / math.sqrt(0.01 + 0.1), rel_tol=1e-5)
    assert math.isclose(outside, 1 - 1 / (math.sqrt(0.01) + 0.1), rel_tol=1e-5)


@pytest.mark.parametrize("momentum", [None, 0.5])
@pytest.mark.parametrize("kind", sorted(set(Optimizer) - {Optimizer.RMSPROP}, key=lambda kind: kind.value))
def test_steps_are_those_of_torch(kind: Optimizer, momentum: float | None) -> None:
    config = OptimizerConfig(kind, learning_rate=0.1, momentum=momentum)
    weights = torch.nn.Parameter(torch.linspace(-2, 2, 100))
    settings: dict[str, Any] = dict(lr=0.1) if kind is Optimizer.SGD else dict(lr=0.1, eps=config.optimizer_epsilon)
    theirs: dict[Optimizer, Any] = {
        Optimizer.RMSPROP_OUTSIDE: lambda: torch.optim.RMSprop(
            [weights], alpha=config.decay, momentum=momentum or 0.0, **settings
        ),
        Optimizer.ADAM: lambda: torch.optim.Adam([weights], betas=config.betas, fused=True, **settings),
        Optimizer.RADAM: lambda: torch.optim.RAdam([weights], betas=config.betas, **settings),
        Optimizer.SGD: lambda: torch.optim.SGD([weights], momentum=momentum or 0.0, **settings),
    }
    optimizer, ours, random = theirs[kind](), weights.detach().clone(), torch.Generator().manual_seed(1)
    state = initial_state(config, ours)
    for _ in range(10):
        weights.grad = torch.randn(100, generator=random)
        optimizer.step()
        optimizer_step(config, ours, weights.grad, state, 0.1)
    assert torch.equal(ours, weights)
    kept = {name: x for name, x in optimizer.state[weights].items() if isinstance(x, torch.Tensor)}
    assert kept.keys() == state.keys()
    assert all(torch.equal(x, state[name]) for name, x in kept.items())


def test_radam_skips_the_second_moment_until_its_variance_is_known() -> None:
    """Liu et al. 2020, algorithm 2."""
    config = OptimizerConfig(Optimizer.RADAM, learning_rate=0.1, decay=0.9, optimizer_epsilon=1e-8)
    gradients = [1.0, -0.5, 2.0, 0.25, 1.0, 1.0, 3.0, -1.0]
    (found,) = descend(config, [[g] for g in gradients], [1.0])
    theta, m, v, longest = 1.0, 0.0, 0.0, 2 / (1 - 0.9) - 1
    for t, g in enumerate(gradients, start=1):
        m, v = 0.9 * m + 0.1 * g, 0.9 * v + 0.1 * g * g
        length = longest - 2 * t * 0.9**t / (1 - 0.9**t)
        step = m / (1 - 0.9**t)
        if length > 5:
            terms = (length - 4) * (length - 2) * longest, (longest - 4) * (longest - 2) * length
            step *= math.sqrt(terms[0] / terms[1]) / math.sqrt(v / (1 - 0.9**t))
        theta -= 0.1 * step
    assert math.isclose(found, theta, rel_tol=1e-5)


@pytest.mark.parametrize(
    ("settings", "rates"),
    [
        (dict(), [0.4, 0.3, 0.0]),
        (dict(learning_rate_schedule=LearningRateSchedule.CONSTANT), [0.4, 0.4, 0.4]),
        (dict(anneal_to=0.5), [0.4, 0.35, 0.2]),
        (dict(anneal_steps=50, anneal_to=0.1), [0.4, 0.22, 0.04]),
    ],
)
def test_the_linear_schedule_follows_anneal_to_and_anneal_steps(settings: dict[str, Any], rates: list[float]) -> None:
    rate = LearningRate(OptimizerConfig(learning_rate=0.4, **settings), 100)
    assert [rate.at(step) for step in (0, 25, 100)] == pytest.approx(rates)


@pytest.mark.parametrize(
    ("movements", "rate"),
    [
        ([0.0049], 1.5e-3),  # less than half of the target
        ([0.005, 0.01, 0.02], 1e-3),
        ([0.021], 1e-3 / 1.5),  # more than twice the target
        ([0.1, 0.1, 0.0], 1e-3 / 1.5),
        ([0.0] * 20, 1e-2),
        ([1.0] * 40, 1e-5),
    ],
)
def test_the_kl_schedule_keeps_updates_near_the_target(movements: list[float], rate: float) -> None:
    adaptive = LearningRate(KL, 100)
    for kl in movements:
        adaptive.adapt(kl)
    assert adaptive.at(50) == pytest.approx(rate)


def test_the_kl_schedule_resumes_from_its_state() -> None:
    whole, first, second = (LearningRate(KL, 100) for _ in range(3))
    for rate in (whole, first):
        rate.adapt(0.1)
    second.restore(first.state())
    for rate in (whole, second):
        rate.adapt(0.0)
        rate.adapt(0.0)
    assert second.at(0) == whole.at(0) == pytest.approx(1.5e-3)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (GradientClipping.GLOBAL, [[0.6, 0.0], [0.8]]),
        (GradientClipping.TENSOR, [[1.0, 0.0], [1.0]]),
        (GradientClipping.AVERAGE, [[2.0, 0.0], [1.0]]),
        (GradientClipping.NONE, [[3.0, 0.0], [4.0]]),
    ],
)
def test_gradients_are_clipped(kind: GradientClipping, expected: list[list[float]]) -> None:
    gradient = torch.tensor([3.0, 0.0, 4.0])
    norm = clip_(OptimizerConfig(gradient_clipping=kind, max_gradient_norm=1.0), gradient, [gradient[:2], gradient[2:]])
    assert float(norm) == 5.0
    assert gradient.tolist() == pytest.approx([x for tensor in expected for x in tensor], abs=1e-4)


@pytest.mark.parametrize("kind", GradientClipping)
@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30])
def test_a_gradient_without_a_finite_norm_shows_which_parameter_is_to_blame(kind: GradientClipping, value: float) -> None:
    gradient = torch.tensor([3.0, 0.0, value])
    norm = clip_(OptimizerConfig(gradient_clipping=kind), gradient, [gradient[:2], gradient[2:]])
    assert not norm.isfinite()
    assert torch.equal(gradient.nan_to_num(-1.0), torch.tensor([3.0, 0.0, value]).nan_to_num(-1.0))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (dict(learning_rate=0.0), "--learning-rate must be positive, not 0"),
        (dict(decay=1.5), "--decay must be between 0 and 1, not 1.5"),
        (dict(anneal_steps=0), "--anneal-steps must be 1 or more, not 0"),
    ],
)
def test_values_out_of_range_raise(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        OptimizerConfig(**wrong).check()


def test_the_kl_schedule_scales_with_a_changed_initial_rate() -> None:
    before, after = LearningRate(KL, 100), LearningRate(replace(KL, learning_rate=KL.learning_rate / 2), 100)
    before.adapt(1.0)
    after.restore(before.state())
    assert after.at(0) == before.at(0) / 2
