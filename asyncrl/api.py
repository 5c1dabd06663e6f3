"""The commands as functions: train, resume, evaluate, play, record, pretrain, export, share.

They take the options of the command line as keyword arguments, with underscores for hyphens. Errors that the command
line prints are raised as `UsageError` and other `AsyncRLError`s.
"""

from __future__ import annotations

import contextlib
import dataclasses
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from asyncrl import launch
from asyncrl.agents.agent import Agent, load
from asyncrl.agents.export import export
from asyncrl.agents.imitation import CloningOptions
from asyncrl.agents.playing import evaluate, play, play_episode, play_yourself, record
from asyncrl.algorithms import ALGORITHMS, Algorithm, AlgorithmSource, algorithm_name_of
from asyncrl.bench.automatic import found_actors
from asyncrl.common.quoting import quoted
from asyncrl.common.serialization import from_json
from asyncrl.common.signals import end_call_after
from asyncrl.envs import EnvSource
from asyncrl.errors import CheckpointError, UsageError
from asyncrl.launch import newest_checkpoint, start
from asyncrl.monitor import Callback, Sink
from asyncrl.monitor.progress import training_view
from asyncrl.runs.config.saved_config import current_settings
from asyncrl.runs.config.settings import configure, leaves, tailor, without_auto
from asyncrl.runs.config.settings_file import located, read_settings_file
from asyncrl.runs.lookup import open_to_resume
from asyncrl.runs.remote.fetched import fetched
from asyncrl.runs.run import Run
from asyncrl.sharing.share import share
from asyncrl.training import TrainingResult

if TYPE_CHECKING:
    from asyncrl.typed_settings import Changes, Settings

__all__ = [
    "Agent",
    "configure",
    "evaluate",
    "export",
    "load",
    "newest_checkpoint",
    "play",
    "play_episode",
    "play_yourself",
    "pretrain",
    "record",
    "resume",
    "share",
    "start",
    "tailor",
    "train",
]


def train(
    env: EnvSource | None = None,
    algorithm: AlgorithmSource | None = None,
    *,
    config: Path | str | None = None,
    preset: str | None = None,
    run_dir: Path | str | None = None,
    progress: bool | None = None,
    callbacks: Sequence[Callback] = (),
    sinks: Sequence[Sink] = (),
    trust: bool = False,
    **settings: Unpack[Settings],
) -> Run:
    """Train an agent.

    Args:
        env: Environment id, an environment class, or a function that makes an environment. Other processes can evaluate
            or resume the run only if they find it too: as an id, or in a module. None is the one that `config` names.
        algorithm: Name of the algorithm (`asyncrl list algorithms`; `module:Name` for your own), its class, or an instance
            with the hyperparameters to use; None is the preset's, or a3c.
        config: A TOML file of settings (docs/settings.md); arguments of this function override its values.
        preset: Name of a preset (`asyncrl list presets`); None chooses the one tuned for algorithm and environment.
        run_dir: Folder of the run; None makes one in `runs/`.
        progress: Whether to print progress; None prints it in a terminal or a notebook.
        callbacks: Functions that see every record of the run's metrics. They may return `Stop("reason")`, `Evaluate()` or
            `Save()` (docs/callbacks-and-trackers.md).
        sinks: Objects that get every record, `write(record)`, and at the end `close()`. One that raises is dropped with a
            SinkWarning.
        trust: Run code that `config` names even if it is in the run folder of someone else.
        settings: Other options of `asyncrl train`, for example `steps=100_000`, `learning_rate=1e-3`.

    Returns:
        The run. After SIGTERM or SIGHUP it is returned only if the program handles or ignores that signal itself:
        `run.interrupted` is True then.

    Raises:
        UsageError: For settings that are unknown, impossible or without effect.
        KeyboardInterrupt: After Ctrl-C; what was learned is saved.
        SystemExit: After SIGTERM or SIGHUP, as after Ctrl-C; the program ends with exit code 143 or 129.
        EnvironmentFault: If an environment raises or breaks its contract; what was learned is saved.
        DivergenceError: If training diverges; the last sound checkpoint is the newest.
        AsyncRLError: Other faults, such as ActorDied, or SystemFault for a full disk; the message says what was saved.
        Exception: What a callback raised; what was learned is saved.

    >>> run = train("CartPole-v1", "a3c", steps=100_000)
    >>> agent = load(run)
    """
    check_order("train", env, algorithm)
    home = Path.cwd()
    name = None if algorithm is None else algorithm_name_of(algorithm)
    file = None if config is None else read_settings_file(config, name, preset, trust=trust)
    merged: dict[str, Any] = dict(settings)
    if file is not None:
        env, algorithm, preset = env or file.env, algorithm or file.algorithm, preset or file.preset
        own = leaves(algorithm) if isinstance(algorithm, Algorithm) else {}
        merged = {**file.settings, **own, **settings}
    if env is None:
        raise UsageError("the environment is missing: train(ENV, ALGO), or env in the table [run] of the config")
    with located(file, overridden=settings):
        if file is not None and not trust:
            file.check_trust(configure(env, algorithm, preset, **without_auto(merged)))
        found, notes = found_actors(env, algorithm, preset, merged)
        chosen = tailor(env, algorithm, preset, **{**merged, **found})
        view = training_view(f"{chosen.algorithm.name} on {chosen.env}", chosen.steps, progress)
        run, result = start(chosen, run_dir, view, callbacks=callbacks, sinks=sinks, asked=settings, home=home, notes=notes)
    _end_if_stopped(run, result)
    return run


def resume(
    run: Run | Path | str,
    *,
    progress: bool | None = None,
    callbacks: Sequence[Callback] = (),
    sinks: Sequence[Sink] = (),
    trust: bool = False,
    **changes: Unpack[Changes],
) -> Run:
    """Continue a run from its newest valid checkpoint; a complete run is returned as it is.

    Args:
        run: The run, its folder, or the URL of its copy in a storage, which is copied to `runs/`.
        progress: Whether to print progress; None prints it in a terminal or a notebook.
        callbacks: As for `train`.
        sinks: As for `train`.
        trust: Run code that the run folder names even if someone else made the folder.
        changes: New values of `steps`, of settings in `RunConfig.CHANGEABLE`, and of `learning_rate` if the run diverged.

    Raises:
        UsageError: For settings that cannot change in a run.
        CheckpointError: If every checkpoint is damaged.
        KeyboardInterrupt, SystemExit, AsyncRLError, Exception: As for `train`.
    """
    place, follows = fetched(run, lambda line: None)
    run = open_to_resume(place, trust=trust)
    settings: dict[str, Any] = {**follows, **changes}
    view: Sink | None = None
    # If config.json is damaged, the checkpoints decide whether the run can continue; steps are checked below.
    with contextlib.suppress(CheckpointError, TypeError, ValueError):
        config, _ = run.beginning()
        steps = int(settings.get("steps") or current_settings(run.facts()).get("steps", config.steps))
        view = training_view(f"{config.algorithm.name} on {config.env}", steps, progress)
    resumed, result = launch.resume(run, view, callbacks=callbacks, sinks=sinks, trust=trust, **settings)
    _end_if_stopped(resumed, result)
    return resumed


def _end_if_stopped(run: Run, result: TrainingResult | None) -> None:
    if result is not None and result.signal is not None:
        resume = f"asyncrl train --resume {quoted(run.path)}"
        end_call_after(result.signal, f"stopped at step {result.step:,}; continue with: {resume}")


def check_order(function: str, env: EnvSource | None, algorithm: AlgorithmSource | None) -> None:
    """Raise UsageError if the environment is the name of an algorithm: the command line has the algorithm first."""
    if isinstance(env, str) and env in ALGORITHMS:
        other = f'"{algorithm}"' if isinstance(algorithm, str) else "ENV"
        raise UsageError(f'the environment comes first: {function}({other}, "{env}")')


def pretrain(
    env: EnvSource,
    algorithm: AlgorithmSource,
    data: str,
    *,
    preset: str | None = None,
    run_dir: Path | str | None = None,
    **settings: Any,
) -> Run:
    """Train a policy to imitate the episodes of a dataset (behavioural cloning).

    Args:
        env: Environment id, class, or a function that makes an environment.
        algorithm: Name, class or instance of the algorithm whose network is trained.
        data: Name of a Minari dataset; `record` writes one.
        preset: Name of a preset; None chooses the one tuned for algorithm and environment.
        run_dir: Folder of the run; None makes one in `runs/`.
        settings: Options of `asyncrl pretrain`, for example `imitation_epochs=20`, `hidden=(64, 64)`.

    Returns:
        A run to evaluate, to play, or to start from: `train(env, algorithm, init_from=run)`.

    Raises:
        UsageError: If the dataset is missing or does not fit the environment; for settings without effect.
        KeyboardInterrupt: After Ctrl-C; the best epoch is saved.
        SystemExit: As for `train`.
    """
    check_order("pretrain", env, algorithm)
    names = {field.name for field in dataclasses.fields(CloningOptions)}
    options = from_json(CloningOptions, {name: value for name, value in settings.items() if name in names})
    others = {name: value for name, value in settings.items() if name not in names}
    config = tailor(env, algorithm, preset, **others)
    run, _ = launch.imitate(config, data, options, run_dir, asked=others)
    if run.interruption is not None:
        end_call_after(signal.Signals[run.interruption], f"stopped early; the best epoch is saved in {run.path}")
    return run
