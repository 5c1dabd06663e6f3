"""Samples of the replay buffer: transitions of single steps, or the steps of stored sequences."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import torch
from torch import Tensor

from asyncrl.common.sharding import BatchShard, masked_mean, mean

__all__ = ["PreparedSample", "Sample", "Unroll"]


_ETA = 0.9
"""Weight η of the largest error of a sequence in its priority."""


@dataclass(frozen=True)
class Unroll:
    """M stored sequences of W steps, from which a recurrent network computes the outputs for a sample's transitions.

    The first `burn_in` steps only bring the network's state up to date (Kapturowski et al. 2019, "Recurrent Experience
    Replay in Distributed Reinforcement Learning", section 3.2). Each of the next `length` steps begins a transition of
    the sample; they are numbered step by step, N = length·M.
    """

    observation: Tensor
    """[W, M, *O]"""
    state: Tensor
    """[M, S] float32: the acting network's recurrent state before the first step."""
    valid: Tensor
    """[W, M] bool: False on reset steps, after which the state is zero."""
    learned: Tensor
    """[N] bool: whether a transition's step is valid; others have no weight."""
    later: Tensor
    """[N] int64: where the transitions end, as an index into the flattened steps after the burn-in, (W − burn_in)·M."""
    burn_in: int
    length: int

    def part(self, shard: BatchShard, rank: int) -> Unroll:
        """Return the sequences of learner `rank`."""
        start, stop = shard.bounds(rank)
        step, column = self.later // shard.size, self.later % shard.size
        return replace(
            self,
            observation=shard.part(self.observation, 1, rank),
            state=shard.part(self.state, 0, rank),
            valid=shard.part(self.valid, 1, rank),
            learned=shard.part(self.learned, 0, rank),
            later=shard.part(step * (stop - start) + column - start, 0, rank),
        )

    def to(self, device: torch.device) -> Unroll:
        """Return a copy on `device`."""
        return replace(
            self,
            observation=self.observation.to(device),
            state=self.state.to(device),
            valid=self.valid.to(device),
            learned=self.learned.to(device),
            later=self.later.to(device),
        )


@dataclass(frozen=True)
class Sample:
    """N stored transitions of n steps each, or fewer where the episode ends earlier."""

    observation: Tensor
    """[N, *O]: the observation before the first step; with an `unroll` empty."""
    action: Tensor
    """[N, …], shape and dtype as `Actions` describes: the action of the first step."""
    reward: Tensor
    """[n, N] float32, transformed as the environment's contract says; 0 after the episode's end."""
    next_observation: Tensor
    """[N, *O]: the observation n steps later, or the episode's last one if it ends earlier; with an `unroll` empty."""
    steps: Tensor
    """[N] int64: steps from `observation` to `next_observation`, at most n."""
    terminated: Tensor
    """[N] bool: whether the episode terminated at `next_observation`."""
    weight: Tensor
    """[N] float32: importance weights; 1 where sampling is uniform."""
    index: Tensor
    """[N] int64: positions in the replay buffer, for `ReplayBuffer.prioritize`; [M] of the sequences with an `unroll`."""
    number: int = field(default=0, kw_only=True)
    """Gradient steps that the run took before the one that learns from this sample."""
    random: torch.Generator = field(default_factory=torch.Generator, kw_only=True)
    """Source of the loss's random numbers, on the CPU."""
    unroll: Unroll | None = field(default=None, kw_only=True)
    """The sequences that the transitions are steps of, for recurrent networks."""

    def to(self, device: torch.device) -> Self:
        """Return a copy on `device`."""
        unroll = None if self.unroll is None else self.unroll.to(device)
        return replace(self, unroll=unroll, **{name: getattr(self, name).to(device) for name in self._tensors()})

    def split(self, size: int) -> list[Self]:
        """Divide into samples of `size` transitions, for one gradient step each; the last one may be smaller.

        Sequences are sampled for one gradient step each, and not divided.
        """
        if self.unroll is not None:
            return [self]
        names = self._tensors()
        parts = zip(*(getattr(self, name).split(size, 1 if name == "reward" else 0) for name in names), strict=True)
        return [
            replace(self, **dict(zip(names, part, strict=True)), number=self.number + i) for i, part in enumerate(parts)
        ]

    def part(self, shard: BatchShard, rank: int) -> Self:
        """Return the samples of learner `rank` in a sample of one or more batches. Sequences are not divided in time."""
        unroll = None if self.unroll is None else self.unroll.part(shard, rank)
        axes = {name: 1 if name == "reward" else 0 for name in self._tensors()}
        parts: dict[str, Any] = {name: shard.part(getattr(self, name), axis, rank) for name, axis in axes.items()}
        return replace(self, unroll=unroll, **parts)

    def _tensors(self) -> list[str]:
        return [own.name for own in fields(self) if isinstance(getattr(self, own.name), Tensor)]

    def with_targets(self, target_q: Tensor, target_outputs: Tensor) -> PreparedSample:
        """Add the target network's outputs for `next_observation`: `target_q` [N, A], `target_outputs` [N, A, K]."""
        own = {one.name: getattr(self, one.name) for one in fields(Sample)}
        return PreparedSample(**own, target_q=target_q, target_outputs=target_outputs)

    def errors(self, td_errors: Tensor) -> Tensor:
        """Return the errors that priorities are computed from, for those of the transitions [N].

        For sequences it is η·max + (1 − η)·mean of their steps, η = 0.9 (Kapturowski et al. 2019, section 2.3).
        """
        if self.unroll is None:
            return td_errors
        learned = self.unroll.learned.view(self.unroll.length, -1)
        errors = torch.where(learned, td_errors.view_as(learned), 0.0)
        return _ETA * errors.amax(0) + (1 - _ETA) * errors.sum(0) / learned.sum(0).clamp(min=1)

    def mean(self, x: Tensor) -> Tensor:
        """Return the mean of `x` [N] over the transitions; those of sequences that begin with a reset step do not count."""
        if self.unroll is None:
            return mean(x)
        return masked_mean(x, self.unroll.learned)

    def returns(self, discount: float) -> Tensor:
        """Return the discounted sum of rewards Σ_k γ^k·r_k [N] up to `next_observation`."""
        if len(self.reward) == 1:
            return self.reward[0]
        powers = discount ** torch.arange(len(self.reward), dtype=torch.float32, device=self.reward.device)
        return (powers[:, None] * self.reward).sum(0)

    def bootstrap(self, discount: float) -> Tensor:
        """Return the discount [N] of the value of `next_observation`: γ^steps, or 0 if the episode terminated."""
        return torch.where(self.terminated, 0.0, discount ** self.steps.float())


@dataclass(frozen=True)
class PreparedSample(Sample):
    """A sample with the target network's outputs for `next_observation`."""

    target_q: Tensor
    """[N, A] float32: action values of the target network."""
    target_outputs: Tensor
    """[N, A, K] float32: the outputs that `target_q` is computed from."""
