"""Random actions of value methods: ε by step, with another floor for every environment."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import numpy as np
import torch
from torch import Tensor

from asyncrl.common.randomness import Stream, uniform
from asyncrl.common.validation import within
from asyncrl.errors import UsageError

__all__ = ["Assignment", "Decay", "EnvSlots", "Exploration", "explore"]


class Assignment(Enum):
    """How floors are given out."""

    SAMPLED = "sampled"
    """drawn from the run's seed with the probabilities of `final_epsilon_probabilities`"""
    ROUND_ROBIN = "round-robin"
    """one after the other"""
    LADDER = "ladder"
    """ε^(1 + 7·i / (N − 1)) for environment i of N, ε the first of `final_epsilons` (Horgan et al. 2018, Ape-X)"""


class Decay(Enum):
    """How ε falls."""

    LINEAR = "linear"
    COMPOUND = "compound"
    """by the same factor with every step"""


@dataclass(frozen=True)
class EnvSlots:
    """Which of the run's environments an actor has: what stays with each of them for the whole run."""

    index: Tensor
    """[B] int64: its number among all environments of the run"""
    uniform: Tensor
    """[B] float64 in [0, 1): a number of its own, drawn from the run's seed"""
    num_envs: int
    """Environments of the run"""

    @classmethod
    def of(cls, seed: int, actor: int, envs: int, actors: int = 1) -> EnvSlots:
        """The slots of the `envs` environments of one of `actors` actors."""
        draws = uniform(seed, Stream.SEAT, envs, actor)
        return cls(torch.arange(actor * envs, (actor + 1) * envs), torch.from_numpy(draws), actors * envs)


@dataclass(frozen=True)
class Exploration:
    """ε falls from `epsilon_start` to a floor, another one for every environment (Mnih et al. 2016, section 8).

    The paper has a floor per thread, each with one environment; here every environment of an actor has its own.
    """

    epsilon_start: float = 1.0
    """Probability of a random action at the beginning; above 1, actions are all random for a while."""
    final_epsilons: tuple[float, ...] = (0.1, 0.01, 0.5)
    """Where it ends."""
    final_epsilon_probabilities: tuple[float, ...] = (0.4, 0.3, 0.3)
    """Share of the environments that ends at each floor."""
    epsilon_steps: int = 1_000_000
    """Steps of the run after which the floor is reached."""
    epsilon_decay: Decay = Decay.LINEAR
    """How it gets there."""
    hold_random_actions: bool = False
    """Hold a random action until the rollout ends, --t-max steps: that leads further than as many single ones do
    (Dabney et al. 2021, "Temporally-Extended ε-Greedy Exploration", with one duration)."""
    epsilon_assignment: Assignment = Assignment.SAMPLED
    """How floors are given out."""
    epsilon_perturbation: float = 0.0
    """Raise ε by this much every --epsilon-perturbation-every steps; it has worn off when the next time comes."""
    epsilon_perturbation_every: int = 100_000
    """Steps between perturbations."""

    def check(self) -> None:
        """Raise UsageError for what is no probability."""
        within(self, 0, 1, "final_epsilons", "final_epsilon_probabilities", "epsilon_perturbation")
        within(self, 0, math.inf, "epsilon_start")
        within(self, 1, math.inf, "epsilon_steps", "epsilon_perturbation_every")
        if not self.final_epsilons:
            raise UsageError("--final-epsilons needs one number or more")
        values, probabilities = len(self.final_epsilons), len(self.final_epsilon_probabilities)
        if values != probabilities:
            raise UsageError(f"--final-epsilons has {values} numbers and --final-epsilon-probabilities {probabilities}")
        if abs(sum(self.final_epsilon_probabilities) - 1) > 1e-6:
            total = sum(self.final_epsilon_probabilities)
            raise UsageError(f"--final-epsilon-probabilities must add up to 1, not {total:g}")
        if self.epsilon_decay is Decay.COMPOUND and not min(self.epsilon_start, *self.final_epsilons) > 0:
            raise UsageError(
                "--epsilon-decay compound never reaches 0: --epsilon-start and --final-epsilons must be positive"
            )

    @property
    def falls(self) -> bool:
        """Is ε higher at the beginning than at the end, in any environment?"""
        return self.epsilon_start > min(self.final_epsilons)

    def finals(self, slots: EnvSlots) -> Tensor:
        """[B] float64: where each environment's ε ends."""
        finals = torch.tensor(self.final_epsilons, dtype=torch.float64)
        match self.epsilon_assignment:
            case Assignment.ROUND_ROBIN:
                return finals[slots.index % len(finals)]
            case Assignment.LADDER:
                return finals[0] ** (1 + 7 * slots.index / max(1, slots.num_envs - 1))
        borders = torch.from_numpy(np.cumsum(self.final_epsilon_probabilities)[:-1])
        return finals[torch.searchsorted(borders, slots.uniform, right=True)]

    def epsilon(self, step: int, slots: EnvSlots) -> Tensor:
        """[B] float64: each environment's ε at the run's `step`."""
        finals = self.finals(slots)
        start, remaining = finals.clamp(min=self.epsilon_start), max(0.0, 1 - step / self.epsilon_steps)
        if self.epsilon_decay is Decay.COMPOUND:
            epsilon = finals * (start / finals) ** remaining
        else:
            epsilon = finals + (start - finals) * remaining
        every = self.epsilon_perturbation_every
        return epsilon if step < every else epsilon + self.epsilon_perturbation * (1 - step % every / every)


def explore(best: Tensor, actions: int, epsilon: Tensor | float, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """`best` [B] int64, each replaced by a uniformly random action with its probability `epsilon`; and where [B] it was."""
    chance = torch.rand(best.shape, generator=random, dtype=torch.float64)
    other = torch.randint(actions, best.shape, generator=random)
    return torch.where(chance < epsilon, other, best), chance < epsilon
