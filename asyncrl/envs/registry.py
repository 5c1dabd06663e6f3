"""The families of environments, in the order in which they are asked whether an id is theirs."""

from __future__ import annotations

import gymnasium

from asyncrl.envs.families.atari import Atari
from asyncrl.envs.families.envpool import EnvPool
from asyncrl.envs.families.football import Football
from asyncrl.envs.families.gymnasium import Gymnasium, import_modules
from asyncrl.envs.families.mario import Mario
from asyncrl.envs.families.minigrid import MiniGrid
from asyncrl.envs.families.vizdoom import VizDoom
from asyncrl.envs.family import Family
from asyncrl.envs.options import Backend, EnvOptions
from asyncrl.errors import UsageError, suggestions

__all__ = ["FAMILIES", "family_named", "family_of"]

FAMILIES: tuple[Family, ...] = (Atari(), Mario(), VizDoom(), Football(), MiniGrid(), EnvPool(), Gymnasium())


def family_of(env_id: str, options: EnvOptions | None = None) -> Family:
    """Whose id this is; Gymnasium's where nobody else claims it. `--env-backend envpool` may make it envpool's.

    Modules that are to be imported are: what they register is theirs, whatever else has the same name.
    """
    options = options or EnvOptions()
    import_modules(options.imports)
    found = next(family for family in FAMILIES if family.claims(env_id))
    asked = options.env_backend is Backend.ENVPOOL and found.also_in_envpool
    if options.imports and (asked or isinstance(found, EnvPool)):
        modules, near = ", ".join(options.imports), suggestions(env_id, gymnasium.registry)
        raise UsageError(
            f"EnvPool has an environment {env_id!r} of its own, with which --import {modules} has nothing to do"
            + ("; leave out --env-backend envpool" if asked else f", and registers none of this name{near}; leave it out")
        )
    return family_named(EnvPool.name) if asked else found


def family_named(name: str) -> Family:
    """The family that a contract names."""
    return next(family for family in FAMILIES if family.name == name)
