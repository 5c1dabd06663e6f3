"""What a policy is: a distribution over actions, made of a network's outputs."""

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
_LEAST_VARIANCE = 1e-6


class Distribution(Protocol):
    """A policy's distribution at every place of […]; actions are […] or […, parts]."""

    def sample(self, random: torch.Generator) -> Tensor:
        """One action at every place."""

    def mode(self) -> Tensor:
        """The most probable action."""

    def log_prob(self, action: Tensor) -> Tensor:
        """[…] float32"""

    def entropy(self) -> Tensor:
        """[…] float32, in nats"""

    def cpu(self) -> Distribution:
        """The same on the CPU."""


@dataclass(frozen=True)
class Categorical:
    """Independent choices; with one choice an action is […], else […, parts]."""

    logits: Tensor
    """[…, Σ choices] float32"""
    choices: tuple[int, ...]

    def _parts(self) -> tuple[Tensor, ...]:
        return torch.split(self.logits, list(self.choices), -1)

    def _log_policies(self) -> list[Tensor]:
        return [logits.log_softmax(-1) for logits in self._parts()]

    def _join(self, parts: list[Tensor]) -> Tensor:
        return parts[0] if len(parts) == 1 else torch.stack(parts, -1)

    def sample(self, random: torch.Generator) -> Tensor:
        drawn = []
        for logits in self._parts():
            flat = logits.softmax(-1).flatten(0, -2)
            drawn.append(_draw(flat, random).view(logits.shape[:-1]))
        return self._join(drawn)

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
    """Independent normal numbers: mean, and variance = softplus of the second output (Mnih et al. 2016, section 9)."""

    mean: Tensor
    """[…, parts] float32"""
    raw_variance: Tensor
    """[…, parts] float32"""

    @property
    def variance(self) -> Tensor:
        return F.softplus(self.raw_variance) + _LEAST_VARIANCE

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


def _draw(probabilities: Tensor, random: torch.Generator) -> Tensor:
    """One column of every row [N, choices]; any where they are not numbers: it is the learner that finds out, in order."""
    if probabilities.is_cuda:  # no error there could be caught
        return torch.multinomial(probabilities.nan_to_num(1.0), 1, generator=random)
    try:
        return torch.multinomial(probabilities, 1, generator=random)
    except RuntimeError:
        return torch.multinomial(probabilities.nan_to_num(1.0), 1, generator=random)


def parameter_count(actions: Actions) -> int:
    """How many numbers a network puts out for one distribution."""
    return 2 * actions.parts if actions.is_continuous else sum(actions.choices)


def distribution(actions: Actions, parameters: Tensor) -> Distribution:
    """The distribution over `actions` that the outputs […, parameter_count] mean."""
    if actions.is_continuous:
        return DiagonalGaussian(*parameters.chunk(2, -1))
    return Categorical(parameters, actions.choices)
