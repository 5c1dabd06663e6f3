"""Converts a policy to an ONNX model."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from asyncrl.agents.export.policy import ExportedPolicy
from asyncrl.common.hidden_warnings import hidden_warnings
from asyncrl.errors import UsageError

__all__ = ["OPSET", "check_installed", "examples_of", "open_session", "to_onnx"]

OPSET = 18
"""Version of ONNX's operators: the lowest one that torch's exporter writes, which most runtimes have."""
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def check_installed() -> None:
    """Raise UsageError if a package that exporting needs is missing."""
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"exporting needs {', '.join(missing)}: pip install 'asyncrl[export]'")


def to_onnx(policy: ExportedPolicy, facts: Mapping[str, str]) -> bytes:
    """Return the ONNX model of a policy for batches of any size, with `facts` as its metadata.

    It is traced by torch.export: the older exporter writes the batch size of its example into recurrent networks.
    Raises UsageError for a network of the user's that torch cannot trace.
    """
    examples = examples_of(policy)
    names = [*(one.name for one in policy.inputs), "state"][: len(examples)]
    batch = torch.export.Dim("batch")
    with _quiet(), torch.no_grad():
        outputs = [*policy.named(*examples)]
        try:
            shapes = (tuple({0: batch} for _ in examples),)
            program = torch.export.export(policy, tuple(examples), dynamic_shapes=shapes, strict=False)
            exported: Any = torch.onnx.export(
                program, opset_version=OPSET, input_names=names, output_names=outputs, verbose=False
            )
        except Exception as problem:
            reason = next((line.strip() for line in str(problem).splitlines() if line.strip()), type(problem).__name__)
            raise UsageError(f"torch cannot export this network: {reason[:300]}") from problem
    model = exported.model_proto
    _name_batches(model.graph)
    for node in model.graph.node:
        node.ClearField("metadata_props")  # paths of this machine
        node.ClearField("doc_string")
    del model.metadata_props[:]
    for name, value in facts.items():
        model.metadata_props.add(key=name, value=value)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def examples_of(policy: ExportedPolicy) -> list[torch.Tensor]:
    """Return inputs for two observations of zeros."""
    inputs = [torch.full((2, *one.shape), one.part.first, dtype=getattr(torch, one.dtype)) for one in policy.inputs]
    return [*inputs, torch.zeros(2, policy.state_size, dtype=torch.float32)][: len(inputs) + (policy.state_size > 0)]


def _name_batches(graph: Any) -> None:
    """Give the symbol of the batch size, which torch numbers, the name "batch"."""
    symbol = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*graph.input, *graph.output, *graph.value_info):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param == symbol:
                size.dim_param = "batch"


def open_session(model: bytes) -> Any:
    """Return an onnxruntime session on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's notes on packages and deprecations from the user."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with hidden_warnings():
            yield
    finally:
        log.setLevel(level)
