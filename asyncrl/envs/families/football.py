"""Google Research Football: academy lessons and whole matches, through envpool, seen as a minimap."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper

from asyncrl.envs.contract import Contract
from asyncrl.envs.families.envpool import EnvPool
from asyncrl.envs.families.minimap import Minimap, ball_of
from asyncrl.envs.options import EnvOptions, FootballRewards
from asyncrl.errors import UsageError, suggestions

__all__ = ["ACTIONS", "SCENARIOS", "Football"]

SCENARIOS = (
    *("11_vs_11_competition", "11_vs_11_easy_stochastic", "11_vs_11_hard_stochastic", "11_vs_11_kaggle"),
    *("11_vs_11_stochastic", "1_vs_1_easy", "5_vs_5", "academy_3_vs_1_with_keeper", "academy_corner"),
    *("academy_counterattack_easy", "academy_counterattack_hard", "academy_empty_goal", "academy_empty_goal_close"),
    *("academy_pass_and_shoot_with_keeper", "academy_run_pass_and_shoot_with_keeper", "academy_run_to_score"),
    *("academy_run_to_score_with_keeper", "academy_single_goal_versus_lazy"),
)
ACTIONS = (
    *("idle", "left", "top left", "top", "top right", "right", "bottom right", "bottom", "bottom left"),
    *("long pass", "high pass", "short pass", "shot", "sprint", "release direction", "release sprint"),
    *("sliding", "dribble", "release dribble"),
)
"""The engine's default set, in order."""
_OURS = re.compile(r"^(gfootball/.*|football/.*|(academy_|\d+_vs_\d+)\w*(-v1)?)$")
_PICTURES_PER_SECOND = 10
_CHECKPOINTS = 10


class Football(EnvPool):
    """``academy_empty_goal_close``, ``football/academy_empty_goal_close`` or ``gfootball/academy_empty_goal_close-v1``."""

    name = "football"
    shows_pictures = True
    options = frozenset({"env_kwargs", "episode_steps", "final_reward", "football_rewards", "frame_stack"})
    default_stack = 4

    def claims(self, env_id: str) -> bool:
        return env_id not in gymnasium.registry and _OURS.match(env_id) is not None

    def known_ids(self) -> list[str]:
        """Every scenario as envpool calls it."""
        return [_task(scenario) for scenario in SCENARIOS]

    def task(self, env_id: str) -> str:
        scenario = re.sub(r"^g?football/|-v1$", "", env_id)
        if scenario not in SCENARIOS:
            raise UsageError(f"there is no football scenario {env_id!r}{suggestions(scenario, SCENARIOS)}")
        return super().task(_task(scenario))

    def describe(self, env_id: str, options: EnvOptions) -> Contract:
        contract, rewards = super().describe(env_id, options), options.football_rewards or FootballRewards.SCORING
        return replace(contract, settings=contract.settings | {"rewards": rewards.value})

    def build(
        self, contract: Contract, num_envs: int, threads: int, *, training: bool, render: bool, seed: int = 0
    ) -> VectorEnv:
        vector = super().build(contract, num_envs, threads, training=training, render=False, seed=seed)
        if contract.settings.get("rewards") == FootballRewards.CHECKPOINTS.value:
            vector = _Checkpoints(vector)
        return _Drawn(vector) if render else vector

    def meanings(self, contract: Contract) -> list[str]:
        return list(ACTIONS)


class _Checkpoints(VectorWrapper):
    """0.1 for each of ten distances to the goal, 0.99 … 0.19, at which our team has the ball for the first time.

    A goal brings those that are left, so that an episode with one is worth 2 (Kurach et al. 2020, section 2.4).
    """

    def __init__(self, env: VectorEnv) -> None:
        super().__init__(env)
        self._collected, self._over = np.zeros(env.num_envs, dtype=np.int64), np.zeros(env.num_envs, dtype=bool)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._collected[:], self._over = 0, np.zeros(self.num_envs, dtype=bool)
        return self.env.reset(seed=seed, options=options)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        planes, reward, terminated, truncated, infos = self.env.step(actions)
        self._collected[self._over] = 0
        distance = np.linalg.norm(ball_of(planes) - (1.0, 0.0), axis=1)
        reached = np.floor((0.99 - distance) / 0.8 * (_CHECKPOINTS - 1) + 1e-9).astype(np.int64) + 1
        reached = np.where(np.asarray(infos["ball_owned_team"]) == 0, reached, 0)
        reached = np.where(reward > 0, _CHECKPOINTS, reached.clip(0, _CHECKPOINTS))
        reached = np.where(self._over, 0, np.maximum(reached, self._collected))
        shaped = reward + (reached - self._collected) / _CHECKPOINTS
        self._collected, self._over = reached, np.asarray(terminated | truncated)
        return planes, shaped, terminated, truncated, infos


class _Drawn(VectorWrapper):
    """Matches whose pictures are drawn from what the agent sees, because this build of the engine has none."""

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
        score, left = self._infos["score"], self._infos["steps_left"]
        drawn = zip(self._planes, score, left, strict=True)
        return tuple(
            self._minimap.draw(planes, f"{ours} : {theirs}", f"{n} steps left") for planes, (ours, theirs), n in drawn
        )


def _task(scenario: str) -> str:
    return f"gfootball/{scenario}-v1"
