"""What was agreed about an environment: printed and saved with every run, kept by every evaluation."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from asyncrl.envs.options import Backend, Supervision
from asyncrl.envs.rewards import Rewards
from asyncrl.envs.spaces import Spaces
from asyncrl.errors import UsageError, suggestions

__all__ = ["Contract", "named_outside", "reject_untrusted_code"]


@dataclass(frozen=True)
class Contract:
    """Everything that must be the same for two scores to be comparable."""

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
    """Height and width of a frame, in pixels; None where frames are left as they are."""
    gray: bool = True
    """Frames, where they are made smaller, are brightness alone."""
    max_pool: bool = False
    """Each frame is the maximum of the last two."""
    reward_clip: float | None = None
    reward_scale: float = 1.0
    final_reward: float | None = None
    """What a step that terminates is learned from with, instead of its reward."""
    observation_mean: tuple[float, ...] = ()
    """What is subtracted from each number of an observation; () for nothing."""
    observation_spread: tuple[float, ...] = ()
    """What it is divided by then."""
    life_loss: bool = False
    """A lost life ends the return while training, for every algorithm; a recurrent network's memory goes on, as the game
    does."""
    noop_max: int = 0
    fire_reset: bool = False
    action_set: str = "own"
    episode_cap: int | None = None
    """Steps after which an episode is truncated; None: not known to Gymnasium."""
    autoreset: str = "next-step"
    shared_generators: str = "as they are"
    """What becomes of the random generators that a process shares (NumPy's, Python's, torch's), should an environment draw
    from them: "own per episode" seeds them with each episode's seed, for each environment alone; "own per actor" with an
    actor's, for its environments together. Either way the same seed gives the same run on every engine. "as they are":
    nobody seeds them, because native code does not draw from them.
    """
    settings: dict[str, Any] = field(default_factory=dict)
    """What else the family was asked for, and what the environment's constructor is given ("kwargs"); JSON."""
    versions: dict[str, str] = field(default_factory=dict)
    supervision: Supervision = field(default_factory=Supervision)
    """Of worker processes."""
    others: tuple[Contract, ...] = ()
    """Of the other environments that an agent is trained in at the same time: actors take turns."""
    stranger: str | None = field(default=None, compare=False, metadata={"saved": False})
    """The file that it was read from, where that is not this user's own and the user has not said to trust it."""

    @property
    def contracts(self) -> tuple[Contract, ...]:
        """Of every environment."""
        return (replace(self, others=()), *self.others)

    def for_actor(self, index: int) -> Contract:
        """Of the environments of one actor."""
        return self.contracts[index % len(self.contracts)]

    def named(self, env: str | None) -> Contract:
        """Of one environment of the mix; None: of the first. Raises UsageError for one that is not in it."""
        found = [contract for contract in self.contracts if env in (None, contract.env)]
        if not found:
            known = [contract.env for contract in self.contracts]
            raise UsageError(f"it was trained in {', '.join(known)}, not in {env!r}{suggestions(str(env), known)}")
        return found[0]

    def with_capsules(self, folder: str) -> Contract:
        """The same with crash capsules in `folder`, unless they have their own."""
        watched = replace(self.supervision, capsules=self.supervision.capsules or folder)
        return replace(self, supervision=watched, others=tuple(other.with_capsules(folder) for other in self.others))

    def from_stranger(self, source: str | None) -> Contract:
        """The same as read from this file of somebody else's; None: of somebody who is trusted."""
        return replace(self, stranger=source, others=tuple(other.from_stranger(source) for other in self.others))

    def check_trust(self) -> None:
        """Raise UsageError where its environment would run code that somebody else's file names.

        Asked before an environment is made of it: reading it and acting run nothing.
        """
        imports, kwargs = (self.settings.get(name) or {} for name in ("imports", "kwargs"))
        if self.stranger is not None:
            reject_untrusted_code(self.stranger, named_outside([self.env], imports, kwargs, self.supervision.capsules))

    @property
    def rewards(self) -> Rewards:
        """What is learned from the environment's rewards."""
        return Rewards(self.reward_scale, self.reward_clip, self.final_reward)

    def standardized(self, observation: np.ndarray) -> np.ndarray:
        """Observations [B, *O] as networks see them."""
        if not self.observation_mean:
            return observation
        mean, spread = (np.array(x, np.float32) for x in (self.observation_mean, self.observation_spread))
        shape = self.spaces.observation_shape
        found: np.ndarray = (observation - mean.reshape(shape)) / spread.reshape(shape)
        return found

    def differences(self, other: Contract) -> list[str]:
        """What differs, as `frame_skip: 4, not 1`; versions, backends and their supervision may differ."""
        free = ("versions", "backend", "supervision", "shared_generators", "stranger")
        names = [name for name in self.__dataclass_fields__ if name not in free]
        pairs = [(n, getattr(self, n), getattr(other, n)) for n in names]
        return [f"{n}: {mine}, not {theirs}" for n, mine, theirs in pairs if mine != theirs]


def named_outside(env_ids: Iterable[str], imports: Iterable[str], kwargs: Any, capsules: str | None) -> list[str]:
    """What environments would run or write that is neither this package's nor in Gymnasium's registry.

    `module:Name` and modules to be imported; a scenario's file, which names programs; text that is handed to a
    constructor, which may be the name of a module, of a program or of a file; a folder for crash capsules.
    """
    found = [f"environment {_shown(env_id)}" for env_id in env_ids if ":" in env_id or env_id.endswith(".cfg")]
    found += [f"module {_shown(name)}" for name in imports]
    values = kwargs.values() if isinstance(kwargs, Mapping) else [kwargs]
    if any(map(_holds_text, values)):
        found.append(f"a constructor with {_shown(kwargs)}")
    return found + [f"a folder for crash capsules, {_shown(capsules)}"] * (capsules is not None)


def _shown(value: Any) -> str:
    """What a stranger's file says, as it may be printed."""
    text = json.dumps(value)
    return text if len(text) <= 200 else f"{text[:199]}…"


def _holds_text(value: Any) -> bool:
    if isinstance(value, Mapping):
        return bool(value)
    return isinstance(value, str) or (isinstance(value, list | tuple) and any(map(_holds_text, value)))


def reject_untrusted_code(source: str, names: list[str]) -> None:
    """Raise UsageError where somebody else's file names something that would be run."""
    if names:
        raise UsageError(
            f"{source} was not made by you on this machine and names what is no part of asyncrl or Gymnasium: "
            f"{'; '.join(names)}; nothing of it was run, add --trust (in Python: trust=True) if you trust who made it"
        )
