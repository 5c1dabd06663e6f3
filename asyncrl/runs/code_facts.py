"""What a run notes about its network and algorithm: names, number of parameters, and hashes of the user's sources."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asyncrl.algorithms import algorithm_name_of, algorithm_named, network_outline
from asyncrl.envs import Contract
from asyncrl.networks import factory_named
from asyncrl.runs.config.run_config import RunConfig, code_named_in

__all__ = ["changed_sources", "code_facts", "describe_code"]


def code_facts(config: RunConfig, contract: Contract) -> dict[str, Any]:
    """Name and parameters of the `network`; of the user's network and algorithm also `source_sha256`, None if unknown."""
    sources = _sources(config)
    network = {"name": config.network.network, "parameters": _parameters(config, contract), **sources.get("network", {})}
    algorithm = {"name": algorithm_name_of(config.algorithm), **sources["algorithm"]} if "algorithm" in sources else None
    return {"network": network} | ({} if algorithm is None else {"algorithm": algorithm})


def changed_sources(facts: Mapping[str, Any], config: RunConfig) -> list[str]:
    """A sentence for each of the user's sources that differs from the one that the run's `facts` note."""
    sentences = []
    for kind, name in code_named_in(config.to_json()).items():
        noted, found = facts.get(kind), _sources(config)[kind]["source_sha256"]
        before = noted.get("source_sha256") if isinstance(noted, dict) else None
        if before is not None and found is not None and before != found:
            sentences.append(f"The source of the {kind} {name} has changed since the run started: results may differ.")
    return sentences


def describe_code(facts: Mapping[str, Any]) -> list[str]:
    """The hashes of the user's sources in config.json, as lines of text."""
    lines = []
    for kind in ("network", "algorithm"):
        noted = facts.get(kind)
        if isinstance(noted, dict) and isinstance(noted.get("source_sha256"), str):
            sha256 = "".join(c for c in noted["source_sha256"][:16] if c.isalnum())
            lines.append(f"{kind + ' source':<20}sha256 {sha256}…")
    return lines


def _sources(config: RunConfig) -> dict[str, dict[str, str | None]]:
    find = {"network": factory_named, "algorithm": algorithm_named}
    return {kind: {"source_sha256": _sha256(find[kind](name))} for kind, name in code_named_in(config.to_json()).items()}


def _sha256(code: Any) -> str | None:
    """The hash of the source of a class or function, else of its module's file; None if there is neither."""
    with contextlib.suppress(OSError, TypeError):
        return hashlib.sha256(inspect.getsource(code).encode()).hexdigest()
    module = sys.modules.get(getattr(code, "__module__", None) or type(code).__module__)
    with contextlib.suppress(OSError, TypeError, AttributeError):
        return hashlib.sha256(Path(module.__file__).read_bytes()).hexdigest()  # type: ignore[union-attr,arg-type]
    return None


def _parameters(config: RunConfig, contract: Contract) -> int:
    network = network_outline(config.algorithm, config.network, contract.spaces, config.precision.dtype)
    return sum(parameter.numel() for parameter in network.parameters())
