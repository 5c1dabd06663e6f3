"""The commands as functions: train, resume, evaluate, play, record, pretrain.

They take the options of the command line as keyword arguments, with underscores for hyphens, and raise the sentences
that the command line prints as `UsageError` and other `AsyncRLError`s.
"""

from __future__ import annotations

import contextlib
import dataclasses
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from asyncrl import launch
from asyncrl.acting import datasets
from asyncrl.acting.bots import BotPlayer
from asyncrl.acting.episodes import Player
from asyncrl.agents.agent import Agent, load
from asyncrl.agents.evaluation import Evaluation, watch
from asyncrl.agents.evaluation import evaluate as play_episodes
from asyncrl.agents.human import HumanPlayer, action_count
from asyncrl.agents.imitation import CloningOptions
from asyncrl.agents.video import Screen, Window, open_screen, open_video
from asyncrl.algorithms import Algorithm, AlgorithmSource, Random, algorithm_name_of
from asyncrl.common.torch_setup import standard_modes
from asyncrl.envs import EnvOptions, EnvSource, View, describe, env_id_of
from asyncrl.errors import CheckpointError, UsageError
from asyncrl.launch import newest_checkpoint, start
from asyncrl.monitor import Callback, Sink
from asyncrl.monitor.progress import episode_progress, training_view
from asyncrl.runs.config import EPISODE_LIMIT
from asyncrl.runs.lookup import open_run
from asyncrl.runs.run import Run
from asyncrl.runs.settings import configure, leaves, tailor
from asyncrl.runs.settings_file import located, read_settings_file
from asyncrl.training import TrainingResult

if TYPE_CHECKING:
    from asyncrl.typed_settings import Changes, Settings

__all__ = [
    "Agent",
    "configure",
    "evaluate",
    "load",
    "newest_checkpoint",
    "play",
    "play_episode",
    "play_yourself",
    "pretrain",
    "record",
    "resume",
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
        config: A TOML file of settings (docs/settings.md); arguments of this function go before its values.
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
        The run, also after SIGTERM or SIGHUP: `run.interrupted` is True then.

    Raises:
        UsageError: For settings that are unknown, impossible or without effect.
        KeyboardInterrupt: After Ctrl-C; what was learned is saved.
        Exception: What a callback raised; what was learned is saved.

    >>> run = train("CartPole-v1", "a3c", steps=100_000)
    >>> agent = load(run)
    """
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
            file.check_trust(configure(env, algorithm, preset, **merged))
        chosen = tailor(env, algorithm, preset, **merged)
        view = training_view(f"{chosen.algorithm.name} on {chosen.env}", chosen.steps, progress)
        run, result = start(chosen, run_dir, view, callbacks=callbacks, sinks=sinks, asked=settings, home=home)
    _raise_interrupt(run, result)
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
        run: The run or its folder.
        progress: Whether to print progress; None prints it in a terminal or a notebook.
        callbacks: As for `train`.
        sinks: As for `train`.
        trust: Run code that the run folder names even if someone else made the folder.
        changes: New values of `steps`, of settings in `RunConfig.CHANGEABLE`, and of `learning_rate` if the run diverged.

    Raises:
        UsageError: For settings that cannot change in a run.
        CheckpointError: If every checkpoint is damaged.
        KeyboardInterrupt: After Ctrl-C; what was learned is saved.
    """
    run = open_run(Path(run), trust=trust)
    view: Sink | None = None
    with contextlib.suppress(CheckpointError):  # a damaged config.json: the checkpoints decide whether the run can continue
        config, _ = run.beginning()
        steps = int(changes.get("steps", config.steps))
        view = training_view(f"{config.algorithm.name} on {config.env}", steps, progress)
    resumed, result = launch.resume(run, view, callbacks=callbacks, sinks=sinks, trust=trust, **changes)
    _raise_interrupt(resumed, result)
    return resumed


def _raise_interrupt(run: Run, result: TrainingResult | None) -> None:
    if result is not None and result.signal == signal.SIGINT:
        raise KeyboardInterrupt(f"stopped at step {result.step:,}; continue with: asyncrl train --resume {run.path}")


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
        A run to evaluate, to play, or to start from: `train(env, algorithm, init_from=str(run.path))`.

    Raises:
        UsageError: If the dataset is missing or does not fit the environment; for settings without effect.
    """
    names = {field.name for field in dataclasses.fields(CloningOptions)}
    options = CloningOptions(**{name: value for name, value in settings.items() if name in names})
    others = {name: value for name, value in settings.items() if name not in names}
    config = tailor(env, algorithm, preset, **others)
    run, _ = launch.imitate(config, data, options, run_dir, asked=others)
    return run


@standard_modes()
def evaluate(
    agent: Agent | Run | Path | str,
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
    progress: bool | None = None,
) -> Evaluation:
    """Play episodes with an agent in its environment. The same seed gives the same returns.

    Args:
        agent: An agent, a run, the folder of a run or a checkpoint, or the name of a pretrained agent.
        episodes: Number of episodes.
        seed: Seed of the environments and the policy.
        greedy: Take the most probable action; False samples from the policy, None does as the run's evaluations.
        epsilon: Probability of a random action instead of the policy's.
        env: The environment, if the agent was trained in several, or another one with the same spaces.
        rules: Settings of the environment that differ from the run's.
        force: Accept an environment or settings that differ from those in training.
        envs: Environments stepped in parallel; None as in training.
        max_steps: Steps after which an episode is cut off; None as in the run's evaluations.
        trust: Run code that the folder names even if someone else made the folder.
        progress: Whether to show progress; None shows it in a terminal or a notebook.

    Raises:
        UsageError: For options that are impossible or without effect, or an environment that differs.
        CheckpointError: If the checkpoint is damaged.
    """
    _check_options(episodes, epsilon, max_steps)
    if envs is not None and envs < 1:
        raise UsageError(f"--eval-envs must be 1 or more, not {envs}")
    agent = _agent(agent, trust=trust)
    config = agent.checkpoint.config
    contract = agent.contract_of(None if env is None else env_id_of(env), rules, force=force)
    with episode_progress(episodes, progress) as report:
        return play_episodes(
            agent.policy,
            contract,
            episodes,
            seed,
            greedy=_resolve_greedy(agent, greedy),
            epsilon=epsilon,
            envs=envs or config.evaluation_envs(contract),
            limit=max_steps or config.episode_limit(contract),
            progress=report,
        )


@standard_modes()
def play(
    agent: Agent | Run | Path | str,
    episodes: int = 1,
    seed: int = 1,
    *,
    video: Path | str | None = None,
    greedy: bool | None = None,
    epsilon: float = 0.0,
    env: EnvSource | None = None,
    rules: EnvOptions | None = None,
    force: bool = False,
    max_steps: int | None = None,
    trust: bool = False,
    note: Callable[[Evaluation], None] = lambda episode: None,
) -> Evaluation:
    """Show an agent play: in a window, in a notebook, or as a video.

    Args:
        agent: An agent, a run, the folder of a run or a checkpoint, or the name of a pretrained agent.
        episodes: Number of episodes.
        seed: Seed of the first episode; it rises by one with each.
        video: An .mp4 or .gif file to write; None opens a window, or shows the game below the cell of a notebook.
        greedy: Take the most probable action; False samples from the policy, None does as the run's evaluations.
        epsilon: Probability of a random action instead of the policy's.
        env: The environment, if the agent was trained in several, or another one with the same spaces.
        rules: Settings of the environment that differ from the run's.
        force: Accept an environment or settings that differ from those in training.
        max_steps: Steps after which an episode is cut off; None as in the run's evaluations.
        trust: Run code that the folder names even if someone else made the folder.
        note: Called after each episode with that episode alone.

    Returns:
        Returns and lengths of the episodes.

    Raises:
        UsageError: As `evaluate`; and if the file cannot be written or there is no display.
    """
    _check_options(episodes, epsilon, max_steps)
    path = None if video is None else Path(video).absolute()  # an environment may change the working directory
    agent = _agent(agent, trust=trust)
    greedy = _resolve_greedy(agent, greedy)
    contract = agent.contract_of(None if env is None else env_id_of(env), rules, force=force)
    played = []
    with contextlib.closing(View(contract)) as view:
        rate = view.frames_per_second
        screen = open_screen(contract.env, rate) if path is None else open_video(path, rate)
        with screen:
            for number in range(episodes):
                episode = play_episode(
                    agent, view, screen, seed + number, greedy=greedy, epsilon=epsilon, max_steps=max_steps
                )
                played.append(episode)
                note(episode)
    return Evaluation.merge(played)


@standard_modes()
def play_episode(
    agent: Agent,
    view: View,
    screen: Screen,
    seed: int,
    *,
    greedy: bool | None = None,
    epsilon: float = 0.0,
    max_steps: int | None = None,
    progress: Callable[[int], None] = lambda step: None,
) -> Evaluation:
    """Play one episode onto a screen. `progress` is called before each step with its number; it may raise to end it."""
    _check_options(1, epsilon, max_steps)
    limit = max_steps or agent.checkpoint.config.episode_limit(view.contract)
    score, length, is_cut = 0.0, 0, False
    for step, seen in enumerate(watch(agent.policy, view, seed, greedy=_resolve_greedy(agent, greedy), epsilon=epsilon)):
        progress(step)
        screen.show(seen.picture)
        score, length = seen.score, step
        is_cut = step == limit and not seen.done
        if is_cut:
            break
    return Evaluation((score,), (length,), cut_off=int(is_cut))


@standard_modes()
def record(
    player: Agent | Run | Path | EnvSource,
    out: str,
    episodes: int = 20,
    seed: int = 1,
    *,
    bot: str | None = None,
    greedy: bool | None = None,
    epsilon: float = 0.0,
    max_steps: int | None = None,
    trust: bool = False,
) -> Evaluation:
    """Record the episodes of an agent or a bot as a Minari dataset.

    Args:
        player: An agent, a run, a folder or the name of a pretrained agent; with `bot`, an environment: its id, class, or
            a function that makes one.
        out: Name of the new dataset, for example "cartpole/expert-v0".
        episodes: Number of episodes.
        seed: Seed of the environments.
        bot: Function that makes a bot, as "FILE.py:NAME" or "MODULE:NAME".
        greedy: Take the most probable action; False samples from the policy, None does as the run's evaluations.
        epsilon: Probability of a random action instead of the policy's.
        max_steps: Steps after which an episode is cut off; None as in the run's evaluations.
        trust: Run code that the folder names even if someone else made the folder.

    Returns:
        Returns and lengths of the recorded episodes.

    Raises:
        UsageError: If the dataset exists already, or an option is impossible or without effect.
    """
    _check_options(episodes, epsilon, max_steps)
    datasets.check_name_free(out)
    if bot is not None:
        if greedy is not None or epsilon:
            name = "--epsilon" if epsilon else "--greedy" if greedy else "--sample"
            raise UsageError(f"{name} has no effect with --bot {bot}, which is not a policy")
        contract, author = describe(str(player) if isinstance(player, Path | Agent | Run) else player), bot
        limit = max_steps or (EPISODE_LIMIT if contract.episode_cap is None else None)
        playing: Player = BotPlayer(bot, contract.spaces)
    else:
        agent = _agent(player, trust=trust)
        author = str(player.path if isinstance(player, Run) else agent.checkpoint.path if player is agent else player)
        contract = dataclasses.replace(agent.contract, observation_mean=(), observation_spread=())
        limit = max_steps or agent.checkpoint.config.episode_limit(contract)
        playing = agent.player(greedy=_resolve_greedy(agent, greedy), epsilon=epsilon)
    recorded = list(datasets.record(playing, contract, episodes, seed, limit=limit))
    datasets.write(out, contract, recorded, author)
    return _evaluation(recorded, limit)


def play_yourself(env: EnvSource, episodes: int = 1, seed: int = 1, out: str | None = None) -> Evaluation | None:
    """Play with the keyboard, in a window. Closing it ends the game; the episodes before that count.

    Args:
        env: Environment id, class, or a function that makes an environment.
        episodes: Number of episodes.
        seed: Seed of the first episode.
        out: Name of a Minari dataset to write the episodes to.

    Returns:
        Returns and lengths of the finished episodes; None if there are none.
    """
    contract = describe(env)
    action_count(contract)  # raises before the window opens
    if out is not None:
        datasets.check_name_free(out)
    played: list[datasets.Demonstration] = []
    with contextlib.closing(View(contract)) as view, Window(contract.env, view.frames_per_second) as window:
        person = HumanPlayer(view, window)
        with contextlib.suppress(KeyboardInterrupt):
            played.extend(datasets.record(person, contract, episodes, seed, view))
    if not played:
        return None
    if out is not None:
        datasets.write(out, contract, played, "a person")
    return _evaluation(played, None)


def _agent(source: Any, *, trust: bool) -> Agent:
    return source if isinstance(source, Agent) else load(source, trust=trust)


def _evaluation(episodes: list[datasets.Demonstration], limit: int | None) -> Evaluation:
    """Returns and lengths of recorded episodes, which were cut off after `limit` steps."""
    cut = sum(len(episode.reward) == limit and not episode.terminated for episode in episodes)
    lengths = tuple(len(episode.reward) for episode in episodes)
    return Evaluation(tuple(episode.score for episode in episodes), lengths, cut_off=cut)


def _check_options(episodes: int, epsilon: float, max_steps: int | None) -> None:
    if episodes < 1:
        raise UsageError(f"--episodes must be 1 or more, not {episodes}")
    if not 0 <= epsilon <= 1:
        raise UsageError(f"--epsilon must be between 0 and 1, not {epsilon:g}")
    if max_steps is not None and max_steps < 1:
        raise UsageError(f"--max-steps must be 1 or more, not {max_steps}")


def _resolve_greedy(agent: Agent, greedy: bool | None) -> bool:
    """Whether `agent` takes the most probable action. Raises UsageError if the choice has no effect."""
    algorithm = agent.checkpoint.config.algorithm
    if greedy is False and not algorithm.is_stochastic:
        raise UsageError(f"--sample has no effect on {algorithm.name}, whose policy is deterministic; use --epsilon")
    if greedy and isinstance(algorithm, Random):
        raise UsageError("--greedy has no effect on random: all actions have the same probability")
    return agent.resolve_greedy(greedy)
