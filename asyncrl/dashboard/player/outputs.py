"""What a network computed in one step, as numbers with names that the page draws as bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from asyncrl.algorithms.policy import NetworkOutputs, Policy
from asyncrl.envs.spaces import Actions
from asyncrl.networks import ActionValues, PolicyOutput, PolicyValue
from asyncrl.networks.distributions import Categorical, Deterministic, DiagonalGaussian, SquashedGaussian

__all__ = ["Bars", "Value", "action_names", "bars", "compared", "value"]

_MAX_BARS = 24
"""Of more choices, the page shows those that the network ranks highest."""
_FORBIDDEN = -1e30
"""Logits and action values below this belong to actions that a mask forbids."""


@dataclass(frozen=True)
class Bars:
    """A group of bars: the choices of one part of an action, or its real numbers."""

    title: str
    names: tuple[str, ...]
    values: tuple[float | None, ...]
    """None for choices that an action mask forbids."""
    chosen: tuple[float, ...]
    """The index of the choice taken; for real numbers the action."""
    low: float | None = None
    """Lowest possible number; None if unbounded."""
    high: float | None = None
    spreads: tuple[float, ...] = ()
    """Standard deviations of real numbers; () without any."""
    is_continuous: bool = False
    """Whether they are real numbers."""


@dataclass(frozen=True)
class Value:
    """The network's estimate of the return from here on."""

    name: str
    number: float


def action_names(actions: Actions, meanings: Sequence[str]) -> list[tuple[str, ...]]:
    """Return a name for every choice of each part of an action, or for its real numbers."""
    if actions.is_continuous:
        return [tuple(f"action {i}" if actions.parts > 1 else "action" for i in range(actions.parts))]
    if len(actions.choices) == 1 and len(meanings) == actions.choices[0]:
        return [tuple(meanings)]
    first = actions.first or (0,) * len(actions.choices)
    return [tuple(str(low + i) for i in range(count)) for count, low in zip(actions.choices, first, strict=True)]


def bars(
    outputs: NetworkOutputs | None, actions: Actions, names: Sequence[Sequence[str]], action: np.ndarray
) -> list[Bars]:
    """Return the bars of one step; `action` [1, …] is the one taken. [] for outputs of another form."""
    match outputs:
        case PolicyValue(policy=Categorical() as policy) | PolicyOutput(policy=Categorical() as policy):
            chosen = action.reshape(-1).tolist()
            logits = torch.split(policy.logits[0, 0], list(policy.choices))
            shares = [part.softmax(-1) for part in logits]
            titles = _titles("action probabilities", len(shares))
            return [
                _choices(title, own, _allowed(share, logit), taken, low=0.0, high=1.0)
                for title, own, share, logit, taken in zip(titles, names, shares, logits, chosen, strict=True)
            ]
        case ActionValues(q=q):
            values = _allowed(q[0, 0], q[0, 0])
            return [_choices("action values Q(s, a)", names[0], values, int(action.reshape(-1)[0]))]
        case PolicyValue(policy=DiagonalGaussian() as gaussian):
            mean, spread = gaussian.mean[0], gaussian.variance[0].sqrt()
            return [_numbers("mean ± standard deviation", actions, names[0], mean, spread, action)]
        case PolicyOutput(policy=SquashedGaussian() as squashed):
            return [_numbers("most probable action", actions, names[0], squashed.mode()[0], None, action)]
        case PolicyOutput(policy=Deterministic() as fixed):
            return [_numbers("the policy's action", actions, names[0], fixed.mode()[0], None, action)]
    return []


def value(policy: Policy, outputs: NetworkOutputs | None, observation: Tensor, action: Tensor) -> Value | None:
    """Return the value of one step, `observation` [1, *O] and `action` [1, …]; None if the network has none."""
    match outputs:
        case PolicyValue(value=estimate):
            return Value("V(s)", float(estimate[0, 0]))
        case ActionValues(q=q):
            return Value("max Q(s, a)", float(q[0, 0].max()))
        case PolicyOutput():
            critic = policy.action_value(observation, action)
            return None if critic is None else Value("Q(s, a)", float(critic[0]))
    return None


def compared(outputs: NetworkOutputs) -> Tensor | None:
    """Return the numbers [N, K] by which two policies differ: logits, action values, or means of continuous actions."""
    match outputs:
        case PolicyValue(policy=Categorical() as policy) | PolicyOutput(policy=Categorical() as policy):
            return policy.logits[0]
        case ActionValues(q=q):
            return q[0]
        case PolicyValue(policy=DiagonalGaussian() as gaussian):
            return gaussian.mean[0]
        case PolicyOutput(policy=distribution):
            return distribution.mode()[0]
    return None


def _titles(title: str, parts: int) -> list[str]:
    return [title] if parts == 1 else [f"{title}, part {i}" for i in range(parts)]


def _allowed(values: Tensor, logits: Tensor) -> list[float | None]:
    return [None if logit < _FORBIDDEN else x for x, logit in zip(values.tolist(), logits.tolist(), strict=True)]


def _choices(
    title: str,
    names: Sequence[str],
    values: list[float | None],
    taken: int,
    *,
    low: float | None = None,
    high: float | None = None,
) -> Bars:
    order = list(range(len(values)))
    if len(order) > _MAX_BARS:
        ranked = sorted(order, key=lambda i: (i != taken, -(values[i] if values[i] is not None else -np.inf)))  # type: ignore[operator]
        order = sorted(ranked[:_MAX_BARS])
    shown = tuple(values[i] for i in order)
    return Bars(title, tuple(names[i] for i in order), shown, (float(order.index(taken)),), low, high)


def _numbers(
    title: str, actions: Actions, names: Sequence[str], mean: Tensor, spread: Tensor | None, action: np.ndarray
) -> Bars:
    """Return bars in the environment's units for `mean` [1, parts] and `spread` [1, parts]."""
    center = actions.for_environment(mean.numpy()).reshape(-1)
    taken = actions.for_environment(action).reshape(-1)
    low, high = np.array(actions.low), np.array(actions.high)
    lowest, highest = actions.scale
    spreads = () if spread is None else tuple((spread.numpy()[0] * (highest - lowest) / 2).tolist())
    bounded = bool(np.isfinite([low, high]).all())
    return Bars(
        title,
        tuple(names),
        tuple(center.tolist()),
        tuple(taken.tolist()),
        low=float(low.min()) if bounded else None,
        high=float(high.max()) if bounded else None,
        spreads=spreads,
        is_continuous=True,
    )
