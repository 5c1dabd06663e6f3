"""How much is stored and how much is learned from it, as data; and whether there is room for that."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import torch

from asyncrl.common.validation import within
from asyncrl.errors import UsageError
from asyncrl.experience.rollout import Field, Layout

__all__ = ["ReplayOptions", "ReplayPlan", "Storage"]


class Storage(Enum):
    """Where stored steps lie."""

    RAM = "ram"
    DISK = "disk"
    """in a file mapped into memory, without a name: nothing can be left behind"""


@dataclass(frozen=True)
class ReplayOptions:
    """What is kept, and how much is learned from it."""

    capacity: int = 1_000_000
    """Steps that are kept, over all environments."""
    batch_size: int = 32
    """Steps that one step of the optimizer learns from."""
    replay_ratio: float = 0.25
    """Steps of the optimizer per environment step: enforced, actors and learner wait for each other."""
    learning_starts: int = 50_000
    """Steps of the run before the first step of the optimizer."""
    prioritized: bool = False
    """Sample in proportion to errors (Schaul et al. 2016) instead of uniformly."""
    priority_exponent: float = 0.6
    """α: 0 is uniform, 1 in full proportion."""
    importance_exponent: float = 0.4
    """β at the beginning; it rises to 1 over the run: how much of the bias of sampling is taken back. Weights are divided
    by the largest in their batch."""
    storage: Storage = Storage.RAM
    """Where stored steps lie."""

    def check(self, window: int) -> None:
        """Raise UsageError for numbers out of range; `window` is the longest return in steps."""
        within(self, 1, math.inf, "capacity", "batch_size", "learning_starts")
        within(self, 0, 1, "priority_exponent", "importance_exponent")
        within(self, 0, 1_000, "replay_ratio", above=True)
        if self.capacity < self.batch_size + window:
            raise UsageError(
                f"--capacity {self.capacity}: a batch of {self.batch_size} steps with returns of {window} steps needs "
                f"{self.batch_size + window} or more"
            )

    def num_updates(self, step: int) -> int:
        """Steps of the optimizer that belong to the run's first `step` environment steps."""
        return math.floor(max(0, step - self.learning_starts) * self.replay_ratio + 1e-9)


@dataclass(frozen=True)
class ReplayPlan:
    """How much memory a ReplayBuffer takes, and whether that goes."""

    layout: Layout
    actors: int
    options: ReplayOptions
    window: int

    @property
    def rows(self) -> int:
        """Of each environment's ring: its share of the capacity, and the row that is only seen so far."""
        return -(-self.options.capacity // (self.actors * self.layout.envs)) + 1

    @property
    def nbytes(self) -> int:
        return sum(field.nbytes for field in self.fields().values())

    def fields(self) -> dict[str, Field]:
        """What is kept of every row."""
        layout, shape = self.layout, (self.actors, self.rows, self.layout.envs)
        choice = torch.int32 if not layout.action.dtype.is_floating_point else layout.action.dtype
        return {
            "frames": Field((*shape, *layout.frame.shape), layout.frame.dtype),
            "action": Field((*shape, *layout.action.shape), choice),
            "reward": Field(shape, torch.float32),
            "terminated": Field(shape, torch.bool),
            "reset": Field(shape, torch.bool),
        }

    def check(self, free: int) -> None:
        """Raise UsageError where it cannot work, or takes more than the `free` bytes that there are."""
        options, layout = self.options, self.layout
        envs = self.actors * layout.envs
        fewest = envs * (layout.steps + self.window + layout.stack)
        if options.capacity < fewest:
            raise UsageError(
                f"--capacity {options.capacity} is too small for {envs} environments, rollouts of {layout.steps} steps and "
                f"returns of {self.window}: {fewest} or more"
            )
        if options.learning_starts < envs * (self.window + 1):
            raise UsageError(
                f"--learning-starts {options.learning_starts}: {envs} environments and returns of {self.window} steps need "
                f"{envs * (self.window + 1)} or more"
            )
        if self.nbytes > free:
            fits = 10 ** int(math.log10(options.capacity * free / self.nbytes))
            fits *= max(1, int(options.capacity * free / self.nbytes / fits))
            raise UsageError(f"a replay memory of {self} does not fit into {free / 1e9:.1f} GB: try --capacity {fits}")

    def __str__(self) -> str:
        shape = self.layout.frame.shape
        seen = "×".join(map(str, shape)) + " frames" if len(shape) > 1 else f"observations of {math.prod(shape)} numbers"
        size = f"{self.nbytes / 1e9:.1f} GB" if self.nbytes >= 1e9 else f"{self.nbytes / 1e6:.1f} MB"
        return f"{self.options.capacity:,} steps, {seen}, {size}"
