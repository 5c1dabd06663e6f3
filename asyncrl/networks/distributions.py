"""Distributions over actions, parametrized by a network's outputs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from asyncrl.common.sharding import draw_rows
from asyncrl.envs.spaces import Actions
from asyncrl.networks.masks import finite

__all__ = [
    "Categorical",
    "Deterministic",
    "DiagonalGaussian",
    "Distribution",
    "SquashedGaussian",
    "distribution",
    "parameter_count",
]

_LOG_2PI = math.log(2 * math.pi)
_MIN_VARIANCE = 1e-6
_LOG_DEVIATIONS = -20.0, 2.0
"""Bounds of log σ of squashed Gaussians."""


class Distribution(Protocol):
    """A batch […] of distributions; actions are […], or […, parts] if they have several parts."""

    def sample(self, random: torch.Generator) -> Tensor:
        """Draw an action from each distribution."""

    def mode(self) -> Tensor:
        """Return the most probable action of each distribution."""

    def log_prob(self, action: Tensor) -> Tensor:
        """Return log π(action), […] float32."""

    def entropy(self) -> Tensor:
        """Return the entropies, […] float32, in nats."""

    def cpu(self) -> Distribution:
        """Return a copy on the CPU."""


@dataclass(frozen=True)
class Categorical:
    """Independent categorical distributions, one per part of an action; actions are int64."""

    logits: Tensor
    """[…, Σ choices] float32: the parts' logits, concatenated."""
    choices: tuple[int, ...]
    """Number of choices of each part."""

    def _parts(self) -> tuple[Tensor, ...]:
        return (self.logits,) if len(self.choices) == 1 else torch.split(self.logits, list(self.choices), -1)

    def _log_policies(self) -> list[Tensor]:
        return [logits.log_softmax(-1) for logits in self._parts()]

    def _join(self, parts: list[Tensor]) -> Tensor:
        return parts[0] if len(parts) == 1 else torch.stack(parts, -1)

    def sample(self, random: torch.Generator) -> Tensor:
        return self._join([_draw(logits, random) for logits in self._parts()])

    def mode(self) -> Tensor:
        return self._join([finite(logits).argmax(-1) for logits in self._parts()])

    def log_prob(self, action: Tensor) -> Tensor:
        actions = [action] if len(self.choices) == 1 else list(action.unbind(-1))
        pairs = zip(self._log_policies(), actions, strict=True)
        return _sum([log.gather(-1, a.unsqueeze(-1)).squeeze(-1) for log, a in pairs])

    def entropy(self) -> Tensor:
        return _sum([-(log.exp() * log).sum(-1) for log in self._log_policies()])

    def cpu(self) -> Categorical:
        return Categorical(self.logits.cpu(), self.choices)


@dataclass(frozen=True)
class DiagonalGaussian:
    """Independent normal distributions, with softplus for the variance (Mnih et al. 2016, section 9)."""

    mean: Tensor
    """[…, parts] float32"""
    raw_variance: Tensor
    """[…, parts] float32"""

    @property
    def variance(self) -> Tensor:
        return F.softplus(self.raw_variance) + _MIN_VARIANCE

    @staticmethod
    def raw_variance_of(deviation: float) -> float:
        """Return the output that gives a standard deviation of `deviation` > 0.001: softplus⁻¹(σ²)."""
        variance = deviation**2 - _MIN_VARIANCE
        return variance + math.log(-math.expm1(-variance))

    def sample(self, random: torch.Generator) -> Tensor:
        noise = torch.randn(self.mean.shape, generator=random, dtype=self.mean.dtype, device=self.mean.device)
        return self.mean + self.variance.sqrt() * noise

    def mode(self) -> Tensor:
        return self.mean

    def log_prob(self, action: Tensor) -> Tensor:
        variance = self.variance
        return (-0.5 * ((action - self.mean).square() / variance + variance.log() + _LOG_2PI)).sum(-1)

    def entropy(self) -> Tensor:
        return (0.5 * (self.variance.log() + _LOG_2PI + 1)).sum(-1)

    def cpu(self) -> DiagonalGaussian:
        return DiagonalGaussian(self.mean.cpu(), self.raw_variance.cpu())


@dataclass(frozen=True)
class SquashedGaussian:
    """Independent normal distributions squashed by tanh (Haarnoja et al. 2018, appendix C): actions are within ±1."""

    mean: Tensor
    """[…, parts] float32: of the normal distributions, before tanh."""
    raw_log_deviation: Tensor
    """[…, parts] float32: their log σ, which is clamped to -20 … 2."""

    @property
    def log_deviation(self) -> Tensor:
        return self.raw_log_deviation.clamp(*_LOG_DEVIATIONS)

    def sample(self, random: torch.Generator) -> Tensor:
        return self._draw(random)[0].tanh()

    def sample_with_log_prob(self, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw actions […, parts] and return them with log π(action) […]; gradients pass through both."""
        drawn, noise, log_deviation = self._draw(random)
        return drawn.tanh(), self._log_prob(drawn, noise, log_deviation)

    def _draw(self, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw from the normal distributions. Returns the numbers, their noise and log σ, […, parts] each."""
        noise = draw_rows(torch.randn, self.mean.shape, random, -2, dtype=torch.float32).to(self.mean.device)
        log_deviation = self.log_deviation
        return self.mean + log_deviation.exp() * noise, noise, log_deviation

    def mode(self) -> Tensor:
        """Return the action of the normal distributions' means."""
        return self.mean.tanh()

    def log_prob(self, action: Tensor) -> Tensor:
        """Return log π(action), […] float32; actions at the bounds are taken as lying just inside."""
        drawn = action.clamp(-1 + 1e-6, 1 - 1e-6).atanh()
        log_deviation = self.log_deviation
        return self._log_prob(drawn, (drawn - self.mean) / log_deviation.exp(), log_deviation)

    @staticmethod
    def _log_prob(drawn: Tensor, noise: Tensor, log_deviation: Tensor) -> Tensor:
        """Return log N(drawn) − log(1 − tanh²(drawn)), summed over the parts; the second term in a form that is stable."""
        correction = 2 * (math.log(2) - drawn - F.softplus(-2 * drawn))
        return (-0.5 * (noise.square() + _LOG_2PI) - log_deviation - correction).sum(-1)

    def cpu(self) -> SquashedGaussian:
        return SquashedGaussian(self.mean.cpu(), self.raw_log_deviation.cpu())


@dataclass(frozen=True)
class Deterministic:
    """Policies that always take the same action."""

    action: Tensor
    """[…, parts] float32"""

    def sample(self, random: torch.Generator) -> Tensor:
        return self.action

    def mode(self) -> Tensor:
        return self.action

    def log_prob(self, action: Tensor) -> Tensor:
        """Return −½·(squared distance to `action`) […], whose gradient is that of the squared error."""
        return -0.5 * (action - self.action).square().sum(-1)

    def cpu(self) -> Deterministic:
        return Deterministic(self.action.cpu())


def _sum(parts: list[Tensor]) -> Tensor:
    """Return the sum of tensors of the same shape."""
    return parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)


def _draw(logits: Tensor, random: torch.Generator) -> Tensor:
    """Draw a choice […] int64 from each row of `logits` […, choices].

    Choice i has the largest p_i / e_i with probability p_i, for e ~ Exp(1). torch.multinomial computes the same, after
    checks that take most of its time. Rows with NaN give an arbitrary choice instead of an error: the learner reports
    diverged weights itself, at the update that produced them.
    """
    probabilities = finite(logits).softmax(-1)
    if probabilities.is_cuda:
        return torch.multinomial(probabilities.flatten(0, -2), 1, generator=random).view(probabilities.shape[:-1])
    waiting = torch.empty_like(probabilities).exponential_(1.0, generator=random)
    return (probabilities / waiting).argmax(-1)


def parameter_count(actions: Actions) -> int:
    """Return the number of network outputs that one distribution over `actions` needs."""
    return 2 * actions.parts if actions.is_continuous else sum(actions.choices)


def distribution(actions: Actions, parameters: Tensor) -> Distribution:
    """Return the distributions over `actions` with the given `parameters` […, parameter_count]."""
    if actions.is_continuous:
        return DiagonalGaussian(*parameters.chunk(2, -1))
    return Categorical(parameters, actions.choices)
