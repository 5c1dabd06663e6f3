"""asyncrl benchmark SUITE"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from asyncrl.cli.options import parse
from asyncrl.cli.study_lines import study_lines
from asyncrl.errors import UsageError
from asyncrl.studies.benchmark import benchmark

_ABOUT = (
    "Train and evaluate every method of a suite over several seeds, and write a report with intervals. The same command "
    "continues a study that was stopped. Suites: classic, atari-5, async-2016, mujoco-3, or a .toml file (docs/studies.md)."
)
BASIC = {"Options": ("seeds", "steps", "episodes", "folder", "jobs", "on_ray", "vs", "export", "trust")}
"""Options of the short help, by section."""


@dataclass(frozen=True)
class Arguments:
    suite: str
    """Name or .toml file of a suite, or the folder of a study to continue."""
    seeds: int | None = None
    """Runs of each method in each environment. Default: the suite's."""
    steps: int | None = None
    """Length of every run in environment steps. Default: the suite's, or the preset's."""
    episodes: int | None = None
    """Evaluation episodes after each run. Default: the suite's."""
    folder: Path | None = None
    """Folder of the study. Default: studies/NAME."""
    jobs: int | None = None
    """Runs at a time. Default: as many as the cores allow."""
    on_ray: str | None = None
    """Train on this Ray cluster, one process for each run: HOST:PORT, auto for this machine's cluster, or local to
    start one. Default: this machine."""
    vs: tuple[str, ...] = ()
    """Compare in the report with published tables (rl-zoo, cleanrl, mnih2016, sb3-mujoco) or folders of other studies."""
    export: tuple[str, ...] = ()
    """`--export rliable FILE.npz` writes normalized scores as the arrays that rliable takes. Without FILE it is rliable.npz
    in the folder of the study."""
    trust: bool = False
    """Continue a study that someone else made, which may run code that it names."""


def _export_file(asked: Arguments) -> Path | None:
    """The file of --export; a relative one without FILE is in the folder of the study."""
    match asked.export:
        case ():
            return None
        case ("rliable",):
            return Path("rliable.npz")
        case ("rliable", file):
            return Path(file).absolute()
    raise UsageError(f"--export takes the format rliable and a file, not {' '.join(asked.export)}")


def run(arguments: Sequence[str]) -> int:
    asked = parse(Arguments, "benchmark", arguments, _ABOUT, BASIC)
    study = benchmark(
        asked.suite,
        seeds=asked.seeds,
        steps=asked.steps,
        episodes=asked.episodes,
        folder=asked.folder,
        jobs=asked.jobs,
        on_ray=asked.on_ray,
        vs=asked.vs,
        export=_export_file(asked),
        trust=asked.trust,
        say=lambda line: print(line, flush=True),
    )
    print(*study_lines(study), sep="\n")
    return 1 if study.failures else 0
