"""One root seed, from which every random stream is derived by name.

A stream is addressed, not advanced: what rollout number 17 of a run draws depends on the root seed
and on 17 alone. So there is no generator state to save, and none that timing could disturb.
"""

from __future__ import annotations

import random
from enum import IntEnum

import numpy as np
import torch

__all__ = ["Stream", "environment_seeds", "generator", "making_seed", "seed_process", "uniform"]


class Stream(IntEnum):
    """The named children of the root seed. The numbers are part of every saved run: append only."""

    NETWORK = 0
    LEARNER = 1
    ACTOR = 2
    ENVIRONMENT = 3
    EVALUATION = 4
    SEAT = 5
    EPISODE = 6
    FEATURES = 7
    BOT = 8
    MAKING = 9
    PROCESS = 10


def _sequence(root: int, stream: Stream, *address: int) -> np.random.SeedSequence:
    return np.random.SeedSequence(root, spawn_key=(int(stream), *address))


def generator(root: int, stream: Stream, *address: int) -> torch.Generator:
    """A CPU generator at the beginning of the stream at `address` (rollout, update, …)."""
    (seed,) = _sequence(root, stream, *address).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(seed >> np.uint64(1)))


def environment_seeds(root: int, stream: Stream, count: int, *address: int) -> list[int]:
    """`count` seeds of 31 bits: even for training, odd for evaluation, so that they never meet."""
    bits = _sequence(root, stream, *address).generate_state(count, np.uint32) >> np.uint32(2)
    return [int(b) * 2 + int(stream is Stream.EVALUATION) for b in bits]


def uniform(root: int, stream: Stream, count: int, *address: int) -> np.ndarray:
    """[count] float64 in [0, 1): the beginning of the stream at `address`."""
    return np.random.default_rng(_sequence(root, stream, *address)).random(count)


def making_seed(root: int, *address: int) -> int:
    """What the constructors of an actor's environments, or of an evaluation's (address ()), draw follows from this."""
    return int(_sequence(root, Stream.MAKING, *address).generate_state(1)[0])


def seed_process(root: int, *address: int) -> None:
    """Seed the global generators of a process of ours: where workers are forked from one server, they would be the same."""
    seed = int(_sequence(root, Stream.PROCESS, *address).generate_state(1)[0])
    np.random.seed(seed)
    random.seed(seed)
    torch.manual_seed(seed)
