"""Random actions: the baseline for every score."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from asyncrl.algorithms.base import ActContext, ActionOutput, Algorithm, Loss
from asyncrl.algorithms.sampling import sample_action
from asyncrl.common.validation import within
from asyncrl.envs.spaces import Spaces
from asyncrl.experience import Batch, OnPolicy
from asyncrl.networks import MaskReader, NetworkConfig, PolicyValue, mask_out
from asyncrl.networks.distributions import distribution, parameter_count

__all__ = ["Random", "UniformPolicy"]


class UniformPolicy(nn.Module):
    """A uniform policy. Its single unused parameter keeps the learner's weight vector non-empty."""

    state_size = 0

    def __init__(self, config: NetworkConfig, spaces: Spaces, dtype: torch.dtype, generator: torch.Generator) -> None:
        super().__init__()
        self.actions = spaces.actions
        self._mask = MaskReader(spaces) if spaces.is_masked else None
        self.weight = nn.Parameter(torch.zeros(1, dtype=torch.float32))

    def forward(self, observation: Tensor, state: Tensor, valid: Tensor | None = None) -> PolicyValue:
        zeros = self.weight.expand(*observation.shape[:2], parameter_count(self.actions))
        legal = None if self._mask is None else self._mask.legal(observation)
        return PolicyValue(distribution(self.actions, mask_out(zeros, legal)), zeros[..., 0], state)


@dataclass(frozen=True)
class Random(Algorithm):
    """Uniformly random actions among those allowed, discrete or within [−1, 1]. Nothing is learned: L = 0."""

    name: ClassVar[str] = "random"
    summary: ClassVar[str] = "uniformly random actions: the baseline"
    network: ClassVar = UniformPolicy

    t_max: int = 20
    """Steps per rollout."""

    def check(self, spaces: Spaces, network: NetworkConfig) -> None:
        within(self, 1, math.inf, "t_max")

    def experience(self) -> OnPolicy:
        return OnPolicy(self.t_max)

    def act(self, network: UniformPolicy, observation: Tensor, state: Tensor, context: ActContext) -> ActionOutput:
        output = sample_action(network, observation, state, context._replace(greedy=False))
        if not output.action.is_floating_point():
            return output
        uniform = torch.rand(output.action.shape, generator=context.random, dtype=torch.float32)
        return output._replace(action=2 * uniform - 1)

    def loss(self, network: UniformPolicy, target: UniformPolicy, batch: Batch) -> Loss:
        return Loss.of(0.0 * network.weight.sum())
