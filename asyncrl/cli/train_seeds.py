"""asyncrl train ALGO ENV --seeds N: a study of one method in one environment."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from asyncrl.algorithms import algorithm_name_of
from asyncrl.cli.study_lines import study_lines
from asyncrl.cli.train_options import Output
from asyncrl.common.serialization import to_json
from asyncrl.errors import UsageError
from asyncrl.runs.config.run_config import RunConfig

__all__ = ["run_seeds"]


def run_seeds(
    config: RunConfig,
    settings: Mapping[str, Any],
    output: Output,
    *,
    preset: str | None,
    file: Path | None,
    video: bool,
    notes: Sequence[str] = (),
) -> int:
    """Train with `output.seeds` seeds and print their scores. Returns the exit code.

    Args:
        config: The configuration of the first run.
        settings: The settings that the user gave.
        output: The other options of the command line.
        preset: The preset that the user named.
        file: The settings file that the user named.
        video: Whether the user asked about videos.
        notes: Sentences to print first.
    """
    from asyncrl.studies.benchmark import benchmark
    from asyncrl.studies.suite import Method, Suite, Task

    if video and output.video:
        raise UsageError("--video has no effect with --seeds: asyncrl play RUN --video FILE.mp4 records a run's agent")
    if output.watch:
        raise UsageError("--watch has no effect with --seeds: asyncrl watch FOLDER shows the runs of a study")
    algorithm = algorithm_name_of(config.algorithm)
    given = {name: "None" if value is None else value for name, value in to_json(settings).items() if name != "seed"}
    method = Method(algorithm, algorithm, preset, None if file is None else str(file.absolute()), given)
    name = f"{algorithm}-{config.env}"
    suite = Suite(
        name=name,
        tasks=(Task(config.env, (method,)),),
        title=f"{algorithm} on {config.env}",
        seeds=output.seeds or 0,
        first_seed=config.seed,
    )
    slug = re.sub("[^a-zA-Z0-9_.+-]+", "-", f"{name}-{time.strftime('%Y%m%d-%H%M%S')}")
    folder = output.run_dir or Path("runs", slug)
    say: Callable[[str], None] = (lambda line: None) if output.quiet else (lambda line: print(line, flush=True))
    for note in notes:
        say(note)
    study = benchmark(
        suite,
        seeds=output.seeds,
        folder=folder,
        on_ray=output.on_ray,
        trust=output.trust,
        say=say,
    )
    print(*study_lines(study), sep="\n")
    return 1 if study.failures else 0
