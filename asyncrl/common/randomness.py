"""Random streams, all derived from one root seed by name.

A stream is addressed, not advanced: the random numbers of rollout 17 depend on the root seed and on 17 alone. So there is
no generator state to save, and timing cannot change it.
"""

from __future__ import annotations

import random
from enum import IntEnum

import numpy as np
import torch

__all__ = ["Stream", "bot_seed", "constructor_seed", "environment_seeds", "generator", "seed_process", "uniform"]


class Stream(IntEnum):
    """The children of the root seed. Their numbers are part of every saved run: only append."""

    NETWORK = 0
    LEARNER = 1
    ACTOR = 2
    ENVIRONMENT = 3
    EVALUATION = 4
    ENV_SLOT = 5
    EPISODE = 6
    FEATURES = 7
    BOT = 8
    CONSTRUCTOR = 9
    PROCESS = 10


def _sequence(root: int, stream: Stream, *address: int) -> np.random.SeedSequence:
    return np.random.SeedSequence(root, spawn_key=(int(stream), *address))


def generator(root: int, stream: Stream, *address: int) -> torch.Generator:
    """Return a CPU generator at the start of the stream at `address` (rollout, update, …)."""
    (seed,) = _sequence(root, stream, *address).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(seed >> np.uint64(1)))


def environment_seeds(root: int, stream: Stream, count: int, *address: int) -> list[int]:
    """Return `count` seeds of 31 bits: odd ones for evaluation, even ones for training, so that they never coincide."""
    bits = _sequence(root, stream, *address).generate_state(count, np.uint32) >> np.uint32(2)
    return [int(b) * 2 + int(stream is Stream.EVALUATION) for b in bits]


def uniform(root: int, stream: Stream, count: int, *address: int) -> np.ndarray:
    """Return [count] float64 in [0, 1) from the start of the stream at `address`."""
    return np.random.default_rng(_sequence(root, stream, *address)).random(count)


def constructor_seed(root: int, *address: int) -> int:
    """Return the seed for constructors of environments: an actor's (address: its index) or an evaluation's (none)."""
    return int(_sequence(root, Stream.CONSTRUCTOR, *address).generate_state(1)[0])


def bot_seed(root: int, *address: int) -> int:
    """Return the seed for what an actor's bots draw in one step of a rollout."""
    return int(_sequence(root, Stream.BOT, *address, 0).generate_state(1)[0])


def seed_process(root: int, *address: int) -> None:
    """Seed the global generators of a worker process. Workers forked from one server would otherwise share their state."""
    seed = int(_sequence(root, Stream.PROCESS, *address).generate_state(1)[0])
    np.random.seed(seed)
    random.seed(seed)
    torch.manual_seed(seed)
