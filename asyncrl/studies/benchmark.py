"""Benchmarks: a suite is checked, run, and reported on."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from asyncrl.api import tailor
from asyncrl.common.quoting import quoted
from asyncrl.common.signals import end_call_after, handle_stop_signals
from asyncrl.envs import Contract
from asyncrl.errors import UsageError
from asyncrl.launch import check
from asyncrl.launch_checks import check_beginning
from asyncrl.plots.sources import flat_settings
from asyncrl.runs.config.resolution import resolve
from asyncrl.runs.config.run_config import RunConfig
from asyncrl.runs.config.settings_file import located, read_settings_file
from asyncrl.runs.run import Run
from asyncrl.studies.comparison import WITHOUT_EFFECT
from asyncrl.studies.export import check_export, export_scores
from asyncrl.studies.grid import run_grid
from asyncrl.studies.launchers import open_launcher
from asyncrl.studies.processes import cores_of
from asyncrl.studies.published import find_reference
from asyncrl.studies.report import write_report
from asyncrl.studies.study import Study, is_study
from asyncrl.studies.suite import Method, Suite, Task, read_suite

__all__ = ["benchmark"]

_FOLDER = Path("studies")
_MAY_DIFFER = WITHOUT_EFFECT | {"device", "precision", "learner_threads"}
"""Settings in which runs of a method may differ: they have no effect, or follow from the machine."""


def benchmark(
    suite: Suite | Path | str,
    *,
    seeds: int | None = None,
    steps: int | None = None,
    episodes: int | None = None,
    folder: Path | str | None = None,
    jobs: int | None = None,
    on_ray: str | None = None,
    vs: Sequence[Path | str] = (),
    export: Path | str | None = None,
    trust: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Study:
    """Train and evaluate every method of a suite in its environments over several seeds, and write a report.

    Called again it continues: finished runs are kept, begun ones resumed.

    Args:
        suite: A suite, its name or file, or the folder of a study to continue.
        seeds: Number of seeds; None is the suite's.
        steps: Length of every run in environment steps; None is the suite's.
        episodes: Evaluation episodes after each run; None is the suite's.
        folder: Folder of the study; None is `studies/NAME`.
        jobs: Runs at a time; None is as many as the cores allow.
        on_ray: Address of a Ray cluster to train on, one process for each run: HOST:PORT, "auto" for this machine's
            cluster, or "local" to start one. None: this machine.
        vs: Published tables, or folders of other studies, to compare with in the report.
        export: An .npz file for the normalized scores as arrays for rliable; relative to the folder of the study.
        trust: Continue a study that someone else made, which may run code that it names.
        say: Gets a line of progress for every finished run.

    Returns:
        The study with its results; `report.md` and `report.html` are in its folder.

    Raises:
        UsageError: For mistakes in the suite, before anything runs; and if the folder has other runs.
        KeyboardInterrupt: After Ctrl-C; what was learned is saved.
        SystemExit: After SIGTERM or SIGHUP, as for `train`.

    >>> study = benchmark("classic", seeds=2, steps=20_000)
    """
    references = [find_reference(name) for name in vs]
    if jobs is not None and jobs < 1:
        raise UsageError(f"--jobs must be 1 or more, not {jobs}")
    study = _study(suite, seeds, steps, episodes, folder)
    study.check_names()
    target = None if export is None else check_export(study, study.path / export)
    missing = study.unfinished()
    if missing:
        if is_study(study.path) and not study.is_signed_by_user and not trust:
            raise UsageError(
                f"{study.path} was made by someone else, and its {len(missing)} unfinished runs may run code that it "
                "names: continue it with --trust"
            )
        configurations = _configurations(study.suite, trust=trust)
        _check_begun(study, configurations)
    study.path.mkdir(parents=True, exist_ok=True)
    with study.locked():
        if is_study(study.path):  # another process may have added results until it gave up the lock
            study = replace(study, results=Study.load(study.path).results)
            missing = study.unfinished()
        if missing or (is_study(study.path) and study.is_signed_by_user):
            study.save_suite()
        if missing:
            takes = max((resolve(*one) for one in configurations.values()), key=cores_of)
            with open_launcher(on_ray, study.path, takes, say) as launcher, handle_stop_signals() as stop:
                at_once = min(len(missing), jobs or launcher.jobs(cores_of(takes)))
                say(f"{len(missing)} of {len(study.cells())} runs to do, {at_once} at a time; results go to {study.path}")
                study = run_grid(study, launcher, configurations, jobs, trust=trust, stop=stop, say=say)
        if study.results:
            write_report(study, references)
        if study.results and target is not None and not (missing and stop):
            export_scores(study, target)
    if missing and stop:
        again = f"asyncrl benchmark {quoted(study.path)}"
        sentence = f"stopped with {len(study.unfinished())} runs to do; continue with: {again}"
        say(sentence)
        if stop.signal is not None:
            end_call_after(stop.signal, sentence)
    return study


def _study(
    suite: Suite | Path | str, seeds: int | None, steps: int | None, episodes: int | None, folder: Path | str | None
) -> Study:
    """The study in the folder, with the suite as it is now."""
    continued = isinstance(suite, str | os.PathLike) and is_study(Path(suite))
    if continued:
        folder = Path(suite) if folder is None else folder  # type: ignore[arg-type]
    asked = suite if isinstance(suite, Suite) else Study.load(Path(suite)).suite if continued else read_suite(suite)
    for name, value in (("seeds", seeds), ("steps", steps), ("episodes", episodes)):
        if value is not None and value < 1:
            raise UsageError(f"--{name} must be 1 or more, not {value}")
    asked = replace(asked, seeds=seeds or asked.seeds, episodes=episodes or asked.episodes)
    if steps is not None:
        asked = replace(asked, tasks=tuple(_shortened(task, steps) for task in asked.tasks))
    path = Path(_FOLDER / asked.name if folder is None else folder).absolute()
    if is_study(path):
        return Study.load(path).continued(asked)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UsageError(f"{path} exists and holds no study; choose another --folder")
    return Study(path, asked)


def _shortened(task: Task, steps: int) -> Task:
    methods = tuple(
        replace(one, settings={name: value for name, value in one.settings.items() if name != "steps"})
        for one in task.methods
    )
    return replace(task, settings={**task.settings, "steps": steps}, methods=methods)


def _configurations(suite: Suite, *, trust: bool) -> dict[tuple[str, str], tuple[RunConfig, Contract]]:
    """The configuration, not yet resolved, by environment and method. Raises UsageError for settings that do not fit."""
    found = {}
    for task in suite.tasks:
        for method in task.methods:
            try:
                found[task.env, method.name] = _configuration(task, method, trust=trust)
            except UsageError as problem:
                raise UsageError(f"{method.name} on {task.env}: {problem}") from None
    return found


def _check_begun(study: Study, configurations: Mapping[tuple[str, str], tuple[RunConfig, Contract]]) -> None:
    """Raise UsageError for a run that was begun with other settings, because a settings file or a preset has changed."""
    asked = {key: flat_settings(resolve(*one).to_json()) for key, one in configurations.items()}
    for cell in study.cells():
        config = Run(study.path / cell.folder).facts().get("config")
        begun, now = flat_settings(config if isinstance(config, dict) else {}), asked[cell.key[:2]]
        for name in sorted(begun.keys() & now.keys() - _MAY_DIFFER):
            if begun[name] != now[name]:
                raise UsageError(
                    f"{cell} was begun with {name} {begun[name]}, not {now[name]}: its settings file or preset has "
                    "changed; choose another --folder"
                )


def _configuration(task: Task, method: Method, *, trust: bool) -> tuple[RunConfig, Contract]:
    file = (
        None if method.config is None else read_settings_file(method.config, method.algorithm, method.preset, trust=trust)
    )
    settings: dict[str, Any] = {**task.settings, **method.settings}
    settings = {name: None if value == "None" else value for name, value in settings.items()}
    with located(file, overridden=settings):
        preset = method.preset or (None if file is None else file.preset)
        merged = {**({} if file is None else file.settings), **settings}
        config = tailor(task.env, method.algorithm, preset, **merged)
        checked = check(config, asked=settings, home=Path.cwd())
        check_beginning(resolve(*checked), checked[1], config.init_from)
        return checked
