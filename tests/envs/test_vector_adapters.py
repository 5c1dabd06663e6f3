"""Vector environments of other packages, whenever they reset: every step of every episode is there."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv

from asyncrl.envs import Backend, Environments, EnvOptions, describe
from asyncrl.errors import EnvironmentFault, UsageError

LENGTH = 3


class Countdown(VectorEnv[Any, Any, Any]):
    """Sees how many steps an episode has lasted; its first step is worth 100. Writes observations into one buffer."""

    mode: ClassVar[Any] = None

    def __init__(self, num_envs: int = 1, render_mode: str | None = None) -> None:
        self.num_envs, self.metadata = num_envs, {} if self.mode is None else {"autoreset_mode": self.mode}
        self.single_observation_space, self.single_action_space = spaces.Box(0, 9, (1,), np.float32), spaces.Discrete(2)
        self.observation_space = gymnasium.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.action_space = gymnasium.vector.utils.batch_space(self.single_action_space, num_envs)
        self._seen = np.zeros((num_envs, 1), np.float32)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        self._age, self._over = np.zeros(self.num_envs, dtype=int), np.zeros(self.num_envs, dtype=bool)
        return self._see(), {}

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, Any]:
        assert actions.shape == (self.num_envs,)
        if self.mode is AutoresetMode.DISABLED:
            assert not self._over.any()
        next_step = self.mode in (AutoresetMode.NEXT_STEP, "NextStep")
        resets = self._over if next_step else np.zeros_like(self._over)
        reward = np.where(resets, 0.0, np.where(self._age == 0, 100.0, 0.0))
        self._age = np.where(resets, 0, self._age + 1)
        self._over = self._age == LENGTH
        infos = {}
        if self.mode is AutoresetMode.SAME_STEP and self._over.any():
            infos = self.last(self._see().copy())
            self._age[self._over] = 0
        return self._see(), reward, self._over.copy(), np.zeros_like(self._over), infos

    def last(self, seen: np.ndarray) -> dict[str, Any]:
        each = np.full(self.num_envs, None, dtype=object)
        for i in np.flatnonzero(self._over):
            each[i] = seen[i]
        return {"final_obs": each, "_final_obs": self._over.copy()}

    def _see(self) -> np.ndarray:
        self._seen[:, 0] = self._age
        return self._seen


class Batched(Countdown):
    mode = AutoresetMode.SAME_STEP

    def last(self, seen: np.ndarray) -> dict[str, Any]:
        return {"final_observation": seen}


class Forgetting(Batched):
    def last(self, seen: np.ndarray) -> dict[str, Any]:
        return {}


KINDS: dict[str, type[Countdown]] = {
    "Next": type("Next", (Countdown,), {"mode": AutoresetMode.NEXT_STEP}),
    "Text": type("Text", (Countdown,), {"mode": "NextStep"}),
    "Same": type("Same", (Countdown,), {"mode": AutoresetMode.SAME_STEP}),
    "Batched": Batched,
    "Disabled": type("Disabled", (Countdown,), {"mode": AutoresetMode.DISABLED}),
    "Silent": Countdown,
    "Strange": type("Strange", (Countdown,), {"mode": "now and then"}),
    "Forgetting": Forgetting,
}
for _name, _kind in KINDS.items():
    gymnasium.register(f"Countdown{_name}-v0", vector_entry_point=_kind)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("backend", [Backend.NATIVE, Backend.SYNC])
@pytest.mark.parametrize("name", ["Next", "Text", "Same", "Batched", "Disabled"])
def test_no_step_is_lost_in_any_autoreset_mode(name: str, backend: Backend) -> None:
    environments = Environments(describe(f"Countdown{name}-v0", EnvOptions(env_backend=backend)), 2)
    seen = environments.reset([2, 4])
    rows = []
    for _ in range(2 * (LENGTH + 1)):
        step = environments.step(np.zeros(2, dtype=np.int64))
        rows.append([(float(step.observation[i, 0]), float(step.reward[i]), bool(step.done[i])) for i in range(2)])
    environments.close()
    episode = [(1.0, 100.0, False), (2.0, 0.0, False), (3.0, 0.0, True), (0.0, 0.0, False)]
    assert rows == [[row, row] for row in episode * 2]
    assert seen.ravel().tolist() == [0.0, 0.0], "what was returned before is not written over"


@pytest.mark.parametrize("name", ["Silent", "Strange"])
def test_a_vector_environment_without_autoreset_mode_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"has metadata\['autoreset_mode'\]"):
        describe(f"Countdown{name}-v0")


def test_a_lost_last_observation_is_a_fault() -> None:
    environments = Environments(describe("CountdownForgetting-v0"), 1)
    environments.reset([2])
    action = np.zeros(1, dtype=np.int64)
    for _ in range(LENGTH - 1):
        environments.step(action)
    with pytest.raises(EnvironmentFault, match=r"does not return the last observation \(final_obs\)"):
        environments.step(action)
