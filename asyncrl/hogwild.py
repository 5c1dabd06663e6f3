"""The paper's own loop (Mnih et al. 2016, section 4): no rollout travels, gradients meet in shared weights without locks.

Every worker owns environments. It copies the shared weights, makes a rollout, computes the gradient against its
copy and takes a step on the shared weights while others do the same (Recht et al. 2011, "Hogwild!"). An algorithm
knows nothing of this: the worker is an actor and a learner, whose steps fall on weights that others step on too.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import torch
from torch import Tensor

from asyncrl.acting.actor import Actor
from asyncrl.algorithms import Loss
from asyncrl.algorithms.optimizers import StatisticsSharing, statistics
from asyncrl.common.randomness import seed_process
from asyncrl.common.signals import StopRequest, handle_stop_signals
from asyncrl.common.torch_setup import set_torch_threads
from asyncrl.engines.completed import TIMEOUT
from asyncrl.engines.shared_memory import SharedMemory
from asyncrl.engines.workers import Workers
from asyncrl.envs import Contract
from asyncrl.errors import ActorDied, closing
from asyncrl.experience.rollout import Field, Rollout, Ticket
from asyncrl.learner import Learner
from asyncrl.monitor import Monitor
from asyncrl.networks import copy_into, named_views
from asyncrl.runs import checkpoint
from asyncrl.runs.config import RunConfig
from asyncrl.runs.run import Run
from asyncrl.runs.statistics import Episode, EpisodeCounter
from asyncrl.training import Desk, TrainingResult, actor_spec

__all__ = ["train"]

_REPORT_EVERY = 0.2
"""Seconds between a worker's words: so few that an evaluation of some seconds fills no pipe; in a full one it waits."""


def train(
    config: RunConfig, contract: Contract, run: Run, monitor: Monitor, resume: checkpoint.Checkpoint | None = None
) -> TrainingResult:
    """As `training.train`, with gradients that meet instead of rollouts.

    Workers go on during an evaluation. Where it reaches the target return, the run ends with the weights that were
    evaluated, and what workers did in the meantime is forgotten.
    """
    set_torch_threads(1)
    coordinator = HogwildLearner.alone(config, contract)
    desk = Desk(config, contract, run, monitor, coordinator, resume, versions=0)
    with handle_stop_signals() as stop:
        desk.begin(stop)
        if not desk.is_trained:
            _learn(config, contract, coordinator, desk, stop)
        evaluation = desk.final_evaluation(stop)
    return TrainingResult(coordinator.updates, coordinator.step, desk.statistics.seconds, stop.signal, evaluation)


def _learn(config: RunConfig, contract: Contract, coordinator: HogwildLearner, desk: Desk, stop: StopRequest) -> None:
    """Have workers learn; until the run's steps are made, the target return is reached, or `stop`."""
    with desk.saving(), _workers(config, contract, coordinator, desk) as workers:
        report: list[WorkerReport] = []
        for words in _listen(workers, config.actors):
            report += words
            coordinator.pull()
            if report and coordinator.step < config.steps:  # the end is told when every worker has said its final word
                _on_report(desk, report, stop)
                report = []
            stop.listen()
            if desk.reached or stop:
                break
        if report:
            _on_report(desk, report, stop)


def _on_report(desk: Desk, report: Sequence[WorkerReport], stop: StopRequest) -> None:
    """Have done what is due."""
    episodes = [episode for word in report for episode in word.episodes]
    desk.statistics.note(episodes, [lag for word in report for lag in word.lags])
    desk.after_update(report[-1].metrics, episodes, stop)


class WorkerReport(NamedTuple):
    """What a worker tells of the time since its last word."""

    worker: int
    episodes: list[Episode]
    lags: list[int]
    """Of every update: the updates that others made since the weights were copied"""
    metrics: dict[str, float]
    """Of the last update"""
    final: bool = False
    """The run's steps are made: nothing follows"""

    @classmethod
    def of(
        cls, worker: int, episodes: list[Episode], lags: list[int], metrics: dict[str, Tensor], *, final: bool = False
    ) -> WorkerReport:
        """With metrics as numbers: no tensor travels."""
        return cls(worker, episodes, lags, {name: float(x) for name, x in metrics.items()}, final)


@dataclass(frozen=True)
class SharedState:
    """Memory that all workers write to without locks; `fields` are the tensors in it, by name."""

    memory: SharedMemory
    fields: dict[str, Field]
    copies: int
    """Of the optimizer's statistics"""

    @classmethod
    def allocate(cls, config: RunConfig, weights: Tensor) -> SharedState:
        """As a run begins."""
        copies = config.actors if config.optimizer.optimizer_statistics is StatisticsSharing.OWN else 1
        counters = torch.zeros(config.actors, dtype=torch.int64)
        target = weights if config.algorithm.target_every else weights[:0]
        tensors = {"weights": weights, "target": target, "steps": counters, "updates": counters}
        for i in range(copies):
            tensors |= {f"{i}.{name}": x for name, x in statistics(config.optimizer, weights).items()}
        fields = {name: Field(tuple(x.shape), x.dtype) for name, x in tensors.items()}
        shared = cls(SharedMemory.allocate(sum(field.nbytes for field in fields.values())), fields, copies)
        for name, x in tensors.items():
            shared._views[name].copy_(x.detach())
        return shared

    def __reduce__(self) -> Any:
        return SharedState, (self.memory, self.fields, self.copies)  # views are made anew in another process

    @cached_property
    def _views(self) -> dict[str, Tensor]:
        views, offset = {}, 0
        for name, field in self.fields.items():
            views[name] = field.view(self.memory.tensor, offset)
            offset += field.nbytes
        return views

    @property
    def weights(self) -> Tensor:
        """[P] float32"""
        return self._views["weights"]

    @property
    def target(self) -> Tensor:
        """[P] float32; [0] without a target network"""
        return self._views["target"]

    @cached_property
    def statistics(self) -> list[dict[str, Tensor]]:
        """The optimizer's, by name: one for all, or one for each worker"""
        own = [(key.partition("."), view) for key, view in self._views.items()]
        return [{name: view for (copy, _, name), view in own if copy == str(i)} for i in range(self.copies)]

    @property
    def steps(self) -> Tensor:
        """[W] int64: each worker counts its own, so that no count is lost"""
        return self._views["steps"]

    @property
    def updates(self) -> Tensor:
        """[W] int64"""
        return self._views["updates"]


class HogwildLearner(Learner):
    """A learner whose steps fall on weights that others step on too."""

    def __init__(self, config: RunConfig, contract: Contract, shared: SharedState | None, worker: int) -> None:
        dtype, device = config.precision.dtype, torch.device("cpu")
        super().__init__(
            config.algorithm, config.optimizer, config.network, contract, config.seed, dtype, device, config.steps
        )
        self.shared = shared = SharedState.allocate(config, self.weights) if shared is None else shared
        self._worker = worker
        own = shared.statistics[worker % len(shared.statistics)]
        self._take_steps_on(shared.weights, own)

    @classmethod
    def alone(cls, config: RunConfig, contract: Contract) -> HogwildLearner:
        """The first one, that allocates what is shared. It takes no steps itself: it is everyone's state."""
        return cls(config, contract, None, 0)

    def pull(self) -> None:
        """Take over what others did: weights, target network, counts."""
        self.weights.copy_(self.shared.weights)
        if len(self.shared.target):
            copy_into(self._target, self.shared.target)
        self.step, self.updates = int(self.shared.steps.sum()), int(self.shared.updates.sum())

    def state(self) -> dict[str, dict[str, Tensor]]:
        """As a learner's; statistics of several workers are numbered."""
        kept = {f"{name}.{i}": x for i, own in enumerate(self.shared.statistics) for name, x in own.items()}
        return {**super().state(), "optimizer": kept}

    def load_weights(self, weights: Tensor) -> None:
        super().load_weights(weights)
        for shared in (self.shared.weights, self.shared.target):
            shared.copy_(self.weights[: len(shared)])

    def restore(self, state: dict[str, dict[str, Tensor]], updates: int, step: int) -> None:
        shared = self.shared
        super().restore({**state, "optimizer": {}}, updates, step)
        shared.weights.copy_(self.weights)
        for name, view in named_views(self._target, shared.target) if len(shared.target) else ():
            view.copy_(self._target.get_parameter(name))
        for i, own in enumerate(shared.statistics):
            for name, x in own.items():
                x.copy_(state["optimizer"][f"{name}.{i}"])
        shared.steps[0], shared.updates[0] = step, updates

    def _descend(self, loss: Loss, rollouts: Sequence[Rollout]) -> Tensor:
        norm = super()._descend(loss, rollouts)
        self.weights.copy_(self.shared.weights)  # the next minibatch sees this step, and those of others
        return norm

    def _count(self, steps: int) -> None:
        shared = self.shared
        before = int(shared.steps.sum())
        shared.steps[self._worker] += steps
        shared.updates[self._worker] += 1
        self.step, self.updates = int(shared.steps.sum()), int(shared.updates.sum())
        if self._is_target_due(before):  # whoever crosses the border copies; two may, and copy nearly the same
            shared.target.copy_(shared.weights)


@contextlib.contextmanager
def _workers(config: RunConfig, contract: Contract, coordinator: HogwildLearner, desk: Desk) -> Iterator[Workers]:
    """A process per actor; when they have ended, `coordinator` has what they did, or what reached the target return."""
    workers = Workers(_work, config.actors, contract, config, contract, coordinator.shared, coordinator.updates)
    try:
        yield workers
    finally:
        workers.close()
        if not desk.reached:
            coordinator.pull()


def _listen(workers: Workers, count: int) -> Iterator[list[WorkerReport]]:
    """What workers say, [] after a second of silence, until each has said its final word.

    Raises what a worker ended with, and ActorDied for one that is silent for too long.
    """
    heard = dict.fromkeys(range(count), time.monotonic())
    while heard:
        report, now = workers.receive(1.0), time.monotonic()
        for word in report:
            heard[word.worker] = now
            if word.final:
                del heard[word.worker]
        for worker, since in heard.items():
            if now - since > TIMEOUT:
                raise ActorDied(f"actor {worker} did not answer within {TIMEOUT:.0f} s")
        yield report


def _work(index: int, pipe: Connection, config: RunConfig, contract: Contract, shared: SharedState, first: int) -> None:
    """One worker: copy the weights, make a rollout, take a step; until the run's steps are made or the pipe is closed."""
    seed_process(config.seed, index, first)
    spec = actor_spec(config, contract, first)
    layout, learner = spec.layout(), HogwildLearner(config, contract, shared, index)
    slot = layout.slot(torch.zeros(layout.nbytes, dtype=torch.uint8), 0)
    counter, experience = EpisodeCounter(index, spec.envs), config.algorithm.experience()
    number = first * config.actors + index
    episodes: list[Episode] = []
    lags: list[int] = []
    metrics: dict[str, Tensor] = {}
    told = time.monotonic()
    with closing(Actor(spec, index)) as actor:
        learner.pull()
        while learner.step < config.steps and not pipe.poll():
            seen = learner.updates
            actor.policy.load(learner.weights)
            actor.collect(Ticket(number, index, seen, 0, learner.step), slot)
            slot.stamp.copy_(torch.tensor([number, index, seen]))
            metrics = learner.update([slot])
            number += config.actors
            episodes += counter.finished(experience.without_overlap(slot))
            lags.append(learner.updates - seen - 1)
            if time.monotonic() - told > _REPORT_EVERY:
                pipe.send(WorkerReport.of(index, episodes, lags, metrics))
                episodes, lags, told = [], [], time.monotonic()
            learner.pull()
        pipe.send(WorkerReport.of(index, episodes, lags, metrics, final=True))
        pipe.poll(None)  # until it is closed: its end before the run's would be taken for a death
