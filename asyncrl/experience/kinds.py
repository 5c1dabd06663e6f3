"""What an algorithm asks for, as data: actor, learner and schedule read it, nobody branches on names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from asyncrl.experience.options import ReplayOptions
from asyncrl.experience.rollout import Rollout

__all__ = ["Experience", "FullEpisodes", "OffPolicy", "OnPolicy"]


@dataclass(frozen=True)
class OnPolicy:
    """Every rollout is learned from as soon as it is there, and then forgotten."""

    steps: int
    """T: steps per rollout and environment."""
    overlap: int = 0
    """Steps at the end of a rollout that are the first ones of the next: what a loss must know beyond T."""
    epochs: int = 1
    """Times that an update goes through its rollouts."""
    minibatches: int = 1
    """Parts of equal size that one time takes them in, each with a step of the optimizer."""

    @property
    def slot_length(self) -> int:
        """Steps that a slot holds."""
        return self.steps + self.overlap

    def without_overlap(self, rollout: Rollout) -> Rollout:
        """The steps that no other rollout has."""
        return rollout.until(self.steps)

    def count(self, rollout: Rollout) -> int:
        """Environment steps that learning from it counts as."""
        return self.steps * rollout.reward.shape[1]

    def strip_padding(self, rollouts: Sequence[Rollout]) -> Sequence[Rollout]:
        """Without the steps at the end that are padding in all of them."""
        return rollouts


@dataclass(frozen=True)
class FullEpisodes:
    """A rollout is one whole episode of every environment; what is after its end is masked."""

    longest: int
    """Steps after which an episode is cut off."""

    overlap = 0
    epochs = 1
    minibatches = 1

    @property
    def slot_length(self) -> int:
        return self.longest

    def without_overlap(self, rollout: Rollout) -> Rollout:
        return rollout

    def count(self, rollout: Rollout) -> int:
        return int(rollout.valid.sum())

    def strip_padding(self, rollouts: Sequence[Rollout]) -> Sequence[Rollout]:
        steps = max(int(rollout.valid.any(1).sum()) for rollout in rollouts)
        return [rollout.until(steps) for rollout in rollouts]


@dataclass(frozen=True)
class OffPolicy(OnPolicy):
    """Rollouts are stored, and every update learns from samples of all that is stored."""

    window: int = 1
    """n: the longest return, in steps."""
    options: ReplayOptions = field(default_factory=ReplayOptions)


Experience = OnPolicy | FullEpisodes | OffPolicy
