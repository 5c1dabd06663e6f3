"""What a family of environments says of itself; each is one file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from gymnasium.vector import VectorEnv

from asyncrl.envs.contract import Contract
from asyncrl.envs.options import EnvOptions
from asyncrl.errors import UsageError

__all__ = ["Family"]


class Family(ABC):
    """Environments that come from one package. It is imported when the first of them is asked for."""

    name: ClassVar[str]
    options: ClassVar[frozenset[str]] = frozenset()
    """Fields of `EnvOptions` that mean something here, besides those that do everywhere."""

    also_in_envpool: ClassVar[bool] = False
    """May `--env-backend envpool` give its ids to envpool?"""

    shows_pictures: ClassVar[bool] = False
    """Are its observations images unless the user asks for something else?"""

    has_threads: ClassVar[bool] = False
    """Do threads (--env-threads) step the environments of an actor?"""

    stacks: ClassVar[bool] = False
    """Do its vector environments put frames together themselves?"""

    @abstractmethod
    def claims(self, env_id: str) -> bool:
        """Is this an id of the family, known or not?"""

    @abstractmethod
    def known_ids(self) -> list[str]:
        """Every id that this installation has."""

    @abstractmethod
    def describe(self, env_id: str, options: EnvOptions) -> Contract:
        """What an id means. Raises UsageError for what is not to be had, with the line that installs it."""

    needs: ClassVar[tuple[str, ...]] = ()
    """Fields of its contracts that are not None."""

    def check(self, contract: Contract) -> None:
        """Raise UsageError for a contract from a file that `describe` would not have made."""
        for name in self.needs:
            if getattr(contract, name) is None:
                raise UsageError(f"{contract.env} needs a {name}")

    @abstractmethod
    def build(
        self, contract: Contract, num_envs: int, threads: int, *, training: bool, render: bool, seed: int = 0
    ) -> VectorEnv:
        """`num_envs` environments behind Gymnasium's vector API, next-step autoreset.

        `threads`: how many may step them. `training=False` leaves out what is only for learning. With `render`,
        `render()` gives a picture [H, W, 3] uint8 of each, and `metadata["render_fps"]` says how many a second are
        real time. What constructors draw from the process's random generators follows from `seed`.
        """

    def is_batched(self, contract: Contract) -> bool:
        """Are its environments stepped together in native code, any number of them in one process?"""
        return False

    def seeds(self, vector: VectorEnv, values: Sequence[int]) -> Any:
        """One seed per environment, as `vector.reset` takes them."""
        return list(values)

    def seeds_and_steps(self, vector: VectorEnv) -> np.ndarray | None:
        """[2, B] int64: what each environment was last seeded with, and how many steps ago; None where that and what was
        done since do not say where it is. Of the step that resets, a seed that it takes is 0 steps ago.

        Who has them understands the option `reset_mask` of `reset`: [B] bool, environments outside it stay as they are.
        """
        return None

    def episode_ended(
        self, contract: Contract, terminated: np.ndarray, truncated: np.ndarray, infos: dict[str, Any], training: bool
    ) -> np.ndarray:
        """[B] bool: the episode is over and the next step resets."""
        ended: np.ndarray = terminated | truncated
        return ended

    def meanings(self, contract: Contract) -> list[str]:
        """What each action does, as NOOP or UPFIRE; [] where nobody says."""
        return []

    def measures(self, contract: Contract) -> tuple[str, ...]:
        """Names in the infos whose numbers at an episode's end are reported by evaluations, besides its return."""
        return ()
