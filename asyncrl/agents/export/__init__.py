"""Exports an agent for programs without torch: an ONNX model, and its contract as JSON."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from asyncrl.agents.agent import Agent, load
from asyncrl.agents.export.contract import contract_facts
from asyncrl.agents.export.model import OPSET, check_installed, examples_of, open_session, to_onnx
from asyncrl.agents.export.parity import Parity, check_parity
from asyncrl.agents.export.policy import ExportedPolicy
from asyncrl.algorithms import Random
from asyncrl.common.folders import new_folders
from asyncrl.common.serialization import json_text, write_together
from asyncrl.common.torch_setup import standard_modes
from asyncrl.common.validation import as_path
from asyncrl.envs import EnvSource, env_id_of
from asyncrl.errors import UsageError
from asyncrl.runs.run import Run
from asyncrl.version import __version__

__all__ = ["CONTRACT_FILE", "MODEL_FILE", "Exported", "export"]

MODEL_FILE, CONTRACT_FILE = "policy.onnx", "contract.json"


@dataclass(frozen=True)
class Exported:
    """An exported policy."""

    model: Path
    contract: Path
    facts: Mapping[str, Any]
    """The contents of the contract."""
    parity: Parity
    """The comparison with the agent."""


@standard_modes()
def export(
    agent: Agent | Run | Path | str,
    onnx: Path | str,
    *,
    env: EnvSource | None = None,
    observations: int = 1_000,
    trust: bool = False,
) -> Exported:
    """Write an agent as `policy.onnx` and `contract.json` into the folder `onnx`.

    The model takes a batch of what the environment returns and gives its actions; docs/export.md describes both files.
    They are written after the model has been compared with the agent on observations of episodes that the agent plays.

    Args:
        agent: An agent, a run, the folder of a run or a checkpoint, or the name of a pretrained agent.
        onnx: The folder; it is created. Files of an earlier export are replaced.
        env: The environment, if the agent was trained in several.
        observations: Number of observations on which both are compared.
        trust: Run code that the folder names even if someone else made the folder.

    Returns:
        The paths of both files, the contract's contents, and how far the model is from the agent.

    Raises:
        UsageError: If a package is missing, the network cannot be exported, or the environment cannot be made.
        AsyncRLError: If the model differs from the agent; nothing is written then.
    """
    check_installed()
    if observations < 1:
        raise UsageError(f"--observations must be 1 or more, not {observations}")
    folder = as_path("onnx", onnx).absolute()  # an environment may change the working directory
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--onnx {onnx} is a file; name a folder")
    agent = agent if isinstance(agent, Agent) else load(agent, trust=trust)
    saved = agent.checkpoint
    if isinstance(saved.config.algorithm, Random):
        raise UsageError("random has no policy to export: all of its actions have the same probability")
    contract = agent.contract.named(None if env is None else env_id_of(env))
    contract.check_trust()
    policy = ExportedPolicy(saved, contract, saved.weights())
    model = to_onnx(policy, {"asyncrl": __version__, "environment": contract.env, "weights_sha256": saved.weights_sha256})
    parity = check_parity(open_session(model), policy, agent, contract, observations)
    with torch.no_grad():
        outputs = policy.named(*examples_of(policy))
    facts = contract_facts(agent, contract, policy, outputs, parity, OPSET)
    contract_text = json_text(facts, indent=1, ensure_ascii=False) + "\n"
    with new_folders(folder):
        write_together({folder / MODEL_FILE: model, folder / CONTRACT_FILE: contract_text})
    return Exported(
        Path(os.path.relpath(folder / MODEL_FILE)), Path(os.path.relpath(folder / CONTRACT_FILE)), facts, parity
    )
