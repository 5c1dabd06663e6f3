"""The experience that an algorithm learns from: fresh rollouts, whole episodes, or samples of a replay buffer.

An algorithm returns one of these classes from `Algorithm.experience`. It defines how long
an actor's rollouts are, and on which batches the learner takes its gradient steps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from asyncrl.envs.rewards import Rewards
from asyncrl.errors import UsageError
from asyncrl.experience.batch import Batch, PreparedBatch
from asyncrl.experience.options import ReplayOptions, SequenceOptions, sample_steps
from asyncrl.experience.rollout import Rollout
from asyncrl.experience.samples import PreparedSample, Sample

__all__ = ["Experience", "FullEpisodes", "OffPolicy", "OnPolicy", "SampleSource", "UpdateContext"]


class SampleSource(Protocol):
    """Where samples come from: a replay buffer, or the share of one learner of several."""

    @property
    def batch_size(self) -> int:
        """Samples of one gradient step."""

    def extend(self, rollout: Rollout) -> None:
        """Store the steps of `rollout`."""

    def samples(self, count: int, random: torch.Generator, progress: float, rewards: Rewards) -> Iterator[Sample]:
        """Yield samples that add up to `count` batches; `progress` in [0, 1] is the fraction of the run completed."""

    def prioritize(self, index: Tensor, errors: Tensor) -> None:
        """Set the priorities of the steps at `index` [N] from their `errors` [N]."""


@dataclass(frozen=True)
class UpdateContext:
    """What the batches of one update are made with."""

    rewards: Rewards
    """Converts the environment's rewards to those that are learned from."""
    device: torch.device
    random: torch.Generator
    prepare: Callable[[Any], Any]
    """`Algorithm.prepare` of a batch or sample: adds targets and advantages."""
    target_moves: bool
    """The target network changes with every gradient step: it follows the network (`tau`), or is the network itself."""
    source: SampleSource | None
    step: int
    """Environment steps learned from before this update."""
    steps: int
    """Environment steps that this update's rollouts count as."""
    total_steps: int
    """Environment steps of the whole run."""


class Experience(ABC):
    """What the three kinds have in common, with the values that most of them have."""

    overlap: int = 0
    """Steps at the end of a rollout that are also the first ones of the next: what a loss needs to know beyond T."""
    epochs: int = 1
    """Passes of an update over its rollouts."""
    minibatches: int = 1
    """Minibatches of equal size in each pass, with a gradient step each."""
    full_episodes: bool = False
    """A rollout is one whole episode of each environment: an actor carries nothing over from one to the next."""
    replay: ReplayOptions | None = None
    """Settings of the replay buffer; None without one."""
    n_step: int = 1
    """Longest return of a stored step, in steps."""
    sequences: SequenceOptions | None = None
    """Samples are sequences of stored steps; None for single transitions."""

    @property
    def sample_steps(self) -> int:
        """Stored steps that one sample spans."""
        return sample_steps(self.n_step, self.sequences)

    @property
    @abstractmethod
    def slot_length(self) -> int:
        """Steps that a slot holds: T and the overlap."""

    @abstractmethod
    def count(self, rollout: Rollout) -> int:
        """Environment steps that learning from `rollout` counts as."""

    @abstractmethod
    def batches(self, rollouts: Sequence[Rollout], update: UpdateContext) -> Iterator[Batch | PreparedBatch | Sample]:
        """The batches of one update, in order; each is followed by one gradient step."""

    def without_overlap(self, rollout: Rollout) -> Rollout:
        """The steps that belong to this rollout alone."""
        return rollout

    def strip_padding(self, rollouts: Sequence[Rollout]) -> Sequence[Rollout]:
        """The rollouts without steps at the end that are padding in all of them."""
        return rollouts


def _prepared(rollouts: Sequence[Rollout], update: UpdateContext) -> Any:
    """The whole update's batch, as the algorithm's `prepare` returns it: a `Batch` or a `PreparedBatch`."""
    return update.prepare(Batch.of(rollouts, update.rewards, update.device))


@dataclass(frozen=True)
class OnPolicy(Experience):
    """Rollouts of T steps, learned from once they are complete and then discarded."""

    steps: int
    """T: steps per rollout and environment."""
    overlap: int = 0
    epochs: int = 1
    minibatches: int = 1

    def __post_init__(self) -> None:
        if self.overlap > self.steps:
            raise UsageError(
                f"OnPolicy: the overlap of {self.overlap} steps is longer than a rollout, which has {self.steps}"
            )

    @property
    def slot_length(self) -> int:
        return self.steps + self.overlap

    def count(self, rollout: Rollout) -> int:
        return self.steps * rollout.reward.shape[1]

    def batches(self, rollouts: Sequence[Rollout], update: UpdateContext) -> Iterator[Batch | PreparedBatch]:
        batch = _prepared(rollouts, update)
        for _ in range(self.epochs):
            yield from [batch] if self.minibatches == 1 else batch.minibatches(self.minibatches, update.random)

    def without_overlap(self, rollout: Rollout) -> Rollout:
        return rollout.until(self.steps)


@dataclass(frozen=True)
class FullEpisodes(Experience):
    """One whole episode of each environment, padded to `longest` steps; the padding is masked."""

    longest: int
    """Steps after which an episode is cut off."""

    full_episodes = True

    @property
    def slot_length(self) -> int:
        return self.longest

    def count(self, rollout: Rollout) -> int:
        return int(rollout.valid.sum())

    def batches(self, rollouts: Sequence[Rollout], update: UpdateContext) -> Iterator[Batch]:
        yield _prepared(rollouts, update)

    def strip_padding(self, rollouts: Sequence[Rollout]) -> Sequence[Rollout]:
        steps = max(int(rollout.valid.any(1).sum()) for rollout in rollouts)
        return [rollout.until(steps) for rollout in rollouts]


@dataclass(frozen=True)
class OffPolicy(Experience):
    """Rollouts of T steps that go into a replay buffer; every update learns from samples of the whole buffer."""

    steps: int
    """T: steps per rollout and environment."""
    replay: ReplayOptions = field(default_factory=ReplayOptions)
    n_step: int = 1
    sequences: SequenceOptions | None = None

    @property
    def slot_length(self) -> int:
        return self.steps

    def count(self, rollout: Rollout) -> int:
        return self.steps * rollout.reward.shape[1]

    def batches(self, rollouts: Sequence[Rollout], update: UpdateContext) -> Iterator[PreparedSample]:
        """As many batches as the replay ratio asks for, after the rollouts have been stored.

        While the target network does not change, it is evaluated on many batches at once.
        """
        source = update.source
        assert source is not None
        for rollout in rollouts:
            source.extend(rollout)
        number = self.replay.num_updates(update.step)
        count = self.replay.num_updates(update.step + update.steps) - number
        progress = min(1.0, update.step / update.total_steps)
        for sample in source.samples(count, update.random, progress, update.rewards):
            moved = replace(sample.to(update.device), number=number, random=update.random)
            number += len(moved.index) // source.batch_size
            for part in moved.split(source.batch_size) if update.target_moves else [moved]:
                prepared: PreparedSample = update.prepare(part)
                yield from prepared.split(source.batch_size)
