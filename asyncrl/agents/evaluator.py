"""Evaluates the weights of a run while it trains."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

from asyncrl.agents.evaluation import Evaluation, Interrupted, cut_off_message, evaluate
from asyncrl.algorithms import Policy
from asyncrl.common.quoting import quoted
from asyncrl.common.signals import StopRequest
from asyncrl.envs import Contract
from asyncrl.errors import EnvironmentFault
from asyncrl.learner import Learner
from asyncrl.runs.config.run_config import RunConfig
from asyncrl.runs.context import RunContext
from asyncrl.runs.every import Every
from asyncrl.runs.metrics.statistics import RunStatistics
from asyncrl.runs.run import Run

__all__ = [
    "Evaluator",
    "evaluate_again",
    "evaluated_means",
    "explain_faults",
    "is_stalled",
    "reaches_target",
    "recorded_evaluation",
]


def evaluate_again(run: Path) -> str:
    """The remedy if the final evaluation of a run failed."""
    return f"the run is saved: asyncrl evaluate {quoted(run)} --eval-envs 1 evaluates it in one environment"


@contextlib.contextmanager
def explain_faults(what: str, remedy: str) -> Iterator[None]:
    """Add to an environment's fault which evaluation it occurred in, and the remedy."""
    try:
        yield
    except EnvironmentFault as fault:
        raise EnvironmentFault(f"{what} failed: {fault} ({remedy})", fault.traceback) from fault


def reaches_target(config: RunConfig, evaluation: Evaluation | None) -> bool:
    """Whether an evaluation reaches the run's target return."""
    return config.target_return is not None and evaluation is not None and evaluation.mean >= config.target_return


def recorded_evaluation(config: RunConfig, contract: Contract, run: Run, update: int) -> Evaluation | None:
    """The evaluation of version `update` in the run's metrics, if it was made as `config` asks for; else None."""
    asked = _mode(config), config.eval_episodes * len(contract.contracts)
    for record in reversed(run.records()):
        made = record.get("mode"), len(record.get("returns", ()))
        if (record["kind"], record["update"], made) == ("eval", update, asked):
            return Evaluation(tuple(record["returns"]), ())
    return None


def evaluated_means(run: Run, update: int) -> list[float]:
    """The mean returns of the run's evaluations up to `update`, oldest first."""
    return [float(record["mean"]) for record in run.records() if record["kind"] == "eval" and record["update"] <= update]


def is_stalled(means: Sequence[float], patience: int | None) -> bool:
    """Whether none of the last `patience` mean returns is better than the best before them; False if it is None."""
    return patience is not None and len(means) > patience and max(means[-patience:]) <= max(means[:-patience])


def _mode(config: RunConfig) -> str:
    return "greedy" if config.eval_greedy else "sample"


class Evaluator:
    """Plays evaluation episodes in separate environments and writes their record. It saves nothing."""

    def __init__(self, context: RunContext, statistics: RunStatistics) -> None:
        config = context.config
        self._context = context
        self._statistics = statistics
        spaces, device = context.contract.spaces, config.acting_device(context.contract)
        self._policy = Policy(config.algorithm, config.network, spaces, config.precision.dtype, device)
        self._every = Every(config.eval_every if config.eval_episodes else None)
        self._every.mark(0)
        self._evaluated: tuple[int, Evaluation] | None = None  # the newest evaluation and its update
        self._best_mean = -math.inf
        self._means: list[float] = []
        self._reported_cut_off = False
        self.found_best = False
        """Whether the newest call of `evaluate` found the best mean return so far."""

    @property
    def newest(self) -> Evaluation | None:
        """The newest evaluation; None if there is none."""
        return None if self._evaluated is None else self._evaluated[1]

    @property
    def is_stalled(self) -> bool:
        """Whether the run's patience is exhausted."""
        return is_stalled(self._means, self._context.config.patience)

    def is_due(self, step: int) -> bool:
        """Whether an evaluation is due at environment step `step`; a killed run may have missed one."""
        return self._every.is_due(step)

    def restore(self, update: int) -> None:
        """Continue a run at `update`: its metrics hold the earlier evaluations."""
        run = self._context.run
        self._best_mean = run.best_mean()
        self._means = evaluated_means(run, update)
        evaluation = recorded_evaluation(self._context.config, self._context.contract, run, update)
        self._evaluated = None if evaluation is None else (update, evaluation)
        for record in run.records():
            if record["kind"] == "eval":
                self._every.mark(record["step"])

    def evaluate(self, learner: Learner, stop: StopRequest) -> Evaluation | None:
        """Evaluate the learner's weights, unless these have been; None if `stop` interrupted it."""
        self.found_best = False
        if self._evaluated is None or self._evaluated[0] != learner.updates:
            learner.check()
            learner.stopwatch.lap("other")
            by_env = self._play(learner.weights, stop)
            learner.stopwatch.lap("evaluation")
            if by_env is None:
                return None
            result = Evaluation.merge(by_env.values())
            means = {env: evaluation.mean for env, evaluation in by_env.items()}
            self._evaluated = learner.updates, result
            self._every.mark(learner.step)
            self._context.monitor.write(
                self._statistics.evaluated(result.returns, _mode(self._context.config), means, result.mean_measures)
            )
            self._means.append(result.mean)
            self.found_best = result.mean >= self._best_mean
            self._best_mean = max(result.mean, self._best_mean)
        return self._evaluated[1]

    def _play(self, weights: Tensor, stop: StopRequest) -> dict[str, Evaluation] | None:
        self._policy.load(weights.cpu())
        try:
            return {contract.env: self._play_in(contract, stop) for contract in self._context.contract.contracts}
        except Interrupted:
            return None
        finally:
            self._context.monitor.status("")

    def _play_in(self, contract: Contract, stop: StopRequest) -> Evaluation:
        config, monitor = self._context.config, self._context.monitor
        episodes, limit = config.eval_episodes, config.episode_limit(contract)

        def progress(finished: int) -> None:
            stop.install_handlers()  # the environment may have installed a signal handler
            if stop:
                raise Interrupted
            monitor.status(f"evaluating: {finished:,} of {episodes:,} episodes in {contract.env}")

        result = evaluate(
            self._policy,
            contract,
            episodes,
            config.seed,
            greedy=config.eval_greedy,
            envs=config.evaluation_envs(contract),
            limit=limit,
            progress=progress,
        )
        if result.cut_off and limit is not None and not self._reported_cut_off:
            monitor.say(cut_off_message(result.cut_off, episodes, limit, "--eval-episode-steps"))
            self._reported_cut_off = True
        return result
