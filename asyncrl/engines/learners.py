"""Several learners of one run: each computes the gradient of its share of every batch (`--learners`).

Learner 0 is the run: it has the actors, the replay buffer, the statistics, the checkpoints. The others hold copies of the
network, the target network and the optimizer's state. Gradients are averaged over all learners, each of which then takes
the same step, so their weights stay equal. Means over a batch are those of the whole batch (`common/sharding.py`).
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from asyncrl.algorithms.normalization import Normalization, ValueStatistics
from asyncrl.common.sharding import BatchShard
from asyncrl.common.torch_setup import set_torch_threads
from asyncrl.common.waiting import waiting_time
from asyncrl.engines.completed import TIMEOUT
from asyncrl.engines.mailbox import Mailbox
from asyncrl.engines.shared_memory import SharedMemory
from asyncrl.engines.workers import LEARNERS, Workers
from asyncrl.envs import Contract
from asyncrl.envs.rewards import Rewards
from asyncrl.errors import LearnerDied, closing
from asyncrl.experience import ReplayBuffer, Sample, SampleSource
from asyncrl.experience.rollout import Rollout, envs_of
from asyncrl.learner import Learner, copied
from asyncrl.runs.components import actor_spec, learner_arguments
from asyncrl.runs.config.run_config import Device, RunConfig

__all__ = ["open_learners"]

_CONNECT_TIMEOUT = 60.0
"""Seconds that learners have to connect to each other."""

_WITH_FIRST = timedelta(days=365)
"""Time that the others wait for learner 0, which alone stops for as long as Ctrl-Z suspends the run. They end with it."""

_CAUSE_TIMEOUT = 5.0
"""Seconds to wait for the reason why another learner disconnected."""


@contextlib.contextmanager
def open_learners(config: RunConfig, contract: Contract, learner: Learner) -> Iterator[None]:
    """Start the other learners of a run that has several, equal to `learner`, which shares its batches with them."""
    if config.learners == 1:
        yield
        return
    with closing(_Others(config, contract, learner)) as others:
        others.start()
        learner.peers = others
        try:
            yield
        finally:
            learner.peers = None


@dataclass(frozen=True)
class _Work:
    """What another learner needs for an update; samples of a replay buffer follow in separate messages."""

    rollouts: Sequence[Rollout]
    """Its share of them; without a replay buffer only."""
    rewards: Rewards
    steps: int
    statistics: dict[str, Tensor]
    """Running statistics in the networks."""


class _Others:
    """Learners 1, 2, …, as learner 0 sees them."""

    def __init__(self, config: RunConfig, contract: Contract, learner: Learner) -> None:
        self._learner, self._count = learner, config.learners - 1
        self._device = learner.weights.device
        memory = SharedMemory.allocate(1)
        self._mailbox = Mailbox(memory)
        code = actor_spec(config, contract).code
        self._workers = Workers(_serve, self._count, contract, config, contract, memory, code=code, role=LEARNERS)
        self._busy = set(range(self._count))
        self._group: Any = None
        self.shard = _shard(config, 0, self._add)
        self.source: SampleSource | None = None
        if learner.replay is not None:
            self.source = _DividedSamples(learner.replay, self)

    def start(self) -> None:
        """Connect all learners, and bring the others to the state of this one."""
        with tempfile.TemporaryDirectory(prefix="asyncrl-learners-") as folder:
            store = str(Path(folder) / "store")
            self.send([store] * self._count)
            try:
                self._group = _connect(store, 0, self._count + 1, self._device)
            except RuntimeError as problem:
                self._fail(str(problem))
            state = {name: tensors for name, tensors in self._learner.state().items() if name != "replay"}
            self.send([(state, self._learner.updates, self._learner.step)] * self._count)
            self._wait()

    def start_update(self, rollouts: Sequence[Rollout], rewards: Rewards, steps: int) -> Sequence[Rollout]:
        shares = [envs_of(rollouts, *self.shard.bounds(rank)) for rank in range(self._count + 1)]
        if self.source is not None:
            shares = [list(rollouts), *([] for _ in range(self._count))]
        statistics = self._learner.statistics()
        self.send([_Work(share, rewards, steps, statistics) for share in shares[1:]])
        return shares[0]

    def send(self, values: Sequence[Any]) -> None:
        """Send a value to each of the others, once all of them have finished with the last one."""
        self._wait()
        for index, message in enumerate(self._mailbox.write(values)):
            self._workers.send_bytes(index, message)
        self._busy = set(range(self._count))

    def close(self) -> None:
        self._group = None  # learners that wait for this one end at once
        self._workers.close()

    def _wait(self) -> None:
        """Wait until all have finished with the last message."""
        waited = 0.0
        while self._busy:
            began = time.monotonic()
            self._busy -= set(self._workers.receive(1.0))
            waited += waiting_time(began)
            if self._busy and waited > TIMEOUT:
                raise LearnerDied(f"{LEARNERS.name(min(self._busy))} did not answer within {TIMEOUT:.0f} s")

    def _add(self, x: Tensor) -> None:
        problem = _all_reduce(self._group, x, self._device)
        if problem is not None:
            self._group = None
            self._fail(problem)

    def _fail(self, problem: str) -> NoReturn:
        """Raise what one of the others ended with, or else `problem`."""
        deadline = time.monotonic() + _CAUSE_TIMEOUT
        while time.monotonic() < deadline:
            self._workers.receive(0.2)
        raise LearnerDied(f"the learners did not answer in time, or lost their connection: {problem.splitlines()[0]}")


class _DividedSamples:
    """The samples of a replay buffer, of which every learner gets its rows."""

    def __init__(self, replay: ReplayBuffer, others: _Others) -> None:
        self._replay, self._others = replay, others
        self._index = torch.zeros(0, dtype=torch.int64)
        """Of the newest sample of all learners together."""

    @property
    def batch_size(self) -> int:
        return self._others.shard.rows

    def extend(self, rollout: Rollout) -> None:
        self._replay.extend(rollout)

    def samples(self, count: int, random: torch.Generator, progress: float, rewards: Rewards) -> Iterator[Sample]:
        shard = self._others.shard
        for sample in self._replay.samples(count, random, progress, rewards):
            self._index = sample.index
            with_random = replace(sample, random=random)  # so that all draw the same numbers from here on
            parts = [with_random.part(shard, rank) for rank in range(shard.learners)]
            self._others.send(parts[1:])
            yield parts[0]

    def prioritize(self, index: Tensor, errors: Tensor) -> None:
        if self._replay.is_prioritized:
            self._replay.prioritize(self._index, self._others.shard.all_gather_rows(errors))


def _serve(index: int, pipe: Connection, config: RunConfig, contract: Contract, shared: SharedMemory) -> None:
    """Run learner `index` + 1: repeat the updates of learner 0 with its own shares, until the pipe is closed."""
    assert config.learner_threads is not None
    set_torch_threads(config.learner_threads)
    rank = index + 1
    device = torch.device("cuda", rank) if config.device is Device.CUDA else torch.device("cpu")
    normalization = Normalization(value=ValueStatistics()) if config.network.normalize_value else None
    learner = Learner(**learner_arguments(config, contract) | {"device": device}, normalization=normalization)
    inbox = _Inbox(index, pipe, Mailbox(shared))
    group = _connect(inbox.receive(), rank, config.learners, device)
    learner.peers = first = _First(config, inbox, group, device)
    del group
    try:
        state, updates, step = inbox.receive()
        learner.restore(copied(state), updates, step)
        while True:
            work: _Work = inbox.receive()
            learner.assign_statistics(work.statistics)
            learner.learn(work.rollouts, work.rewards, work.steps)
            learner.complete([], work.steps)
    except _ConnectionLost:
        first.disconnect()
    pipe.poll(None)  # learner 0 says why, and closes it


class _ConnectionLost(Exception):
    """Another learner has ended."""


class _Inbox:
    """The messages from learner 0."""

    def __init__(self, index: int, pipe: Connection, mailbox: Mailbox) -> None:
        self._index, self._pipe, self._mailbox = index, pipe, mailbox
        self.rank = index + 1

    def receive(self) -> Any:
        """Tell learner 0 that the last message is done with, and return the next one."""
        self._pipe.send(self._index)
        return self._mailbox.read(self._pipe.recv_bytes())


class _First:
    """Learner 0, as another learner sees it."""

    def __init__(self, config: RunConfig, inbox: _Inbox, group: Any, device: torch.device) -> None:
        self._group, self._device = group, device
        self.shard = _shard(config, inbox.rank, self._add)
        self.source: SampleSource | None = None
        if replay := config.algorithm.experience().replay:
            self.source = _ReceivedSamples(inbox, self.shard, prioritized=replay.prioritized)

    def start_update(self, rollouts: Sequence[Rollout], rewards: Rewards, steps: int) -> Sequence[Rollout]:
        return rollouts

    def disconnect(self) -> None:
        """Let the others know that this learner ends."""
        self._group = None

    def _add(self, x: Tensor) -> None:
        if _all_reduce(self._group, x, self._device) is not None:
            raise _ConnectionLost


class _ReceivedSamples:
    """The rows of one learner of the samples that learner 0 draws."""

    def __init__(self, inbox: _Inbox, shard: BatchShard, *, prioritized: bool) -> None:
        self._inbox, self._shard, self._prioritized = inbox, shard, prioritized

    @property
    def batch_size(self) -> int:
        return self._shard.rows

    def extend(self, rollout: Rollout) -> None:
        raise NotImplementedError("rollouts are stored by learner 0")

    def samples(self, count: int, random: torch.Generator, progress: float, rewards: Rewards) -> Iterator[Sample]:
        while count:
            sample: Sample = self._inbox.receive()
            random.set_state(sample.random.get_state())
            count -= len(sample.index) // self.batch_size
            yield sample

    def prioritize(self, index: Tensor, errors: Tensor) -> None:
        if self._prioritized:
            self._shard.all_gather_rows(errors)


def _shard(config: RunConfig, rank: int, add: Callable[[Tensor], None]) -> BatchShard:
    return BatchShard(rank, config.learners, config.batch_rows, add)


def _connect(store: str, rank: int, learners: int, device: torch.device) -> Any:
    """Return the process group of all learners. They listen on the loopback interface only."""
    import torch.distributed as distributed

    shared: Any = distributed.FileStore(store, learners)  # type: ignore[attr-defined]
    shared.set_timeout(timedelta(seconds=_CONNECT_TIMEOUT))
    timeout = _WITH_FIRST if rank else timedelta(seconds=TIMEOUT)
    if device.type == "cuda":
        os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
        options = distributed.ProcessGroupNCCL.Options()
        options._timeout = timeout
        group: Any = distributed.ProcessGroupNCCL(shared, rank, learners, options)
        group.allreduce([torch.zeros(1, device=device)]).wait()  # which connects them
        return group
    options = distributed.ProcessGroupGloo._Options()  # type: ignore[attr-defined]
    options._devices = [distributed.ProcessGroupGloo.create_device(hostname="127.0.0.1")]
    options._timeout = timeout
    return distributed.ProcessGroupGloo(shared, rank, learners, options)


def _all_reduce(group: Any, x: Tensor, device: torch.device) -> str | None:
    """Replace `x` by its sum over all learners. Returns the reason if one of them has ended or takes too long.

    An exception would keep the connections open as long as its traceback is.
    """
    moved = x.detach().to(device)
    try:
        group.allreduce([moved]).wait()
    except RuntimeError as problem:
        return str(problem).partition("\n")[0]
    if moved.data_ptr() != x.data_ptr():
        x.detach().copy_(moved)
    return None
