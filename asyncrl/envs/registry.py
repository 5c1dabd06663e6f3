"""The families of environments, in the order in which they may claim an id."""

from __future__ import annotations

import gymnasium

from asyncrl.envs.families.atari import Atari
from asyncrl.envs.families.envpool import EnvPool
from asyncrl.envs.families.football import Football
from asyncrl.envs.families.gymnasium import Gymnasium
from asyncrl.envs.families.mario import Mario
from asyncrl.envs.families.minigrid import MiniGrid
from asyncrl.envs.families.vizdoom import VizDoom
from asyncrl.envs.family import Family
from asyncrl.envs.loading import import_modules
from asyncrl.envs.options import Backend, EnvOptions
from asyncrl.errors import UsageError, continued, suggestions

__all__ = ["FAMILIES", "claiming_family", "family_named", "family_of"]

FAMILIES: tuple[Family, ...] = (Atari(), Mario(), VizDoom(), Football(), MiniGrid(), EnvPool(), Gymnasium())


def family_of(env_id: str, options: EnvOptions | None = None) -> Family:
    """Return the family of `env_id` after importing the modules in `options.imports`.

    Raises UsageError where EnvPool would step an id that those modules should have registered.
    """
    options = options or EnvOptions()
    import_modules(options.imports)
    wants_envpool = options.env_backend is Backend.ENVPOOL
    family = claiming_family(env_id, envpool=wants_envpool)
    if options.imports and isinstance(family, EnvPool):
        modules = ", ".join(options.imports)
        if wants_envpool and not isinstance(claiming_family(env_id), EnvPool):
            remedy = f"which does not use --import {modules}; leave out --env-backend envpool"
        else:
            sentence = f"and --import {modules} registers none of this name{suggestions(env_id, gymnasium.registry)}"
            remedy = continued(sentence, "leave out --import")
        raise UsageError(f"{env_id!r} is an environment of EnvPool, {remedy}")
    return family


def claiming_family(env_id: str, *, envpool: bool = False) -> Family:
    """Return the first family that claims `env_id`, or EnvPool if `envpool` and that family allows it."""
    found = next(family for family in FAMILIES if family.claims(env_id))
    return family_named(EnvPool.name) if envpool and found.also_in_envpool else found


def family_named(name: str) -> Family:
    """Return the family that a contract names."""
    return next(family for family in FAMILIES if family.name == name)
