"""Episodes played by agents, bots and people: evaluated, shown, and recorded as datasets."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from asyncrl.acting import datasets
from asyncrl.acting.bots import BotPlayer
from asyncrl.acting.episodes import Player
from asyncrl.agents.agent import Agent, load
from asyncrl.agents.evaluation import Evaluation, step_limit, watch
from asyncrl.agents.evaluation import evaluate as evaluate_policy
from asyncrl.agents.human import HumanPlayer, action_count
from asyncrl.agents.video import Screen, Window, open_screen, open_video
from asyncrl.algorithms import Random
from asyncrl.common.signals import Terminated
from asyncrl.common.torch_setup import standard_modes
from asyncrl.common.validation import as_path, check_whole
from asyncrl.envs import EnvOptions, EnvSource, View, describe, env_id_of
from asyncrl.errors import UsageError
from asyncrl.monitor.progress import episode_progress
from asyncrl.runs.config.run_config import EPISODE_LIMIT
from asyncrl.runs.run import Run

__all__ = ["evaluate", "play", "play_episode", "play_yourself", "record"]


@standard_modes()
def evaluate(
    agent: Agent | Run | Path | str,
    episodes: int = 30,
    seed: int = 1,
    *,
    greedy: bool | None = None,
    epsilon: float = 0.0,
    env: EnvSource | None = None,
    env_options: EnvOptions | None = None,
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
        env_options: Settings of the environment that differ from the run's.
        force: Accept an environment or settings that differ from those in training.
        envs: Environments stepped in parallel; None as in training.
        max_steps: Steps after which an episode is cut off; None as in the run's evaluations.
        trust: Run code that the folder names even if someone else made the folder.
        progress: Whether to show progress; None shows it in a terminal or a notebook.

    Returns:
        Returns, lengths and the environment's measures of the episodes.

    Raises:
        UsageError: For options that are impossible or without effect, or an environment that differs.
        CheckpointError: If the checkpoint is damaged.
        EnvironmentFault: If the environment raises or breaks its contract.
    """
    _check_options(episodes, seed, epsilon, max_steps)
    if envs is not None:
        check_whole("eval_envs", envs)
    agent = _agent(agent, trust=trust)
    config = agent.checkpoint.config
    contract = agent.contract_of(None if env is None else env_id_of(env), env_options, force=force)
    with episode_progress(episodes, progress) as report:
        return evaluate_policy(
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
    env_options: EnvOptions | None = None,
    force: bool = False,
    max_steps: int | None = None,
    trust: bool = False,
    on_episode: Callable[[Evaluation], None] = lambda episode: None,
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
        env_options: Settings of the environment that differ from the run's.
        force: Accept an environment or settings that differ from those in training.
        max_steps: Steps after which an episode is cut off; None as in the run's evaluations.
        trust: Run code that the folder names even if someone else made the folder.
        on_episode: Called after each episode with that episode alone.

    Returns:
        Returns and lengths of the episodes.

    Raises:
        UsageError: As `evaluate`; and if the file cannot be written or there is no display.
        EnvironmentFault: As `evaluate`.
    """
    _check_options(episodes, seed, epsilon, max_steps)
    path = None if video is None else as_path("video", video).absolute()  # an environment may change the working directory
    agent = _agent(agent, trust=trust)
    greedy = _resolve_greedy(agent, greedy)
    contract = agent.contract_of(None if env is None else env_id_of(env), env_options, force=force)
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
                on_episode(episode)
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
    _check_options(1, seed, epsilon, max_steps)
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
        EnvironmentFault: If the environment raises or breaks its contract.
    """
    _check_options(episodes, seed, epsilon, max_steps)
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
    limit = step_limit(contract, limit)
    recorded = list(datasets.record(playing, contract, episodes, seed, limit=limit))
    datasets.write(out, contract, recorded, author)
    return _evaluation(recorded, limit)


def play_yourself(env: EnvSource, episodes: int = 1, seed: int = 1, out: str | None = None) -> Evaluation | None:
    """Play with the keyboard, in a window. Closing it or Ctrl-C ends the game; the episodes before that count.

    Args:
        env: Environment id, class, or a function that makes an environment.
        episodes: Number of episodes.
        seed: Seed of the first episode.
        out: Name of a Minari dataset to write the episodes to.

    Returns:
        Returns and lengths of the finished episodes; None if there are none.

    Raises:
        UsageError: If no window can be opened, an action is not a single discrete choice, or the dataset `out` exists.
    """
    _check_options(episodes, seed)
    contract = describe(env)
    action_count(contract)  # raises before the window opens
    if out is not None:
        datasets.check_name_free(out)
    played: list[datasets.Demonstration] = []
    ended: KeyboardInterrupt | None = None
    with contextlib.closing(View(contract)) as view, Window(contract.env, view.frames_per_second) as window:
        person = HumanPlayer(view, window)
        try:
            played.extend(datasets.record(person, contract, episodes, seed, view))
        except KeyboardInterrupt as end:
            ended = end
    if played and out is not None:
        datasets.write(out, contract, played, "a person")
    if isinstance(ended, Terminated):
        raise ended
    return _evaluation(played, None) if played else None


def _agent(source: Any, *, trust: bool) -> Agent:
    return source if isinstance(source, Agent) else load(source, trust=trust)


def _evaluation(episodes: list[datasets.Demonstration], limit: int | None) -> Evaluation:
    """Returns and lengths of recorded episodes, which were cut off after `limit` steps."""
    cut = sum(len(episode.reward) == limit and not episode.terminated for episode in episodes)
    lengths = tuple(len(episode.reward) for episode in episodes)
    return Evaluation(tuple(episode.score for episode in episodes), lengths, cut_off=cut)


def _check_options(episodes: int, seed: int, epsilon: float = 0, max_steps: int | None = None) -> None:
    check_whole("episodes", episodes)
    check_whole("seed", seed, 0)
    if not 0 <= epsilon <= 1:
        raise UsageError(f"--epsilon must be between 0 and 1, not {epsilon:g}")
    if max_steps is not None:
        check_whole("max_steps", max_steps)


def _resolve_greedy(agent: Agent, greedy: bool | None) -> bool:
    """Whether `agent` takes the most probable action. Raises UsageError if the choice has no effect."""
    algorithm = agent.checkpoint.config.algorithm
    if greedy is False and not algorithm.is_stochastic:
        raise UsageError(f"--sample has no effect on {algorithm.name}, whose policy is deterministic; use --epsilon")
    if greedy and isinstance(algorithm, Random):
        raise UsageError("--greedy has no effect on random: all actions have the same probability")
    return agent.resolve_greedy(greedy)
