"""asyncrl tune ALGO ENV"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from asyncrl.algorithms import algorithm_name_of
from asyncrl.api import configure
from asyncrl.cli.help import print_help
from asyncrl.cli.options import HELP, options_of, read_values, relative
from asyncrl.cli.train import split_command
from asyncrl.cli.train_options import Output, envpool_setting, reject_other_families, train_options
from asyncrl.common.quoting import quoted
from asyncrl.studies.tuning.report import result_lines
from asyncrl.studies.tuning.search import tune
from asyncrl.studies.tuning.storage import Objective

_ABOUT = (
    "Search for good settings. Every trial is a run of `asyncrl train`; the best settings are run with other seeds and "
    "written as a file for --config. The same command continues a study that was stopped. Settings that are given a value "
    "are not varied."
)
_OUTPUT = frozenset(field.name for field in fields(Output))
"""Options of `asyncrl train` that concern a single run's output."""


@dataclass(frozen=True)
class Options:
    trials: int = 20
    """Number of trials, including those that the folder has already."""
    seeds: int = 3
    """Extra seeds to rerun the best settings with: those of the best tenth of the trials, at most three."""
    objectives: tuple[Objective, ...] = (Objective.SCORE,)
    """What to optimize. With both, the Pareto front is shown, and no trial is stopped early."""
    search: tuple[str, ...] = ()
    """Settings to vary. Default: all that have a search space."""
    jobs: int | None = None
    """Trials at a time. Default: as many as the cores allow."""
    on_ray: str | None = None
    """Run trials on this Ray cluster, one process each: HOST:PORT, auto for this machine's cluster, or local to start
    one. Default: this machine."""
    folder: Path | None = None
    """Folder of the study. Default: studies/tune-ALGO-ENV."""
    trust: bool = False
    """Run code that the file of --config names even if it is in the run folder of someone else."""


BASIC = {
    "Options": ("trials", "seeds", "objectives", "search", "jobs", "on_ray", "folder"),
    "Settings of every trial, for example": ("steps", "seed", "eval_every", "eval_episodes", "learning_rate", "network"),
}
"""Options of the short help, by section."""


def run(arguments: Sequence[str]) -> int:
    named = split_command(arguments, "tune")
    rest = named.options
    base = configure(named.env or "", named.algorithm, named.preset, **{**named.settings, **envpool_setting(rest)})
    options = [*options_of(Options), *(option for option in train_options(base) if option.name not in _OUTPUT)]
    if set(HELP) & set(rest):
        print_help(["asyncrl tune ALGO ENV [options]"], _ABOUT, options, BASIC, show_all="--help-all" in rest)
        return 0
    reject_other_families(rest, base)
    values = read_values(options, rest)
    own = {option.name: values.pop(option.name, option.default) for option in options_of(Options)}
    own["search"] = [name.removeprefix("--").replace("-", "_") for name in own["search"]]
    own["objectives"] = [objective.value for objective in own["objectives"]]
    config = None if named.file is None else named.file.path
    algorithm = algorithm_name_of(base.algorithm)
    result = tune(named.env, algorithm, config=config, preset=named.preset, say=_say, **own, **values)
    print("", *result_lines(result), "", f"figures: {relative(result.folder / 'tuning.html')}", sep="\n")
    print(f"train with it: asyncrl train --config {quoted(relative(result.settings_file))}")
    return 0


def _say(line: str) -> None:
    print(line, flush=True)
