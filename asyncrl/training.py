"""The training loop: collect → update → publish → request. Read this file first."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from asyncrl.acting.actor import ActorSpec
from asyncrl.acting.actor_state import ActorState
from asyncrl.agents.evaluation import Evaluation
from asyncrl.agents.evaluation_videos import EvaluationVideos
from asyncrl.agents.evaluator import (
    Evaluator,
    evaluate_again,
    evaluated_means,
    explain_faults,
    is_stalled,
    reaches_target,
    recorded_evaluation,
)
from asyncrl.common.counting import counted
from asyncrl.common.os_errors import describe_os_error
from asyncrl.common.signals import Interrupt, StopRequest, handle_stop_signals
from asyncrl.common.torch_setup import set_torch_threads
from asyncrl.engines import Engine, LostActor, MemoryPlan, RayOptions, open_engine
from asyncrl.engines.learners import open_learners
from asyncrl.envs import Contract
from asyncrl.errors import DivergenceError, UsageError, closing
from asyncrl.learner import Learner
from asyncrl.monitor import Evaluate, Save, Stop
from asyncrl.runs.checkpoints.checkpoint import Checkpoint
from asyncrl.runs.checkpoints.checkpointer import Checkpointer
from asyncrl.runs.components import actor_spec, initial_checkpoint, make_learner
from asyncrl.runs.config.run_config import Device, EngineKind, RunConfig
from asyncrl.runs.context import RunContext
from asyncrl.runs.live_weights import LiveWriter
from asyncrl.runs.metrics.recorder import Recorder
from asyncrl.runs.metrics.statistics import Episode, RunStatistics
from asyncrl.runs.run import Run
from asyncrl.runs.schedule import Free, Lockstep
from asyncrl.runs.speed.stage_times import StageMeter, StageTimes

__all__ = ["Session", "TrainingResult", "is_complete", "memory_plan", "train"]


@dataclass(frozen=True)
class TrainingResult:
    """The state of a run when it ended."""

    update: int
    step: int
    seconds: float
    signal: int | None
    """The signal that stopped it, if one did."""
    evaluation: Evaluation | None
    """Of the last weights; None if none was asked for or a signal stopped the run."""
    stopped: str | None = None
    """Why the run ended early: a callback's reason, a reached target or exhausted patience; None otherwise."""
    is_copied: bool = True
    """False if the run has a storage and its copy there is incomplete."""
    times: StageTimes | None = None
    """Time per stage since the run began or was resumed; None if it collected no rollout."""


def train(context: RunContext, resume: Checkpoint | None = None) -> TrainingResult:
    """Train as the run's configuration says, from the beginning or from a checkpoint of the same run.

    Ends with a checkpoint of the last weights, even after a signal or a fault. Raises EnvironmentFault or ActorDied
    if an actor fails, and DivergenceError, after which no checkpoint is written.
    """
    config, contract = context.config, context.contract
    assert config.learner_threads is not None
    set_torch_threads(config.learner_threads)
    learner, schedule = make_learner(config, contract), config.make_schedule()
    session = Session(context, learner, resume, kept_versions=schedule.weight_buffers)
    with handle_stop_signals() as stop:
        session.begin(stop)
        if not session.is_over:
            _learn(session, schedule, stop)
        return session.finish(stop)


def _learn(session: Session, schedule: Lockstep | Free, stop: StopRequest) -> None:
    """Collect, update, publish, request until the run is over or asked to stop."""
    config, learner = session.context.config, session.learner
    statistics, checkpointer, stopwatch = session.statistics, session.checkpointer, learner.stopwatch
    contract = session.context.contract
    with closing(_open_engine(session)) as engine, open_learners(config, contract, learner), session.saving():
        stop.install_handlers()
        _request_first_rollouts(engine, schedule, session)
        while not session.is_over and not stop:
            update = learner.updates
            rollouts = engine.collect(schedule.expected(update), lambda: bool(stop))
            stopwatch.lap("waiting")
            stop.install_handlers()  # on serial, the environments were stepped in this thread
            if not rollouts:
                break  # an environment hangs: save what was learned without waiting for it
            metrics = learner.update(list(rollouts.values()))
            episodes = statistics.consume(update, rollouts, engine.ready)
            checkpointer.track_actors(rollouts)
            stopwatch.lap("other")
            if learner.updates % config.publish_every == 0:
                engine.publish(learner.updates, learner.weights)
                checkpointer.keep_weights()
            stopwatch.lap("publish")
            engine.request(schedule.next_requests(update, list(rollouts)))
            session.on_update(metrics, episodes, stop)
            stopwatch.lap("other")


def _open_engine(session: Session) -> Engine:
    """Start the actors, each where the run left it."""
    config, learner = session.context.config, session.learner
    spec = session.actor_spec(session.checkpointer.actor_states)
    plan = memory_plan(config, spec, learner.weights.numel())
    ray = RayOptions(
        config.ray_address,
        current_spec=lambda: session.actor_spec(session.checkpointer.current_states()),
        on_actor_lost=session.on_actor_lost,
        say=session.context.monitor.say,
    )
    return open_engine(config.engine, spec, config.actors, plan, ray)


def memory_plan(config: RunConfig, spec: ActorSpec, num_weights: int) -> MemoryPlan:
    """The memory that actors and learner exchange rollouts and weights through."""
    schedule = config.make_schedule()
    return MemoryPlan(
        layout=spec.layout(),
        num_slots=schedule.slots,
        num_buffers=schedule.weight_buffers,
        num_weights=num_weights,
        publish_every=config.publish_every,
        device=spec.device if config.engine in (EngineKind.SERIAL, EngineKind.THREADS) else "cpu",
        is_pinned=config.device is Device.CUDA,
        num_actors=config.actors,
    )


def _request_first_rollouts(engine: Engine, schedule: Lockstep | Free, session: Session) -> None:
    """Request the rollouts that are in progress before the next update, each with its version of the weights."""
    published = None
    for version, tickets in schedule.initial_requests(session.learner.updates):
        if version != published:
            engine.publish(version, session.checkpointer.recent[version])
            published = version
        engine.request(tickets)


def is_complete(config: RunConfig, contract: Contract, run: Run, saved: Checkpoint) -> bool:
    """Whether a run whose newest checkpoint is `saved` has done everything that `config` asks for."""
    evaluation = recorded_evaluation(config, contract, run, saved.update)
    trained = saved.step >= config.steps or reaches_target(config, evaluation)
    trained = trained or is_stalled(evaluated_means(run, saved.update), config.patience)
    return trained and (evaluation is not None or not config.eval_episodes)


class Session:
    """The work around learning: records, evaluations, videos, checkpoints, viewers' weights and callbacks."""

    def __init__(
        self,
        context: RunContext,
        learner: Learner,
        resume: Checkpoint | None,
        *,
        kept_versions: int,
    ) -> None:
        """`kept_versions`: how many published versions of the weights a checkpoint holds."""
        config, contract = context.config, context.contract
        self.context = context
        self.learner = learner
        self.statistics = RunStatistics(
            config.algorithm.experience(),
            [contract.for_actor(actor).env for actor in range(config.actors)],
            config.envs_per_actor,
            contract.frame_skip,
            config.queue_size or 1,
            seconds=0.0 if resume is None else resume.seconds,
            stages=StageMeter(
                learner.stopwatch,
                config.actors,
                concurrent=config.engine is not EngineKind.SERIAL,
                separate=config.engine in (EngineKind.PROCESSES, EngineKind.HOGWILD, EngineKind.RAY),
            ),
        )
        self.recorder = Recorder(context, self.statistics)
        self.evaluator = Evaluator(context, self.statistics)
        self.videos = EvaluationVideos(context, self.statistics)
        self.checkpointer = Checkpointer(context, learner, self.statistics, kept_versions=kept_versions)
        self._live = LiveWriter(context.run.path, learner)
        self.stopped: str | None = None
        """Why the run ends before taking all its steps."""
        self._is_resumed = resume is not None
        if resume is not None:
            self.checkpointer.restore(resume)
            self.recorder.restore(context.run.records())
            self.evaluator.restore(resume.update)
            self.videos.restore()
        elif config.init_from is not None:
            learner.load_weights(initial_checkpoint(config).weights())
        if learner.updates % config.publish_every == 0:
            self.checkpointer.keep_weights()

    @property
    def is_over(self) -> bool:
        """Whether the run has taken all its steps or ends early."""
        return self.ends_early or self.learner.step >= self.context.config.steps

    @property
    def ends_early(self) -> bool:
        """Whether the target return is reached, or the run's patience or a callback ends it."""
        return self.stopped is not None

    def actor_spec(self, states: Mapping[int, ActorState]) -> ActorSpec:
        """Actors that continue from `states` after the rollouts that were learned from."""
        contract = self.context.contract.with_capsules(str(self.context.run.path / "capsules"))
        return replace(actor_spec(self.context.config, contract, self.learner.updates), states=states)

    def on_actor_lost(self, lost: LostActor) -> None:
        """Record that an actor was lost and is restarted."""
        self.context.monitor.write(self.statistics.lost(lost.actor, lost.rollout, lost.reason))
        where = "" if lost.rollout is None else f" from rollout {lost.rollout:,}"
        self.context.monitor.say(f"Actor {lost.actor} was lost and is restarted{where}: {lost.reason}.")

    def begin(self, stop: StopRequest) -> None:
        """Save a new run before its first update; make the evaluation that a resumed one has missed."""
        self._live.clear()
        self.recorder.record_rewinds(self.checkpointer.rewinds, self.learner.step)
        if not self._is_resumed:
            self.checkpointer.save()
        elif not stop:
            self._evaluate_if_due(stop)
            self._end_if_decided()

    def on_update(self, metrics: Mapping[str, Tensor | float], episodes: Sequence[Episode], stop: StopRequest) -> None:
        """Record the update, and show its weights to viewers; evaluate and save if due or asked to by a callback.

        `stop` interrupts an evaluation.
        """
        self.recorder.record_update(self.learner, metrics, episodes)
        self._live.offer()
        self._evaluate_if_due(stop)
        self._ask_callbacks(stop)
        if self.checkpointer.is_due(self.learner.step) or self.ends_early:
            self.checkpointer.save()
        for sentence in () if self.context.uploads is None else self.context.uploads.news():
            self.context.monitor.say(sentence)

    def finish(self, stop: StopRequest) -> TrainingResult:
        """Evaluate the last weights, unless the run was stopped, and judge where the time went."""
        self._live.clear()
        evaluation = None
        if self.context.config.eval_episodes and not stop:
            with explain_faults("the evaluation after the last step", evaluate_again(self.context.run.path)):
                evaluation = self._evaluate(stop)
        self.recorder.record_verdict()
        if not stop:
            self._ask_callbacks(stop)
        return TrainingResult(
            update=self.learner.updates,
            step=self.learner.step,
            seconds=self.statistics.seconds,
            signal=stop.signal,
            evaluation=evaluation,
            stopped=self.stopped,
            times=self.statistics.stages.total(),
        )

    def _ask_callbacks(self, stop: StopRequest) -> None:
        """Show the callbacks what was recorded, and do what they ask for."""
        while (request := self.context.callbacks.next_request()) is not None:
            match request:
                case Stop(reason):
                    self._end(str(reason))
                case Evaluate():
                    if not self.context.config.eval_episodes:
                        raise UsageError("a callback asks for an evaluation, but --eval-episodes is 0")
                    self._evaluate(stop)
                case Save():
                    self.checkpointer.save()

    def _end_if_decided(self) -> None:
        """End the run if its target return is reached or its patience exhausted."""
        config, evaluation = self.context.config, self.evaluator.newest
        if evaluation is not None and reaches_target(config, evaluation):
            self._end(f"the mean return {evaluation.mean:g} reached the target {config.target_return:g} (--target-return)")
        if config.patience is not None and self.evaluator.is_stalled:
            self._end(f"{counted(config.patience, 'evaluation')} in a row without a better mean return (--patience)")

    def _end(self, reason: str) -> None:
        """End the run early, unless it is over."""
        if not self.is_over:
            self.stopped = reason
            self.context.monitor.write(self.statistics.stopped(reason))
            self.context.monitor.say(f"Stopped at step {self.learner.step:,}: {reason}")

    def _evaluate_if_due(self, stop: StopRequest) -> None:
        if self.evaluator.is_due(self.learner.step):
            with explain_faults(
                f"the evaluation after {self.learner.step:,} steps", "--eval-every 0 evaluates only at the end"
            ):
                self._evaluate(stop)

    def _evaluate(self, stop: StopRequest) -> Evaluation | None:
        """Evaluate the weights, keep them if they are the best so far, and record a video if one is due.

        The record of an end that this decides precedes the checkpoint, which makes the run complete.
        """
        evaluation = self.evaluator.evaluate(self.learner, stop)
        self._end_if_decided()
        if self.evaluator.found_best:
            self.context.run.mark("best", self.checkpointer.save())
        if evaluation is not None:
            self.videos.record_if_due(self.learner, stop)
        return evaluation

    @contextlib.contextmanager
    def saving(self) -> Iterator[None]:
        """Save a checkpoint at the end of the block, however it ends; only a second Ctrl-C skips it."""
        try:
            yield
        except Interrupt:
            raise
        except BaseException as problem:
            # A failure in the middle of an update leaves weights that belong to no version.
            if not (isinstance(problem, DivergenceError) or self.learner.is_updating):
                self._save_after(problem)
            raise
        self.checkpointer.save()

    def _save_after(self, problem: BaseException) -> None:
        """Save after `problem`, which is about to be raised, and report whether that succeeded."""
        try:
            self.checkpointer.save()
        except OSError as failure:
            if self.checkpointer.saved != self.learner.updates:
                if not isinstance(problem, OSError):
                    problem.add_note(f"Progress since the last checkpoint is lost: {describe_os_error(failure)}.")
                return
        with contextlib.suppress(OSError):
            self.context.monitor.say(f"Progress up to step {self.learner.step:,} is saved in {self.context.run.path}.")
