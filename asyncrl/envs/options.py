"""What a user may ask of an environment."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import Enum

from asyncrl.errors import UsageError

__all__ = ["EVERYWHERE", "Backend", "EnvOptions", "Protocol"]


class Backend(Enum):
    """Who steps the environments of one actor."""

    AUTO = "auto"
    """The fastest that fits: `native` where there is one, then `envpool`, else `sync`."""
    NATIVE = "native"
    """The package's own vector environment (ale-py's C++ threads, Gymnasium's vector entry point)."""
    ENVPOOL = "envpool"
    """EnvPool's C++ threads."""
    SYNC = "sync"
    """One after the other, in the actor itself."""
    ASYNC = "async"
    """Each in a supervised worker process of its own: for environments whose step takes milliseconds, or that crash."""


class Protocol(Enum):
    """How Atari games are played for scores that can be compared."""

    MNIH2016 = "mnih2016"
    """no sticky actions, the game's own actions, up to 30 no-ops first (Mnih et al. 2013 … 2016)"""
    MACHADO2018 = "machado2018"
    """sticky actions of 0.25, no no-ops, whole games (Machado et al. 2018)"""
    RAW = "raw"
    """every frame as it is on the screen: 210×160 RGB, nothing skipped, stacked or clipped"""


@dataclass(frozen=True)
class EnvOptions:
    """What a user may ask of an environment. None: what the environment's id and family say."""

    env_backend: Backend = Backend.AUTO
    """Who steps the environments."""
    env_kwargs: str | None = None
    """What the environment's constructor is given besides, as JSON: '{"size": 8}'."""
    reward_clip: float | None = None
    """Learn from rewards clipped to ± this value; scores are always reported unclipped. 0: no clipping."""
    reward_scale: float = 1.0
    """Learn from rewards multiplied by this value (before clipping)."""
    final_reward: float | None = None
    """Learn from this reward where an episode terminates, instead of the environment's."""
    episode_steps: int | None = None
    """Steps after which an episode is truncated. Default: what the environment's id says."""
    standardize: int = 0
    """Subtract observations' mean and divide by their spread, both measured over so many random steps."""
    frame_skip: int | None = None
    """Images: frames per step; every action is repeated. Atari: for ids that have none of their own (…NoFrameskip-v4)."""
    frame_stack: int | None = None
    """Images: newest frames that make one observation."""
    screen_size: int | None = None
    """Images: height and width of a frame, in pixels."""
    gray: bool | None = None
    """Images: brightness alone instead of red, green and blue."""
    protocol: Protocol | None = None
    """Atari: whose rules; what is asked for besides goes before them."""
    sticky: float | None = None
    """Atari: probability that the emulator repeats the previous action."""
    noop_max: int | None = None
    """Atari: at most this many no-op frames begin an episode. Default 30."""
    life_loss: bool | None = None
    """Atari: a lost life ends the return (training only; the game goes on). Default off."""
    full_actions: bool | None = None
    """Atari: all 18 actions instead of the game's own. Default off."""
    episode_frames: int | None = None
    """Atari: emulator frames after which an episode is truncated. Default 108 000 (30 minutes)."""

    game_variables: bool | None = None
    """VizDoom: see the numbers that the scenario tells (health, ammunition) besides the screen. Default off."""

    def refuse_all_but(self, understood: frozenset[str], env_id: str) -> None:
        """Raise UsageError for what is asked for and means nothing to `env_id`, whose family understands these."""
        plain = EnvOptions()
        for option in fields(self):
            asked = getattr(self, option.name)
            if option.name not in EVERYWHERE | understood and asked != getattr(plain, option.name):
                raise UsageError(f"{env_id} has no such setting as --{option.name.replace('_', '-')}, which was {asked}")


EVERYWHERE = frozenset({"env_backend", "reward_clip", "reward_scale"})
"""The options that mean something to every environment."""
