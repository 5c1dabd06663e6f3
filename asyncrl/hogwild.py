"""The lock-free training loop of Mnih et al. (2016, section 4): workers share gradients instead of rollouts.

Every worker owns environments. It copies the shared weights, collects a rollout, computes the gradient on its copy and
takes a step on the shared weights while other workers do the same (Recht et al. 2011, "Hogwild!"). Algorithms need not
know: a worker is an actor and a learner whose optimizer steps on shared weights.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from asyncrl.acting.actor import Actor
from asyncrl.algorithms import Loss
from asyncrl.algorithms.optimizers import StatisticsSharing
from asyncrl.algorithms.weight_optimizer import initial_state
from asyncrl.common.randomness import seed_process
from asyncrl.common.signals import StopRequest, handle_stop_signals
from asyncrl.common.torch_setup import set_torch_threads
from asyncrl.common.waiting import waiting_time
from asyncrl.engines.completed import TIMEOUT
from asyncrl.engines.shared_memory import SharedMemory
from asyncrl.engines.workers import Workers
from asyncrl.envs import Contract
from asyncrl.errors import ActorDied, AsyncRLError, closing
from asyncrl.experience.rollout import Field, Rollout, Ticket
from asyncrl.learner import Learner
from asyncrl.networks import copy_into, named_views
from asyncrl.runs.checkpoints import checkpoint
from asyncrl.runs.components import actor_spec, learner_arguments
from asyncrl.runs.config.run_config import RunConfig
from asyncrl.runs.context import RunContext
from asyncrl.runs.metrics.statistics import Episode, EpisodeCounter
from asyncrl.runs.speed.stage_times import Work, WorkMeter
from asyncrl.training import Session, TrainingResult

__all__ = ["train"]

_REPORT_EVERY = 0.2
"""Seconds between a worker's reports, from the one after its first update on, if the last one was received."""
_END_TIMEOUT = 5.0
"""Seconds without a report after which a worker that was asked to end is not waited for: its rollout takes too long."""


def train(context: RunContext, resume: checkpoint.Checkpoint | None = None) -> TrainingResult:
    """As `training.train`, but gradients are shared instead of rollouts.

    Workers keep learning during an evaluation. If that, or a callback, ends the run, it ends with the weights that were
    evaluated or recorded, and what workers learned since is discarded. If a signal ends it, everything is kept.
    """
    set_torch_threads(1)
    coordinator = HogwildLearner.coordinator(context.config, context.contract)
    session = Session(context, coordinator, resume, kept_versions=0)
    with handle_stop_signals() as stop:
        session.begin(stop)
        if not session.is_over:
            _learn(session, coordinator, stop)
        return session.finish(stop)


def _learn(session: Session, coordinator: HogwildLearner, stop: StopRequest) -> None:
    """Let the workers learn until the run is over or asked to stop."""
    config = session.context.config
    with session.saving(), _workers(session, coordinator) as workers:
        pending: list[WorkerReport] = []
        metrics: Mapping[str, float] = {}
        recorded = coordinator.updates
        try:
            for reports in _reports(workers, coordinator.shared.acted, stop):
                coordinator.shared.unread[[report.worker for report in reports]] = 0
                pending += reports
                metrics = next((report.metrics for report in reversed(reports) if report.metrics), metrics)
                coordinator.pull()
                is_last = stop or coordinator.step >= config.steps
                # The records of a version precede its checkpoint, so later reports wait for the next version; the last
                # records wait for every worker's final report.
                if pending and not is_last and coordinator.updates > recorded:
                    due, pending, recorded = pending, [], coordinator.updates
                    session.on_update(metrics, _add(session, due), stop)
                stop.install_handlers()
                if session.ends_early:
                    break
        except Exception:
            pending += _last_reports(workers, pending)
            coordinator.pull()
            session.recorder.record_update(coordinator, metrics, _add(session, pending))
            raise
        if pending:
            session.on_update(metrics, _add(session, pending), stop)


def _add(session: Session, reports: Sequence[WorkerReport]) -> list[Episode]:
    """Add reports to the statistics. Returns the episodes that ended."""
    episodes = [episode for report in reports for episode in report.episodes]
    session.statistics.add_episodes(episodes, [lag for report in reports for lag in report.lags])
    for report in reports:
        session.statistics.stages.add_worker(report.worker, report.work)
        session.statistics.stages.begin(report.work.completed)
    return episodes


class WorkerReport(NamedTuple):
    """What a worker did since its last report."""

    worker: int
    episodes: list[Episode]
    lags: list[int]
    """Updates that others made while each update was computed"""
    metrics: dict[str, float]
    """Metrics of the last update; {} before the first"""
    work: Work
    final: bool = False
    """The run has taken all its steps, or the worker was asked to end: no report follows"""

    @classmethod
    def of(
        cls,
        worker: int,
        episodes: list[Episode],
        lags: list[int],
        metrics: dict[str, Tensor],
        work: Work,
        *,
        final: bool = False,
    ) -> WorkerReport:
        """A report with metrics as floats, so that no tensor is sent."""
        return cls(worker, episodes, lags, {name: float(x) for name, x in metrics.items()}, work, final)


@dataclass(frozen=True)
class SharedState:
    """Shared memory that all workers write to without locks."""

    memory: SharedMemory
    fields: dict[str, Field]
    """The tensors in it, by name."""
    copies: int
    """Copies of the optimizer's moving averages: one for all workers, or one for each."""

    @classmethod
    def allocate(cls, config: RunConfig, weights: Tensor) -> SharedState:
        """The shared state of a new run."""
        copies = config.actors if config.optimizer.optimizer_statistics is StatisticsSharing.OWN else 1
        counts = dict.fromkeys(("steps", "acted", "updates", "unread"), torch.zeros(config.actors, dtype=torch.int64))
        target = weights if config.algorithm.target_every else weights[:0]
        tensors = {"weights": weights, "target": target, **counts}
        for i in range(copies):
            tensors |= {f"{i}.{name}": x for name, x in initial_state(config.optimizer, weights).items()}
        fields = {name: Field(tuple(x.shape), x.dtype) for name, x in tensors.items()}
        shared = cls(SharedMemory.allocate(sum(field.nbytes for field in fields.values())), fields, copies)
        for name, x in tensors.items():
            shared._views[name].copy_(x.detach())
        return shared

    def __reduce__(self) -> Any:
        return SharedState, (self.memory, self.fields, self.copies)  # another process makes its own views

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
        """The optimizer's moving averages by name, one dictionary per copy"""
        own = [(key.partition("."), view) for key, view in self._views.items()]
        return [{name: view for (copy, _, name), view in own if copy == str(i)} for i in range(self.copies)]

    @property
    def steps(self) -> Tensor:
        """[W] int64: environment steps by worker; each writes its own count, so none is lost"""
        return self._views["steps"]

    @property
    def acted(self) -> Tensor:
        """[W] int64: how often each worker has stepped its environments, also in the rollout that it collects"""
        return self._views["acted"]

    @property
    def updates(self) -> Tensor:
        """[W] int64: updates by worker"""
        return self._views["updates"]

    @property
    def unread(self) -> Tensor:
        """[W] int64: 1 while a worker's last report is not received. More of them would fill its pipe during a long
        evaluation, and the worker would wait for room.
        """
        return self._views["unread"]


class HogwildLearner(Learner):
    """A learner whose optimizer steps on weights that other workers step on, too."""

    def __init__(self, config: RunConfig, contract: Contract, shared: SharedState | None, worker: int) -> None:
        super().__init__(**{**learner_arguments(config, contract), "device": torch.device("cpu")})
        self.shared = shared = SharedState.allocate(config, self.weights) if shared is None else shared
        self._worker = worker
        own = shared.statistics[worker % len(shared.statistics)]
        self.create_optimizer(shared.weights, own)

    @classmethod
    def coordinator(cls, config: RunConfig, contract: Contract) -> HogwildLearner:
        """The learner that allocates what is shared, and saves and restores it. It takes no gradient steps."""
        return cls(config, contract, None, 0)

    def pull(self) -> None:
        """Copy the shared weights, target network and counts."""
        self.weights.copy_(self.shared.weights)
        if len(self.shared.target):
            copy_into(self.target_network, self.shared.target)
        self.step, self.updates = int(self.shared.steps.sum()), int(self.shared.updates.sum())

    def state(self) -> dict[str, dict[str, Tensor]]:
        """As `Learner.state`; the moving averages of several workers are numbered."""
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
        for name, view in named_views(self.target_network, shared.target) if len(shared.target) else ():
            view.copy_(self.target_network.get_parameter(name))
        for i, own in enumerate(shared.statistics):
            for name, x in own.items():
                x.copy_(state["optimizer"][f"{name}.{i}"])
        shared.steps[0], shared.updates[0] = step, updates

    def gradient_step(
        self, loss: Loss, rollouts: Sequence[Rollout], norm: Tensor | None = None, *, is_delayed: bool = False
    ) -> Tensor:
        norm = super().gradient_step(loss, rollouts, norm, is_delayed=is_delayed)
        self.weights.copy_(self.shared.weights)  # the next minibatch uses this step and those of others
        return norm

    def count_update(self, steps: int) -> None:
        shared = self.shared
        before = int(shared.steps.sum())
        shared.steps[self._worker] += steps
        shared.updates[self._worker] += 1
        self.step, self.updates = int(shared.steps.sum()), int(shared.updates.sum())
        if self.is_target_due(before):  # two workers may both copy; the copies are nearly the same
            shared.target.copy_(shared.weights)


@contextlib.contextmanager
def _workers(session: Session, coordinator: HogwildLearner) -> Iterator[Workers]:
    """A process per actor. When all have ended, `coordinator` pulls what they learned, unless the run has ended early
    with the weights that it has.
    """
    config, contract = session.context.config, session.context.contract
    code = actor_spec(config, contract).code
    workers = Workers(_work, config.actors, contract, config, contract, coordinator.shared, coordinator.updates, code=code)
    try:
        yield workers
    finally:
        workers.close()
        if not session.ends_early:
            coordinator.pull()


def _reports(workers: Workers, acted: Tensor, stop: StopRequest) -> Iterator[list[WorkerReport]]:
    """The workers' reports, [] after a second without any, until each worker has sent its final one.

    Once `stop` is true the workers are asked to end, and one that is silent for `_END_TIMEOUT` is left out. Raises what a
    worker failed with, and ActorDied if one sends nothing and takes no step, which `acted` [W] counts, for too long.
    """
    silent = dict.fromkeys(range(len(acted)), 0.0)
    before = acted.tolist()
    is_ending = False
    while silent:
        if stop and not is_ending:
            is_ending = True
            silent = dict.fromkeys(silent, 0.0)
            for worker in silent:
                workers.send(worker, None)
        began = time.monotonic()
        reports = workers.receive(1.0)
        waited = waiting_time(began)
        silent = {worker: seconds + waited for worker, seconds in silent.items()}
        if not is_ending:
            silent |= {worker: 0.0 for worker in silent if acted[worker] != before[worker]}
            before = acted.tolist()
        for report in reports:
            silent[report.worker] = 0.0
            if report.final:
                del silent[report.worker]
        for worker, seconds in [*silent.items()]:
            if is_ending and seconds > _END_TIMEOUT:
                del silent[worker]
            elif seconds > TIMEOUT:
                raise ActorDied(f"actor {worker} took no step within {TIMEOUT:.0f} s")
        yield reports


def _last_reports(workers: Workers, reports: Sequence[WorkerReport]) -> list[WorkerReport]:
    """Ask the workers to end, except those that have in `reports`, and return what they report until then.

    One that fails, or takes longer than `_END_TIMEOUT`, is left out.
    """
    found = [*reports]
    deadline = time.monotonic() + _END_TIMEOUT
    for worker in workers.running:
        workers.send(worker, None)
    while workers.running - {report.worker for report in found if report.final} and time.monotonic() < deadline:
        with contextlib.suppress(AsyncRLError):  # another failure has been raised
            found += workers.receive(0.1)
    return found[len(reports) :]


def _work(index: int, pipe: Connection, config: RunConfig, contract: Contract, shared: SharedState, first: int) -> None:
    """One worker: copy the weights, collect a rollout, take a gradient step, until the run is over or asked to end."""
    seed_process(config.seed, index, first)
    spec = actor_spec(config, contract, first)
    layout, learner = spec.layout(), HogwildLearner(config, contract, shared, index)
    slot = layout.slot(torch.zeros(layout.nbytes, dtype=torch.uint8), 0)
    counter, experience = EpisodeCounter(index, spec.envs), config.algorithm.experience()
    number = first * config.actors + index
    episodes: list[Episode] = []
    lags: list[int] = []
    metrics: dict[str, Tensor] = {}
    reported = -_REPORT_EVERY
    acted: np.ndarray = shared.acted.numpy()

    def count_step() -> None:
        acted[index] += 1

    with closing(Actor(spec, index, count_step)) as actor:
        meter = WorkMeter(learner.stopwatch)
        actor.stopwatch = learner.stopwatch
        learner.pull()
        has_ended = False
        try:
            while learner.step < config.steps and not pipe.poll():
                version = learner.updates
                actor.policy.load(learner.weights)
                learner.stopwatch.lap("publish")
                actor.collect(Ticket(number, index, version, 0, learner.step), slot)
                slot.stamp.copy_(torch.tensor([number, index, version]))
                learner.stopwatch.lap("other")
                metrics = learner.update([slot])
                number += config.actors
                episodes += counter.finished(experience.without_overlap(slot))
                lags.append(learner.updates - version - 1)
                meter.add(experience.count(slot), int(slot.restarts))
                if time.monotonic() - reported > _REPORT_EVERY and not shared.unread[index]:
                    shared.unread[index] = 1
                    pipe.send(WorkerReport.of(index, episodes, lags, metrics, meter.take()))
                    episodes, lags, reported = [], [], time.monotonic()
                learner.pull()
            has_ended = True
        finally:  # a worker that fails reports before its error is sent
            pipe.send(WorkerReport.of(index, episodes, lags, metrics, meter.take(), final=has_ended))
        with contextlib.suppress(EOFError, ConnectionResetError):
            while True:  # until the pipe is closed: ending before the run does would be taken for a crash
                pipe.recv()
