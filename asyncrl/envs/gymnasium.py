"""Any environment in Gymnasium's registry, and classes and functions of the user's own."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import gymnasium
from gymnasium.vector import VectorEnv

from asyncrl import references
from asyncrl.envs.cartpole import SeededCartPole
from asyncrl.envs.contract import Contract
from asyncrl.envs.options import Backend, EnvOptions
from asyncrl.envs.single import SingleFamily, complaints
from asyncrl.errors import UsageError, near_matches

__all__ = ["Gymnasium"]

_OTHERS = ("ale_py", "vizdoom.")
"""Packages whose ids other families list."""


class Gymnasium(SingleFamily):
    """What nobody else claims: ``Id-v0``, ``module:Id-v0`` and ``package.module:Class`` (or a function that makes one)."""

    name = "gymnasium"
    also_in_envpool = True

    def claims(self, env_id: str) -> bool:
        return True

    def known_ids(self) -> list[str]:
        """Every id in the registry that is not another family's."""
        return sorted(
            name
            for name, spec in gymnasium.registry.items()
            if not any(package in str(spec.entry_point) for package in _OTHERS)
        )

    def describe(self, env_id: str, options: EnvOptions) -> Contract:
        options.refuse_all_but(self.options, env_id)
        spec = _spec(env_id, options.imports)
        native = isinstance(spec, gymnasium.envs.registration.EnvSpec) and spec.vector_entry_point is not None
        backend = options.env_backend
        if backend is Backend.AUTO:
            backend = Backend.NATIVE if native and not options.env_kwargs else Backend.SYNC
        if backend is Backend.NATIVE and not native:
            raise UsageError(f"{env_id} has no vector environment of its own; use --env-backend sync or async.")
        cap = options.episode_steps or getattr(spec, "max_episode_steps", None)
        settings = {"imports": list(options.imports)} if options.imports else {}
        return self.contract(env_id, options, backend=backend, episode_cap=cap, settings=settings)

    def is_batched(self, contract: Contract) -> bool:
        return contract.backend is Backend.NATIVE and contract.env in ("CartPole-v0", "CartPole-v1")

    def build(self, contract: Contract, num_envs: int, threads: int, *, training: bool, render: bool) -> VectorEnv:
        _spec(contract.env, contract.settings.get("imports", ()))  # complains before workers are started
        if contract.backend is not Backend.NATIVE or render:
            return super().build(contract, num_envs, threads, training=training, render=render)
        cap: dict[str, Any] = {} if contract.episode_cap is None else {"max_episode_steps": contract.episode_cap}
        if "CartPoleVectorEnv" in str(gymnasium.spec(_name(contract.env)).vector_entry_point):
            return SeededCartPole(num_envs, **cap)
        return gymnasium.make_vec(_name(contract.env), num_envs, vectorization_mode="vector_entry_point", **cap)

    def make_one(self, contract: Contract, *, render: bool) -> gymnasium.Env[Any, Any]:
        found = _spec(contract.env, contract.settings.get("imports", ()))
        own = dict(contract.settings.get("kwargs", {}))
        if render:
            own["render_mode"] = "rgb_array"
        if not isinstance(found, gymnasium.envs.registration.EnvSpec):
            made: gymnasium.Env[Any, Any] = found(**own)
            return made
        # Our own checks and our own cap are around it.
        return gymnasium.make(found, max_episode_steps=-1, disable_env_checker=True, **own)


def _spec(env_id: str, imports: Sequence[str] = ()) -> Any:
    """The registry's entry for an id, or the class or function that it names, after these modules are imported."""
    for module in imports:
        _imported(module, f"--import {module}")
    module, _, name = env_id.rpartition(":")
    if module:
        if references.find(env_id) is None:
            _imported(module, env_id)
        found = references.find(env_id)
        if callable(found):
            return found
    try:
        return gymnasium.spec(name)
    except gymnasium.error.Error:
        raise _unknown(env_id) from None


def _unknown(env_id: str) -> UsageError:
    module = env_id.rpartition(":")[0]
    if module == "__main__" or "<" in env_id:
        return UsageError(
            f"the environment {env_id} is code of a script, a notebook or a function, which is not found in this process: "
            "move it into a module and name it module:Name"
        )
    own = [name for name, x in vars(sys.modules[module]).items() if isinstance(x, type)] if module else []
    known = [f"{module}:{name}" if module else name for name in [*own, *gymnasium.registry]]
    where = "asyncrl list envs; --import MODULE for what a module registers"
    return UsageError(f"there is no environment {env_id!r}{near_matches(env_id, known)} ({where})")


def _imported(module: str, env_id: str) -> Any:
    """A module of the user's, also from the folder that the command was called in."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        with complaints(env_id, "was imported"):
            return importlib.import_module(module)
    except ImportError as problem:
        raise UsageError(f"{env_id}: {problem}") from None


def _name(env_id: str) -> str:
    return env_id.rpartition(":")[2]
