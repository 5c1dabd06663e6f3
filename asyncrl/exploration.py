"""Random actions of value methods: ε by step, with another floor for every environment."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
import torch
from torch import Tensor

from asyncrl.errors import UsageError
from asyncrl.randomness import Stream, uniform

__all__ = ["Assignment", "Exploration", "Seats", "explore"]


class Assignment(Enum):
    """How floors are given out."""

    SAMPLED = "sampled"
    """drawn from the run's seed with the probabilities of `epsilon_shares`"""
    ROUND_ROBIN = "round-robin"
    """one after the other"""


@dataclass(frozen=True)
class Seats:
    """Which of the run's environments an actor has: what stays with each of them for the whole run."""

    place: Tensor
    """[B] int64: its number among all environments of the run"""
    luck: Tensor
    """[B] float64 in [0, 1): a number of its own, drawn from the run's seed"""

    @classmethod
    def of(cls, seed: int, actor: int, envs: int) -> Seats:
        """The seats of one actor's `envs` environments."""
        luck = uniform(seed, Stream.SEAT, envs, actor)
        return cls(torch.arange(actor * envs, (actor + 1) * envs), torch.from_numpy(luck))


@dataclass(frozen=True)
class Exploration:
    """ε falls linearly from `epsilon_start` to a floor, another one for every environment (Mnih et al. 2016, section 8).

    The paper has a floor per thread, each with one environment; here every environment of an actor has its own.
    """

    epsilon_start: float = 1.0
    """Probability of a random action at the beginning."""
    epsilon_floors: tuple[float, ...] = (0.1, 0.01, 0.5)
    """Where it ends."""
    epsilon_shares: tuple[float, ...] = (0.4, 0.3, 0.3)
    """Share of the environments that ends at each floor."""
    epsilon_steps: int = 1_000_000
    """Steps of the run after which the floor is reached."""
    epsilon_assignment: Assignment = Assignment.SAMPLED
    """How floors are given out."""

    def check(self) -> None:
        """Raise UsageError for what is no probability."""
        for name in ("epsilon_floors", "epsilon_shares"):
            if not getattr(self, name) or not all(0 <= x <= 1 for x in getattr(self, name)):
                raise UsageError(f"--{name.replace('_', '-')} must be numbers between 0 and 1, not {getattr(self, name)}")
        if len(self.epsilon_floors) != len(self.epsilon_shares):
            raise UsageError(
                f"--epsilon-floors has {len(self.epsilon_floors)} numbers and --epsilon-shares {len(self.epsilon_shares)}"
            )
        if abs(sum(self.epsilon_shares) - 1) > 1e-6:
            raise UsageError(f"--epsilon-shares must add up to 1, not {sum(self.epsilon_shares):g}")
        if self.epsilon_steps < 1:
            raise UsageError(f"--epsilon-steps must be 1 or more, not {self.epsilon_steps}")

    def floors(self, seats: Seats) -> Tensor:
        """[B] float64: where each environment's ε ends."""
        floors = torch.tensor(self.epsilon_floors, dtype=torch.float64)
        if self.epsilon_assignment is Assignment.ROUND_ROBIN:
            return floors[seats.place % len(floors)]
        borders = torch.from_numpy(np.cumsum(self.epsilon_shares)[:-1])
        return floors[torch.searchsorted(borders, seats.luck, right=True)]

    def epsilon(self, step: int, seats: Seats) -> Tensor:
        """[B] float64: each environment's ε at the run's `step`."""
        floors = self.floors(seats)
        remaining = max(0.0, 1 - step / self.epsilon_steps)
        return floors + (self.epsilon_start - floors).clamp(min=0) * remaining


def explore(best: Tensor, actions: int, epsilon: Tensor | float, random: torch.Generator) -> Tensor:
    """`best` [B] int64, each replaced by a uniformly random action with its probability `epsilon`."""
    chance = torch.rand(best.shape, generator=random, dtype=torch.float64)
    other = torch.randint(actions, best.shape, generator=random)
    return torch.where(chance < epsilon, other, best)
