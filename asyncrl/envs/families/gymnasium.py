"""Environments of Gymnasium's registry, and the user's classes and functions."""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec, find_highest_version, load_env_creator
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from asyncrl.common import import_strings
from asyncrl.common.hidden_warnings import hidden_warnings
from asyncrl.common.packages import version_of
from asyncrl.common.signals import keep_signals_from_sdl
from asyncrl.envs.action_masks import MaskedVectorEnv
from asyncrl.envs.contract import Contract
from asyncrl.envs.families.cartpole import SeededCartPole
from asyncrl.envs.families.single import SingleFamily
from asyncrl.envs.global_generators import preserved_generators
from asyncrl.envs.loading import import_module, import_modules, takes_no_render_mode, translate_errors
from asyncrl.envs.mujoco_warnings import handle_mujoco_warnings
from asyncrl.envs.offscreen import choose_opengl
from asyncrl.envs.options import Backend, EnvOptions
from asyncrl.envs.supervision.supervised import SupervisedVectorEnv
from asyncrl.envs.vector_adapters import NextStepVectorEnv, SingleFromVector, autoreset_mode
from asyncrl.errors import UsageError, suggestions

__all__ = ["Gymnasium"]

_OTHER_FAMILIES = ("ale_py", "vizdoom.")
"""Packages whose ids other families list."""
_SIMULATORS = ("box2d", "mujoco")
"""Packages behind environments of Gymnasium, which have modules and extras of the same names."""


class Gymnasium(SingleFamily):
    """Ids that no other family claims: ``Id-v0``, ``module:Id-v0`` and ``package.module:Class`` (or a function)."""

    name = "gymnasium"
    examples = ("CartPole-v1", "LunarLander-v3", "HalfCheetah-v5")
    also_in_envpool = True
    has_action_masks = True

    def claims(self, env_id: str) -> bool:
        return True

    def known_ids(self) -> list[str]:
        """Return every id in the registry that no other family lists."""
        return sorted(
            name
            for name, spec in gymnasium.registry.items()
            if not _is_moved(spec) and not any(package in str(spec.entry_point) for package in _OTHER_FAMILIES)
        )

    def describe(self, env_id: str, options: EnvOptions) -> Contract:
        spec = _spec(env_id, options.imports)
        backend = _backend(env_id, spec, options)
        cap = options.episode_steps or getattr(spec, "max_episode_steps", None)
        settings: dict[str, Any] = {}
        if isinstance(spec, EnvSpec) and (backend is Backend.NATIVE or spec.entry_point is None):
            mode = _autoreset(env_id, spec, options.constructor_kwargs())
            if mode is not AutoresetMode.NEXT_STEP or backend is not Backend.NATIVE:
                settings["vector_autoreset"] = mode.value
        fields: dict[str, Any] = dict(backend=backend, episode_cap=cap, settings=settings)
        if backend is Backend.NATIVE and not settings:
            fields["shared_generators"] = "as they are" if _is_cartpole(spec) else "own per actor"
        contract = self.contract(env_id, options, **fields)
        return replace(contract, versions=contract.versions | _packages(spec))

    def extras(self, contract: Contract) -> list[str]:
        return [name for name in _SIMULATORS if name in contract.versions]

    def is_batched(self, contract: Contract) -> bool:
        return contract.backend is Backend.NATIVE and contract.env in ("CartPole-v0", "CartPole-v1")

    def build(
        self, contract: Contract, num_envs: int, threads: int, *, training: bool, render: bool, seed: int = 0
    ) -> VectorEnv:
        spec = _spec(contract.env, contract.settings.get("imports", ()))  # raises before workers are started
        if contract.backend is not Backend.NATIVE or render or "vector_autoreset" in contract.settings:
            return super().build(contract, num_envs, threads, training=training, render=render, seed=seed)
        kwargs: dict[str, Any] = dict(contract.settings.get("kwargs", {}))
        if contract.episode_cap is not None:
            kwargs["max_episode_steps"] = contract.episode_cap
        with translate_errors(contract.env):
            if _is_cartpole(spec):
                return SeededCartPole(num_envs, **kwargs)
            vector = NextStepVectorEnv(partial(_vector, spec, num_envs, **kwargs), seed)
            return MaskedVectorEnv(vector, contract.spaces.action_mask) if contract.spaces.is_masked else vector

    def seeds(self, vector: VectorEnv, values: Sequence[int]) -> Any:
        """Return one seed per environment; other packages' vector environments draw all episodes from one generator."""
        seeded = isinstance(vector.unwrapped, SyncVectorEnv | SupervisedVectorEnv | SeededCartPole)
        return list(values) if seeded else values[0]

    def make_one(self, contract: Contract, *, render: bool) -> gymnasium.Env[Any, Any]:
        keep_signals_from_sdl()
        found = _spec(contract.env, contract.settings.get("imports", ()))
        own = dict(contract.settings.get("kwargs", {}))
        if render:
            if _has_no_constructor(found):
                raise takes_no_render_mode(contract.env)
            own["render_mode"] = "rgb_array"
            choose_opengl()
        if isinstance(found, EnvSpec) and isinstance(found.entry_point, str):
            load_env_creator(found.entry_point)  # imports MuJoCo, if it needs it
        handle_mujoco_warnings()
        if not isinstance(found, EnvSpec):
            return _made(contract.env, found, own)
        if found.entry_point is None or (contract.backend is Backend.NATIVE and not render and not _is_cartpole(found)):
            mode = AutoresetMode(contract.settings.get("vector_autoreset", AutoresetMode.NEXT_STEP.value))
            return SingleFromVector(_vector(found, 1, **own), mode)
        # The checker and the time limit are replaced by CheckedEnv and with_time_limit.
        return gymnasium.make(found, max_episode_steps=-1, disable_env_checker=True, **own)


def _backend(env_id: str, spec: Any, options: EnvOptions) -> Backend:
    """Return the backend. Raises UsageError for `native` without a vector environment."""
    has_native = isinstance(spec, EnvSpec) and spec.vector_entry_point is not None
    if options.env_backend is Backend.AUTO:
        return Backend.NATIVE if has_native and not options.env_kwargs else Backend.SYNC
    if options.env_backend is Backend.NATIVE and not has_native:
        raise UsageError(f"{env_id} has no vector environment; use --env-backend sync or async")
    return options.env_backend


def _autoreset(env_id: str, spec: EnvSpec, kwargs: dict[str, Any]) -> AutoresetMode:
    """Return the autoreset mode of its vector environment. Raises UsageError if the metadata lack it."""
    if _is_cartpole(spec):
        return AutoresetMode.NEXT_STEP
    make = partial(_vector, spec, 1, **kwargs)
    with translate_errors(env_id, kwargs=kwargs), preserved_generators(), contextlib.closing(make()) as vector:
        mode = autoreset_mode(vector)
        metadata = vector.metadata
    if mode is None:
        found = (metadata or {}).get("autoreset_mode")
        remedy = "; use --env-backend sync or async" if spec.entry_point is not None else ""
        raise UsageError(
            f"the vector environment of {env_id} has metadata['autoreset_mode'] {found!r}, which must be one of "
            f"gymnasium.vector.AutoresetMode{remedy}"
        )
    return mode


def _vector(spec: EnvSpec, num_envs: int, **kwargs: Any) -> VectorEnv:
    """Make the vector environment of a registered id."""
    with hidden_warnings():  # about a missing autoreset mode
        return gymnasium.make_vec(spec, num_envs, vectorization_mode="vector_entry_point", **kwargs)


def _is_cartpole(spec: EnvSpec) -> bool:
    return "classic_control.cartpole:CartPoleVectorEnv" in str(spec.vector_entry_point)


def _is_moved(spec: EnvSpec) -> bool:
    """Whether Gymnasium knows the id, such as Hopper-v3, only to say that another package has it."""
    return getattr(spec.entry_point, "__name__", "") == "_raise_mujoco_py_error"


def _has_no_constructor(found: Any) -> bool:
    """Whether a class, or that of a registered id, takes no arguments; Python's message about it does not name any."""
    make: Any = found
    if isinstance(found, EnvSpec) and found.entry_point is not None:
        make = load_env_creator(found.entry_point) if isinstance(found.entry_point, str) else found.entry_point
    return isinstance(make, type) and all(getattr(make, name) is getattr(object, name) for name in ("__init__", "__new__"))


def _packages(spec: Any) -> dict[str, str]:
    """Return the versions of the package that registered an environment and of its simulator, as far as they are known."""
    entry = getattr(spec, "entry_point", None) or getattr(spec, "vector_entry_point", None)
    module = (entry if isinstance(entry, str) else getattr(entry, "__module__", "")).partition(":")[0]
    names = [module.partition(".")[0], *(name for name in _SIMULATORS if module.startswith(f"gymnasium.envs.{name}."))]
    found = {}
    for name in names:
        with contextlib.suppress(ModuleNotFoundError, ValueError):
            found[name] = version_of(name)
    return found


def _made(env_id: str, make: Callable[..., Any], kwargs: dict[str, Any]) -> gymnasium.Env[Any, Any]:
    """Call the user's class or function. Raises UsageError if the result is not a gymnasium.Env."""
    try:
        signature = inspect.signature(make)
    except (TypeError, ValueError):  # a builtin without a signature
        signature = inspect.signature(lambda **kwargs: None)
    mode = signature.parameters.get("render_mode")
    if mode is not None and mode.default is mode.empty:
        kwargs = {"render_mode": None, **kwargs}
    try:
        signature.bind(**kwargs)
    except TypeError as problem:
        if "render_mode" not in str(problem):
            hint = "" if kwargs else "; --env-kwargs gives its constructor arguments"
            raise UsageError(f"{env_id} cannot be made: {problem}{hint}") from None
    env = make(**kwargs)
    if isinstance(env, gymnasium.Env):
        return env
    kind = f"{type(env).__module__}.{type(env).__qualname__}"
    if any(base.__module__.split(".")[0] == "gym" for base in type(env).__mro__):
        raise UsageError(
            f"{env_id} is an environment of the old package gym ({kind}); wrap it in shimmy's "
            "GymV26CompatibilityV0 or GymV21CompatibilityV0"
        )
    raise UsageError(f"{env_id} makes a {kind}, which does not inherit from gymnasium.Env")


def _spec(env_id: str, imports: Sequence[str] = ()) -> Any:
    """Return the registry's spec of an id, or the class or function it names, after importing the modules `imports`."""
    import_modules(imports)
    module, _, name = env_id.rpartition(":")
    if module:
        if import_strings.find(env_id) is None:
            import_module(module, env_id)
        found = import_strings.find(env_id)
        if callable(found):
            return found
    try:
        spec = gymnasium.spec(name)
    except gymnasium.error.Error:
        raise _unknown(env_id) from None
    if _is_moved(spec):
        instead = f"{spec.name}-v{find_highest_version(spec.namespace, spec.name)}"
        raise UsageError(f"{env_id} cannot be made: it has moved from Gymnasium to gymnasium-robotics; use {instead}")
    return spec


def _unknown(env_id: str) -> UsageError:
    module = env_id.rpartition(":")[0]
    if module == "__main__" or "<" in env_id:
        return UsageError(
            f"the environment {env_id} is defined in a script, a notebook or a function, which this process cannot import: "
            "move it into a module and name it module:Name"
        )
    own = [name for name, x in vars(sys.modules[module]).items() if isinstance(x, type)] if module else []
    ids = [name for name, spec in gymnasium.registry.items() if not _is_moved(spec)]
    known = [f"{module}:{name}" if module else name for name in [*own, *ids]]
    where = "asyncrl list envs; --import MODULE for what a module registers"
    return UsageError(f"there is no environment {env_id!r}{suggestions(env_id, known)} ({where})")
