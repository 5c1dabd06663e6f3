"""ε-greedy exploration of value-based methods, with a different final ε per environment."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from asyncrl.common.randomness import Stream, uniform
from asyncrl.common.search_space import Range
from asyncrl.common.validation import within
from asyncrl.errors import UsageError

__all__ = ["Assignment", "Decay", "EnvSlots", "Exploration", "explore"]


class Assignment(Enum):
    """The assignment of final ε to environments."""

    SAMPLED = "sampled"
    """drawn with `final_epsilon_probabilities`, seeded by the run"""
    ROUND_ROBIN = "round-robin"
    """environment i of the run gets entry i modulo the length of `final_epsilons`"""
    LADDER = "ladder"
    """ε^(1 + 7·i/(N − 1)) for environment i of N, where ε is the first of `final_epsilons` (Horgan et al. 2018, Ape-X)"""


class Decay(Enum):
    """The shape of ε's decay."""

    LINEAR = "linear"
    COMPOUND = "compound"
    """exponential: by the same factor at every step"""


@dataclass(frozen=True)
class EnvSlots:
    """The identities of an actor's B environments, fixed for the whole run."""

    index: Tensor
    """[B] int64: index among all environments of the run."""
    uniform: Tensor
    """[B] float64 in [0, 1): a random number per environment, drawn from the run's seed."""
    num_envs: int
    """Number of environments in the run."""
    _newest: list[tuple[Exploration, int, Tensor]] = field(default_factory=list, init=False, repr=False, compare=False)
    """What `epsilon` returned last, and what it was called with."""

    def epsilon(self, exploration: Exploration, step: int) -> Tensor:
        """Return `exploration.epsilon` at the run's `step`, [B] float64, which all steps of a rollout share."""
        if self._newest:
            same, at, epsilon = self._newest[0]
            if same is exploration and at == step:
                return epsilon
        epsilon = exploration.epsilon(step, self)
        self._newest[:] = [(exploration, step, epsilon)]
        return epsilon

    @classmethod
    def of(cls, seed: int, actor: int, envs: int, actors: int = 1) -> EnvSlots:
        """Return the slots of the `envs` environments of actor number `actor` of `actors`."""
        draws = uniform(seed, Stream.ENV_SLOT, envs, actor)
        return cls(torch.arange(actor * envs, (actor + 1) * envs), torch.from_numpy(draws), actors * envs)


@dataclass(frozen=True)
class Exploration:
    """ε decays from `epsilon_start` to a final value that differs between environments (Mnih et al. 2016, section 8).

    In the paper each thread has one environment and a final ε; here every environment of an actor has its own.
    """

    epsilon_start: float = 1.0
    """Initial probability ε of a random action; above 1, all actions are random until ε falls below 1."""
    final_epsilons: tuple[float, ...] = (0.1, 0.01, 0.5)
    """Final values of ε."""
    final_epsilon_probabilities: tuple[float, ...] = (0.4, 0.3, 0.3)
    """Probability of each final ε."""
    epsilon_steps: Annotated[int, Range(1_000, 1_000_000, log=True)] = 1_000_000
    """Environment steps until ε reaches its final value."""
    epsilon_decay: Decay = Decay.LINEAR
    """Shape of the decay."""
    hold_random_actions: bool = False
    """Repeat a random action until the rollout ends (--t-max steps), which explores further than independent ones
    (Dabney et al. 2021, "Temporally-Extended ε-Greedy Exploration", with a fixed duration)."""
    epsilon_assignment: Assignment = Assignment.SAMPLED
    """Assignment of final ε to environments."""
    epsilon_perturbation: float = 0.0
    """Raise ε by this much every --epsilon-perturbation-every steps; the rise decays linearly to 0 until the next."""
    epsilon_perturbation_every: int = 100_000
    """Environment steps between perturbations."""

    def check(self) -> None:
        """Raise UsageError for values out of range and lists that do not match."""
        within(self, 0, 1, "final_epsilons", "final_epsilon_probabilities", "epsilon_perturbation")
        within(self, 0, math.inf, "epsilon_start")
        within(self, 1, math.inf, "epsilon_steps", "epsilon_perturbation_every")
        if not self.final_epsilons:
            raise UsageError("--final-epsilons must have at least one number")
        values, probabilities = len(self.final_epsilons), len(self.final_epsilon_probabilities)
        if values != probabilities:
            raise UsageError(
                f"--final-epsilons has {values} numbers but --final-epsilon-probabilities has {probabilities}; "
                "give one probability per ε"
            )
        if abs(sum(self.final_epsilon_probabilities) - 1) > 1e-6:
            total = sum(self.final_epsilon_probabilities)
            raise UsageError(f"--final-epsilon-probabilities must add up to 1, not {total:g}")
        if self.epsilon_decay is Decay.COMPOUND and not min(self.epsilon_start, *self.final_epsilons) > 0:
            raise UsageError(
                "--epsilon-decay compound needs positive --epsilon-start and --final-epsilons; use linear to reach 0"
            )

    @property
    def decays(self) -> bool:
        """Whether ε decays in any environment."""
        is_ladder = self.epsilon_assignment is Assignment.LADDER
        return self.epsilon_start > (self.final_epsilons[0] ** 8 if is_ladder else min(self.final_epsilons))

    def finals(self, slots: EnvSlots) -> Tensor:
        """Return the final ε of each environment, [B] float64."""
        finals = torch.tensor(self.final_epsilons, dtype=torch.float64)
        if len(finals) == 1 and self.epsilon_assignment is not Assignment.LADDER:
            return finals.expand(len(slots.index))
        match self.epsilon_assignment:
            case Assignment.ROUND_ROBIN:
                return finals[slots.index % len(finals)]
            case Assignment.LADDER:
                return finals[0] ** (1 + 7 * slots.index / max(1, slots.num_envs - 1))
        cumulative = torch.from_numpy(np.cumsum(self.final_epsilon_probabilities)[:-1])
        return finals[torch.searchsorted(cumulative, slots.uniform, right=True)]

    def epsilon(self, step: int, slots: EnvSlots) -> Tensor:
        """Return the ε of each environment at the run's `step`, [B] float64."""
        finals = self.finals(slots)
        start = finals.clamp(min=self.epsilon_start)
        remaining = max(0.0, 1 - step / self.epsilon_steps)
        if self.epsilon_decay is Decay.COMPOUND:
            epsilon = finals * (start / finals) ** remaining
        else:
            epsilon = finals + (start - finals) * remaining
        period = self.epsilon_perturbation_every
        if step < period:
            return epsilon
        return epsilon + self.epsilon_perturbation * (1 - step % period / period)


def explore(
    best: Tensor,
    actions: int,
    epsilon: Tensor | float,
    random: torch.Generator,
    legal: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Replace each of the `best` actions [B] int64 by a uniformly random one with probability `epsilon`.

    Returns the actions [B] int64, and [B] bool: True where the action is a random one. `actions` is the number of
    actions to draw from, of which only those `legal`, [B, actions] bool, are drawn; `epsilon` is a number or [B].
    """
    explored = torch.rand(best.shape, generator=random, dtype=torch.float64) < epsilon
    if legal is None:
        other = torch.randint(actions, best.shape, generator=random)
    else:
        ranks = legal.cumsum(-1)  # 1 for the first legal action
        count = ranks[:, -1]
        drawn = torch.rand(best.shape, generator=random, dtype=torch.float64) * count
        other = (ranks > torch.minimum(drawn.long(), count - 1)[:, None]).int().argmax(-1)
    return torch.where(explored, other, best), explored
