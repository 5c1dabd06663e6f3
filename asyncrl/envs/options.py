"""What a user may ask of an environment."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from enum import Enum

from asyncrl.common.validation import check_numbers, flag, within
from asyncrl.errors import UsageError

__all__ = ["EVERYWHERE", "ActionSet", "Backend", "EnvOptions", "FootballRewards", "Protocol", "Supervision"]


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


class ActionSet(Enum):
    """Which buttons Super Mario has, as gym-super-mario-bros names them."""

    RIGHT_ONLY = "right-only"
    """5 actions: to the right, running and jumping"""
    SIMPLE = "simple"
    """7: these, jumping where he stands, and to the left"""
    COMPLEX = "complex"
    """12: these, running and jumping to the left, down and up"""


class Protocol(Enum):
    """How Atari games are played for scores that can be compared."""

    MNIH2016 = "mnih2016"
    """no sticky actions, the game's own actions, 0 to 29 no-ops first (Mnih et al. 2013 … 2016)"""
    MACHADO2018 = "machado2018"
    """sticky actions of 0.25, no no-ops, whole games (Machado et al. 2018)"""
    RAW = "raw"
    """every frame as it is on the screen: 210×160 RGB, nothing skipped, stacked or clipped"""


class FootballRewards(Enum):
    """What football is rewarded with."""

    SCORING = "scoring"
    """1 for a goal, -1 for one against"""
    CHECKPOINTS = "checkpoints"
    """besides, 0.1 for each tenth of the way to the goal that the ball is carried first (Kurach et al. 2020)"""


@dataclass(frozen=True)
class Supervision:
    """What workers may do, and what is done for those that fail."""

    step_timeout: float = 60.0
    """Workers: seconds that a step or a reset may take; one that takes longer hangs, and is killed."""
    memory_limit: int | None = None
    """Workers: MiB of resident memory that each may have after an episode, and after every 100th step."""
    restarts: int = 10
    """Workers: how many of an actor's are started again where they failed; then the run saves and stops."""
    capsules: str | None = None
    """Workers: folder of the crash capsules, one for every failure (asyncrl repro). Default: the run's own."""

    def check(self) -> None:
        """Raise UsageError for what is out of range."""
        within(self, 0, math.inf, "step_timeout", above=True)
        within(self, 1, math.inf, "memory_limit")
        within(self, 0, math.inf, "restarts")


@dataclass(frozen=True)
class EnvOptions:
    """What a user may ask of an environment. None: what the environment's id and family say."""

    env_backend: Backend = Backend.AUTO
    """Who steps the environments."""
    supervision: Supervision = field(default_factory=Supervision)
    """Of worker processes (--env-backend async)."""
    env_kwargs: str | None = None
    """What the environment's constructor is given besides, as JSON: '{"size": 8}'."""
    imports: tuple[str, ...] = ()
    """Modules that register environments, to be imported first. As --import MODULE."""
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
    """Images: newest frames that make one observation; those from before the episode are zero."""
    screen_size: int | None = None
    """Images: height and width of a frame, in pixels."""
    gray: bool | None = None
    """Images: brightness alone instead of red, green and blue."""
    protocol: Protocol | None = None
    """Atari: whose rules; what is asked for besides goes before them."""
    sticky: float | None = None
    """Atari: probability that the emulator repeats the previous action."""
    noop_max: int | None = None
    """Atari: fewer no-op frames than this begin an episode, not counted in its cap. Default 30: from 0 to 29."""
    life_loss: bool | None = None
    """Atari: a lost life ends the return (training only; the game goes on, and so does a network's memory). Default off."""
    full_actions: bool | None = None
    """Atari: all 18 actions instead of the game's own. Default off."""
    episode_frames: int | None = None
    """Atari: emulator frames after which an episode is truncated. Default 108 000 (30 minutes)."""
    football_rewards: FootballRewards | None = None
    """Football: what is rewarded. Default scoring."""
    action_set: ActionSet | None = None
    """Super Mario: which buttons he has. Default simple."""
    stuck_steps: int | None = None
    """Super Mario: truncate an episode when x_pos has not grown for so many steps. 0: never."""

    def merged_into(self, own: EnvOptions) -> EnvOptions:
        """`own` with what is asked for here."""
        plain = EnvOptions()
        asked = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != getattr(plain, f.name)}
        return replace(own, **asked)

    game_variables: bool | None = None
    """VizDoom: see the numbers that the scenario tells (health, ammunition) besides the screen. Default off."""

    def check(self) -> None:
        """Raise UsageError for numbers out of range."""
        self.supervision.check()
        within(self, 0, math.inf, "reward_clip", "standardize", "stuck_steps")
        within(self, 0, 1, "sticky")
        within(self, 0, 10_000, "noop_max")
        within(self, 1, math.inf, "episode_steps", "episode_frames")
        within(self, 1, 10_000, "frame_skip", "frame_stack", "screen_size")
        check_numbers(self)

    def reject_unsupported(self, understood: frozenset[str], env_id: str) -> None:
        """Raise UsageError for what is asked for and means nothing to `env_id`, whose family understands these."""
        self.check()
        plain = EnvOptions()
        for option in fields(self):
            asked = getattr(self, option.name)
            if option.name not in EVERYWHERE | understood and asked != getattr(plain, option.name):
                value = asked.value if isinstance(asked, Enum) else asked
                raise UsageError(f"{env_id} has no such setting as {flag(option.name)}, which was {value}")


EVERYWHERE = frozenset({"env_backend", "supervision", "imports", "reward_clip", "reward_scale"})
"""The options that mean something to every environment."""
