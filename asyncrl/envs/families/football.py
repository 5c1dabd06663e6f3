"""Google Research Football through EnvPool: academy scenarios and whole matches, observed as a minimap."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper

from asyncrl.envs.contract import Contract
from asyncrl.envs.families.envpool import EnvPool
from asyncrl.envs.families.minimap import Minimap, ball_of
from asyncrl.envs.families.pixels import StackOptions
from asyncrl.envs.options import EnvOptions
from asyncrl.errors import UsageError, suggestions

__all__ = ["ACTIONS", "SCENARIOS", "Football", "FootballOptions", "FootballRewards"]

SCENARIOS = (
    "11_vs_11_competition",
    "11_vs_11_easy_stochastic",
    "11_vs_11_hard_stochastic",
    "11_vs_11_kaggle",
    "11_vs_11_stochastic",
    "1_vs_1_easy",
    "5_vs_5",
    "academy_3_vs_1_with_keeper",
    "academy_corner",
    "academy_counterattack_easy",
    "academy_counterattack_hard",
    "academy_empty_goal",
    "academy_empty_goal_close",
    "academy_pass_and_shoot_with_keeper",
    "academy_run_pass_and_shoot_with_keeper",
    "academy_run_to_score",
    "academy_run_to_score_with_keeper",
    "academy_single_goal_versus_lazy",
)
# fmt: off
ACTIONS = (
    "idle", "left", "top left", "top", "top right", "right", "bottom right", "bottom", "bottom left",
    "long pass", "high pass", "short pass", "shot", "sprint", "release direction", "release sprint",
    "sliding", "dribble", "release dribble",
)
# fmt: on
"""The engine's default action set, in order."""
_ID = re.compile(r"^(gfootball/.*|football/.*|(academy_|\d+_vs_\d+)\w*(-v1)?)$")
_PICTURES_PER_SECOND = 10
_CHECKPOINTS = 10


class FootballRewards(Enum):
    """Rewards in football."""

    SCORING = "scoring"
    """1 for a goal, -1 for a goal of the opponents"""
    CHECKPOINTS = "checkpoints"
    """as scoring, and 0.1 for each tenth of the way to the goal that the ball is first carried (Kurach et al. 2020)"""


@dataclass(frozen=True)
class FootballOptions(StackOptions):
    """Options of football."""

    football_rewards: FootballRewards | None = None
    """Football: rewards for goals alone, or for carrying the ball too. Default scoring."""


class Football(EnvPool):
    """``academy_empty_goal_close``, ``football/academy_empty_goal_close`` or ``gfootball/academy_empty_goal_close-v1``."""

    name = "football"
    examples = (
        "gfootball/academy_empty_goal_close-v1",
        "gfootball/academy_3_vs_1_with_keeper-v1",
        "gfootball/11_vs_11_stochastic-v1",
    )
    shows_pictures = True
    options = FootballOptions
    unsupported = {"standardize": "its observations are images"}
    default_stack = 4

    def claims(self, env_id: str) -> bool:
        return env_id not in gymnasium.registry and _ID.match(env_id) is not None

    def known_ids(self) -> list[str]:
        """Return EnvPool's name of every scenario."""
        return [_task(scenario) for scenario in SCENARIOS]

    def task(self, env_id: str) -> str:
        scenario = re.sub(r"^g?football/|-v1$", "", env_id)
        if scenario not in SCENARIOS:
            raise UsageError(f"there is no football scenario {env_id!r}{suggestions(scenario, SCENARIOS)}")
        return super().task(_task(scenario))

    def describe(self, env_id: str, options: EnvOptions) -> Contract:
        assert isinstance(options, FootballOptions)
        contract = super().describe(env_id, options)
        rewards = options.football_rewards or FootballRewards.SCORING
        return replace(contract, settings=contract.settings | {"rewards": rewards.value})

    def build(
        self, contract: Contract, num_envs: int, threads: int, *, training: bool, render: bool, seed: int = 0
    ) -> VectorEnv:
        vector = super().build(contract, num_envs, threads, training=training, render=False, seed=seed)
        if contract.settings.get("rewards") == FootballRewards.CHECKPOINTS.value:
            vector = _CheckpointRewards(vector)
        return _WithMinimap(vector) if render else vector

    def meanings(self, contract: Contract) -> list[str]:
        return list(ACTIONS)


class _CheckpointRewards(VectorWrapper):
    """Rewards 0.1 for each of ten distances to the goal, 0.99 … 0.19, when our team first has the ball there.

    A goal collects the remaining ones, so an episode with a goal is worth 2 (Kurach et al. 2020, section 2.4).
    """

    def __init__(self, env: VectorEnv) -> None:
        super().__init__(env)
        self._collected = np.zeros(env.num_envs, dtype=np.int64)
        self._resets_next = np.zeros(env.num_envs, dtype=bool)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._collected[:] = 0
        self._resets_next = np.zeros(self.num_envs, dtype=bool)
        return self.env.reset(seed=seed, options=options)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        planes, reward, terminated, truncated, infos = self.env.step(actions)
        self._collected[self._resets_next] = 0
        distance = np.linalg.norm(ball_of(planes) - (1.0, 0.0), axis=1)
        reached = np.floor((0.99 - distance) / 0.8 * (_CHECKPOINTS - 1) + 1e-9).astype(np.int64) + 1
        reached = np.where(np.asarray(infos["ball_owned_team"]) == 0, reached, 0)
        reached = np.where(reward > 0, _CHECKPOINTS, reached.clip(0, _CHECKPOINTS))
        reached = np.where(self._resets_next, 0, np.maximum(reached, self._collected))
        shaped = reward + (reached - self._collected) / _CHECKPOINTS
        self._collected = reached
        self._resets_next = np.asarray(terminated | truncated)
        return planes, shaped, terminated, truncated, infos


class _WithMinimap(VectorWrapper):
    """Matches that render the observed minimap, because EnvPool's build of the engine draws no pictures."""

    def __init__(self, env: VectorEnv) -> None:
        super().__init__(env)
        self.metadata = {**env.metadata, "render_fps": _PICTURES_PER_SECOND}
        self._minimap = Minimap()

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._planes, self._infos = self.env.reset(seed=seed, options=options)
        return self._planes, self._infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        self._planes, *result, self._infos = self.env.step(actions)
        return self._planes, *result, self._infos

    def render(self) -> tuple[np.ndarray, ...]:
        pictures = []
        for planes, (ours, theirs), left in zip(self._planes, self._infos["score"], self._infos["steps_left"], strict=True):
            pictures.append(self._minimap.draw(planes, f"{ours} : {theirs}", f"{left} steps left"))
        return tuple(pictures)


def _task(scenario: str) -> str:
    return f"gfootball/{scenario}-v1"
