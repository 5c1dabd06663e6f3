"""One environment that can be looked at while a policy acts in it."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from asyncrl.envs import atari
from asyncrl.envs.contract import Contract
from asyncrl.envs.environments import Environments, Step
from asyncrl.errors import UsageError

__all__ = ["View"]


class View:
    """One environment under `contract` and its pictures as a person sees them, [H, W, 3] uint8.

    An Atari game is watched through a twin: it shows 210×160 RGB, has the same rules, and plays the
    same game because it gets the same seed and actions.
    """

    def __init__(self, contract: Contract) -> None:
        self._twin: Any = None
        if contract.family == "atari":
            self._environments = Environments(contract, 1, training=False)
            self._twin = atari.camera(contract)
        else:
            self._environments = Environments(contract, 1, training=False, render=True)

    @property
    def frames_per_second(self) -> float:
        """At which the environment runs in real time."""
        contract = self.contract
        if self._twin is not None:
            return 60 / contract.frame_skip
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
        return atari.meanings(self.contract) if self._twin is not None else []

    def reset(self, seed: int) -> np.ndarray:
        """Begin an episode; returns the observation, [1, *O]."""
        if self._twin is not None:
            self._picture, _ = self._twin.reset(seed=atari.seeds([seed]))
        return self._environments.reset([seed])

    def step(self, action: np.ndarray) -> Step:
        if self._twin is not None:
            self._picture, *_ = self._twin.step(self.contract.spaces.actions.for_environment(action))
        return self._environments.step(action)

    def picture(self) -> np.ndarray:
        """The environment as it is now."""
        if self._twin is not None:
            return np.asarray(self._picture[0, 0])
        try:
            rendered = self._environments.vector.render()
        except gymnasium.error.DependencyNotInstalled as problem:
            raise UsageError(f"drawing this environment needs a package: {problem}") from None
        if rendered is None or rendered[0] is None:
            raise UsageError(f"{self.contract.env} cannot draw itself (it has no render mode rgb_array)")
        return np.asarray(rendered[0], dtype=np.uint8)

    def close(self) -> None:
        self._environments.close()
        if self._twin is not None:
            self._twin.close()
