"""MiniGrid and BabyAI. Observations are the agent's view and direction; the mission, a text, is left out."""

from __future__ import annotations

import contextlib
import re
from typing import Any

import gymnasium
from gymnasium import spaces

from asyncrl.envs.contract import Contract
from asyncrl.envs.families.single import SingleFamily
from asyncrl.envs.loading import translate_errors
from asyncrl.envs.options import EnvOptions
from asyncrl.errors import UsageError, suggestions

__all__ = ["MiniGrid"]

_ID = re.compile(r"^(MiniGrid|BabyAI)-")


class MiniGrid(SingleFamily):
    """Every id of the package minigrid."""

    name = "minigrid"
    examples = ("MiniGrid-Empty-5x5-v0", "MiniGrid-DoorKey-5x5-v0", "MiniGrid-MemoryS7-v0")
    packages = ("gymnasium", "minigrid")
    also_in_envpool = True

    def claims(self, env_id: str) -> bool:
        return _ID.match(env_id) is not None

    def known_ids(self) -> list[str]:
        """Return every id of the package; [] without it."""
        return sorted(filter(self.claims, gymnasium.registry)) if _is_installed() else []

    def describe(self, env_id: str, options: EnvOptions) -> Contract:
        cap = _own_cap(env_id, options.constructor_kwargs())
        if cap is not None and (options.episode_steps or 0) > cap:
            raise UsageError(
                f"{env_id} ends after {cap} steps, before --episode-steps {options.episode_steps}; for longer episodes use "
                f"--env-kwargs '{{\"max_steps\": {options.episode_steps}}}'"
            )
        return self.contract(env_id, options, episode_cap=options.episode_steps or cap)

    def make_one(self, contract: Contract, *, render: bool) -> gymnasium.Env[Any, Any]:
        kwargs = dict(contract.settings.get("kwargs", {}))
        if render:
            kwargs["render_mode"] = "rgb_array"
        env: gymnasium.Env[Any, Any] = gymnasium.make(_spec(contract.env), disable_env_checker=True, **kwargs)
        return _WithoutMission(env)

    def meanings(self, contract: Contract) -> list[str]:
        return ["left", "right", "forward", "pick up", "drop", "toggle", "done"]


class _WithoutMission(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Observations without the mission."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        space = env.observation_space
        assert isinstance(space, spaces.Dict)
        self._names = [name for name in space if name != "mission"]
        self.observation_space = spaces.Dict({name: space[name] for name in self._names})

    def observation(self, observation: dict[str, Any]) -> dict[str, Any]:
        return {name: observation[name] for name in self._names}


def _own_cap(env_id: str, kwargs: dict[str, Any]) -> int | None:
    """Return the environment's own limit in steps; None for BabyAI, where every episode has another."""
    spec = _spec(env_id)
    if not env_id.startswith("MiniGrid-"):
        return None
    with translate_errors(env_id), contextlib.closing(gymnasium.make(spec, disable_env_checker=True, **kwargs)) as env:
        unwrapped: Any = env.unwrapped
        return int(unwrapped.max_steps)


def _is_installed() -> bool:
    """Import minigrid, which registers its ids; False if it is missing."""
    try:
        import minigrid  # noqa: F401
    except ImportError:
        return False
    return True


def _spec(env_id: str) -> Any:
    if not _is_installed():
        raise UsageError(f"{env_id} needs a package that is not installed: pip install 'asyncrl[minigrid]'")
    if env_id not in gymnasium.registry:
        known = [name for name in gymnasium.registry if _ID.match(name)]
        raise UsageError(f"there is no environment {env_id!r}{suggestions(env_id, known)} (asyncrl list envs)")
    return gymnasium.spec(env_id)
