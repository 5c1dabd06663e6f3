"""The contract of an environment: everything that affects its scores, saved with every run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from asyncrl.envs.options import Backend, Supervision
from asyncrl.envs.rewards import Rewards
from asyncrl.envs.spaces import MaskSource, Spaces
from asyncrl.errors import UsageError, suggestions

__all__ = ["Contract", "named_outside", "reject_untrusted_code"]


@dataclass(frozen=True)
class Contract:
    """The settings that must be equal for two scores to be comparable."""

    env: str
    family: str
    backend: Backend
    spaces: Spaces
    frame_skip: int = 1
    """Emulator frames per step."""
    sticky: float = 0.0
    """Probability that the previous action is repeated."""
    frame_stack: int = 1
    screen_size: int | None = None
    """Height and width of resized frames, in pixels; None if frames are not resized."""
    gray: bool = True
    """Whether resized frames are gray."""
    max_pool: bool = False
    """Whether each frame is the maximum of the last two."""
    reward_clip: float | None = None
    reward_scale: float = 1.0
    final_reward: float | None = None
    """Reward to learn from in terminating steps; None for the environment's."""
    observation_mean: tuple[float, ...] = ()
    """Mean of each number of an observation, subtracted before networks see it; () without standardization."""
    observation_spread: tuple[float, ...] = ()
    """Divisor of each number after the mean is subtracted."""
    life_loss: bool = False
    """Whether a lost life ends the return in training. The game and a recurrent network's state continue."""
    noop_max: int = 0
    fire_reset: bool = False
    action_set: str = "own"
    episode_cap: int | None = None
    """Steps after which an episode is truncated; None if there is no limit, or only the environment knows it."""
    autoreset: str = "next-step"
    shared_generators: str = "as they are"
    """Handling of the process's random generators (NumPy's, Python's, torch's) while environments run.

    "own per episode": each environment has its own, seeded with every episode's seed. "own per actor": the environments
    of an actor share them, seeded with the actor's seed. In both cases the same seed gives the same run on every engine.
    "as they are": they are not seeded, because native code does not draw from them.
    """
    settings: dict[str, Any] = field(default_factory=dict)
    """Further options of the family, and the constructor's arguments ("kwargs"), as JSON."""
    versions: dict[str, str] = field(default_factory=dict)
    supervision: Supervision = field(default_factory=Supervision)
    """Limits of worker processes."""
    ignored_action_mask: MaskSource = MaskSource.NONE
    """Where the environment's action mask comes from, if it is ignored."""
    others: tuple[Contract, ...] = ()
    """Contracts of further environments that the agent is trained in; actors take turns."""
    untrusted_source: str | None = field(default=None, compare=False, metadata={"saved": False})
    """The file it was read from, if another user made it and it is not trusted."""

    @property
    def contracts(self) -> tuple[Contract, ...]:
        """The contracts of all environments."""
        return (replace(self, others=()), *self.others)

    def for_actor(self, index: int) -> Contract:
        """Return the contract of one actor's environments."""
        return self.contracts[index % len(self.contracts)]

    def named(self, env: str | None) -> Contract:
        """Return the contract of one environment; of the first for None. Raises UsageError for an unknown one."""
        found = [contract for contract in self.contracts if env in (None, contract.env)]
        if not found:
            known = [contract.env for contract in self.contracts]
            raise UsageError(f"the agent was trained in {', '.join(known)}, not in {env!r}{suggestions(str(env), known)}")
        return found[0]

    def with_capsules(self, folder: str) -> Contract:
        """Return the contract with `folder` for crash capsules, unless it names another."""
        supervision = replace(self.supervision, capsules=self.supervision.capsules or folder)
        return replace(self, supervision=supervision, others=tuple(other.with_capsules(folder) for other in self.others))

    def with_source(self, source: str | None) -> Contract:
        """Return the contract as read from a file of another user; None if the file is trusted."""
        return replace(self, untrusted_source=source, others=tuple(other.with_source(source) for other in self.others))

    def check_trust(self) -> None:
        """Raise UsageError if the environment would run code that an untrusted file names.

        Call it before an environment is made; reading a contract and acting run no code.
        """
        imports, kwargs = (self.settings.get(name) or {} for name in ("imports", "kwargs"))
        if self.untrusted_source is not None:
            reject_untrusted_code(
                self.untrusted_source, named_outside([self.env], imports, kwargs, self.supervision.capsules)
            )

    @property
    def has_action_mask(self) -> bool:
        """Whether the environment gives an action mask, also if it is ignored."""
        return self.spaces.is_masked or self.ignored_action_mask is not MaskSource.NONE

    @property
    def rewards(self) -> Rewards:
        """The conversion of the environment's rewards for learning."""
        return Rewards(self.reward_scale, self.reward_clip, self.final_reward)

    def standardized(self, observation: np.ndarray) -> np.ndarray:
        """Return observations [B, *O] as networks see them."""
        if not self.observation_mean:
            return observation
        mean, spread = (np.array(x, np.float32) for x in (self.observation_mean, self.observation_spread))
        shape = self.spaces.observation_shape
        standardized: np.ndarray = (observation - mean.reshape(shape)) / spread.reshape(shape)
        return standardized

    def differences(self, other: Contract) -> list[str]:
        """Return the differences, such as `frame_skip: 4, not 1`, except in versions, backends and supervision."""
        free = ("versions", "backend", "supervision", "shared_generators", "untrusted_source", "ignored_action_mask")
        names = [name for name in self.__dataclass_fields__ if name not in free]
        pairs = [(n, getattr(self, n), getattr(other, n)) for n in names]
        return [f"{name}: {value}, not {others}" for name, value, others in pairs if value != others]


def named_outside(env_ids: Iterable[str], imports: Iterable[str], kwargs: Any, capsules: str | None) -> list[str]:
    """Return descriptions of the code that environments would run, and the folders they would write, from outside.

    Outside is what neither this package nor Gymnasium's registry has: `module:Name` and imported modules; a scenario's
    file, which names programs; text for a constructor, which may name a module, a program or a file; a folder for crash
    capsules.
    """
    found = [f"environment {_shown(env_id)}" for env_id in env_ids if ":" in env_id or env_id.endswith(".cfg")]
    found += [f"module {_shown(name)}" for name in imports]
    values = kwargs.values() if isinstance(kwargs, Mapping) else [kwargs]
    if any(map(_holds_text, values)):
        found.append(f"a constructor with {_shown(kwargs)}")
    return found + [f"a folder for crash capsules, {_shown(capsules)}"] * (capsules is not None)


def _shown(value: Any) -> str:
    """Return a value of an untrusted file as text that is safe to print."""
    text = json.dumps(value)
    return text if len(text) <= 200 else f"{text[:199]}…"


def _holds_text(value: Any) -> bool:
    if isinstance(value, Mapping):
        return bool(value)
    return isinstance(value, str) or (isinstance(value, list | tuple) and any(map(_holds_text, value)))


def reject_untrusted_code(source: str, names: list[str]) -> None:
    """Raise UsageError if an untrusted file names code that would be run."""
    if names:
        raise UsageError(
            f"{source} was not made by you on this machine and names code from outside asyncrl and Gymnasium: "
            f"{'; '.join(names)}. Nothing was run; add --trust (in Python: trust=True) if you trust its author"
        )
