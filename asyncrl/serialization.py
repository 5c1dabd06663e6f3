"""Dataclasses as JSON, tensors as safetensors, files written whole or not at all. No pickle anywhere."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import types
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import safetensors

from asyncrl.errors import CheckpointError, UsageError, near_matches
from asyncrl.system import naming

if TYPE_CHECKING:  # environment workers do without torch
    from torch import Tensor

__all__ = [
    "file_facts",
    "file_sha256",
    "from_json",
    "load_tensors",
    "read_json",
    "save_tensors",
    "sync_folder",
    "tensor_sha256",
    "to_json",
    "verify_file",
    "write_atomically",
]

T = TypeVar("T")


def to_json(value: Any) -> Any:
    """A dataclass (nested, with enums and tuples) as what `json.dump` takes."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    return value


def from_json(cls: type[T], data: Any, where: str = "") -> T:
    """The inverse of `to_json`, checked against the type hints of `cls`.

    Fields that are absent keep their defaults. Raises UsageError that names the place of an unknown
    key or a value of the wrong type, as `algorithm.steps`.
    """
    return _decode(cls, data, where)  # type: ignore[no-any-return]


def _decode(hint: Any, data: Any, where: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(hint):
        return data if dataclasses.is_dataclass(data) else _decode_dataclass(hint, data, where)
    if origin in (Union, types.UnionType):
        if data is None and type(None) in arguments:
            return None
        return _decode(next(a for a in arguments if a is not type(None)), data, where)
    if origin is tuple and isinstance(data, list | tuple):
        return tuple(_decode(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(data))
    if origin is dict and isinstance(data, dict):
        return {key: _decode(arguments[1], item, f"{where}.{key}") for key, item in data.items()}
    if isinstance(hint, type) and issubclass(hint, Enum):
        if isinstance(data, hint):
            return data
        values = [member.value for member in hint]
        if data not in values:
            raise UsageError(
                f"{where}: {data!r} is none of {', '.join(map(repr, values))}{near_matches(str(data), values)}"
            )
        return hint(data)
    if hint is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if hint is Any:
        return data
    expected = origin or hint
    if not isinstance(data, expected) or (expected is int and isinstance(data, bool)):
        raise UsageError(f"{where or 'value'}: expected {expected.__name__}, got {data!r}")
    return data


def _decode_dataclass(cls: Any, data: Any, where: str) -> Any:
    if not isinstance(data, dict):
        raise UsageError(f"{where or cls.__name__}: expected a table of fields, got {data!r}")
    hints = get_type_hints(cls)
    known = {field.name for field in dataclasses.fields(cls) if field.init}
    prefix = f"{where}." if where else ""
    for key in data:
        if key not in known:
            raise UsageError(f"{prefix}{key} is not a field of {cls.__name__}{near_matches(key, known)}")
    try:
        return cls(**{key: _decode(hints[key], item, f"{prefix}{key}") for key, item in data.items()})
    except TypeError as problem:
        raise UsageError(f"{where or cls.__name__}: {problem}") from None


def write_atomically(path: Path, text: str) -> None:
    """Replace `path` by `text`: after a crash at any moment there is the old file or the new one."""
    beside = path.with_name(f".{path.name}.tmp")
    try:
        with naming(path), open(beside, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        sync_folder(path.parent)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Have what was renamed in a folder on disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with naming(folder):
            os.fsync(handle)
    finally:
        os.close(handle)


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as one safetensors file and have it on disk on return."""
    from safetensors.torch import save_file

    try:
        save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, path)
    except safetensors.SafetensorError as problem:
        number = re.search(r"\(os error (\d+)\)", str(problem))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None
    with naming(path), open(path, "rb") as file:
        os.fsync(file.fileno())


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file. Raises CheckpointError where it is none."""
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, safetensors.SafetensorError) as problem:
        raise CheckpointError(f"{path} cannot be read as safetensors: {problem}") from None


def file_sha256(path: Path) -> str:
    """Hash of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_facts(path: Path) -> dict[str, Any]:
    """What a manifest says of a file: its sha256 and bytes."""
    return {"sha256": file_sha256(path), "bytes": path.stat().st_size}


def verify_file(path: Path, facts: Mapping[str, Any]) -> None:
    """Raise CheckpointError where a file is not what its manifest says."""
    if not path.is_file():
        raise CheckpointError(f"{path} is missing")
    if path.stat().st_size != facts["bytes"]:
        raise CheckpointError(f"{path} is truncated: {path.stat().st_size} of {facts['bytes']} bytes")
    if file_sha256(path) != facts["sha256"]:
        raise CheckpointError(f"{path} is damaged: its sha256 is not the manifest's")


def tensor_sha256(tensor: Tensor) -> str:
    """Hash of the values, as they lie in memory row by row."""
    return hashlib.sha256(tensor.detach().cpu().contiguous().numpy().tobytes()).hexdigest()


def read_json(path: Path) -> Any:
    """Parse a JSON file. Raises CheckpointError that names it where it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise CheckpointError(f"{path} cannot be read as JSON: {problem}") from None
