"""Data-parallel batches: means over the whole batch, and each learner's shard of its rows and random draws.

Losses use `mean` and `masked_mean`, and draw with `draw_rows`. With one learner these are the plain operations. With
several, each computes the loss of its shard; the means are still those of the whole batch, equal on every learner.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from asyncrl.common.recorded import is_recording

__all__ = ["BatchShard", "all_reduce_mean_", "current_shard", "draw_rows", "masked_mean", "mean", "sharded"]


@dataclass(frozen=True)
class BatchShard:
    """One learner's rows of every batch: rows `start` to `stop` of `size`.

    Rows are the environments of an update's rollouts, or the samples of a batch from the replay buffer.
    """

    rank: int
    """Number of this learner, from 0."""
    learners: int
    size: int
    """Rows of a whole batch, at least one for each learner."""
    all_reduce: Callable[[Tensor], None]
    """Replaces a tensor in place by its sum over all learners, which all must call at the same time."""

    def bounds(self, rank: int) -> tuple[int, int]:
        """The first row of learner `rank` and the one after its last."""
        return self.size * rank // self.learners, self.size * (rank + 1) // self.learners

    @property
    def start(self) -> int:
        return self.bounds(self.rank)[0]

    @property
    def stop(self) -> int:
        return self.bounds(self.rank)[1]

    @property
    def rows(self) -> int:
        """Rows of this learner."""
        return self.stop - self.start

    def part(self, x: Tensor, axis: int, rank: int) -> Tensor:
        """The rows of learner `rank` of `x`, whose `axis` holds one or more batches, one after the other."""
        start, stop = self.bounds(rank)
        axis %= x.dim()
        batches = x.reshape(*x.shape[:axis], -1, self.size, *x.shape[axis + 1 :])
        return batches.narrow(axis + 1, start, stop - start).flatten(axis, axis + 1)

    def all_gather_rows(self, x: Tensor) -> Tensor:
        """The whole batch's [size, …] from each learner's rows [rows, …]."""
        whole = x.new_zeros(self.size, *x.shape[1:])
        whole[self.start : self.stop] = x
        self.all_reduce(whole)
        return whole

    def all_gather(self, x: Tensor) -> Tensor:
        """[learners, …]: the `x` of every learner."""
        found = x.new_zeros(self.learners, *x.shape)
        found[self.rank] = x
        self.all_reduce(found)
        return found


_current: ContextVar[BatchShard | None] = ContextVar("shard", default=None)


def current_shard() -> BatchShard | None:
    """This learner's shard of the batch that is learned from; None where it is not divided."""
    return _current.get()


@contextlib.contextmanager
def sharded(shard: BatchShard | None) -> Iterator[None]:
    """Within the block, learn from this shard of every batch, in this thread."""
    token = _current.set(shard)
    try:
        yield
    finally:
        _current.reset(token)


class _Sum(torch.autograd.Function):
    """The sum over all learners; its gradient is times their number, because `all_reduce_mean_` averages gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, shard: BatchShard) -> Tensor:
        ctx.learners = shard.learners
        total = x.detach().clone()
        shard.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.learners, None


def _sum(x: Tensor, shard: BatchShard) -> Tensor:
    total: Tensor = _Sum.apply(x, shard)  # type: ignore[no-untyped-call]
    return total


def mean(x: Tensor, dim: int | None = None) -> Tensor:
    """Return the mean of `x` over the rows of the whole batch: over all of its elements, or over axis `dim`."""
    shard = _current.get()
    if shard is None:
        return x.mean() if dim is None else x.mean(dim)
    total = x.sum() if dim is None else x.sum(dim)
    sums = _sum(torch.cat([total.flatten(), total.new_tensor([x.numel() / max(1, total.numel())])]), shard)
    return sums[:-1].view(total.shape) / sums[-1]


def masked_mean(x: Tensor, valid: Tensor) -> Tensor:
    """Return the mean of `x` [T, N] over the steps of the whole batch that are `valid` [T, N]; 0 if there are none."""
    total = torch.where(valid, x, 0.0).sum()
    shard = _current.get()
    if shard is None:
        return total / _counts.at_least_one(valid)
    total, count = _sum(torch.stack([total, valid.sum().to(total.dtype)]), shard).unbind()
    return total / count.clamp(min=1)


class _Counts(threading.local):
    """How many steps are valid in the batch seen last by a thread: the terms of a loss are means over the same ones."""

    _valid: Tensor | None = None
    _version = 0
    _count: Tensor

    def at_least_one(self, valid: Tensor) -> Tensor:
        """Return how many elements of `valid` [T, N] bool are true, a scalar; 1 if there are none."""
        if valid.is_cuda or is_recording():  # what is captured must contain the count
            return valid.sum().clamp(min=1)
        if valid is not self._valid or valid._version != self._version:
            self._count = valid.sum().clamp(min=1)
            self._valid, self._version = valid, valid._version
        return self._count


_counts = _Counts()


def draw_rows(
    draw: Callable[..., Tensor], shape: tuple[int, ...], random: torch.Generator, axis: int, **options: Any
) -> Tensor:
    """Return ``draw(shape, generator=random)``, such as `torch.randn`, for rows along `axis`.

    Where the batch is divided, the numbers are those that these rows have in the draw for the whole batch.
    """
    shard = _current.get()
    if shard is None:
        return draw(shape, generator=random, **options)
    whole = list(shape)
    whole[axis] = shape[axis] // shard.rows * shard.size
    return shard.part(draw(tuple(whole), generator=random, **options), axis, shard.rank)


def all_reduce_mean_(gradient: Tensor) -> None:
    """Replace `gradient` by its mean over the learners; with one learner, leave it as it is."""
    shard = _current.get()
    if shard is not None:
        shard.all_reduce(gradient)
        gradient.div_(shard.learners)
