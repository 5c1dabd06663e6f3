"""The loop: collect → update → publish → request. Read this file first."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from asyncrl.acting.actor_state import ActorState
from asyncrl.common.os_errors import describe_os_error
from asyncrl.common.signals import Interrupt, StopRequest, handle_stop_signals
from asyncrl.common.torch_setup import set_torch_threads
from asyncrl.engines import MemoryPlan, open_engine
from asyncrl.envs import Contract
from asyncrl.errors import DivergenceError, closing
from asyncrl.experience import ReplayBuffer
from asyncrl.experience.rollout import Rollout, Ticket
from asyncrl.learner import Learner
from asyncrl.monitor import Monitor
from asyncrl.play.evaluation import Evaluation
from asyncrl.play.evaluator import Evaluator, evaluate_again, explained
from asyncrl.runs import checkpoint
from asyncrl.runs.checkpointer import Checkpointer
from asyncrl.runs.config import RunConfig
from asyncrl.runs.plans import actor_spec, replay_plan
from asyncrl.runs.run import Run, checkpoint_folder
from asyncrl.runs.schedule import Free, Lockstep
from asyncrl.runs.statistics import Episode, Statistics

__all__ = ["Desk", "TrainingResult", "actor_spec", "is_complete", "make_learner", "replay_plan", "train"]

_LONG = 2_000
"""Steps that environments play again of which the user is told."""


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended."""

    update: int
    step: int
    seconds: float
    signal: int | None
    """The signal that asked it to stop, if one did."""
    evaluation: Evaluation | None
    """Of the last weights; None where none was asked for, or the run was stopped."""


def train(
    config: RunConfig, contract: Contract, run: Run, monitor: Monitor, resume: checkpoint.Checkpoint | None = None
) -> TrainingResult:
    """Train as `config` (resolved) says, from the beginning or from a checkpoint of the same run.

    Ends with a checkpoint of the last weights, also after a signal or a fault. Raises what an
    environment or an actor raised, and DivergenceError, after which there is none.
    """
    assert config.learner_threads is not None
    set_torch_threads(config.learner_threads)
    learner, schedule = make_learner(config, contract), config.make_schedule()
    desk = Desk(config, contract, run, monitor, learner, resume, schedule.weight_buffers)
    with handle_stop_signals() as stop:
        desk.begin(stop)
        if not desk.is_trained:
            _learn(config, contract, learner, schedule, desk, stop)
        evaluation = desk.final_evaluation(stop)
    return TrainingResult(learner.updates, learner.step, desk.statistics.seconds, stop.signal, evaluation)


def _learn(
    config: RunConfig, contract: Contract, learner: Learner, schedule: Lockstep | Free, desk: Desk, stop: StopRequest
) -> None:
    """Collect, update, publish, request; until the run's steps are made, the target return is reached, or `stop`."""
    first, statistics = learner.updates, desk.statistics
    spec = actor_spec(config, contract.with_capsules(str(desk.run.path / "capsules")), first)
    spec = replace(spec, states=desk.actor_states)
    plan = MemoryPlan(
        spec.layout(), schedule.slots, schedule.weight_buffers, learner.weights.numel(), config.publish_every, spec.device
    )
    with closing(open_engine(config.engine, spec, config.actors, plan)) as engine, desk.saving():
        stop.listen()
        published = None
        for version, tickets in schedule.initial_requests(first):
            if version != published:
                engine.publish(version, desk.recent[version])
                published = version
            engine.request(tickets)

        while not desk.is_trained and not stop:
            update = learner.updates
            with statistics.time("waiting"):
                rollouts = engine.collect(schedule.expected(update), lambda: bool(stop))
            if not rollouts:
                break  # an environment hangs; what was learned is saved without it
            episodes = statistics.consume(update, rollouts, engine.ready)
            with statistics.time("learning"):
                metrics = learner.update(list(rollouts.values()))
            desk.follow(rollouts)
            if learner.updates % config.publish_every == 0:
                engine.publish(learner.updates, learner.weights)
            engine.request(schedule.next_requests(update, list(rollouts)))
            stop.listen()
            desk.after_update(metrics, episodes, stop)


def is_complete(config: RunConfig, contract: Contract, run: Run, saved: checkpoint.Checkpoint) -> bool:
    """Is everything done that `config` asks for, of a run whose newest checkpoint is `saved`?"""
    evaluation = _recorded_evaluation(config, contract, run, saved.update)
    trained = saved.step >= config.steps or _is_enough(config, evaluation)
    return trained and (evaluation is not None or not config.eval_episodes)


def _recorded_evaluation(config: RunConfig, contract: Contract, run: Run, update: int) -> Evaluation | None:
    """What the metrics say of an evaluation of version `update`; None where there is none as `config` asks for it."""
    asked = _mode(config), config.eval_episodes * len(contract.contracts)
    for record in reversed(run.records()):
        told = record.get("mode"), len(record.get("returns", ()))
        if (record["kind"], record["update"], told) == ("eval", update, asked):
            return Evaluation(tuple(record["returns"]), ())
    return None


def _mode(config: RunConfig) -> str:
    return "greedy" if config.eval_greedy else "sample"


def _is_enough(config: RunConfig, evaluation: Evaluation | None) -> bool:
    """Does an evaluation reach the target return?"""
    return config.target_return is not None and evaluation is not None and evaluation.mean >= config.target_return


def make_learner(config: RunConfig, contract: Contract, *, stores: bool = True) -> Learner:
    """The learner of a resolved configuration; without `stores`, it has no replay memory to learn from."""
    dtype, device = config.precision.dtype, torch.device(config.device.value)
    plan = replay_plan(config, contract) if stores else None
    replay = None if plan is None else ReplayBuffer(plan)
    return Learner(
        config.algorithm, config.optimizer, config.network, contract, config.seed, dtype, device, config.steps, replay
    )


class Desk:
    """What happens beside the learning: records, evaluations, checkpoints, each when it is due."""

    def __init__(
        self,
        config: RunConfig,
        contract: Contract,
        run: Run,
        monitor: Monitor,
        learner: Learner,
        resume: checkpoint.Checkpoint | None,
        versions: int,
    ) -> None:
        """`versions`: how many published versions of the weights are kept with a checkpoint."""
        self._config, self._contract, self._monitor, self._learner = config, contract, monitor, learner
        self.run = run
        self._evaluator = Evaluator(config, contract, monitor)
        self.statistics = Statistics(
            config.algorithm.experience(),
            [contract.for_actor(actor).env for actor in range(config.actors)],
            config.envs_per_actor,
            contract.frame_skip,
            config.queue_size or 1,
            seconds=0.0 if resume is None else resume.seconds,
        )
        self._checkpointer = Checkpointer(config, contract, run, monitor, learner, self.statistics, versions)
        self.actor_states: dict[int, ActorState] = {}
        """By actor: where a continued run goes on; {} in a new one."""
        self._resumed = resume is not None
        self._consumed = 0 if resume is None else actor_spec(config, contract, resume.update).consumed
        self._evaluated: tuple[int, Evaluation] | None = None
        self._evaluated_step = 0  # of the newest evaluation
        self._best_mean = -float("inf")
        self._recorded = -1  # the update of the newest record
        self._rewinds_recorded: set[int] = set()
        if resume is not None:
            self._restore(resume)
        elif config.init_from is not None:
            learner.load_weights(checkpoint.load(checkpoint_folder(config.init_from)).weights())
        self._step_before = learner.step
        self.reached = self._evaluated is not None and _is_enough(config, self._evaluated[1])
        """An evaluation has reached the target return."""
        self._checkpointer.remember_weights()

    @property
    def is_trained(self) -> bool:
        """Nothing is left to learn: the run's steps are made, or the target return is reached."""
        return self.reached or self._learner.step >= self._config.steps

    @property
    def recent(self) -> dict[int, Tensor]:
        """The published versions of the weights that rollouts in the making were ordered with."""
        return self._checkpointer.recent

    def begin(self, stop: StopRequest) -> None:
        """Save a new run, so that it can go on from its first moment; make the evaluation that a resumed one lacks."""
        for number, rewind in enumerate(self._checkpointer.rewinds, 1):
            if number not in self._rewinds_recorded:
                self._monitor.write(self.statistics.rewound(number, rewind.step, rewind.learning_rate, rewind.reason))
                back = f"Back to step {self._learner.step:,}, on with --learning-rate {rewind.learning_rate:g}"
                self._monitor.say(f"Training diverged at step {rewind.step:,}: {rewind.reason} {back} (rewind {number}).")
        if not self._resumed:
            self._checkpointer.save()
        elif not stop:
            self._evaluate_if_due(stop)

    def follow(self, rollouts: Mapping[Ticket, Rollout]) -> None:
        """Note where the actors are after `rollouts`, which were learned from."""
        anew = [str(actor) for actor in self._checkpointer.track_actors(rollouts) if actor < self._consumed]
        if anew:
            self._monitor.say(
                f"New episodes for actors {', '.join(anew)}: their environments cannot go on where they were."
            )

    def after_update(self, metrics: Mapping[str, Tensor | float], episodes: list[Episode], stop: StopRequest) -> None:
        """Record the update; evaluate and save where that is due. `stop` ends an evaluation."""
        self._checkpointer.remember_weights()
        config, update, step = self._config, self._learner.updates, self._learner.step
        self._checkpointer.is_scheduled = self._due(config.checkpoint_every)
        self.statistics.updated(update, step, metrics)
        for record in self.statistics.records(episodes):
            self._monitor.write(record)
        due = self._due(config.log_every) or self._recorded < 0 or step >= config.steps
        if due and self._recorded != update:
            self._monitor.write(self.statistics.record())
            self._recorded = update
        self._evaluate_if_due(stop)
        if self._checkpointer.is_scheduled or self.reached:
            self._checkpointer.save()
        self._step_before = step

    def final_evaluation(self, stop: StopRequest) -> Evaluation | None:
        """The evaluation of the last weights; there is none after a signal."""
        if stop or not self._config.eval_episodes:
            return None
        with explained("the evaluation after the last step", evaluate_again(self.run.path)):
            return self._evaluate(stop)

    @contextlib.contextmanager
    def saving(self) -> Iterator[None]:
        """A checkpoint at the end of the block, however it ends: only the second Ctrl-C waits for none."""
        try:
            yield
        except Interrupt:
            raise
        except BaseException as problem:
            # What failed in the middle of an update has left weights that are no version's.
            if not (isinstance(problem, DivergenceError) or self._learner.is_updating):
                self._save_after(problem)
            raise
        self._checkpointer.save()

    def _save_after(self, problem: BaseException) -> None:
        """Save what was learned, and say so as far as that can be done; `problem` is raised in any case."""
        try:
            self._checkpointer.save()
        except OSError as another:
            if self._checkpointer.saved != self._learner.updates:
                if isinstance(problem, OSError):
                    return  # that says it all
                problem.add_note(f"What was learned since the last checkpoint is lost: {describe_os_error(another)}.")
                return
        with contextlib.suppress(OSError):
            self._monitor.say(f"What was learned until step {self._learner.step:,} is saved in {self.run.path}.")

    def _due(self, every: int | None) -> bool:
        return every is not None and every > 0 and self._learner.step // every > self._step_before // every

    def _evaluate_if_due(self, stop: StopRequest) -> None:
        """Due is an evaluation where none was made since a multiple of `eval_every`: a kill may have come before it."""
        every = self._config.eval_every if self._config.eval_episodes else 0
        if every and self._learner.step // every > self._evaluated_step // every:
            what = f"the evaluation after {self._learner.step:,} steps"
            with explained(what, "--eval-every 0 evaluates at the end alone"):
                self.reached = _is_enough(self._config, self._evaluate(stop))

    def _evaluate(self, stop: StopRequest) -> Evaluation | None:
        """Of the weights as they are; None where `stop` ended it."""
        update = self._learner.updates
        if self._evaluated is None or self._evaluated[0] != update:
            self._learner.check()
            scores = self._evaluator.scores(self._learner.weights, stop)
            if scores is None:
                return None
            result = Evaluation.merge(scores.values())
            self._evaluated, self._evaluated_step = (update, result), self._learner.step
            means = {env: score.mean for env, score in scores.items()}
            self._monitor.write(self.statistics.evaluated(result.returns, _mode(self._config), means, result.mean_measures))
            if result.mean >= self._best_mean:
                self._best_mean = result.mean
                self.run.mark("best", self._checkpointer.save())
        return self._evaluated[1]

    def _restore(self, resume: checkpoint.Checkpoint) -> None:
        self.actor_states = self._checkpointer.restore(resume)
        longest = max((len(played) for state in self.actor_states.values() for played in state.actions), default=0)
        if longest >= _LONG:
            self._monitor.say(f"Environments play up to {longest:,} steps again, to come where they were.")
        self._best_mean = self.run.best_mean()
        evaluation = _recorded_evaluation(self._config, self._contract, self.run, resume.update)
        self._evaluated = None if evaluation is None else (resume.update, evaluation)
        for record in self.run.records():
            if record["kind"] == "eval":
                self._evaluated_step = record["step"]
            elif record["kind"] == "train":
                self._recorded = record["update"]
            elif record["kind"] == "rewind":
                self._rewinds_recorded.add(record.get("number", 0))
