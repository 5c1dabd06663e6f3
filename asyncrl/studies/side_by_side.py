"""A video of two agents in environments with the same seed, side by side."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from asyncrl.agents.agent import Agent
from asyncrl.agents.evaluation import WatchedStep, watch
from asyncrl.agents.video import open_video
from asyncrl.common.torch_setup import standard_modes
from asyncrl.envs import View

__all__ = ["record_side_by_side"]

_GAP = 6
"""Pixels between the two pictures."""
_LETTERS = 40
"""Letters of a title as wide as its picture, about."""
_MIN_WIDTH = 210
"""Smaller pictures are enlarged, so that the titles can be read."""


@standard_modes()
def record_side_by_side(agents: tuple[Agent, Agent], names: tuple[str, str], path: Path, seed: int) -> None:
    """Record an episode of both agents; the one that ends first stays on its last picture."""
    with contextlib.ExitStack() as stack:
        views = [stack.enter_context(contextlib.closing(View(agent.contract))) for agent in agents]
        video = stack.enter_context(open_video(path, views[0].frames_per_second))
        episodes = [_episode(agent, view, seed) for agent, view in zip(agents, views, strict=True)]
        shown: list[WatchedStep | None] = [None, None]
        while True:
            steps = [next(episode, None) for episode in episodes]
            if steps == [None, None]:
                return
            shown = [new or old for new, old in zip(steps, shown, strict=True)]
            titled = [_titled(step, name) for step, name in zip(shown, names, strict=True) if step is not None]
            gap = np.zeros((titled[0].shape[0], _GAP, 3), np.uint8)
            height = max(picture.shape[0] for picture in titled)
            parts = (titled[0], gap, titled[1])
            padded = [np.pad(part, ((0, height - part.shape[0]), (0, 0), (0, 0))) for part in parts]
            video.show(np.concatenate(padded, axis=1))


def _episode(agent: Agent, view: View, seed: int) -> Iterator[WatchedStep]:
    limit = agent.checkpoint.config.episode_limit(view.contract)
    for number, step in enumerate(watch(agent.policy, view, seed, greedy=agent.resolve_greedy(None))):
        yield step
        if number == limit:
            return


def _titled(step: WatchedStep, name: str) -> np.ndarray:
    """The picture below a line with the name and the return so far."""
    from PIL import Image, ImageDraw, ImageFont

    factor = -(-_MIN_WIDTH // step.picture.shape[1])
    picture = step.picture.repeat(factor, axis=0).repeat(factor, axis=1)
    width = picture.shape[1]
    size = max(10, width // _LETTERS)
    title = Image.new("RGB", (width, 2 * size), "white")
    score = f"{step.score:g}"
    draw = ImageDraw.Draw(title)
    draw.font = ImageFont.load_default(size)
    room = width - 14 - draw.textlength(score)
    while name and draw.textlength(name) > room:
        name = f"…{name.removeprefix('…')[1:]}" if len(name) > 1 else ""
    draw.text((4, size // 3), name, fill="black")
    draw.text((width - 4, size // 3), score, fill="black", anchor="ra")
    return np.concatenate([np.asarray(title), picture])
