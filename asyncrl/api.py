"""The commands as functions."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import signal
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from asyncrl import hogwild, training
from asyncrl.acting import datasets
from asyncrl.acting.bots import BotPlayer
from asyncrl.acting.episodes import Player
from asyncrl.algorithms import Random
from asyncrl.common import signing
from asyncrl.common.child_process import report_crashes
from asyncrl.common.signals import handle_stop_signals
from asyncrl.common.torch_setup import standard_modes
from asyncrl.engines import workers
from asyncrl.engines.shared_memory import available_memory
from asyncrl.envs import Contract, EnvOptions, EnvSource, View, contract_lines, describe, describe_all, env_id_of, sources
from asyncrl.errors import CheckpointError, DivergenceError, UsageError
from asyncrl.experience import Archive, Storage
from asyncrl.monitor import JsonLines, Monitor, Sink, TensorBoard
from asyncrl.networks import Recurrent, unconvolved
from asyncrl.play.agent import Agent, load
from asyncrl.play.evaluation import Evaluation, cut_off_message, watch
from asyncrl.play.evaluation import evaluate as play_episodes
from asyncrl.play.evaluator import evaluate_again, explained
from asyncrl.play.human import HumanPlayer, action_count
from asyncrl.play.imitation import CloningOptions, Epoch, clone
from asyncrl.play.video import Screen, Window
from asyncrl.runs import checkpoint
from asyncrl.runs.changes import changed, differences_of
from asyncrl.runs.config import EPISODE_LIMIT, EngineKind, RunConfig
from asyncrl.runs.divergence import recover
from asyncrl.runs.lookup import open_run
from asyncrl.runs.new_run import create_run, create_run_in
from asyncrl.runs.option_checks import reject_ineffective, reject_unused_by_imitation
from asyncrl.runs.plans import make_learner, replay_plan
from asyncrl.runs.resolution import resolve
from asyncrl.runs.run import Run
from asyncrl.runs.settings import configure, settings_of, tailor
from asyncrl.runs.summary import summary_lines
from asyncrl.training import TrainingResult

__all__ = [
    "Agent",
    "configure",
    "evaluate",
    "load",
    "newest_checkpoint",
    "play",
    "play_yourself",
    "pretrain",
    "record",
    "resume",
    "start",
    "tailor",
    "train",
]

_ENVIRONMENT = 4096
"""Bytes that any environment takes, at least."""


_WHERE = {Storage.RAM: "in memory", Storage.DISK: "on disk"}


@standard_modes()
def start(
    config: RunConfig,
    run_dir: Path | str | None = None,
    view: Sink | None = None,
    *,
    asked: Collection[str] = (),
    video: bool = False,
    home: Path | None = None,
) -> tuple[Run, TrainingResult]:
    """Begin and finish a run; it notes whether a `video` is to be recorded of its agent.

    Relative paths are those of the folder `home`, the working directory as it is now: an environment may change it.
    Raises UsageError for settings that would have no effect: those `asked` for by name, and all that are not as in the
    configuration's preset.
    """
    asked = settings_of(config, asked)
    home = home or Path.cwd()
    path = home / ("runs" if run_dir is None else run_dir)
    config = config.anchored(home)
    contract = describe_all(config.env_ids, config.environment)
    reject_ineffective(config, contract, asked)
    config = resolve(config, contract)
    _prepare_engine(config, contract)
    _check_memory(config, contract)
    if config.offline is not None:
        datasets.check(config.offline, contract)
    make = create_run_in if run_dir is None else create_run
    run = make(path, config, contract, video=video)
    with run.locked():
        return run, _train(config, contract, run, view, None)


def _prepare_engine(config: RunConfig, contract: Contract) -> None:
    """Start what the engine needs. Raises UsageError for environments that cannot be sent to its processes."""
    if config.engine in (EngineKind.PROCESSES, EngineKind.HOGWILD):
        workers.prepare()
        sources.dump(contract, *config.bots.code)
    else:
        workers.shutdown_idle()


def _check_memory(config: RunConfig, contract: Contract) -> None:
    """Raise UsageError where a run would store more than there is room for."""
    envs, slots = config.actors * config.envs_per_actor, config.queue_size or 1
    frame = contract.spaces.observation_size * np.dtype(contract.spaces.observation_dtype).itemsize // contract.frame_stack
    needed = slots * config.algorithm.experience().slot_length * config.envs_per_actor * frame + envs * _ENVIRONMENT
    if needed > (free := available_memory()):
        raise UsageError(
            f"{envs:,} environments and {slots:,} rollouts of {config.rollout_steps:,} steps take {needed / 1e9:,.0f} GB "
            f"or more, and {free / 1e9:,.0f} GB are free: lower --actors, --envs-per-actor or the rollouts' length"
        )
    plan = replay_plan(config, contract)
    if plan is not None:
        on_disk = plan.options.storage is Storage.DISK
        plan.check(shutil.disk_usage(".").free if on_disk else available_memory())


def train(env: EnvSource, algorithm: str | None = None, *, run_dir: Path | str | None = None, **settings: Any) -> Run:
    """Train an agent; returns the run, of which `load` makes an agent.

    `env` is an id, an environment's class or a function that makes one. Only what is found in a module, or has an id that
    a module registers, can be found by other processes that evaluate or resume the run.

    Ctrl-C saves what was learned and raises KeyboardInterrupt. After SIGTERM or SIGHUP the run is returned, and
    `run.interrupted` says that it was cut short.

    >>> run = train("CartPole-v1", "a3c", steps=100_000)
    >>> agent = load(run.path)
    """
    home = Path.cwd()
    run, outcome = start(tailor(env, algorithm, **settings), run_dir, asked=settings, home=home)
    if outcome.signal == signal.SIGINT:
        raise KeyboardInterrupt(f"stopped at step {outcome.step:,}; go on with: asyncrl train --resume {run.path}")
    return run


@standard_modes()
def resume(
    run_dir: Path | str, view: Sink | None = None, *, steps: int | None = None, trust: bool = False, **changes: Any
) -> tuple[Run, TrainingResult | None]:
    """Continue a run from its newest good checkpoint; None for the outcome where nothing is left to do.

    `steps` lengthens (or shortens) the run; `changes` are other settings that may change: `RunConfig.CHANGEABLE`, and
    `learning_rate` where the run diverged. `trust` says that what somebody else's run names may be run.
    """
    run = Run(open_run(Path(run_dir)).path.absolute())
    with run.locked():
        return _resume(run, view, changes | ({} if steps is None else {"steps": steps}), trust=trust)


def _resume(run: Run, view: Sink | None, changes: dict[str, Any], *, trust: bool) -> tuple[Run, TrainingResult | None]:
    newest = newest_checkpoint(run, view) if run.checkpoints() else None
    if newest is not None and trust:
        newest = newest.trusted()
    before, contract_before = run.beginning() if newest is None else (newest.config, newest.contract)
    if not trust:
        checkpoint.check_trust(before, contract_before)
    config = changed(before, changes, diverged=newest is not None and newest.diverged).anchored(Path.cwd())
    contract = describe_all(config.env_ids, config.environment)
    if differences := contract_before.differences(contract):
        raise UsageError(f"{run.path} was made under another contract: {'; '.join(differences)}")
    config = resolve(config, contract)
    if newest is not None:
        run.repair_marks(newest.path)
        if training.is_complete(config, contract, run, newest):
            return run, None
    _check_memory(config, contract)
    _prepare_engine(config, contract)
    different = differences_of(before, config)
    notes = []
    if "learning_rate" in different:
        old_rate, rate = different["learning_rate"]
        notes.append(f"From here on this is another run: --learning-rate {rate:g}, not {old_rate:g}.")
    run.note_resumption(0 if newest is None else newest.step, contract, different, notes)
    if different and newest is not None:  # asked for once: it holds also where this process is killed before it saves
        newest = checkpoint.amend(newest, config=config.to_json())
    return run, _train(config, contract, run, view, newest, notes)


def newest_checkpoint(run: Run, view: Sink | None = None) -> checkpoint.Checkpoint:
    """The newest checkpoint that is whole; the reason why a newer one is not goes to `view`."""
    problems = []
    for path in reversed(run.checkpoints()):
        try:
            found = checkpoint.load(path)
            found.weights()
            Archive.verify(run.replay_folder, found.replay)
            return found
        except CheckpointError as problem:
            problems.append(str(problem))
            if view is not None:
                view.say(f"{problem}; trying the one before")
    raise CheckpointError("; ".join(problems) or f"{run.path} has no checkpoint yet")


def _train(
    config: RunConfig,
    contract: Contract,
    run: Run,
    view: Sink | None,
    newest: checkpoint.Checkpoint | None,
    notes: Sequence[str] = (),
) -> TrainingResult:
    """Train to the end, as often as the run goes back; `notes` are said at its beginning."""
    plan = replay_plan(config, contract)
    stored = [] if plan is None else [f"{'replay memory':<20}{plan} {_WHERE[plan.options.storage]}"]
    if plan is not None:
        stored.append(f"{'learning starts':<20}after {plan.options.learning_starts:,} steps")
    dense = [f"{'network':<20}{sentence}" for sentence in unconvolved(contract.spaces)]
    said = ["\n".join([*contract_lines(contract), *summary_lines(config), *dense, *stored, ""]), *notes]
    if config.named_outside() and not signing.can_sign():
        said.append(
            "This run cannot be signed, because no key can be kept in XDG_STATE_HOME or ~/.local/state: to play, evaluate "
            "or continue it, add --trust."
        )
    while True:
        outcome, newest = _train_from(newest, config, contract, run, view, said)
        if outcome is not None:
            return outcome
        assert newest is not None
        config, said = newest.config, []


def _train_from(
    newest: checkpoint.Checkpoint | None,
    config: RunConfig,
    contract: Contract,
    run: Run,
    view: Sink | None,
    said: Sequence[str],
) -> tuple[TrainingResult | None, checkpoint.Checkpoint | None]:
    """Train to the end; or, where the run diverges and is to go back, give the checkpoint to go on from."""
    goes_on = newest is not None or (run.path / "metrics.jsonl").exists()  # a start that was killed left that
    if goes_on:
        run.rewind(-1 if newest is None else newest.update)
    run.note_interruption(None)
    events = TensorBoard(run.path, resumed_at=(-1 if newest is None else newest.step) if goes_on else None)
    sinks: list[Sink] = [JsonLines(run.path), events, *([] if view is None else [view])]
    with report_crashes(), Monitor(sinks).open() as monitor:
        for sentence in said:
            monitor.say(sentence)
        loop = hogwild.train if config.engine is EngineKind.HOGWILD else training.train
        try:
            outcome = loop(config, contract, run, monitor, newest)
            run.note_interruption(outcome.signal)
            return outcome, None
        except DivergenceError as error:
            back = recover(run, config, error)
            if back is not None:
                return None, back
            saved = f"What was learned until step {newest_checkpoint(run).step:,} is saved in {run.path}"
            monitor.say(f"{saved}.")
            raise error.with_remedy(
                f"{saved}: asyncrl train --resume {run.path} --learning-rate X goes on from there."
            ) from error


@standard_modes()
def record(
    player: Path | Agent | EnvSource,
    out: str,
    episodes: int = 20,
    seed: int = 1,
    *,
    bot: str | None = None,
    greedy: bool | None = None,
    epsilon: float = 0.0,
    max_steps: int | None = None,
    say: Callable[[str], None] = lambda sentence: None,
    trust: bool = False,
) -> list[float]:
    """Write a Minari dataset of an agent's play, or of a bot's in the environment `player`; returns the scores.

    Episodes are cut off as in `evaluate`; `say` is told how many. Raises UsageError where the dataset is there already.
    """
    _check_play(episodes, epsilon, max_steps)
    datasets.check_name_free(out)
    if bot is not None:
        if greedy is not None or epsilon:
            name = "--epsilon" if epsilon else "--greedy" if greedy else "--sample"
            raise UsageError(f"{name} has no effect with --bot {bot}: no policy plays")
        contract, who = describe(str(player) if isinstance(player, Path | Agent) else player), bot
        limit = max_steps or (EPISODE_LIMIT if contract.episode_cap is None else None)
        play_on: Player = BotPlayer(bot, contract.spaces)
    else:
        agent = player if isinstance(player, Agent) else load(player, trust=trust)  # type: ignore[arg-type]  # load complains
        contract, who = dataclasses.replace(agent.contract, observation_mean=(), observation_spread=()), str(player)
        limit = max_steps or agent.checkpoint.config.episode_limit(contract)
        play_on = agent.player(greedy=_greedily(agent, greedy), epsilon=epsilon)
    played = list(datasets.record(play_on, contract, episodes, seed, limit=limit))
    count = sum(len(one.reward) == limit and not one.terminated for one in played)
    if count and limit is not None:
        say(cut_off_message(count, episodes, limit))
    datasets.write(out, contract, played, who)
    return [one.score for one in played]


def play_yourself(env: EnvSource, games: int = 1, seed: int = 1, out: str | None = None) -> list[float]:
    """Play `games` games at the keyboard, in a window; returns the scores. `out` names a dataset to write them to.

    Closing the window ends it; games that were finished count.
    """
    contract = describe(env)
    action_count(contract)  # before the window opens
    if out is not None:
        datasets.check_name_free(out)
    played: list[datasets.Demonstration] = []
    with contextlib.closing(View(contract)) as view, Window(contract.env, view.frames_per_second) as window:
        person = HumanPlayer(view, window)
        with contextlib.suppress(KeyboardInterrupt):
            played.extend(datasets.record(person, contract, games, seed, view))
    if out is not None and played:
        datasets.write(out, contract, played, "a person")
    return [one.score for one in played]


@standard_modes()
def pretrain(
    config: RunConfig,
    data: str,
    options: CloningOptions | None = None,
    run_dir: Path | str | None = None,
    note: Callable[[Epoch], None] = lambda epoch: None,
    *,
    asked: Collection[str] = (),
) -> tuple[Run, Epoch, Evaluation | None]:
    """Imitate a dataset; the run that is written is one to evaluate, to play and to begin with (`init_from`)."""
    path = Path("runs" if run_dir is None else run_dir).absolute()  # an environment may change the working directory
    contract = describe(config.env, config.environment)
    reject_unused_by_imitation(settings_of(config, asked))
    config = resolve(config, contract)
    if config.network.recurrent is not Recurrent.NONE:
        raise UsageError("pretrain imitates single steps, which say nothing of the past; leave out --recurrent")
    episodes = datasets.read(data, contract)
    learner = make_learner(config, contract, with_replay=False)
    run = (create_run_in if run_dir is None else create_run)(path, config, contract)
    with run.locked(), handle_stop_signals() as stop, Monitor([JsonLines(run.path)]).open() as monitor:
        began = time.monotonic()

        def write(epoch: Epoch) -> None:
            facts = {"step": 0, "update": 0, "time": round(time.monotonic() - began, 3), "kind": "pretrain"}
            monitor.write({**facts, **epoch._asdict()})
            note(epoch)

        best = clone(learner, contract, episodes, options or CloningOptions(), config.seed, write, lambda: bool(stop))
        path = run.checkpoint_path(0)
        seconds = time.monotonic() - began
        checkpoint.save(path, learner.state(), step=0, update=0, seconds=seconds, contract=contract, config=config)
        run.mark("latest", path)
        run.note_interruption(stop.signal)
    if stop or not config.eval_episodes:
        return run, best, None
    with explained("the evaluation of what was learned", evaluate_again(run.path)):
        return run, best, evaluate(run.path, config.eval_episodes, config.seed, trust=True)


@standard_modes()
def evaluate(
    name: Path | str | Agent,
    episodes: int = 30,
    seed: int = 1,
    *,
    greedy: bool | None = None,
    epsilon: float = 0.0,
    env: EnvSource | None = None,
    rules: EnvOptions | None = None,
    force: bool = False,
    envs: int | None = None,
    max_steps: int | None = None,
    trust: bool = False,
) -> Evaluation:
    """Play episodes in the agent's own environment, under its contract; the same seed gives the same scores.

    `epsilon` is the probability that an action is replaced by a random one; `env` says which environment, where it was
    trained in several. Another environment and other `rules` are another contract: it takes `force`. `envs` environments
    are stepped side by side, and an episode is cut off after `max_steps` (None: as while training, see `RunConfig`).
    """
    _check_play(episodes, epsilon, max_steps)
    if envs is not None and envs < 1:
        raise UsageError(f"--eval-envs must be 1 or more, not {envs}")
    agent = name if isinstance(name, Agent) else load(name, trust=trust)
    contract, config = (
        agent.contract_of(None if env is None else env_id_of(env), rules, force=force),
        agent.checkpoint.config,
    )
    return play_episodes(
        agent.policy,
        contract,
        episodes,
        seed,
        greedy=_greedily(agent, greedy),
        epsilon=epsilon,
        envs=envs or config.evaluation_envs(contract),
        limit=max_steps or config.episode_limit(contract),
    )


@standard_modes()
def play(
    agent: Agent,
    view: View,
    screen: Screen,
    seed: int,
    *,
    greedy: bool | None = None,
    epsilon: float = 0.0,
    most_steps: int | None = None,
    progress: Callable[[int], None] = lambda step: None,
    say: Callable[[str], None] = lambda sentence: None,
) -> float:
    """Play one episode onto a screen; returns its score. It is cut off as in `evaluate`, and `say` is told.

    `progress` is called with the number of each step, and what it raises ends the game.
    """
    _check_play(1, epsilon, most_steps)
    limit = most_steps or agent.checkpoint.config.episode_limit(view.contract)
    score = 0.0
    for step, scene in enumerate(watch(agent.policy, view, seed, greedy=_greedily(agent, greedy), epsilon=epsilon)):
        progress(step)
        screen.show(scene.picture)
        score = scene.score
        if step == limit and not scene.done:
            say(cut_off_message(1, 1, limit))
            break
    return score


def _check_play(episodes: int, epsilon: float, max_steps: int | None) -> None:
    if episodes < 1:
        raise UsageError(f"--episodes must be 1 or more, not {episodes}")
    if not 0 <= epsilon <= 1:
        raise UsageError(f"--epsilon must be between 0 and 1, not {epsilon:g}")
    if max_steps is not None and max_steps < 1:
        raise UsageError(f"--max-steps must be 1 or more, not {max_steps}")


def _greedily(agent: Agent, greedy: bool | None) -> bool:
    """Does `agent` take the most probable action? Raises UsageError where it makes no difference."""
    algorithm = agent.checkpoint.config.algorithm
    if greedy is False and not algorithm.is_stochastic:
        raise UsageError(f"--sample has no effect on {algorithm.name}, which draws no actions; --epsilon takes random ones")
    if greedy and isinstance(algorithm, Random):
        raise UsageError("--greedy has no effect on random: every action is as probable as any other")
    return agent.resolve_greedy(greedy)
