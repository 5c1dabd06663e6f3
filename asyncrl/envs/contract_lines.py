"""A contract as text, for a run's header."""

from __future__ import annotations

import json

from asyncrl.envs.contract import Contract
from asyncrl.envs.registry import family_named

__all__ = ["contract_lines"]


def contract_lines(contract: Contract) -> list[str]:
    """Return the rows of a contract that concern its environment, each with a heading of 20 columns."""
    names = [f"{one.env} ({one.family}, {one.backend.value})" for one in contract.contracts]
    rows = {
        "environment": f"\n{'':<20}".join(names),
        "observation": _observation(contract),
        "actions": _actions(contract),
    }
    if contract.spaces.is_masked:
        rows["action mask"] = f"from {contract.spaces.action_mask.value}"
    elif contract.has_action_mask:
        rows["action mask"] = f"ignored, from {contract.ignored_action_mask.value}"
    if contract.frame_skip > 1:
        maximum = ", maximum of the last two" if contract.max_pool else ""
        rows["frame skip"] = f"{contract.frame_skip} frames per step{maximum}"
    rows |= family_named(contract.family).rows(contract)
    learned = _learned_reward(contract)
    if learned:
        rows["learned reward"] = learned
    rows["episode cap"] = "none" if contract.episode_cap is None else f"{contract.episode_cap:,} steps"
    if contract.versions.keys() - {"gymnasium"}:
        rows["packages"] = ", ".join(f"{name} {number}" for name, number in contract.versions.items())
    rows |= {name.replace("_", " "): json.dumps(value).strip('"') for name, value in contract.settings.items() if value}
    return "\n".join(f"{name:<20}{value}" for name, value in rows.items()).split("\n")


def _observation(contract: Contract) -> str:
    stack = f", the last {contract.frame_stack} frames" if contract.frame_stack > 1 else ""
    standardized = ", standardized" if contract.observation_mean else ""
    return f"{contract.spaces}{stack}{standardized}"


def _actions(contract: Contract) -> str:
    actions = contract.spaces.actions
    count = f"{actions}" if actions.is_continuous else f"{actions} choices"
    return count if contract.action_set == "own" else f"{count} ({contract.action_set})"


def _learned_reward(contract: Contract) -> str:
    parts = [f"× {contract.reward_scale:g}"] if contract.reward_scale != 1 else []
    if contract.reward_clip:
        parts.append(f"clipped to ±{contract.reward_clip:g}")
    if contract.final_reward is not None:
        parts.append(f"{contract.final_reward:g} for a terminating step")
    return ", ".join(parts)
