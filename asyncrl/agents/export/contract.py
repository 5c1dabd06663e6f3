"""What a program needs to know to act with an exported policy, as JSON."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from asyncrl.agents.agent import Agent
from asyncrl.agents.export.parity import Parity, tolerance
from asyncrl.agents.export.policy import ExportedPolicy, PolicyInput
from asyncrl.common.serialization import to_json
from asyncrl.envs import Contract
from asyncrl.envs.registry import family_named
from asyncrl.networks import SoftActorCritic
from asyncrl.networks.encoders import pixel_max
from asyncrl.networks.normalization import MAX_NORMALIZED, Normalizer
from asyncrl.runs.checkpoints.checkpoint import Checkpoint
from asyncrl.runs.metrics.metrics_file import read_records
from asyncrl.version import __version__

__all__ = ["contract_facts", "stored_score"]

_SCORE = ("mode", "mean", "std", "median", "iqm", "iqm_interval", "episodes")
_MEANINGS = {
    "action": "the most probable or most valuable action, as the environment takes it",
    "action_probabilities": "probability of each choice; for actions with several parts, the parts one after another",
    "q": "value of each action; float32's lowest number for those that the mask forbids",
    "mean": "mean of each number's normal distribution, in the policy's units; see `actions`",
    "scale": "standard deviation of each number's normal distribution",
    "next_state": "the memory after this step, to be given as `state` in the next",
}


def contract_facts(
    agent: Agent, contract: Contract, policy: ExportedPolicy, outputs: Mapping[str, Any], parity: Parity, opset: int
) -> dict[str, Any]:
    """Return the contents of contract.json. `outputs` are the policy's for some observations, by name."""
    saved = agent.checkpoint
    return {
        "format": 1,
        "asyncrl": __version__,
        "environment": contract.env,
        "algorithm": saved.config.algorithm.name,
        "network": saved.config.network.network,
        "step": saved.step,
        "weights_sha256": saved.weights_sha256,
        "opset": opset,
        "precision": "float32",
        "trained_in": saved.config.precision.value,
        "inputs": [_input_facts(one, contract.frame_stack) for one in policy.inputs] + _state_facts(policy.state_size),
        "outputs": [
            {
                "name": name,
                "shape": ["batch", *value.shape[1:]],
                "dtype": str(value.dtype).removeprefix("torch."),
                "meaning": _MEANINGS[name],
            }
            for name, value in outputs.items()
        ],
        "actions": _action_facts(contract, policy, outputs),
        "evaluated": "greedy" if agent.resolve_greedy(None) else "sampled",
        "preprocessing": {"before": _before(contract), "inside": _inside(policy, contract)},
        "score": stored_score(saved),
        "parity": {
            "observations": parity.observations,
            "differences": dict(parity.differences),
            "tolerances": {name: tolerance(name) for name in parity.differences},
        },
        "contract": to_json(contract),
    }


def _action_facts(contract: Contract, policy: ExportedPolicy, outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the numbers of an action mean."""
    actions = contract.spaces.actions
    if not actions.is_continuous:
        facts: dict[str, Any] = {"choices": list(actions.choices), "first": list(actions.first)}
        names = family_named(contract.family).meanings(contract)
        return {**facts, "meanings": names} if names else facts
    minus_one, one = actions.scale
    facts = {"minus_one": minus_one.tolist(), "one": one.tolist()}
    for name, bounds in (("low", actions.low), ("high", actions.high)):
        facts[name] = [bound if math.isfinite(bound) else None for bound in bounds]
    if "scale" in outputs:
        drawn = "mean + scale · noise"
        x = f"tanh({drawn})" if isinstance(policy.network, SoftActorCritic) else drawn
        facts["sampled"] = f"minus_one + (one − minus_one)·(x + 1)/2, clipped to low … high, with x = {x}, noise ~ N(0, 1)"
    return facts


def stored_score(saved: Checkpoint) -> dict[str, Any] | None:
    """Return the last evaluation of a checkpoint in its run's metrics; None if there is none."""
    folder = saved.path.parent.parent if saved.path.parent.name == "checkpoints" else saved.path
    found = [one for one in read_records(folder / "metrics.jsonl") if one["kind"] == "eval" and one["step"] == saved.step]
    return {name: found[-1][name] for name in _SCORE if name in found[-1]} if found else None


def _input_facts(one: PolicyInput, frames: int) -> dict[str, Any]:
    """Return the description of an input."""
    part = one.part
    meaning = f"the environment's {part.name or 'observation'}, converted to {one.dtype}"
    if one.name == "action_mask":
        meaning = "1 where a choice is allowed, else 0"
    elif frames > 1:
        meaning = (
            f"the last {frames} of the environment's {part.name or 'observation'}, oldest first; zeros before an episode"
        )
    elif part.choices:
        meaning = f"one of {part.choices} choices, counted from {part.first}"
    return {"name": one.name, "shape": ["batch", *one.shape], "dtype": one.dtype, "meaning": meaning}


def _state_facts(size: int) -> list[dict[str, Any]]:
    if not size:
        return []
    meaning = "the memory: zeros when an episode begins, then `next_state` of the step before"
    return [{"name": "state", "shape": ["batch", size], "dtype": "float32", "meaning": meaning}]


def _before(contract: Contract) -> dict[str, Any]:
    """Return what happens to the environment's frames before the policy, as its contract has it."""
    names = ("frame_skip", "max_pool", "screen_size", "gray", "frame_stack", "sticky", "noop_max", "episode_cap")
    plain = Contract(contract.env, contract.family, contract.backend, contract.spaces)
    if contract.family == "atari":
        return {name: getattr(contract, name) for name in names}
    return {name: getattr(contract, name) for name in names if getattr(contract, name) != getattr(plain, name)}


def _inside(policy: ExportedPolicy, contract: Contract) -> dict[str, Any]:
    """Return what the policy itself does to observations, with its numbers."""
    facts: dict[str, Any] = {}
    features = contract.spaces.features
    images = {one.name: one for one, part in zip(policy.inputs, features.parts, strict=False) if part.is_image}
    if images:
        divisors = {
            name: pixel_max(dataclasses.replace(features, image_max=one.part.image_max)) for name, one in images.items()
        }
        facts["pixels_divided_by"] = divisors
    if contract.observation_mean:
        facts["mean"], facts["std"] = list(contract.observation_mean), list(contract.observation_spread)
    normalizers = {module.part: module.statistics for module in policy.network.modules() if isinstance(module, Normalizer)}
    if normalizers:
        facts["normalized"] = [
            {"input": policy.inputs[part].name, "mean": one.mean.tolist(), "std": one.spread.tolist()}
            for part, one in sorted(normalizers.items())
        ]
        facts["normalized_clipped_to"] = MAX_NORMALIZED
    return facts
