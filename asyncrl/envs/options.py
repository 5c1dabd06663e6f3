"""Options of every environment. Each family of environments may add its own (`Family.options`)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any

from asyncrl.common.serialization import parse_json
from asyncrl.common.validation import check_numbers, within
from asyncrl.errors import UsageError

__all__ = ["Backend", "EnvOptions", "Supervision"]


class Backend(Enum):
    """The backend that steps the environments of one actor."""

    AUTO = "auto"
    """`native` where there is one, else `envpool` for ids that only EnvPool has, else `sync`"""
    NATIVE = "native"
    """the package's own vector environment: ale-py's C++ threads, Gymnasium's vector entry point"""
    ENVPOOL = "envpool"
    """EnvPool's C++ threads"""
    SYNC = "sync"
    """one after another, in the actor's process"""
    ASYNC = "async"
    """each in its own supervised worker process, for environments that are slow or crash"""


@dataclass(frozen=True)
class Supervision:
    """Limits of environment worker processes, and how often failed ones are restarted."""

    step_timeout: float = 60.0
    """Workers: seconds that a step or a reset may take before the worker is killed."""
    memory_limit: int | None = None
    """Workers: MiB of resident memory allowed for each, checked after every episode and every 100th step."""
    restarts: int = 10
    """Workers: restarts allowed per actor before the run saves and stops."""
    capsules: str | None = None
    """Workers: folder for crash capsules, one per failure (asyncrl repro). Default: the run's own."""

    def check(self) -> None:
        """Raise UsageError for numbers out of range."""
        within(self, 0, math.inf, "step_timeout", above=True)
        within(self, 1, math.inf, "memory_limit")
        within(self, 0, math.inf, "restarts")


@dataclass(frozen=True)
class EnvOptions:
    """Options of every environment. None stands for the default of the environment's id or family."""

    env_backend: Backend = Backend.AUTO
    """Backend that steps the environments."""
    supervision: Supervision = field(default_factory=Supervision)
    """Limits of worker processes (--env-backend async)."""
    env_kwargs: str | None = None
    """Keyword arguments for the environment's constructor, as JSON: '{"size": 8}'."""
    imports: tuple[str, ...] = ()
    """Modules to import first because they register environments. As --import MODULE."""
    reward_clip: float | None = None
    """Clip rewards to ± this value for learning; reported returns stay unclipped. 0: no clipping."""
    reward_scale: float = 1.0
    """Factor for rewards in learning, applied before clipping."""
    final_reward: float | None = None
    """Reward to learn from where an episode terminates, in place of the environment's."""
    episode_steps: int | None = None
    """Steps after which an episode is truncated. Default: the environment's own limit."""
    action_mask: bool = True
    """Choose among the actions that the environment's action mask allows, if it has one: its observation's or its info's
    "action_mask", or its method action_masks()."""
    standardize: int = 0
    """Standardize observations by the mean and standard deviation of this many random steps; 0: off."""

    def check(self) -> None:
        """Raise UsageError for numbers out of range."""
        self.supervision.check()
        within(self, 0, math.inf, "reward_clip", "standardize")
        within(self, 1, math.inf, "episode_steps")
        check_numbers(self)

    def non_defaults(self) -> dict[str, Any]:
        """Return the options that differ from their defaults, by name."""
        default = type(self)()
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != getattr(default, f.name)}

    def constructor_kwargs(self) -> dict[str, Any]:
        """Return `env_kwargs` parsed. Raises UsageError for anything but a JSON object, and for windows."""
        if self.env_kwargs is None:
            return {}
        try:
            kwargs = parse_json(self.env_kwargs)
        except ValueError as problem:
            raise UsageError(f"--env-kwargs {self.env_kwargs!r} is not valid JSON: {problem}") from None
        if not isinstance(kwargs, dict):
            raise UsageError(f"--env-kwargs {self.env_kwargs!r} is not a JSON object such as '{{\"size\": 8}}'")
        if kwargs.get("render_mode") == "human":
            raise UsageError(
                "--env-kwargs sets render_mode to human, which opens a window for every environment and waits for the "
                "screen at every step; leave it out, and watch the agent with train --watch or asyncrl play"
            )
        return kwargs
