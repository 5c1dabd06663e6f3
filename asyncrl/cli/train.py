"""asyncrl train ALGO ENV · train --preset NAME · train --resume RUN"""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import tyro

from asyncrl.algorithms import ALGORITHMS
from asyncrl.api import configure, load, newest_checkpoint, play, resume, start, tailor
from asyncrl.cli.continuation import read_continuation
from asyncrl.cli.options import given, parse, shown, take_out
from asyncrl.cli.words import algorithm_and_env
from asyncrl.common.child_process import HAS_WORKERS
from asyncrl.common.hardware import cores
from asyncrl.common.os_errors import describe_os_error
from asyncrl.common.signals import handle_stop_signals
from asyncrl.engines.workers import prepare
from asyncrl.envs import View
from asyncrl.envs.registry import family_of
from asyncrl.errors import AsyncRLError, UsageError
from asyncrl.monitor import terminal_view
from asyncrl.play.evaluation import Interrupted
from asyncrl.play.video import open_video
from asyncrl.presets import read_preset
from asyncrl.runs.config import EngineKind, RunConfig
from asyncrl.runs.former_names import rename_options
from asyncrl.runs.run import Run
from asyncrl.runs.settings import leaves
from asyncrl.training import TrainingResult

USAGE = """usage: asyncrl train ALGO ENV [options]      begin a run
       asyncrl train --preset NAME [options] begin a run with a preset's settings
       asyncrl train --resume RUN [options]  continue a run from its newest checkpoint

The preset that is tuned for ALGO and ENV is chosen by itself; options override it.
`asyncrl train ALGO ENV --help` lists every option with the value it would have.

algorithms:"""


@dataclass(frozen=True)
class Output:
    """Where a run goes and what is shown of it."""

    run_dir: Path | None = None
    """The run's folder. Default: runs/ALGO-ENV-TIME."""
    quiet: bool = False
    """Say nothing until the end."""
    video: bool = True
    """Record one game of the trained agent."""


@dataclass(frozen=True)
class NewRun:
    run: RunConfig
    output: Output = field(default_factory=Output)


def run(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        rows = "\n".join(f"  {name:<16}{cls.summary}" for name, cls in ALGORITHMS.items())
        print(f"{USAGE}\n{rows}")
        return 0 if arguments else 2
    if any(a == "--resume" or a.startswith("--resume=") for a in arguments):
        return _continue(arguments)
    return _begin(arguments)


def _begin(arguments: Sequence[str]) -> int:
    home = Path.cwd()
    algorithm, env, preset, rest = _split(arguments)
    base = configure(env or "", algorithm, preset)
    rest = rename_options(rest, base.algorithm.name)
    if _takes_processes(base, rest):
        prepare()  # actors' imports go on while we read the command line
    if {"-h", "--help"} & set(rest):
        with contextlib.suppress(AsyncRLError):  # an environment that cannot be made: its kind is not known
            base = tailor(env or "", algorithm, preset)
    positional: Any = tyro.MISSING
    asked = parse(
        NewRun,
        f"train {base.algorithm.name}",
        [*([env] if env else []), *rest],
        f"{base.algorithm.summary}. Preset: {base.preset or 'none'}.",
        NewRun(dataclasses.replace(base, env=positional)),
    )
    output, found = asked.output, leaves(asked.run)
    settings = {name: found[name] for name in given(rest, found)}
    config = tailor(asked.run.env, base.algorithm.name, preset, **settings)
    title = f"{config.algorithm.name} on {config.env}"
    view = terminal_view(title, config.steps, quiet=output.quiet)
    made, outcome = start(config, output.run_dir, view, asked=settings, video=output.video, home=home)
    return _report(made, outcome, quiet=output.quiet, video=output.video)


def _takes_processes(base: RunConfig, words: Sequence[str]) -> bool:
    """Will actors be processes, as far as can be told before the command line is read?"""
    if not HAS_WORKERS or not base.env or {"-h", "--help"} & set(words):
        return False
    engine = [base.engine.value, *take_out([*words], "--engine")][-1]
    if engine == EngineKind.AUTO.value:
        return cores() > 1 and family_of(base.env).shows_pictures and not torch.cuda.is_available()
    return engine in (EngineKind.PROCESSES.value, EngineKind.HOGWILD.value)


def _continue(arguments: Sequence[str]) -> int:
    asked = read_continuation(arguments)
    made, config = Run.open(asked.run), asked.config
    if HAS_WORKERS and asked.changes.get("engine", config.engine) in (EngineKind.PROCESSES, EngineKind.HOGWILD):
        prepare()
    steps = asked.changes.get("steps", config.steps)
    view = terminal_view(f"{config.algorithm.name} on {config.env}", steps, quiet=asked.quiet)
    made, outcome = resume(asked.run, view, trust=asked.trust, **asked.changes)
    if outcome is not None:
        return _report(made, outcome, quiet=asked.quiet, video=asked.video)
    code = _record(made, quiet=asked.quiet) if asked.video and not _has_video(made) else 0
    saved = newest_checkpoint(made)
    if saved.step < steps:
        target = asked.changes.get("target_return", config.target_return)
        reached = f"its target return {target:g} is reached at step {saved.step:,}"
        print(f"{shown(made.path)} is complete: {reached}. --target-return X raises it.")
    else:
        print(f"{shown(made.path)} is complete: {saved.step:,} steps. --steps N lengthens it.")
    return code


def _has_video(made: Run) -> bool:
    return made.video is not None and made.video.is_file()


def _split(arguments: Sequence[str]) -> tuple[str | None, str | None, str | None, list[str]]:
    """ALGO, ENV and --preset, which decide what the other options are; and those."""
    rest = [*arguments]
    presets, wanted, imports = (take_out(rest, option) for option in ("--preset", "--env", "--import"))
    if imports:
        rest += ["--imports", *imports]
    preset = presets[-1] if presets else None
    if preset is not None:
        data = read_preset(preset)
        algorithm: str | None = data["algorithm"]["name"]
        env = data.get("run", {}).get("env")
    else:
        algorithm = env = None
    words = []
    while rest and not rest[0].startswith("-"):
        words.append(rest.pop(0))
    if preset is not None and len(words) == 1 and words[0] not in ALGORITHMS:
        words.insert(0, str(algorithm))  # the preset says which
    named, place = algorithm_and_env(words, "train")
    algorithm = named or algorithm
    env, *also = [*([] if place is None else [place]), *wanted] or [env]
    if also:
        rest += ["--extra-envs", *map(str, also)]
    if env is None and not {"-h", "--help"} & set(rest):
        raise UsageError(f"which environment? asyncrl train {algorithm or 'ALGO'} ENV (asyncrl list envs)")
    return algorithm, env, preset, rest


def _report(made: Run, outcome: TrainingResult, *, quiet: bool, video: bool) -> int:
    if outcome.signal is not None:
        name = signal.Signals(outcome.signal).name
        print(f"stopped by {name} at step {outcome.step:,}; go on with: asyncrl train --resume {shown(made.path)}")
        return 130 if outcome.signal == signal.SIGINT else 0
    if outcome.evaluation is not None:
        score = outcome.evaluation
        print(f"mean return {score.mean:.2f} over {len(score.returns)} episodes after {outcome.seconds:,.0f} s")
        best = made.marked("best")
        if best is not None and best != made.marked("latest"):
            print(f"the best was {made.best_mean():.2f}, at step {int(best.name):,}: that agent is kept to play")
    code = _record(made, quiet=quiet) if video else 0
    print(f"run folder: {shown(made.path)}")
    if not quiet:
        print(f"watch it: asyncrl play {shown(made.path)}")
    return code


def _record(made: Run, *, quiet: bool) -> int:
    """One game of the best agent; one that cannot be drawn is no fault of the run. Returns the exit code."""
    agent = load(made.path, trust=True)  # it was trained here
    path = made.path / "videos" / f"{agent.checkpoint.path.name}.mp4"
    code = 0
    with handle_stop_signals() as stop:

        def progress(step: int) -> None:
            stop.listen()
            if stop:
                raise Interrupted("the recording was stopped")

        try:
            if not quiet:
                print("recording a game …", flush=True)
            path.parent.mkdir(exist_ok=True)
            with contextlib.closing(View(agent.contract)) as view, open_video(path, view.frames_per_second) as screen:
                score = play(agent, view, screen, seed=1, progress=progress)
        except (AsyncRLError, Interrupted) as problem:
            print(f"no video: {problem}", file=sys.stderr)
        except OSError as problem:
            code = 1
            print(f"no video: {describe_os_error(problem)}", file=sys.stderr)
        else:
            print(f"video of one game ({score:g}): {shown(path)}")
    return 130 if stop.signal == signal.SIGINT else code
