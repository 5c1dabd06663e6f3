"""Tuning: a search for good settings. Each trial is a run that `asyncrl train` makes."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asyncrl.algorithms import Algorithm, AlgorithmSource, algorithm_name_of
from asyncrl.api import check_order, configure, tailor
from asyncrl.common.file_lock import AlreadyLocked, file_lock
from asyncrl.common.serialization import to_json
from asyncrl.common.signals import StopRequest, end_call_after, handle_stop_signals, interrupt_by
from asyncrl.envs import EnvSource
from asyncrl.errors import UsageError, suggestions
from asyncrl.launch_checks import check_beginning
from asyncrl.runs.config.resolution import resolve
from asyncrl.runs.config.run_config import RunConfig
from asyncrl.runs.config.settings import leaves
from asyncrl.runs.config.settings_file import located, read_settings_file
from asyncrl.studies.launchers import Launcher, open_launcher
from asyncrl.studies.processes import cores_of
from asyncrl.studies.tuning.report import TuningResult, write_results
from asyncrl.studies.tuning.runs import FollowedRun, Recipe
from asyncrl.studies.tuning.space import Dimension, search_space
from asyncrl.studies.tuning.storage import (
    Objective,
    OpenTrial,
    State,
    Storage,
    Trial,
    check_optuna,
    ranked_by,
    storage_faults,
)

__all__ = ["tune"]

_FOLDER = Path("studies")
_POLL = 0.1
"""Seconds between polls of the runs."""
_EVALUATIONS = 5
"""Evaluations of a trial, unless --eval-every says otherwise."""
_FINALISTS, _PER_FINALIST = 3, 10
"""Most trials whose settings are run with other seeds: one in ten."""
_HOPELESS = 3
"""Trials that may fail before any succeeds."""


@dataclass(frozen=True)
class _Plan:
    """What a study does."""

    recipe: Recipe
    base: RunConfig
    space: Mapping[str, Dimension]
    objectives: tuple[Objective, ...]
    folder: Path
    trials: int
    seeds: int
    jobs: int | None
    takes: RunConfig
    """The resolved configuration of the first trial."""
    on_ray: str | None
    trust: bool
    say: Callable[[str], None]

    @property
    def title(self) -> str:
        return f"{self.recipe.algorithm} on {self.recipe.env}"

    @property
    def other_seeds(self) -> range:
        """Those that the best trials are run with as well."""
        return range(self.base.seed + 1, self.base.seed + 1 + self.seeds)

    def jobs_with(self, launcher: Launcher) -> int:
        """Trials at a time."""
        return self.jobs or launcher.jobs(cores_of(self.takes))

    def facts(self) -> dict[str, Any]:
        """What must be equal when the study continues."""
        settings = {name: to_json(value) for name, value in leaves(self.base).items() if name not in self.space}
        return {
            "algorithm": self.recipe.algorithm,
            "env": self.recipe.env,
            "objectives": ",".join(objective.value for objective in self.objectives),
            "space": {name: repr(dimension.space) for name, dimension in self.space.items()},
            "settings": settings,
        }


def tune(
    env: EnvSource | None = None,
    algorithm: AlgorithmSource | None = None,
    *,
    trials: int = 20,
    seeds: int = 3,
    objectives: Sequence[str] | str = "score",
    search: Sequence[str] | str = (),
    folder: Path | str | None = None,
    jobs: int | None = None,
    on_ray: str | None = None,
    config: Path | str | None = None,
    preset: str | None = None,
    trust: bool = False,
    say: Callable[[str], None] = lambda line: None,
    **settings: Any,
) -> TuningResult:
    """Search for settings of an algorithm in an environment.

    The first trial has the settings of the preset, the others are chosen by Optuna's TPE sampler; a trial whose
    evaluations are below the median of others is stopped early. The best settings are run with other seeds. Called again
    with the same folder the study continues, also after `kill -9`.

    Args:
        env: Environment id, or a class or function in a module.
        algorithm: As for `train`.
        trials: Number of trials, those of the folder included.
        seeds: Extra seeds to rerun the best settings with (those of the best tenth of the trials, at most three); 0 for
            none.
        objectives: "score", "seconds" or both. With both, the Pareto front is shown; only with "score" alone are trials
            stopped early.
        search: Settings to vary; () for all that have a search space (`Range` and `Choices` in their types).
        folder: Folder of the study; None is `studies/tune-ALGO-ENV`.
        jobs: Trials at a time; None is as many as the cores allow.
        on_ray: Address of a Ray cluster to run the trials on, as for `benchmark`.
        config: A settings file; its settings are not varied.
        preset: Preset to start from.
        trust: Run code that `config` names even if it is in the run folder of someone else.
        say: Gets a line for every finished trial.
        settings: Settings of `train`, which are not varied.

    Returns:
        The trials, and the path of a settings file with the best settings for `train(config=…)`; those of the trials so
        far after a SIGTERM that the program handles itself.

    Raises:
        UsageError: For settings that do not exist, do not fit or have no search space, for a folder with another study, and
            if Optuna is missing.
        KeyboardInterrupt: After Ctrl-C, or such a SIGTERM before the first result; the same call continues.
        SystemExit: After SIGTERM or SIGHUP, as for `train`; the same call continues.

    >>> result = tune("CartPole-v1", "ppo", trials=20, steps=50_000)
    >>> train(config=result.settings_file)
    """
    for name, value, least in (("trials", trials, 1), ("seeds", seeds, 0), ("jobs", jobs, 1)):
        if value is not None and value < least:
            raise UsageError(f"--{name} must be {least} or more, not {value}")
    check_order("tune", env, algorithm)
    check_optuna()
    search = [search] if isinstance(search, str) else search
    recipe, base, space = _prepare(env, algorithm, config, preset, settings, search, trust=trust)
    name = re.sub("[^a-zA-Z0-9_.+-]+", "-", f"tune-{recipe.algorithm}-{recipe.env}")
    resolved = resolve(*recipe.configuration({}))
    alone = resolved.device.value != "cpu"  # runs would share the GPU
    plan = _Plan(
        recipe,
        base,
        space,
        _objectives(objectives),
        Path(_FOLDER / name if folder is None else folder).absolute(),
        trials,
        seeds,
        jobs or (1 if alone and on_ray is None else None),
        resolved,
        on_ray,
        trust,
        say,
    )
    plan.folder.mkdir(parents=True, exist_ok=True)
    try:
        with file_lock(plan.folder / ".lock"), storage_faults(plan.folder / "study.db"):
            return _tune(plan)
    except AlreadyLocked as lock:
        raise UsageError(f"{plan.folder} is being tuned by {lock}; wait for it or stop it") from None


def _prepare(
    env: EnvSource | None,
    algorithm: AlgorithmSource | None,
    config: Path | str | None,
    preset: str | None,
    settings: Mapping[str, Any],
    search: Sequence[str],
    *,
    trust: bool,
) -> tuple[Recipe, RunConfig, dict[str, Dimension]]:
    """The recipe of the runs, the configuration to start from, and the search space."""
    name = None if algorithm is None else algorithm_name_of(algorithm)
    file = None if config is None else read_settings_file(config, name, preset, trust=trust)
    own = leaves(algorithm) if isinstance(algorithm, Algorithm) else {}
    fixed = {**({} if file is None else file.settings), **own, **settings}
    if file is not None:
        env, name, preset = env or file.env, name or file.algorithm, preset or file.preset
    if env is None:
        raise UsageError("the environment is missing: tune(ENV, ALGO), or env in the table [run] of the config")
    with located(file, overridden=settings):
        if file is not None and not trust:
            file.check_trust(configure(env, name, preset, **fixed))
        base = tailor(env, name, preset, **fixed)
        if not base.eval_episodes:
            raise UsageError("trials are compared by their evaluations, but --eval-episodes is 0")
        if base.env.startswith("__main__:"):
            raise UsageError(
                f"{base.env} is defined in a script or notebook, which trial processes cannot import; put it into a module"
            )
        if not base.eval_every:
            fixed["eval_every"] = max(1, base.steps // _EVALUATIONS)
        recipe, init_from = Recipe.of(base, fixed, Path.cwd()), base.init_from
        base, contract = recipe.configuration({})
        check_beginning(resolve(base, contract), contract, init_from)
        return recipe, base, search_space(base, contract, fixed=fixed.keys() - {"eval_every"}, names=search)


def _objectives(words: Sequence[str] | str) -> tuple[Objective, ...]:
    """The objectives by their names. Raises UsageError for an unknown one, or one that is given twice."""
    names = words.split(",") if isinstance(words, str) else list(words)
    known = [objective.value for objective in Objective]
    for name in names:
        if name not in known:
            raise UsageError(f"--objectives: {name!r} is not one of {', '.join(known)}{suggestions(str(name), known)}")
        if names.count(name) > 1:
            raise UsageError(f"--objectives: {name} is given twice")
    return tuple(map(Objective, names))


def _tune(plan: _Plan) -> TuningResult:
    storage = Storage(plan.folder / "study.db", plan.space, plan.objectives, plan.facts(), plan.base.seed)
    plan.say(f"tuning {plan.title}: {', '.join(plan.space)}")
    with open_launcher(plan.on_ray, plan.folder, plan.takes, plan.say) as launcher, handle_stop_signals() as stop:
        _run_trials(plan, launcher, storage, stop)
        finalists = [] if stop else _finalists(plan, storage)
        _run_seeds(plan, launcher, storage, finalists, stop)
    if stop.signal is not None:
        done = sum(one.state is not State.RUNNING for one in storage.trials())
        sentence = f"stopped after {done} of {plan.trials} trials; the same command continues"
        plan.say(sentence)
        end_call_after(stop.signal, sentence)
        if not storage.best():
            raise interrupt_by(stop.signal, sentence)
    elif not finalists:
        problems = [one.problem for one in storage.trials() if one.problem]
        raise UsageError(f"no trial of {plan.title} was completed{f': {problems[-1]}' if problems else ''}")
    return write_results(plan.folder, plan.title, plan.objectives, storage, plan.other_seeds)


def _run_trials(plan: _Plan, launcher: Launcher, storage: Storage, stop: StopRequest) -> None:
    """Make the trials that are missing, several at a time."""
    begun, waiting = len(storage.trials()), storage.unfinished()
    running = list[tuple[OpenTrial, FollowedRun]]()
    pruned = set[int]()
    try:
        while (not stop and (waiting or begun < plan.trials)) or running:
            while not stop and len(running) < plan.jobs_with(launcher) and (waiting or begun < plan.trials):
                trial = waiting.pop(0) if waiting else storage.ask()
                begun = max(begun, trial.number + 1)
                try:
                    folder = plan.folder / "trials" / f"{trial.number:03}"
                    running.append(
                        (trial, FollowedRun.begin(folder, plan.recipe, trial.settings, launcher, trust=plan.trust))
                    )
                except UsageError as problem:
                    trial.fail(str(problem))
                    _report(plan, storage, trial.number)
            time.sleep(_POLL)
            for trial, run in list(running):
                if stop or (trial.number not in pruned and trial.report(run.scores)):
                    pruned |= set() if stop else {trial.number}
                    run.interrupt()
                if run.exit_code() is not None:
                    running.remove((trial, run))
                    if _close(trial, run, is_pruned=trial.number in pruned, is_stopped=bool(stop)):
                        _report(plan, storage, trial.number)
    finally:
        for _, run in running:
            run.kill()


def _close(trial: OpenTrial, run: FollowedRun, *, is_pruned: bool, is_stopped: bool) -> bool:
    """Note the result of a trial whose process has ended. False if it was stopped and has none."""
    scores = run.scores
    if run.has_finished and scores:
        trial.complete(scores[-1], run.seconds)
    elif is_pruned:
        trial.prune(scores[-1], run.seconds)
    elif is_stopped:
        return False
    else:
        trial.fail(run.problem())
    return True


def _report(plan: _Plan, storage: Storage, number: int) -> None:
    """Say how a trial ended. Raises UsageError if the first ones have all failed."""
    trials = storage.trials()
    closed = [one for one in trials if one.state is not State.RUNNING]
    (trial,) = (one for one in trials if one.number == number)
    objective = ranked_by(plan.objectives)
    values = [value for one in closed if one.state is State.COMPLETE and (value := one.value(objective)) is not None]
    best = f"; best {objective.shown(objective.best(values))}" if values else ""
    what = f"failed: {trial.problem}" if trial.state is State.FAILED else f"{trial.score:.1f} after {trial.seconds:.0f} s"
    what += " (stopped early)" * (trial.state is State.PRUNED)
    plan.say(f"[{len(closed)}/{plan.trials}] trial {number}: {what}{best}")
    if len(closed) >= min(_HOPELESS, plan.trials) and all(one.state is State.FAILED for one in closed):
        which = "the first trial has" if len(closed) == 1 else f"the first {len(closed)} trials have"
        raise UsageError(f"{which} failed: {trial.problem} ({plan.folder / 'trials'})")


def _finalists(plan: _Plan, storage: Storage) -> list[Trial]:
    """The best trials, each of them with other settings."""
    found: list[Trial] = []
    for trial in storage.best():
        if trial.settings not in [one.settings for one in found]:
            found.append(trial)
    return found[: max(1, min(_FINALISTS, plan.trials // _PER_FINALIST))]


def _run_seeds(plan: _Plan, launcher: Launcher, storage: Storage, finalists: Sequence[Trial], stop: StopRequest) -> None:
    """Run the settings of the best trials with other seeds, several at a time."""
    waiting = [
        (one, seed)
        for seed in plan.other_seeds
        for one in finalists
        if str(seed) not in storage.seeds.get(str(one.number), {})
    ]
    running = list[tuple[Trial, int, FollowedRun]]()
    try:
        while (waiting and not stop) or running:
            while waiting and not stop and len(running) < plan.jobs_with(launcher):
                trial, seed = waiting.pop(0)
                folder = plan.folder / "seeds" / f"{trial.number:03}-{seed}"
                settings = {**trial.settings, "seed": seed}
                running.append((trial, seed, FollowedRun.begin(folder, plan.recipe, settings, launcher, trust=plan.trust)))
            time.sleep(_POLL)
            for trial, seed, run in list(running):
                if stop:
                    run.interrupt()
                if run.exit_code() is None:
                    continue
                running.remove((trial, seed, run))
                scores = run.scores
                if run.has_finished and scores:
                    objective = ranked_by(plan.objectives)
                    value = scores[-1] if objective is Objective.SCORE else run.seconds
                    storage.note_seed(trial.number, seed, value)
                    plan.say(f"trial {trial.number} with seed {seed}: {objective.shown(value)}")
                elif not stop:
                    plan.say(f"trial {trial.number} with seed {seed} failed: {run.problem()}")
    finally:
        for _, _, run in running:
            run.kill()
