"""asyncrl play RUN · asyncrl play ENV --human"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asyncrl.api import load, play, play_yourself
from asyncrl.cli.options import greedy_or_sample, parse
from asyncrl.common.validation import flag, within
from asyncrl.envs import EnvOptions, View, describe
from asyncrl.envs.family_options import combined_options
from asyncrl.errors import UsageError
from asyncrl.play.human import keys_help
from asyncrl.play.video import Screen, Window, open_video
from asyncrl.runs.lookup import newer_checkpoint

_ABOUT = "Watch an agent play, in a window or as a video; or play yourself."
BASIC = {
    "Options": ("video", "episodes", "seed", "greedy", "sample", "epsilon", "max_steps", "env", "human", "record", "trust"),
}
"""Options of the short help, by section."""


@dataclass(frozen=True)
class Arguments:
    run: str
    """Run folder (its best checkpoint, or RUN/latest), checkpoint folder, or pretrained agent (asyncrl list pretrained);
    with --human an environment."""
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
    """One of the environments that the agent was trained in. Default: the first."""
    rules: EnvOptions = field(default_factory=combined_options())
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
    greedy = greedy_or_sample(asked.greedy, asked.sample)
    video = None if asked.video is None else asked.video.absolute()  # an environment may change the working directory
    agent = load(asked.run, trust=asked.trust)
    contract = agent.contract_of(asked.env, asked.rules, force=asked.force)
    if newer := newer_checkpoint(asked.run, agent.checkpoint.path):
        print(newer, flush=True)
    with contextlib.closing(View(contract)) as view, _screen(video, contract.env, view) as screen:
        for game in range(asked.episodes):
            seed, epsilon = asked.seed + game, asked.epsilon
            how: Any = dict(greedy=greedy, epsilon=epsilon, most_steps=asked.max_steps, say=print)
            score = play(agent, view, screen, seed, **how)
            print(f"game {game + 1}: {score:g}", flush=True)
    if asked.video is not None:
        print(f"video: {asked.video}")
    return 0


def _play_yourself(asked: Arguments) -> int:
    plain = Arguments(asked.run)
    for name in ("video", "max_steps", "greedy", "sample", "epsilon", "env", "rules", "force"):
        if getattr(asked, name) != getattr(plain, name):
            option = "another rule" if name == "rules" else flag(name)
            raise UsageError(f"{option} has no effect with --human: no agent plays")
    contract = describe(asked.run)
    print(f"{asked.run}: close the window to end. " + keys_help(contract), flush=True)
    for game, score in enumerate(play_yourself(asked.run, asked.episodes, asked.seed, asked.record), 1):
        print(f"game {game}: {score:g}")
    if asked.record is not None:
        print(f"dataset: {asked.record}")
    return 0


def _screen(video: Path | None, title: str, view: View) -> Screen:
    if video is None:
        return Window(title, view.frames_per_second)
    return open_video(video, view.frames_per_second)
