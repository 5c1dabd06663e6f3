"""The interface of a family of environments. Each family is one file in `families/`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from gymnasium.vector import VectorEnv

from asyncrl.envs.contract import Contract
from asyncrl.envs.options import EnvOptions
from asyncrl.errors import UsageError

__all__ = ["Family"]


class Family(ABC):
    """Environments of one package, which is imported when the first of them is needed."""

    name: ClassVar[str]

    examples: ClassVar[tuple[str, ...]]
    """Ids of well-known environments, which `asyncrl list envs` shows."""

    options: ClassVar[type[EnvOptions]] = EnvOptions
    """Options that its environments take."""

    unsupported: ClassVar[Mapping[str, str]] = {}
    """Fields of `options` that its environments do not take, each with the reason or the remedy."""

    required: ClassVar[tuple[str, ...]] = ()
    """Optional fields of `Contract` that are never None in its contracts."""

    keys: ClassVar[Mapping[str, str]] = {}
    """Keys for a human player, each with the word that stands for it in `meanings`; {} for digits."""

    keys_help: ClassVar[str] = ""
    """One sentence on `keys`."""

    also_in_envpool: ClassVar[bool] = False
    """Whether `--env-backend envpool` may step its environments."""

    shows_pictures: ClassVar[bool] = False
    """Whether observations are images unless the user asks for something else."""

    has_threads: ClassVar[bool] = False
    """Whether threads (--env-threads) step the environments of an actor."""

    stacks: ClassVar[bool] = False
    """Whether its vector environments stack frames themselves."""

    @abstractmethod
    def claims(self, env_id: str) -> bool:
        """Return whether `env_id` has the form of this family's ids, or is one of them."""

    @abstractmethod
    def known_ids(self) -> list[str]:
        """Return every id that this installation offers."""

    @abstractmethod
    def describe(self, env_id: str, options: EnvOptions) -> Contract:
        """Return the contract of an id under `options`, an instance of the family's class.

        Raises UsageError for an unknown id, for options that do not fit it, and for a missing package with the line that
        installs it.
        """

    def check(self, contract: Contract) -> None:
        """Raise UsageError for a contract from a file that `describe` could not have made."""
        for name in self.required:
            if getattr(contract, name) is None:
                raise UsageError(f"{contract.env} needs a {name}")

    @abstractmethod
    def build(
        self, contract: Contract, num_envs: int, threads: int, *, training: bool, render: bool, seed: int = 0
    ) -> VectorEnv:
        """Return `num_envs` environments behind Gymnasium's vector API, with next-step autoreset.

        Up to `threads` threads step them. `training=False` leaves out what only helps learning. With `render`,
        `render()` returns one picture [H, W, 3] uint8 per environment and `metadata["render_fps"]` is real-time speed.
        Draws of constructors from the process's random generators depend on `seed` alone.
        """

    def extras(self, contract: Contract) -> list[str]:
        """Return asyncrl's optional dependencies that the environment needs, as in ``pip install asyncrl[EXTRA]``."""
        return [self.name]

    def is_batched(self, contract: Contract) -> bool:
        """Return whether native code steps its environments together, any number of them in one process."""
        return False

    def seeds(self, vector: VectorEnv, values: Sequence[int]) -> Any:
        """Return one seed per environment in the form that `vector.reset` takes."""
        return list(values)

    def seeds_and_steps(self, vector: VectorEnv) -> np.ndarray | None:
        """Return each environment's last seed and the steps since, [2, B] int64; None if they do not fix its state.

        For a reset step that takes a seed, the count is 0. Vector environments that have them support the option
        `reset_mask` of `reset`, [B] bool: environments outside the mask keep their state.
        """
        return None

    def episode_ended(
        self, contract: Contract, terminated: np.ndarray, truncated: np.ndarray, infos: dict[str, Any], training: bool
    ) -> np.ndarray:
        """Return [B] bool: the episode has ended and the next step resets."""
        ended: np.ndarray = terminated | truncated
        return ended

    def meanings(self, contract: Contract) -> list[str]:
        """Return a name for each action, such as NOOP or UPFIRE; [] if they have none."""
        return []

    def measures(self, contract: Contract) -> tuple[str, ...]:
        """Return the names of infos that evaluations report for the end of an episode."""
        return ()

    def rows(self, contract: Contract) -> dict[str, str]:
        """Return the family's own rows of a contract's description."""
        return {}
