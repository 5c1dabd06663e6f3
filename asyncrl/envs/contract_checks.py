"""Reads contracts from files and refuses those that no environment or network can be made of."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from asyncrl.common.serialization import from_json
from asyncrl.common.validation import within
from asyncrl.envs.contract import Contract
from asyncrl.envs.registry import FAMILIES, family_named
from asyncrl.envs.spaces import Actions, Entry, Spaces
from asyncrl.errors import UsageError

__all__ = ["read_contract"]

_MAX_NUMBERS = 2**31
"""Numbers in one observation."""
_MAX_ENVIRONMENTS = 1_000


def read_contract(data: Any, untrusted_source: str | None, where: str = "contract") -> Contract:
    """Return the contract of the JSON `data`. Raises UsageError that names what is wrong.

    `untrusted_source` is the file that it comes from, or None if this user wrote that file.
    """
    contract = from_json(Contract, data, where)
    try:
        for one in contract.contracts:
            _check(one)
            if one.spaces != contract.spaces:
                raise UsageError(f"the spaces of {one.env} differ from those of {contract.env}")
        if len(contract.contracts) > _MAX_ENVIRONMENTS:
            raise UsageError(f"{len(contract.contracts)} environments are more than {_MAX_ENVIRONMENTS}")
    except UsageError as problem:
        raise UsageError(f"{where}: {problem}") from None
    return contract.with_source(untrusted_source)


def _check(contract: Contract) -> None:
    if contract.family not in {family.name for family in FAMILIES}:
        raise UsageError(f"there is no family of environments {contract.family!r}")
    if contract.others:
        raise UsageError(f"the contract of {contract.env} is nested, and has others itself")
    within(contract, 1, 10_000, "frame_skip", "frame_stack", "screen_size")
    within(contract, 0, 1, "sticky")
    within(contract, 0, 10_000, "noop_max")
    within(contract, 1, math.inf, "episode_cap")
    within(contract, 0, math.inf, "reward_clip")
    within(contract, -math.inf, math.inf, "reward_scale", "final_reward", "observation_mean")
    within(contract, 0, math.inf, "observation_spread", above=True)
    contract.supervision.check()
    _check_settings(contract.settings)
    _check_spaces(contract.spaces, contract.frame_stack)
    measured = {len(contract.observation_mean), len(contract.observation_spread)}
    if measured != {0} and measured != {contract.spaces.observation_size}:
        raise UsageError("observation_mean and observation_spread need as many numbers as an observation")
    family_named(contract.family).check(contract)


def _check_settings(settings: dict[str, Any]) -> None:
    imports, kwargs = settings.get("imports", []), settings.get("kwargs", {})
    if not isinstance(imports, list) or not all(isinstance(name, str) for name in imports):
        raise UsageError("settings.imports must be a list of modules")
    if not isinstance(kwargs, dict):
        raise UsageError("settings.kwargs must be a table")


def _check_spaces(spaces: Spaces, stack: int) -> None:
    _check_array("observation", spaces.observation_shape, spaces.observation_dtype)
    if spaces.entries:
        for entry in spaces.entries:
            _check_entry(entry)
        nbytes = sum(entry.nbytes for entry in spaces.entries)
        if spaces.observation_dtype != "uint8" or spaces.observation_shape not in ((nbytes,), (stack, nbytes)):
            raise UsageError("the bytes of an observation's parts do not add up to its size")
    _check_actions(spaces.actions)
    if spaces.is_masked:
        mask = spaces.entries[-1] if len(spaces.entries) > 1 else None
        if mask is None or (mask.shape, mask.dtype) != ((sum(spaces.actions.choices),), "uint8"):
            raise UsageError("the last part of an observation with an action mask must have a number for each choice")


def _check_array(name: str, shape: tuple[int, ...], dtype: str) -> None:
    if len(shape) > 16 or not all(0 < n < _MAX_NUMBERS for n in shape) or math.prod(shape) >= _MAX_NUMBERS:
        raise UsageError(f"an {name} cannot have the shape {shape[:16]}")
    _check_dtype(name, dtype)


def _check_dtype(name: str, dtype: str) -> None:
    if dtype not in {np.dtype(kind).name for kind in np.typecodes["AllInteger"] + np.typecodes["Float"] + "?"}:
        raise UsageError(f"an {name} cannot have the dtype {dtype[:20]!r}")


def _check_entry(entry: Entry) -> None:
    _check_array("observation", entry.shape, entry.dtype)
    if not 0 <= entry.choices < _MAX_NUMBERS or (entry.choices and (entry.shape, entry.dtype) != ((), "int64")):
        raise UsageError(f"the part {entry.name[:80]!r} of an observation cannot be one of {entry.choices}")


def _check_actions(actions: Actions) -> None:
    parts = actions.parts
    if not 0 < parts < _MAX_NUMBERS or (actions.choices and actions.low):
        raise UsageError("an action must be one or more choices, or one or more numbers")
    if len(actions.first) != len(actions.choices) or len(actions.high) != len(actions.low):
        raise UsageError("choices and first, or low and high, differ in length")
    if not all(0 < n < _MAX_NUMBERS for n in actions.choices) or not all(abs(n) < 2**62 for n in actions.first):
        raise UsageError(f"an action cannot have {actions.choices} choices starting at {actions.first}")
    if not all(low <= high for low, high in zip(actions.low, actions.high, strict=True)):  # also for NaN
        raise UsageError("a lower bound of an action is above its upper bound")
    if actions.shape:
        _check_array("action", actions.shape, actions.dtype)
    if math.prod(actions.shape) != parts:
        raise UsageError(f"an action of shape {actions.shape} does not have {parts} parts")
    _check_dtype("action", actions.dtype)
