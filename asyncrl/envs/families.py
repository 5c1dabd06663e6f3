"""The families of environments, in the order in which they are asked whether an id is theirs."""

from __future__ import annotations

from asyncrl.envs.atari import Atari
from asyncrl.envs.envpool import EnvPool
from asyncrl.envs.family import Family
from asyncrl.envs.football import Football
from asyncrl.envs.gymnasium import Gymnasium
from asyncrl.envs.mario import Mario
from asyncrl.envs.minigrid import MiniGrid
from asyncrl.envs.options import Backend, EnvOptions
from asyncrl.envs.vizdoom import VizDoom

__all__ = ["FAMILIES", "family_named", "family_of"]

FAMILIES: tuple[Family, ...] = (Atari(), Mario(), VizDoom(), Football(), MiniGrid(), EnvPool(), Gymnasium())


def family_of(env_id: str, options: EnvOptions | None = None) -> Family:
    """Whose id this is; Gymnasium's where nobody else claims it. `--env-backend envpool` may make it envpool's."""
    found = next(family for family in FAMILIES if family.claims(env_id))
    asked = options is not None and options.env_backend is Backend.ENVPOOL
    return family_named(EnvPool.name) if asked and found.also_in_envpool else found


def family_named(name: str) -> Family:
    """The family that a contract names."""
    return next(family for family in FAMILIES if family.name == name)
