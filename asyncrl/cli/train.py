"""asyncrl train ALGO ENV · train --preset NAME · train --resume RUN"""

from __future__ import annotations

import contextlib
import re
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from asyncrl.agents.evaluation import Interrupted
from asyncrl.agents.evaluator import evaluated_means, is_stalled
from asyncrl.agents.video import open_video
from asyncrl.algorithms import ALGORITHMS, algorithm_name_of, is_algorithm
from asyncrl.api import configure, load, play_episode, tailor
from asyncrl.bench import found_actors
from asyncrl.cli.continuation import read_continuation
from asyncrl.cli.head_start import takes_processes
from asyncrl.cli.help import print_help, wrapped
from asyncrl.cli.options import HELP, options_of, read_values, relative, remove_option, with_values
from asyncrl.cli.train_options import (
    BASIC,
    NewRun,
    Output,
    envpool_setting,
    reject_other_families,
    takes_auto_actors,
    train_options,
)
from asyncrl.cli.words import algorithm_and_env
from asyncrl.common.child_process import HAS_WORKERS
from asyncrl.common.counting import counted
from asyncrl.common.fork_pool import prepare
from asyncrl.common.os_errors import describe_os_error, is_of_users_code
from asyncrl.common.quoting import quoted
from asyncrl.common.signals import handle_stop_signals
from asyncrl.common.validation import check_numbers
from asyncrl.dashboard import Page
from asyncrl.envs import View
from asyncrl.errors import AsyncRLError, UsageError
from asyncrl.launch import check, newest_checkpoint, resume, start
from asyncrl.monitor import terminal_view
from asyncrl.presets import read_preset
from asyncrl.runs.config.foreign_names import explain_place
from asyncrl.runs.config.former_names import rename_options
from asyncrl.runs.config.run_config import EngineKind, RunConfig
from asyncrl.runs.config.settings import AUTO, without_auto
from asyncrl.runs.config.settings_file import SettingsFile, located, read_settings_file, settings_text
from asyncrl.runs.run import Run
from asyncrl.training import TrainingResult

_USAGE = (
    "asyncrl train ALGO ENV [options]       start a run",
    "asyncrl train --preset NAME [options]  start with a preset's settings",
    "asyncrl train --config FILE [options]  start with a file's settings",
    "asyncrl train --resume RUN [options]   continue a run",
)
_ABOUT = (
    "Train an agent. The preset tuned for ALGO and ENV is chosen unless --preset names another one; options override it. "
    "`asyncrl train ALGO ENV --help` shows the options and their values."
)


def run(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in HELP:
        print_help(_USAGE, _ABOUT, [], {}, show_all=False)
        print(
            "\nAlgorithms",
            *wrapped({f"  {name}": _without_source(cls.summary) for name, cls in ALGORITHMS.items()}),
            sep="\n",
        )
        return 0 if arguments else 2
    if any(word == "--resume" or word.startswith("--resume=") for word in arguments):
        return _continue(arguments)
    return _start(arguments)


def _without_source(summary: str) -> str:
    """An algorithm's summary without the paper, which `asyncrl list algorithms` names."""
    return re.sub(r" \([^()]* \d{4}\)", "", summary)


def _start(arguments: Sequence[str]) -> int:
    home = Path.cwd()
    named = split_command(arguments)
    rest = named.options
    with located(named.file):
        known = {**without_auto(named.settings), **envpool_setting(rest)}
        base = configure(named.env or "", named.algorithm, named.preset, **known)
        if named.file is not None and "--trust" not in rest:
            named.file.check_trust(base)  # the help and the options below import what the environment names
    if set(HELP) & set(rest):
        return _help(base, show_all="--help-all" in rest)
    rest = rename_options(rest, algorithm_name_of(base.algorithm))
    if takes_processes(rest, base.engine.value, base.env):
        prepare()  # actors import their modules while the command line is read
    reject_other_families(rest, base)
    auto = {"actors": AUTO} if takes_auto_actors(rest) else {}
    values = read_values(options_of(NewRun(base)), rest)
    output = with_values(Output(), values)
    settings = {name: value for name, value in values.items() if not hasattr(output, name)} | auto
    with located(named.file, overridden=settings):
        check_numbers(with_values(base, values))
        method = (base.env, type(base.algorithm), named.preset)
        found, notes = found_actors(*method, {**named.settings, **settings})
        settings |= found
        config = tailor(*method, **{**named.settings, **settings})
        if output.print_config:
            print(settings_text(*check(config, asked=settings, home=home)), end="")
            return 0
        if output.remote_learner:
            from asyncrl.cli.train_remote import train_remotely

            return train_remotely(config, settings, output, home)
        if output.seeds is not None:
            from asyncrl.cli.train_seeds import run_seeds

            file, asks_video = None if named.file is None else named.file.path, "video" in values
            return run_seeds(config, settings, output, preset=named.preset, file=file, video=asks_video, notes=notes)
        if output.on_ray is not None:
            raise UsageError(
                "--on-ray spreads the runs of --seeds N over a cluster; for the actors of one run: --engine ray"
            )
        view = terminal_view(f"{config.algorithm.name} on {config.env}", config.steps, quiet=output.quiet)
        beside = _live_page if output.watch else contextlib.nullcontext
        trained, result = start(
            config, output.run_dir, view, asked=settings, video=output.video, home=home, beside=beside, notes=notes
        )
    return _report(trained, result, quiet=output.quiet, video=output.video)


def _help(base: RunConfig, *, show_all: bool) -> int:
    """Print the options of a new run with the values of its preset."""
    algorithm, env = algorithm_name_of(base.algorithm), base.env
    with contextlib.suppress(AsyncRLError):  # an environment that cannot be made here: its kind is unknown
        base = tailor(env, algorithm, base.preset)
    summary = f"{base.algorithm.summary[:1].upper()}{base.algorithm.summary[1:]}."
    about = f"{summary} Defaults from preset {base.preset}." if base.preset else summary
    options = train_options(base)
    print_help([f"asyncrl train {algorithm} {env or 'ENV'} [options]"], about, options, BASIC, show_all=show_all)
    return 0


def _continue(arguments: Sequence[str]) -> int:
    request = read_continuation(arguments)
    if request is None:
        return 0
    config, output, changes = request.config, request.output, request.changes
    if HAS_WORKERS and changes.get("engine", config.engine) in (EngineKind.PROCESSES, EngineKind.HOGWILD):
        prepare()
    steps = changes.get("steps", config.steps)
    view = terminal_view(f"{config.algorithm.name} on {config.env}", steps, quiet=output.quiet)
    beside = _live_page if output.watch else contextlib.nullcontext
    trained, result = resume(request.run, view, trust=output.trust, beside=beside, intact=request.newest, **changes)
    if result is not None:
        return _report(trained, result, quiet=output.quiet, video=output.video)
    code = _record(trained, quiet=output.quiet) if output.video and not _has_video(trained) else 0
    saved = newest_checkpoint(trained, intact=request.newest)
    patience = changes.get("patience", config.patience)
    if saved.step >= steps:
        why = f"{saved.step:,} steps. --steps N continues it"
    elif patience is not None and is_stalled(evaluated_means(trained, saved.update), patience):
        were = "was" if patience == 1 else "were"
        evaluations = counted(patience, "evaluation")
        why = f"{evaluations} up to step {saved.step:,} {were} no better. --patience N continues it"
    else:
        target = changes.get("target_return", config.target_return)
        why = f"it reached its target return {target:g} at step {saved.step:,}. --target-return X sets a higher one"
    print(f"{relative(trained.path)} is complete: {why}.")
    return code


@contextlib.contextmanager
def _live_page(run: Run) -> Iterator[None]:
    """The live page of a run, for `--watch`. Its address is printed."""
    with Page([run.path], trust=True) as page:  # its code runs here anyway
        print(f"live page: {page.url}", flush=True)
        yield


def _has_video(trained: Run) -> bool:
    return trained.video is not None and trained.video.is_file()


class NamedCommand(NamedTuple):
    """A command line: the names that its other options depend on, and these options."""

    algorithm: str | None
    env: str | None
    preset: str | None
    file: SettingsFile | None
    options: list[str]

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings in the file of --config."""
        return {} if self.file is None else self.file.settings


def split_command(arguments: Sequence[str], command: str = "train") -> NamedCommand:
    """Split the command line into ALGO, ENV, --preset, --config and the other options."""
    rest = [*arguments]
    presets, files, named_envs = (remove_option(rest, option) for option in ("--preset", "--config", "--env"))
    if len(files) > 1:
        raise UsageError(f"--config takes one file, not {len(files)}: {', '.join(files)}")
    imports = remove_option(rest, "--import")
    if imports:
        rest += ["--imports", *imports]
    words = list[str]()
    while rest and not rest[0].startswith("-"):
        words.append(rest.pop(0))
    first = words[0] if words and is_algorithm(words[0]) else None
    preset = presets[-1] if presets else None
    file = read_settings_file(files[-1], first, preset, trust="--trust" in rest) if files else None
    preset = preset or (None if file is None else file.preset)
    algorithm, env = (None, None) if file is None else (file.algorithm, file.env)
    if preset is not None:
        data = read_preset(preset)
        algorithm, env = algorithm or data["algorithm"]["name"], env or data.get("run", {}).get("env")
    if algorithm is not None and len(words) == 1 and first is None:
        words.insert(0, algorithm)  # ENV alone: the preset or the file has the algorithm
    named_algorithm, named_env = algorithm_and_env(words, command)
    algorithm = named_algorithm or algorithm
    envs = [*([] if named_env is None else [named_env]), *named_envs]
    if len(envs) > 1:
        rest += ["--extra-envs", *envs[1:]]
    env = envs[0] if envs else env
    if env is None and not set(HELP) & set(rest):
        for word in rest:
            if word.startswith("--") and (explanation := explain_place(word)):
                raise UsageError(f"unknown option {word}{explanation}")
        raise UsageError(f"the environment is missing: asyncrl {command} {algorithm or 'ALGO'} ENV (asyncrl list envs)")
    return NamedCommand(algorithm, env, preset, file, rest)


def _report(trained: Run, result: TrainingResult, *, quiet: bool, video: bool) -> int:
    code = _report_result(trained, result, quiet=quiet, video=video)
    return code if result.is_copied else code or 1


def _report_result(trained: Run, result: TrainingResult, *, quiet: bool, video: bool) -> int:
    if result.signal is not None:
        name = signal.Signals(result.signal).name
        resume = f"asyncrl train --resume {quoted(relative(trained.path))}"
        print(f"stopped by {name} at step {result.step:,}; continue with: {resume}")
        return 130 if result.signal == signal.SIGINT else 0
    if result.evaluation is not None:
        evaluation = result.evaluation
        episodes = counted(len(evaluation.returns), "episode")
        print(f"mean return {evaluation.mean:.2f} over {episodes} after {result.seconds:,.0f} s")
        best = trained.marked("best")
        if best is not None and best != trained.marked("latest"):
            print(
                f"best evaluation: {trained.best_mean():.2f} at step {int(best.name):,}; play and evaluate use that agent"
            )
    code = _record(trained, quiet=quiet) if video else 0
    print(f"run folder: {relative(trained.path)}")
    if not quiet:
        print(f"watch it: asyncrl play {quoted(relative(trained.path))}")
    return code


def _record(trained: Run, *, quiet: bool) -> int:
    """Record an episode of the best agent; a failure to draw is reported and is not a fault. Returns the exit code."""
    agent = load(trained.path, trust=True)  # it was trained here
    path = trained.path / "videos" / f"{agent.checkpoint.path.name}.mp4"
    code = 0
    with handle_stop_signals() as stop:

        def progress(step: int) -> None:
            stop.install_handlers()
            if stop:
                raise Interrupted("the recording was stopped")

        try:
            if not quiet:
                print("recording a video …", flush=True)
            path.parent.mkdir(exist_ok=True)
            with contextlib.closing(View(agent.contract)) as view, open_video(path, view.frames_per_second) as screen:
                score = play_episode(agent, view, screen, seed=1, progress=progress).mean
        except (AsyncRLError, Interrupted) as problem:
            print(f"no video: {problem}", file=sys.stderr)
        except OSError as problem:
            if is_of_users_code(problem):
                raise
            code = 1
            print(f"no video: {describe_os_error(problem)}", file=sys.stderr)
        else:
            print(f"video of one episode (return {score:g}): {relative(path)}")
    return 130 if stop.signal == signal.SIGINT else code
