"""Distributions over actions, parametrized by a network's outputs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from asyncrl.envs.spaces import Actions

__all__ = ["Categorical", "DiagonalGaussian", "Distribution", "distribution", "parameter_count"]

_LOG_2PI = math.log(2 * math.pi)
_MIN_VARIANCE = 1e-6


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
        return torch.split(self.logits, list(self.choices), -1)

    def _log_policies(self) -> list[Tensor]:
        return [logits.log_softmax(-1) for logits in self._parts()]

    def _join(self, parts: list[Tensor]) -> Tensor:
        return parts[0] if len(parts) == 1 else torch.stack(parts, -1)

    def sample(self, random: torch.Generator) -> Tensor:
        actions = []
        for logits in self._parts():
            probabilities = logits.softmax(-1).flatten(0, -2)
            actions.append(_sample_rows(probabilities, random).view(logits.shape[:-1]))
        return self._join(actions)

    def mode(self) -> Tensor:
        return self._join([logits.argmax(-1) for logits in self._parts()])

    def log_prob(self, action: Tensor) -> Tensor:
        actions = [action] if len(self.choices) == 1 else list(action.unbind(-1))
        pairs = zip(self._log_policies(), actions, strict=True)
        return torch.stack([log.gather(-1, a[..., None]).squeeze(-1) for log, a in pairs]).sum(0)

    def entropy(self) -> Tensor:
        return torch.stack([-(log.exp() * log).sum(-1) for log in self._log_policies()]).sum(0)

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


def _sample_rows(probabilities: Tensor, random: torch.Generator) -> Tensor:
    """Draw a column [N, 1] from each row of `probabilities` [N, choices].

    Rows with NaN give an arbitrary column instead of an error: the learner reports diverged weights itself, at the
    update that produced them.
    """
    if probabilities.is_cuda:  # torch.multinomial would fail asynchronously there
        return torch.multinomial(probabilities.nan_to_num(1.0), 1, generator=random)
    try:
        return torch.multinomial(probabilities, 1, generator=random)
    except RuntimeError:
        return torch.multinomial(probabilities.nan_to_num(1.0), 1, generator=random)


def parameter_count(actions: Actions) -> int:
    """Return the number of network outputs that one distribution over `actions` needs."""
    return 2 * actions.parts if actions.is_continuous else sum(actions.choices)


def distribution(actions: Actions, parameters: Tensor) -> Distribution:
    """Return the distributions over `actions` with the given `parameters` […, parameter_count]."""
    if actions.is_continuous:
        return DiagonalGaussian(*parameters.chunk(2, -1))
    return Categorical(parameters, actions.choices)
