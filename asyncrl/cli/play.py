"""asyncrl play RUN · asyncrl play ENV --human"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asyncrl.api import load, play, play_yourself
from asyncrl.cli.options import mode, parse
from asyncrl.common.validation import flag, within
from asyncrl.envs import EnvOptions, View, describe
from asyncrl.errors import UsageError
from asyncrl.play.human import keys_help
from asyncrl.play.video import Screen, Window, open_video
from asyncrl.runs.run import newer_checkpoint


@dataclass(frozen=True)
class Arguments:
    run: str
    """A run folder (its best checkpoint, else its latest; RUN/latest), a checkpoint folder, or a pretrained name (asyncrl
    list pretrained); with --human, an environment."""
    video: Path | None = None
    """Write a .mp4 or .gif file. Default: open a window."""
    episodes: int = 1
    """How many games, one after the other."""
    seed: int = 1
    """Of the first game; the next ones count up."""
    max_steps: int | None = None
    """End each game after so many steps. Default: play it to its end; without an episode cap, as in evaluations."""
    greedy: bool = False
    """Take the most probable action. Default: as the run was evaluated."""
    sample: bool = False
    """Draw actions from the policy. Default: as the run was evaluated."""
    epsilon: float = 0.0
    """Probability that an action is replaced by a random one."""
    env: str | None = None
    """Which of its environments, where it was trained in several. Default: the first."""
    rules: EnvOptions = field(default_factory=EnvOptions)
    """Other rules than it was trained under."""
    force: bool = False
    """Play under another contract than it was trained under."""
    trust: bool = False
    """Run what the folder names also where somebody else has made it: environments of theirs, modules, bots."""
    human: bool = False
    """Play yourself, at the keyboard."""
    record: str | None = None
    """Write what you played as this Minari dataset."""


def run(arguments: Sequence[str]) -> int:
    asked = parse(Arguments, "play", arguments, "Watch an agent play.")
    within(asked, 1, math.inf, "episodes", "max_steps")
    if asked.human:
        return _play_yourself(asked)
    if asked.record is not None:
        raise UsageError("--record is for --human; `asyncrl record RUN --out DATASET` records an agent")
    greedy = mode(asked.greedy, asked.sample)
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
