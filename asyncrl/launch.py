"""Starts and continues runs: checks, engine processes, run folder and sinks around the training loop."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from asyncrl import hogwild, training
from asyncrl.acting import datasets
from asyncrl.agents.imitation import CloningOptions, Epoch, clone
from asyncrl.algorithms import network_outline
from asyncrl.common import fork_pool, signing
from asyncrl.common.child_process import report_crashes
from asyncrl.common.quoting import quoted
from asyncrl.common.serialization import write_atomically
from asyncrl.common.signals import handle_stop_signals
from asyncrl.common.torch_setup import standard_modes
from asyncrl.common.validation import as_path
from asyncrl.engines import connected
from asyncrl.envs import Contract, contract_lines, describe, describe_all, sources
from asyncrl.errors import CheckpointError, DivergenceError, UsageError
from asyncrl.experience import Archive, ReplayStorage
from asyncrl.launch_checks import check_beginning, check_memory, check_recording, preset_blamed
from asyncrl.monitor import Callback, JsonLines, Monitor, Observers, Record, Sink, TensorBoard
from asyncrl.monitor.trackers import TrackedRun, describe_trackers
from asyncrl.networks import Recurrent, is_custom, unconvolved
from asyncrl.runs.checkpoints import checkpoint
from asyncrl.runs.checkpoints.checkpoint import Checkpoint
from asyncrl.runs.checkpoints.divergence import recover
from asyncrl.runs.code_facts import changed_sources
from asyncrl.runs.components import actor_spec, make_learner, replay_plan
from asyncrl.runs.config.changes import annealed_anew, changed, check_length, differences_of
from asyncrl.runs.config.option_checks import reject_ineffective, reject_ineffective_changes, reject_unused_by_imitation
from asyncrl.runs.config.resolution import resolve
from asyncrl.runs.config.run_config import EngineKind, RunConfig
from asyncrl.runs.config.settings import settings_of
from asyncrl.runs.config.settings_file import settings_text
from asyncrl.runs.config.summary import summary_lines
from asyncrl.runs.context import RunContext
from asyncrl.runs.lookup import open_to_resume
from asyncrl.runs.new_run import create_run, create_run_in
from asyncrl.runs.remote.run_copy import check_storage
from asyncrl.runs.remote.uploads import Uploads, uploads_of
from asyncrl.runs.run import Run
from asyncrl.training import TrainingResult, memory_plan

__all__ = ["check", "imitate", "newest_checkpoint", "resume", "start"]

Beside = Callable[[Run], AbstractContextManager[object]]
"""Makes a context manager that is entered while a run trains, such as its live page."""

_STORAGE = {ReplayStorage.RAM: "in memory", ReplayStorage.DISK: "on disk", ReplayStorage.GPU: "with frames on the GPU"}
_NOT_SIGNED = (
    "This run cannot be signed because no key can be stored in XDG_STATE_HOME or ~/.local/state; playing, evaluating and "
    "continuing it need --trust."
)


@standard_modes()
def start(
    config: RunConfig,
    run_dir: Path | str | None = None,
    view: Sink | None = None,
    *,
    callbacks: Sequence[Callback] = (),
    sinks: Sequence[Sink] = (),
    asked: Collection[str] = (),
    video: bool = False,
    home: Path | None = None,
    beside: Beside = contextlib.nullcontext,
    notes: Sequence[str] = (),
) -> tuple[Run, TrainingResult]:
    """Make a new run and train it to its end.

    Args:
        config: The configuration, not yet resolved.
        run_dir: The run's folder; None makes one in `runs/`.
        view: A sink in addition to the files of the run folder.
        callbacks: Functions that see every record and may stop the run (`monitor.callbacks`).
        sinks: More sinks, whose exceptions do not stop training.
        asked: Names of the settings that the user gave.
        video: Note in the run folder that a video belongs to the run.
        home: The folder that relative paths start from; None is the working directory. Environments may change it.
        beside: What is entered with the run's folder before training, and left after it.
        notes: Sentences shown below the run's header.

    Raises:
        UsageError: For settings that are impossible, or that have no effect though the user gave them or they differ
            from the preset.
    """
    observers = Observers(view, sinks, callbacks)
    home = home or Path.cwd()
    path = home / as_path("run_dir", "runs" if run_dir is None else run_dir)
    init_from = config.init_from
    given, contract = check(config, asked=asked, home=home)
    config = resolve(given, contract)
    check_memory(config, contract)
    check_beginning(config, contract, init_from)
    if config.storage is not None:
        check_storage(config.storage, None if run_dir is None else path)
    with _prepared_engine(config, contract):
        make = create_run_in if run_dir is None else create_run
        run = make(path, config, contract, video=video)
        with run.locked():
            write_atomically(run.path / "config.toml", settings_text(given, contract))
            with uploads_of(run, config.storage, observers.say) as uploads, beside(run):
                result = _train(config, contract, run, observers, uploads, None, notes)
            return run, _with_copy(result, uploads)


def check(config: RunConfig, *, asked: Collection[str] = (), home: Path) -> tuple[RunConfig, Contract]:
    """Check a new run's configuration. Returns it with absolute paths, not yet resolved, and its environments.

    Raises UsageError as `start` does. `asked`: names of the settings that the user gave.
    """
    asked = settings_of(config, asked)
    config = config.anchored(home)
    with preset_blamed(config, asked):
        contract = describe_all(config.env_ids, config.environment)
        reject_ineffective(config, contract, asked)
    return config, contract


@standard_modes()
def resume(
    run_dir: Path | str | Run,
    view: Sink | None = None,
    *,
    callbacks: Sequence[Callback] = (),
    sinks: Sequence[Sink] = (),
    steps: int | None = None,
    trust: bool = False,
    beside: Beside = contextlib.nullcontext,
    intact: Checkpoint | None = None,
    **changes: Any,
) -> tuple[Run, TrainingResult | None]:
    """Continue a run from its newest valid checkpoint. The result is None if the run is complete.

    Args:
        run_dir: The run's folder.
        view: A sink in addition to the files of the run folder.
        callbacks: As for `start`.
        sinks: As for `start`.
        steps: New length of the run; None keeps it.
        trust: Run code that the run folder names even if someone else made the folder.
        beside: As for `start`.
        intact: As for `newest_checkpoint`.
        changes: New values of settings in `RunConfig.CHANGEABLE`, and of `learning_rate` if the run diverged.
    """
    observers = Observers(view, sinks, callbacks)
    run = Run(open_to_resume(run_dir).path.absolute(), trusted=trust)
    with run.locked():
        newest = newest_checkpoint(run, observers.view, intact) if run.has_saved else None
        return _resume(run, newest, observers, beside, changes | ({} if steps is None else {"steps": steps}))


def _resume(
    run: Run, newest: Checkpoint | None, observers: Observers, beside: Beside, changes: dict[str, Any]
) -> tuple[Run, TrainingResult | None]:
    before, contract_before = run.beginning() if newest is None else (newest.config, newest.contract)
    checkpoint.check_trust(before, contract_before)
    config = changed(before, changes, diverged=newest is not None and newest.diverged).anchored(Path.cwd())
    contract = describe_all(config.env_ids, config.environment)
    if differences := contract_before.differences(contract):
        raise UsageError(f"{run.path} was made under a different contract: {'; '.join(differences)}")
    config = resolve(config, contract)
    reject_ineffective_changes(config, contract, changes)
    if newest is not None:
        check_length(before.steps, config.steps, newest.step)
        run.repair_marks(newest.path)
        if training.is_complete(config, contract, run, newest):
            run.note_interruption(None)  # a signal during the last update or evaluation left the note
            with uploads_of(run, config.storage, observers.say):  # the last copy may have failed
                return run, None
    check_recording(config, contract)
    check_memory(config, contract)
    with _prepared_engine(config, contract), uploads_of(run, config.storage, observers.say) as uploads:
        different = differences_of(before, config)
        step = 0 if newest is None else newest.step
        if newest is not None and not run.facts():
            run.write_config(config, contract, video=True)  # it was damaged or removed
        notes = [*_consequences(run, before, config, contract, different), *annealed_anew(before, config, step)]
        run.note_resumption(step, contract, different, notes)
        if different and newest is not None:  # changes hold even if this process is killed before its first checkpoint
            newest = checkpoint.amend(newest, config=config.to_json())
        with beside(run):
            result = _train(config, contract, run, observers, uploads, newest, notes)
    return run, _with_copy(result, uploads)


def _consequences(
    run: Run, before: RunConfig, config: RunConfig, contract: Contract, different: dict[str, tuple[Any, Any]]
) -> list[str]:
    """Why a resumed run with these settings that differ may not be the original one, a sentence each."""
    notes = []
    if "learning_rate" in different:
        old_rate, rate = different["learning_rate"]
        notes.append(f"The learning rate changes from {old_rate:g} to {rate:g}: results differ from the original run.")
    acted, acts = ("the CPU" if one.acting_device(contract) == "cpu" else "the GPU" for one in (before, config))
    if acts != acted:
        how = f"on {acts} and no longer on {acted} (--engine {config.engine.value})"
        notes.append(f"Actions are chosen {how}: results differ from the original run.")
    return notes + changed_sources(run.facts(), config)


def _with_copy(result: TrainingResult, uploads: Uploads | None) -> TrainingResult:
    """`result` with the end of the copying."""
    return result if uploads is None else replace(result, is_copied=uploads.is_complete)


def newest_checkpoint(run: Run, view: Sink | None = None, intact: Checkpoint | None = None) -> Checkpoint:
    """The newest checkpoint that is not damaged. `view` shows why newer ones are skipped.

    `intact` is one that this function has just returned: its files are not read again if it is still the newest.
    """
    problems = []
    for path in reversed(run.checkpoints()):
        try:
            found = checkpoint.read(path, trust=run.trusted)
            if intact is None or found != replace(intact, path=path):
                checkpoint.verify(found)
                found.weights()
                Archive.verify(run.replay_folder, found.replay)
                run.check_own(found)
            return found
        except CheckpointError as problem:
            problems.append(str(problem))
            if view is not None:
                view.say(f"{problem}; trying the one before")
    if not run.has_saved:
        raise CheckpointError(f"{run.path} has no checkpoint yet")
    if not problems:
        problems.append(f"{run.path / 'checkpoints'} has none of the run's checkpoints; put them back")
    whole, settings = run.newest_valid(), run.path / "config.toml"
    if whole is not None:  # but for the replay buffer
        problems.append(f"--init-from {quoted(whole)} starts a new run from its weights")
    elif settings.is_file():
        problems.append(f"asyncrl train --config {quoted(settings)} starts the run again")
    raise CheckpointError("; ".join(dict.fromkeys(problems)))


@standard_modes()
def imitate(
    config: RunConfig,
    data: str,
    options: CloningOptions | None = None,
    run_dir: Path | str | None = None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    *,
    asked: Collection[str] = (),
) -> tuple[Run, Epoch]:
    """Train the network of `config` on a dataset (behavioural cloning). Returns the new run and its best epoch.

    Args:
        config: The configuration, not yet resolved.
        data: Name of the Minari dataset.
        options: Epochs, batches and learning rate.
        run_dir: The run's folder; None makes one in `runs/`.
        on_epoch: Called after each epoch.
        asked: Names of the settings that the user gave.
    """
    # Absolute, as an environment may change the working directory.
    path = as_path("run_dir", "runs" if run_dir is None else run_dir).absolute()
    options = options or CloningOptions()
    options.check()
    contract = describe(config.env, config.environment)
    reject_unused_by_imitation(settings_of(config, asked))
    config = resolve(config, contract)
    if config.network.recurrent is not Recurrent.NONE:
        raise UsageError("pretrain imitates single steps and cannot train a recurrent network; leave out --recurrent")
    episodes = datasets.read(data, contract)
    if len(episodes) < 2:
        raise UsageError(f"imitation needs at least two episodes, and {data} has one: one is held out for early stopping")
    learner = make_learner(config, contract, with_replay=False)
    run = (create_run_in if run_dir is None else create_run)(path, config, contract)
    with run.locked(), handle_stop_signals() as stop, Monitor([JsonLines(run.path)]).open() as monitor:
        began = time.monotonic()

        def write(epoch: Epoch) -> None:
            facts = {"step": 0, "update": 0, "time": round(time.monotonic() - began, 3), "kind": "pretrain"}
            monitor.write({**facts, **epoch._asdict()})
            on_epoch(epoch)

        best = clone(learner, contract, episodes, options, config.seed, write, lambda: bool(stop))
        path = run.checkpoint_path(0)
        seconds = time.monotonic() - began
        checkpoint.save(path, learner.state(), step=0, update=0, seconds=seconds, contract=contract, config=config)
        run.mark("latest", path)
        run.note_interruption(stop.signal)
    return run, best


@contextlib.contextmanager
def _prepared_engine(config: RunConfig, contract: Contract) -> Iterator[None]:
    """Start the processes of the engine and the learners, or connect to its cluster during the block.

    Raises UsageError for environments that cannot be sent there.
    """
    spec = actor_spec(config, contract)
    has_workers = config.engine in (EngineKind.PROCESSES, EngineKind.HOGWILD)
    if servers := has_workers + (config.learners > 1):
        fork_pool.prepare(servers)
    else:
        fork_pool.shutdown_idle()
    if config.learners > 1 or config.engine not in (EngineKind.SERIAL, EngineKind.THREADS):
        sources.dump(contract, *spec.code)
    with contextlib.ExitStack() as stack:
        if config.engine is EngineKind.RAY:
            network = network_outline(config.algorithm, config.network, contract.spaces, config.precision.dtype)
            num_weights = sum(parameter.numel() for parameter in network.parameters())
            plan = memory_plan(config, spec, num_weights)
            stack.enter_context(connected(config.ray_address, config.actors, plan))
        yield


def _train(
    config: RunConfig,
    contract: Contract,
    run: Run,
    observers: Observers,
    uploads: Uploads | None,
    newest: Checkpoint | None,
    notes: Sequence[str] = (),
) -> TrainingResult:
    """Train to the end, through every rewind after a divergence. The run's header and `notes` are shown first."""
    sentences = [_header(config, contract, run), *notes]
    if config.named_outside() and not signing.can_sign():
        sentences.append(_NOT_SIGNED)
    with observers.finished():
        if config.track:
            observers.track(config.track, TrackedRun(run.path, config.to_json(), _records_until(newest, run)))
        while True:
            outcome = _train_once(newest, config, contract, run, observers, sentences, uploads)
            if isinstance(outcome, TrainingResult):
                return outcome
            newest, config, sentences = outcome, outcome.config, []


def _records_until(newest: Checkpoint | None, run: Run) -> list[Record]:
    """The records that a run has when it continues from its newest checkpoint."""
    return [] if newest is None else [record for record in run.records() if record["update"] <= newest.update]


def _header(config: RunConfig, contract: Contract, run: Run) -> str:
    """The environment, the configuration and the replay buffer of a run, a line each."""
    lines = [*contract_lines(contract), *summary_lines(config)]
    lines += [f"{'network':<20}{sentence}" for sentence in unconvolved(contract.spaces)]
    algorithm, network = config.algorithm, config.network.network
    if is_custom(network) and algorithm.network_config.layer_norm:
        lines.append(f"{'network':<20}{algorithm.name} relies on layer normalization, which {network} must have itself")
    plan = replay_plan(config, contract)
    if plan is not None:
        lines.append(f"{'replay buffer':<20}{plan} {_STORAGE[plan.options.replay_storage]}")
        lines.append(f"{'learning starts':<20}after {plan.options.learning_starts:,} steps")
    if config.storage is not None:
        lines.append(f"{'storage':<20}{config.storage}")
    if config.track:
        lines.append(f"{'trackers':<20}{describe_trackers(config.track, run.path)}")
    return "\n".join([*lines, ""])


def _train_once(
    newest: Checkpoint | None,
    config: RunConfig,
    contract: Contract,
    run: Run,
    observers: Observers,
    sentences: Sequence[str],
    uploads: Uploads | None,
) -> TrainingResult | Checkpoint:
    """Train to the end, or return the checkpoint to continue from if training diverged and rewinds."""
    continued = newest is not None or (run.path / "metrics.jsonl").exists()  # a start that was killed left metrics
    if continued:
        run.rewind(-1 if newest is None else newest.update)
    run.note_interruption(None)
    events = TensorBoard(run.path, resumed_at=(-1 if newest is None else newest.step) if continued else None)
    sinks: list[Sink] = [JsonLines(run.path), events, *observers.sinks]
    with report_crashes(), Monitor(sinks).open() as monitor:
        for sentence in sentences:
            monitor.say(sentence)
        loop = hogwild.train if config.engine is EngineKind.HOGWILD else training.train
        try:
            result = loop(RunContext(config, contract, run, monitor, observers.callbacks, uploads), newest)
            run.note_interruption(result.signal)
            return result
        except DivergenceError as error:
            back = recover(run, config, error)
            if back is not None:
                return back
            saved = f"Progress up to step {newest_checkpoint(run).step:,} is saved in {run.path}"
            monitor.say(f"{saved}.")
            remedy = f"{saved}; continue with: asyncrl train --resume {quoted(run.path)} --learning-rate X"
            raise error.with_remedy(remedy) from error
