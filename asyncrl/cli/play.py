"""asyncrl play RUN · asyncrl play ENV --human"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from asyncrl.agents.evaluation import Evaluation, cut_off_message
from asyncrl.agents.human import keys_help
from asyncrl.agents.video import check_video_file
from asyncrl.api import load, play, play_yourself
from asyncrl.cli.options import greedy_or_sample, parse
from asyncrl.common.counting import counted
from asyncrl.common.validation import flag, within
from asyncrl.envs import EnvOptions, describe
from asyncrl.envs.family_options import combined_options
from asyncrl.errors import UsageError
from asyncrl.runs.lookup import newer_checkpoint

_ABOUT = "Watch an agent play, in a window or as a video; or play yourself."
BASIC = {
    "Options": ("video", "episodes", "seed", "greedy", "sample", "epsilon", "max_steps", "env", "human", "record", "trust"),
}
"""Options of the short help, by section."""


@dataclass(frozen=True)
class Arguments:
    run: str
    """Run folder (its best checkpoint, or RUN/latest), checkpoint folder, pretrained agent (asyncrl list pretrained), or
    hf:USER/NAME on the Hugging Face Hub, or the URL of a run in a storage; with --human an environment."""
    video: Path | None = None
    """Write an .mp4 or .gif file instead of opening a window."""
    episodes: int = 1
    """Number of episodes."""
    seed: int = 1
    """Seed of the first episode; it rises by one with each."""
    max_steps: int | None = None
    """Steps after which an episode is cut off. Default: as in the run's evaluations."""
    greedy: bool = False
    """Take the most probable action. Without --greedy and --sample: as the run was evaluated."""
    sample: bool = False
    """Sample actions from the policy."""
    epsilon: float = 0.0
    """Probability of a random action instead of the policy's."""
    env: str | None = None
    """One of the environments that the agent was trained in, or with --force another with the same spaces. Default: the
    first."""
    env_options: EnvOptions = field(default_factory=combined_options())
    """Settings of the environment that differ from the run's."""
    force: bool = False
    """Accept an environment or settings that differ from those in training."""
    trust: bool = False
    """Run code that the folder names even if someone else made the folder."""
    human: bool = False
    """Play yourself, with the keyboard."""
    record: str | None = None
    """With --human: write the episodes as a Minari dataset of this name."""


def run(arguments: Sequence[str]) -> int:
    asked = parse(Arguments, "play", arguments, _ABOUT, BASIC)
    within(asked, 1, math.inf, "episodes", "max_steps")
    if asked.human:
        return _play_yourself(asked)
    if asked.record is not None:
        raise UsageError("--record is for --human; `asyncrl record RUN --out DATASET` records an agent")
    agent = load(asked.run, trust=asked.trust)
    if newer := newer_checkpoint(asked.run, agent.checkpoint.path):
        print(newer, flush=True)
    if asked.video is not None:
        check_video_file(asked.video.absolute())
        env = agent.contract_of(asked.env, asked.env_options, force=asked.force).env
        episodes = counted(asked.episodes, "episode")
        print(f"recording {episodes} of {agent.checkpoint.path} in {env} to {asked.video}", flush=True)
    numbers = itertools.count(1)

    def show(episode: Evaluation) -> None:
        print(f"episode {next(numbers)}: {episode.mean:g}", flush=True)
        if episode.cut_off:
            print(cut_off_message(1, 1, episode.lengths[0]), flush=True)

    play(
        agent,
        asked.episodes,
        asked.seed,
        video=asked.video,
        greedy=greedy_or_sample(asked.greedy, asked.sample),
        epsilon=asked.epsilon,
        env=asked.env,
        env_options=asked.env_options,
        force=asked.force,
        max_steps=asked.max_steps,
        on_episode=show,
    )
    if asked.video is not None:
        print(f"video: {asked.video}")
    return 0


def _play_yourself(asked: Arguments) -> int:
    plain = Arguments(asked.run)
    for name in ("video", "max_steps", "greedy", "sample", "epsilon", "env", "env_options", "force"):
        if getattr(asked, name) != getattr(plain, name):
            option = "a setting of the environment" if name == "env_options" else flag(name)
            raise UsageError(f"{option} has no effect with --human, where no agent plays")
    contract = describe(asked.run)
    print(f"{asked.run}: close the window to end. " + keys_help(contract), flush=True)
    played = play_yourself(asked.run, asked.episodes, asked.seed, asked.record)
    for number, score in enumerate(() if played is None else played.returns, 1):
        print(f"episode {number}: {score:g}")
    if played is not None and asked.record is not None:
        print(f"dataset: {asked.record}")
    return 0
