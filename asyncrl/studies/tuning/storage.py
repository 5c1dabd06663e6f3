"""The trials of a tuning study, kept by Optuna in an SQLite file."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from asyncrl.errors import SystemFault, UsageError
from asyncrl.studies.tuning.space import Dimension

__all__ = ["Objective", "OpenTrial", "State", "Storage", "Trial", "check_optuna", "ranked_by", "storage_faults"]

_STUDY = "asyncrl"
_SCORE, _SECONDS, _PROBLEM, _FACTS, _SEEDS = "score", "seconds", "problem", "facts", "seeds"
_RANDOM_TRIALS = 5
"""Trials before the sampler learns from results, and before trials are pruned."""
_FEWEST = 8
"""Complete trials that importances are computed from."""
_DISK_ERRORS = ("SQLITE_CANTOPEN", "SQLITE_CORRUPT", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY")
"""SQLite's errors of a file that cannot be read or written, as opposed to one that something else has written."""


class Objective(Enum):
    """What a tuning study optimizes."""

    SCORE = "score"
    """mean return of the evaluation at the end of the run; higher is better"""
    SECONDS = "seconds"
    """wall time of the run; lower is better"""

    def best(self, values: Iterable[float]) -> float:
        """The best of some values of this objective."""
        return max(values) if self is Objective.SCORE else min(values)

    def shown(self, value: float) -> str:
        """A value with its unit."""
        return f"{value:.1f}" if self is Objective.SCORE else f"{value:.0f} s"


def ranked_by(objectives: Sequence[Objective]) -> Objective:
    """What trials are ranked by: the score, unless the time is the only objective."""
    return objectives[0] if len(objectives) == 1 else Objective.SCORE


class State(Enum):
    """The state of a trial."""

    RUNNING = "running"
    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"


@dataclass(frozen=True)
class Trial:
    """A trial of a tuning study."""

    number: int
    state: State
    settings: Mapping[str, Any]
    """The values that were tried, by setting."""
    score: float | None = None
    """Mean return of the last evaluation."""
    seconds: float | None = None
    problem: str = ""
    """Why it failed."""

    def value(self, objective: Objective) -> float | None:
        """What it has reached of an objective."""
        return self.score if objective is Objective.SCORE else self.seconds


class OpenTrial:
    """A trial that is not over: takes its evaluations and its result."""

    def __init__(self, trial: Any, study: Any, settings: Mapping[str, Any], objectives: Sequence[Objective]) -> None:
        self.number: int = trial.number
        self.settings = settings
        self._trial, self._study, self._objectives = trial, study, objectives
        self._reported = len(study.trials[trial.number].intermediate_values)

    def report(self, scores: Sequence[float]) -> bool:
        """Note the evaluations so far. Returns whether to stop a trial that is worse than others at the same place.

        Where seconds count nothing is stopped: a worse score may be the price of a faster run.
        """
        if len(self._objectives) > 1 or self._objectives[0] is not Objective.SCORE:
            return False
        for number, score in enumerate(scores[self._reported :], self._reported + 1):
            self._trial.report(score, number)
            self._reported = number
        return bool(scores) and bool(self._trial.should_prune())

    def complete(self, score: float, seconds: float) -> None:
        """The run ended with this score after some seconds."""
        self._note(score, seconds)
        values = {Objective.SCORE: score, Objective.SECONDS: seconds}
        self._study.tell(self.number, [values[objective] for objective in self._objectives])

    def prune(self, score: float, seconds: float) -> None:
        """The run was stopped early."""
        self._note(score, seconds)
        self._tell("PRUNED")

    def fail(self, problem: str) -> None:
        """The run could not be made, or diverged."""
        self._trial.set_user_attr(_PROBLEM, problem)
        self._tell(
            "PRUNED" if len(self._objectives) == 1 else "FAIL"
        )  # a pruned trial counts as bad, a failed one not at all

    def _note(self, score: float, seconds: float) -> None:
        self._trial.set_user_attr(_SCORE, score)
        self._trial.set_user_attr(_SECONDS, seconds)

    def _tell(self, state: str) -> None:
        from optuna.trial import TrialState

        self._study.tell(self.number, state=TrialState[state])


class Storage:
    """A study in an SQLite file, new or continued."""

    def __init__(
        self,
        path: Path,
        space: Mapping[str, Dimension],
        objectives: Sequence[Objective],
        facts: Mapping[str, Any],
        seed: int,
    ) -> None:
        """`facts` are what must be equal when the study continues; `seed` is that of the sampler.

        Raises UsageError if the file is of another study, or if Optuna is missing.
        """
        self._space, self._objectives = space, objectives
        directions = ["maximize" if objective is Objective.SCORE else "minimize" for objective in objectives]
        with _quiet() as optuna:
            from sqlalchemy.exc import SQLAlchemyError

            try:
                self._study = optuna.create_study(
                    storage=optuna.storages.RDBStorage(f"sqlite:///{path}"),
                    study_name=_STUDY,
                    directions=directions,
                    load_if_exists=True,
                    pruner=optuna.pruners.MedianPruner(n_startup_trials=_RANDOM_TRIALS, n_warmup_steps=2),
                )
            except (SQLAlchemyError, RuntimeError) as problem:
                if getattr(getattr(problem, "orig", None), "sqlite_errorname", "").startswith(_DISK_ERRORS):
                    raise
                raise UsageError(f"{path} is not the storage of a tuning study; choose another --folder") from None
            self._study.sampler = optuna.samplers.TPESampler(
                seed=int(
                    np.random.SeedSequence([seed, len(self._study.trials)]).generate_state(1)[0]
                ),  # a continued study draws other numbers
                multivariate=True,
                constant_liar=True,
                n_startup_trials=_RANDOM_TRIALS,
            )
        before = self._study.user_attrs.get(_FACTS)
        if before is None and self._study.trials:
            raise UsageError(f"{path} is the storage of another program's study; choose another --folder")
        if before is None:
            self._study.set_user_attr(_FACTS, facts)
            self._study.enqueue_trial({name: dimension.start for name, dimension in space.items()})
        else:
            _compare(path.parent, before, facts)

    def ask(self) -> OpenTrial:
        """The next trial."""
        with _quiet():
            trial = self._study.ask({name: dimension.distribution() for name, dimension in self._space.items()})
        return OpenTrial(trial, self._study, self._values(trial.params), self._objectives)

    def unfinished(self) -> list[OpenTrial]:
        """The trials that were running when the study was stopped or killed."""
        from optuna.trial import Trial as OptunaTrial
        from optuna.trial import TrialState

        found = []
        for one in self._study.get_trials(states=[TrialState.RUNNING]):
            if one.params.keys() == self._space.keys():
                trial = OptunaTrial(self._study, one._trial_id)
                found.append(OpenTrial(trial, self._study, self._values(one.params), self._objectives))
            else:  # killed while it was begun
                self._study.tell(one.number, state=TrialState.FAIL)
        return found

    def trials(self) -> list[Trial]:
        """The trials that were begun, in their order."""
        return [self._read(one) for one in self._study.trials if one.state.name != "WAITING"]

    def best(self) -> list[Trial]:
        """The complete trials, the best first (`ranked_by`); with two objectives only those of the Pareto front."""
        numbers = {one.number for one in self._study.best_trials} if len(self._objectives) > 1 else None
        done = [one for one in self.trials() if one.state is State.COMPLETE and (numbers is None or one.number in numbers)]
        objective = ranked_by(self._objectives)
        return sorted(done, key=lambda one: one.value(objective) or 0.0, reverse=objective is Objective.SCORE)

    def importances(self) -> dict[str, float]:
        """How much each setting decides whether a trial is good (`ranked_by`), the largest first; {} for too few trials.

        They are PED-ANOVA's (Watanabe et al. 2023) and add up to 1.
        """
        if sum(one.state is State.COMPLETE for one in self.trials()) < _FEWEST:
            return {}
        is_score = ranked_by(self._objectives) is Objective.SCORE
        with _quiet() as optuna, contextlib.suppress(RuntimeError, ValueError):
            found = optuna.importance.get_param_importances(
                self._study,
                evaluator=optuna.importance.PedAnovaImportanceEvaluator(),
                target=lambda one: (
                    -one.user_attrs[_SCORE] if is_score else one.user_attrs[_SECONDS]
                ),  # low ones are explained
            )
            return {name: share for name, share in found.items() if share == share}
        return {}

    @property
    def seeds(self) -> dict[str, dict[str, float]]:
        """The results of the best trials with other seeds (`ranked_by`), by trial and seed."""
        return dict(self._study.user_attrs.get(_SEEDS, {}))

    def note_seed(self, number: int, seed: int, value: float) -> None:
        """Store the result of a trial's settings with another seed (`ranked_by`)."""
        seeds = self.seeds
        self._study.set_user_attr(_SEEDS, {**seeds, str(number): {**seeds.get(str(number), {}), str(seed): value}})

    def _values(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {name: dimension.value(params[name]) for name, dimension in self._space.items()}

    def _read(self, one: Any) -> Trial:
        names = {"RUNNING": State.RUNNING, "COMPLETE": State.COMPLETE, "PRUNED": State.PRUNED, "FAIL": State.FAILED}
        problem = str(one.user_attrs.get(_PROBLEM, ""))
        state = State.FAILED if problem else names[one.state.name]
        settings = self._values(one.params) if one.params.keys() == self._space.keys() else {}
        score, seconds = one.user_attrs.get(_SCORE), one.user_attrs.get(_SECONDS)
        return Trial(one.number, state, settings, score, seconds, problem)


def check_optuna() -> None:
    """Raise UsageError if Optuna is missing."""
    with _quiet():
        pass


@contextlib.contextmanager
def storage_faults(path: Path) -> Iterator[None]:
    """Raise SystemFault if the storage at `path` cannot be read or written during the block, as on a full disk."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (StorageInternalError, SQLAlchemyError) as problem:
        cause = problem.__cause__ if isinstance(problem, StorageInternalError) else problem
        reason = str(getattr(cause, "orig", cause)).partition("\n")[0]
        raise SystemFault(f"{path}: {reason}; see to the disk, then the same command continues") from problem


def _compare(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise UsageError, with what differs, if a folder holds the study of something else."""
    if any(before.get(name) != now[name] for name in ("algorithm", "env", "objectives")):
        kind = f"{before.get('algorithm')} on {before.get('env')} (--objectives {before.get('objectives')})"
        raise UsageError(f"{folder} holds a tuning of {kind}; choose another --folder")
    if before.get("space") != now["space"]:
        names = ", ".join(before.get("space", ()))
        raise UsageError(
            f"{folder} varies {names} in other search spaces or with other settings given; choose another --folder"
        )
    one, other = before.get("settings", {}), now["settings"]
    for name in sorted(one.keys() | other.keys()):
        if one.get(name) != other.get(name):
            values = f"{one.get(name)}, not {other.get(name)}"
            raise UsageError(f"{folder} was tuned with another {name}: {values}; choose another --folder")


@contextlib.contextmanager
def _quiet() -> Iterator[Any]:
    """Optuna without its log lines and its warnings about experimental features. Raises UsageError if it is missing."""
    try:
        import optuna
    except ImportError:
        raise UsageError("tuning needs Optuna, which is not installed: pip install 'asyncrl[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="optuna")
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.filterwarnings("ignore", "PedAnova")
        yield optuna
