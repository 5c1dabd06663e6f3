"""MiniGrid and BabyAI: what the agent sees and where it looks, without the mission, which is text."""

from __future__ import annotations

import contextlib
import re
from typing import Any

import gymnasium
from gymnasium import spaces

from asyncrl.envs.contract import Contract
from asyncrl.envs.options import EnvOptions
from asyncrl.envs.single import SingleFamily, kwargs_of, translate_errors
from asyncrl.errors import UsageError, suggestions

__all__ = ["MiniGrid"]

_OURS = re.compile(r"^(MiniGrid|BabyAI)-")


class MiniGrid(SingleFamily):
    """Every id of the package minigrid."""

    name = "minigrid"
    packages = ("gymnasium", "minigrid")
    also_in_envpool = True

    def claims(self, env_id: str) -> bool:
        return _OURS.match(env_id) is not None

    def known_ids(self) -> list[str]:
        """[] without minigrid."""
        return sorted(filter(self.claims, gymnasium.registry)) if _is_there() else []

    def describe(self, env_id: str, options: EnvOptions) -> Contract:
        options.reject_unsupported(self.options, env_id)
        own = _own_cap(env_id, kwargs_of(options))
        if own is not None and (options.episode_steps or 0) > own:
            raise UsageError(
                f"{env_id} ends after {own} steps, before --episode-steps {options.episode_steps}; for longer episodes use "
                f"--env-kwargs '{{\"max_steps\": {options.episode_steps}}}'"
            )
        return self.contract(env_id, options, episode_cap=options.episode_steps or own)

    def make_one(self, contract: Contract, *, render: bool) -> gymnasium.Env[Any, Any]:
        own = dict(contract.settings.get("kwargs", {}))
        if render:
            own["render_mode"] = "rgb_array"
        env: gymnasium.Env[Any, Any] = gymnasium.make(_spec(contract.env), disable_env_checker=True, **own)
        return _WithoutText(env)

    def meanings(self, contract: Contract) -> list[str]:
        return ["left", "right", "forward", "pick up", "drop", "toggle", "done"]


class _WithoutText(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Observations without their mission."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        whole = env.observation_space
        assert isinstance(whole, spaces.Dict)
        self._names = [name for name in whole if name != "mission"]
        self.observation_space = spaces.Dict({name: whole[name] for name in self._names})

    def observation(self, observation: dict[str, Any]) -> dict[str, Any]:
        return {name: observation[name] for name in self._names}


def _own_cap(env_id: str, kwargs: dict[str, Any]) -> int | None:
    """Steps after which an environment truncates by itself; BabyAI's say it anew for every episode."""
    spec = _spec(env_id)
    if not env_id.startswith("MiniGrid-"):
        return None
    with translate_errors(env_id), contextlib.closing(gymnasium.make(spec, disable_env_checker=True, **kwargs)) as env:
        unwrapped: Any = env.unwrapped
        return int(unwrapped.max_steps)


def _is_there() -> bool:
    """Importing minigrid puts its ids into Gymnasium's registry."""
    try:
        import minigrid  # noqa: F401
    except ImportError:
        return False
    return True


def _spec(env_id: str) -> Any:
    if not _is_there():
        raise UsageError(f"{env_id} needs a package that is not installed: pip install 'asyncrl[minigrid]'")
    if env_id not in gymnasium.registry:
        known = [name for name in gymnasium.registry if _OURS.match(name)]
        raise UsageError(f"there is no environment {env_id!r}{suggestions(env_id, known)} (asyncrl list envs)")
    return gymnasium.spec(env_id)
