"""One environment that can be looked at while a policy acts in it."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from asyncrl.envs.contract import Contract
from asyncrl.envs.environments import Environments, Step
from asyncrl.envs.families import family_named
from asyncrl.errors import UsageError

__all__ = ["View"]


class View:
    """One environment under `contract` and its pictures as a person sees them, [H, W, 3] uint8."""

    def __init__(self, contract: Contract) -> None:
        self._environments = Environments(contract, 1, training=False, render=True)

    @property
    def frames_per_second(self) -> float:
        """At which the environment runs in real time."""
        return float(self._environments.vector.metadata.get("render_fps", 30))

    @property
    def contract(self) -> Contract:
        return self._environments.contract

    @property
    def infos(self) -> dict[str, Any]:
        """What the last reset or step told besides."""
        return self._environments.infos

    def meanings(self) -> list[str]:
        """What each action does; [] where nobody says."""
        return family_named(self.contract.family).meanings(self.contract)

    def reset(self, seed: int) -> np.ndarray:
        """Begin an episode; returns the observation, [1, *O]."""
        return self._environments.reset([seed])

    def step(self, action: np.ndarray) -> Step:
        return self._environments.step(action)

    def picture(self) -> np.ndarray:
        """The environment as it is now."""
        try:
            rendered = self._environments.vector.render()
        except gymnasium.error.DependencyNotInstalled as problem:
            raise UsageError(f"drawing this environment needs a package: {problem}") from None
        if rendered is None or rendered[0] is None:
            raise UsageError(f"{self.contract.env} cannot draw itself (it has no render mode rgb_array)")
        return np.asarray(rendered[0], dtype=np.uint8)

    def close(self) -> None:
        self._environments.close()
