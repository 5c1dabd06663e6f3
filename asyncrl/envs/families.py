"""The families of environments, in the order in which they are asked whether an id is theirs."""

from __future__ import annotations

from asyncrl.envs.atari import Atari
from asyncrl.envs.family import Family
from asyncrl.envs.gymnasium import Gymnasium
from asyncrl.envs.mario import Mario
from asyncrl.envs.vizdoom import VizDoom

__all__ = ["FAMILIES", "family_named", "family_of"]

FAMILIES: tuple[Family, ...] = (Atari(), Mario(), VizDoom(), Gymnasium())


def family_of(env_id: str) -> Family:
    """Whose id this is; Gymnasium's where nobody else claims it."""
    return next(family for family in FAMILIES if family.claims(env_id))


def family_named(name: str) -> Family:
    """The family that a contract names."""
    return next(family for family in FAMILIES if family.name == name)
