"""Environments with action masks, which raise on a forbidden action; ids are `masked_envs:Name`."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space


class Moves(gymnasium.Env[Any, Any]):
    """Some random actions are allowed in each of five to ten steps; the last of them is worth 1, the others 0.

    The mask is in the info. After the last step it allows nothing.
    """

    observation_space: ClassVar[Any] = spaces.Box(0.0, 1.0, (3,), np.float32)
    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 30}

    def __init__(self, choices: int | list[int] = 6, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.action_space = spaces.Discrete(choices) if isinstance(choices, int) else spaces.MultiDiscrete(choices)
        self._choices = [choices] if isinstance(choices, int) else choices

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._age, self._length = 0, int(self.np_random.integers(5, 11))
        self._draw()
        return self._see(), self._info()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        chosen = np.atleast_1d(action)
        if not all(mask[i] for mask, i in zip(self._masks, chosen, strict=True)):
            raise RuntimeError(f"the action {action} is forbidden")
        reward = np.mean([i == np.flatnonzero(mask)[-1] for mask, i in zip(self._masks, chosen, strict=True)])
        self._age += 1
        self._draw()
        return self._see(), float(reward), self._age == self._length, False, self._info()

    def render(self) -> np.ndarray:
        return np.zeros((32, 32, 3), np.uint8)

    def _draw(self) -> None:
        self._masks = [self.np_random.random(count) < 0.4 for count in self._choices]
        for mask in self._masks:
            mask[self.np_random.integers(len(mask))] = True
            mask &= self._age < self._length
        self._seen = self.np_random.random(3).astype(np.float32)

    def _mask(self) -> np.ndarray:
        return np.concatenate(self._masks)

    def _see(self) -> Any:
        return self._seen

    def _info(self) -> dict[str, Any]:
        return {"action_mask": self._mask()}


class ByMethod(Moves):
    """The mask is what `action_masks` returns, as in sb3-contrib."""

    def _info(self) -> dict[str, Any]:
        return {}

    def action_masks(self) -> np.ndarray:
        return self._mask()


class ByObservation(ByMethod):
    """The mask is an entry of the observation, as in PettingZoo."""

    action_masks = None

    def __init__(self, choices: int | list[int] = 6, render_mode: str | None = None) -> None:
        super().__init__(choices, render_mode)
        mask = spaces.Box(0, 1, (sum(self._choices),), np.int8)
        self.observation_space = spaces.Dict({"action_mask": mask, "observation": Moves.observation_space})

    def _see(self) -> Any:
        return {"observation": self._seen, "action_mask": self._mask().astype(np.int8)}


class ByTuple(Moves):
    """The mask in the info is the tuple that `MultiDiscrete.sample` takes."""

    def _info(self) -> dict[str, Any]:
        return {"action_mask": tuple(self._masks)}


class Tied(Moves):
    """What is allowed follows from every observation; a third of the episodes are truncated."""

    def _draw(self) -> None:
        super()._draw()
        self._masks = [allowed_by(self._seen)]

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, over, _, info = super().step(action)
        truncated = over and self._length % 3 == 0
        return observation, reward, over and not truncated, truncated, info


class Unseeded(Moves):
    """What is allowed follows from the operating system's entropy, so its episodes cannot be restored."""

    def _draw(self) -> None:
        self.np_random = np.random.default_rng()
        super()._draw()


def allowed_by(seen: np.ndarray) -> np.ndarray:
    """Which of the six actions of `Tied` are allowed in an observation."""
    numbers = np.concatenate([seen, 1 - seen])
    return numbers >= np.sort(numbers)[3]


class Faulty(Moves):
    """Gives `mask` from its third step on."""

    mask: ClassVar[Any] = None

    def _info(self) -> dict[str, Any]:
        return super()._info() if self._age < 3 else {"action_mask": self.mask}


class TooShort(Faulty):
    mask = np.ones(5)


class AllowsNothing(Faulty):
    mask = np.zeros(6)


class AllowsTwo(Faulty):
    mask = np.full(6, 2)


class InWords(Faulty):
    mask = "all"


class Continuous(ByMethod):
    def __init__(self) -> None:
        super().__init__()
        self.action_space = spaces.Box(-1, 1, (6,))


class WrongEntry(ByObservation):
    def __init__(self) -> None:
        super().__init__()
        self.action_space = spaces.Discrete(7)


class ManyMoves(VectorEnv):
    """A vector environment of `Moves` with next-step autoreset."""

    metadata: ClassVar[dict[str, Any]] = {"autoreset_mode": AutoresetMode.NEXT_STEP}
    single_observation_space = Moves.observation_space
    single_action_space = spaces.Discrete(6)

    def __init__(self, num_envs: int = 1, **how: Any) -> None:
        self.num_envs = num_envs
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._envs = [Moves() for _ in range(num_envs)]
        self._over = np.zeros(num_envs, bool)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._over[:] = False
        return self._answer([env.reset(seed=None if seed is None else seed + i) for i, env in enumerate(self._envs)])

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        played = [
            (*env.reset(), 0.0, False) if over else (lambda o, r, d, _, i: (o, i, r, d))(*env.step(action))
            for env, over, action in zip(self._envs, self._over, actions, strict=True)
        ]
        observation, infos = self._answer([(seen, info) for seen, info, _, _ in played])
        self._over = np.array([over for *_, over in played])
        return observation, np.array([r for *_, r, _ in played]), self._over, np.zeros(self.num_envs, bool), infos

    def _answer(self, rows: list[tuple[Any, dict[str, Any]]]) -> tuple[Any, dict[str, Any]]:
        return np.stack([seen for seen, _ in rows]), {"action_mask": np.stack([info["action_mask"] for _, info in rows])}


gymnasium.register("ManyMoves-v0", entry_point=Moves, vector_entry_point=ManyMoves)
for _cls in (Moves, ByMethod, ByObservation):
    gymnasium.register(f"{_cls.__name__}-v0", entry_point=_cls)
