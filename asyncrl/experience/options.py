"""Replay settings, and the memory that a replay buffer needs."""

from __future__ import annotations

import math
import os
import tempfile
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor

from asyncrl.common.os_errors import attach_path
from asyncrl.common.search_space import Choices
from asyncrl.common.validation import within
from asyncrl.errors import UsageError
from asyncrl.experience.rollout import Field, Layout

__all__ = ["ReplayOptions", "ReplayPlan", "ReplayStorage", "SequenceOptions", "sample_steps"]


class ReplayStorage(Enum):
    """Where the replay buffer is stored."""

    RAM = "ram"
    DISK = "disk"
    """in an unnamed memory-mapped file, which disappears with the process"""
    GPU = "gpu"
    """frames on the learner's GPU, the rest in RAM: samples need not be copied there"""


@dataclass(frozen=True)
class ReplayOptions:
    """Settings of the replay buffer."""

    capacity: int = 1_000_000
    """Capacity in environment steps, over all environments."""
    batch_size: Annotated[int, Choices(32, 64, 128, 256)] = 32
    """Transitions per gradient step."""
    replay_ratio: Annotated[float, Choices(0.125, 0.25, 0.5, 1.0)] = 0.25
    """Gradient steps per environment step. It is exact: actors and learner wait for each other."""
    learning_starts: int = 50_000
    """Environment steps before the first gradient step."""
    prioritized: bool = False
    """Prioritized replay: sample in proportion to TD errors (Schaul et al. 2016)."""
    priority_exponent: float = 0.6
    """Exponent α of priorities: 0 for uniform sampling, 1 for fully proportional."""
    importance_exponent: float = 0.4
    """Initial exponent β of importance weights, which rises linearly to 1 over the run. Weights are divided by the largest
    one in their batch."""
    replay_storage: ReplayStorage = ReplayStorage.RAM
    """Where the replay buffer is stored."""

    def check(self, n_step: int) -> None:
        """Raise UsageError for values out of range, given the longest return `n_step` in steps."""
        within(self, 1, math.inf, "capacity", "batch_size", "learning_starts")
        within(self, 0, 1, "priority_exponent", "importance_exponent")
        within(self, 0, 1_000, "replay_ratio", above=True)
        if self.capacity < self.batch_size + n_step:
            raise UsageError(
                f"--capacity must be {self.batch_size + n_step} or more for --batch-size {self.batch_size} and "
                f"{n_step}-step returns, not {self.capacity}"
            )

    def num_updates(self, step: int) -> int:
        """Return the number of gradient steps due after `step` environment steps."""
        return math.floor(max(0, step - self.learning_starts) * self.replay_ratio + 1e-9)


@dataclass(frozen=True)
class SequenceOptions:
    """Settings of replay for recurrent networks (R2D2, Kapturowski et al. 2019)."""

    sequence_length: int = 0
    """Steps of a replayed sequence that are learned from, for recurrent networks; 0 for single steps. A batch then has
    --batch-size sequences, which begin where a rollout did."""
    burn_in: int = 10
    """Steps replayed before each sequence to warm up the recurrent state; not learned from."""

    def check(self) -> None:
        """Raise UsageError for values out of range."""
        within(self, 0, 100_000, "sequence_length", "burn_in")

    @property
    def steps(self) -> int:
        """Steps of a whole sequence."""
        return self.burn_in + self.sequence_length


def sample_steps(n_step: int, sequences: SequenceOptions | None) -> int:
    """Return the stored steps that one sample spans: those of an n-step return, or of a sequence and its last return."""
    return n_step if sequences is None else sequences.steps + n_step - 1


@dataclass(frozen=True)
class ReplayPlan:
    """The shapes of a replay buffer, and checks that it fits the run and the memory."""

    layout: Layout
    """Layout of the rollouts to store."""
    actors: int
    """Number of actors A."""
    options: ReplayOptions
    n_step: int
    """Longest return n, in steps."""
    sequences: SequenceOptions | None = None
    """Samples are sequences; None for single transitions."""

    @property
    def span(self) -> int:
        """Stored steps that one sample spans."""
        return sample_steps(self.n_step, self.sequences)

    @property
    def states(self) -> int:
        """Recurrent states per environment: one for each rollout that a row may belong to."""
        return self.rows // self.layout.steps + 2

    @property
    def rows(self) -> int:
        """Rows R per environment: its share of the capacity, and one for the newest frame."""
        return -(-self.options.capacity // (self.actors * self.layout.envs)) + 1

    @property
    def nbytes(self) -> int:
        """Bytes of the whole buffer."""
        return sum(field.nbytes for field in self.fields().values())

    @property
    def gpu_nbytes(self) -> int:
        """Bytes of what is stored on a GPU: the frames, with storage "gpu"."""
        return self.fields()["frames"].nbytes if self.options.replay_storage is ReplayStorage.GPU else 0

    def fields(self) -> dict[str, Field]:
        """Return shape [A, R, B, …] and dtype of every stored array, by name."""
        layout = self.layout
        shape = (self.actors, self.rows, layout.envs)
        action_dtype = layout.action.dtype if layout.action.dtype.is_floating_point else torch.int32
        fields = {
            "frames": Field((*shape, *layout.frame.shape), layout.frame.dtype),
            "action": Field((*shape, *layout.action.shape), action_dtype),
            "reward": Field(shape, torch.float32),
            "terminated": Field(shape, torch.bool),
            "reset": Field(shape, torch.bool),
        }
        if self.sequences is not None:
            fields["start"] = Field(shape, torch.bool)
            fields["state"] = Field((self.actors, self.states, layout.envs, layout.state), torch.float32)
        return fields

    def allocate(self) -> Tensor:
        """Return uint8 memory for all that is not on a GPU. RAM is committed when first written, disk space at once."""
        nbytes = self.nbytes - self.gpu_nbytes
        if self.options.replay_storage is not ReplayStorage.DISK:
            return torch.empty(nbytes, dtype=torch.uint8)
        with tempfile.NamedTemporaryFile(prefix="asyncrl-replay-", dir=".") as file:
            if hasattr(os, "posix_fallocate"):  # without it, a write to a full disk would end the process with SIGBUS
                with attach_path(Path(file.name).parent):
                    os.posix_fallocate(file.fileno(), 0, nbytes)
            return torch.from_file(file.name, shared=True, size=nbytes, dtype=torch.uint8)

    def check(self, free: int, gpu_free: int = 0) -> None:
        """Raise UsageError if the settings are too small for the run, or the buffer is larger than the free bytes."""
        options, layout = self.options, self.layout
        envs = self.actors * layout.envs
        samples = f"{self.n_step}-step returns" if self.sequences is None else f"sequences of {self.span} steps"
        min_capacity = envs * (layout.steps + self.span + layout.stack)
        if options.capacity < min_capacity:
            raise UsageError(
                f"--capacity must be {min_capacity} or more for {envs} environments, rollouts of {layout.steps} steps and "
                f"{samples}, not {options.capacity}"
            )
        min_start = envs * (self.span + 1)
        if options.learning_starts < min_start:
            raise UsageError(
                f"--learning-starts must be {min_start} or more for {envs} environments and {samples}, not "
                f"{options.learning_starts}"
            )
        self._check_fits(self.nbytes - self.gpu_nbytes, free, "")
        self._check_fits(self.gpu_nbytes, gpu_free, " of the GPU's memory")

    def _check_fits(self, needed: int, free: int, where: str) -> None:
        if needed > free:
            fitting = max(1.0, self.options.capacity * free / needed)
            magnitude = 10 ** int(math.log10(fitting))
            rounded = magnitude * max(1, int(fitting / magnitude))
            raise UsageError(
                f"a replay buffer of {self} does not fit into {free / 1e9:.1f} GB{where}; try --capacity {rounded}"
            )

    def __str__(self) -> str:
        shape = self.layout.frame.shape
        frames = "×".join(map(str, shape)) + " frames" if len(shape) > 1 else f"observations of {math.prod(shape)} numbers"
        size = f"{self.nbytes / 1e9:.1f} GB" if self.nbytes >= 1e9 else f"{self.nbytes / 1e6:.1f} MB"
        return f"{self.options.capacity:,} steps, {frames}, {size}"
