"""Dataclasses as JSON, tensors as safetensors, files written whole or not at all. No pickle anywhere."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import re
import sys
import types
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import safetensors

from asyncrl.common.os_errors import attach_path
from asyncrl.errors import CheckpointError, UsageError, suggestions

if TYPE_CHECKING:  # environment workers do without torch
    from torch import Tensor

__all__ = [
    "compare_tensors",
    "file_facts",
    "file_sha256",
    "from_json",
    "load_tensors",
    "parse_json",
    "read_json",
    "read_text",
    "save_tensors",
    "sync_folder",
    "tensor_sha256",
    "tensors_in",
    "to_json",
    "verify_file",
    "write_atomically",
]

T = TypeVar("T")

MOST_BYTES = 16 * 2**20
"""Of a JSON file, unless its reader allows more: parsed, it takes some twenty times as much memory."""
_DEEPEST = 64
"""Levels of tables and lists in a JSON file."""


def to_json(value: Any) -> Any:
    """A dataclass (nested, with enums and tuples) as what `json.dump` takes; without fields of `metadata` saved=False."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value) if _is_saved(field)}
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
        members = [a for a in arguments if a is not type(None)]
        return _decode(type(data) if type(data) in members else members[0], data, where)
    if origin is tuple and isinstance(data, list | tuple):
        return tuple(_decode(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(data))
    if origin is dict and isinstance(data, dict):
        return {key: _decode(arguments[1], item, f"{where}.{key}") for key, item in data.items()}
    if isinstance(hint, type) and issubclass(hint, Enum):
        if isinstance(data, hint):
            return data
        values = [member.value for member in hint]
        if data not in values:
            near = suggestions(data, values) if isinstance(data, str) else ""
            raise UsageError(f"{where}: {_shown(data)} is none of {', '.join(map(repr, values))}{near}")
        return hint(data)
    if hint is int and isinstance(data, float) and data.is_integer():
        return int(data)  # 1e6 in TOML and Python
    if hint is Any:
        return data
    if hint is float and isinstance(data, int) and not isinstance(data, bool) and abs(data) <= sys.float_info.max:
        return float(data)
    expected = origin or hint
    if not isinstance(data, expected) or (expected is int and isinstance(data, bool)):
        raise UsageError(f"{where or 'value'}: expected {expected.__name__}, got {_shown(data)}")
    return data


def _shown(data: Any) -> str:
    """A value as a message shows it: not more of it than fits."""
    text = repr(data)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _is_saved(field: dataclasses.Field[Any]) -> bool:
    return bool(field.metadata.get("saved", True))


_hints = functools.cache(get_type_hints)


def _decode_dataclass(cls: Any, data: Any, where: str) -> Any:
    if not isinstance(data, dict):
        raise UsageError(f"{where or cls.__name__}: expected a table of fields, got {_shown(data)}")
    hints = _hints(cls)
    known = {field.name for field in dataclasses.fields(cls) if field.init and _is_saved(field)}
    prefix = f"{where}." if where else ""
    for key in data:
        if key not in known:
            near = suggestions(key, known) if len(key) < 80 else ""
            raise UsageError(f"{prefix}{key[:80]} is not a field of {cls.__name__}{near}")
    try:
        return cls(**{key: _decode(hints[key], item, f"{prefix}{key}") for key, item in data.items()})
    except TypeError as problem:
        raise UsageError(f"{where or cls.__name__}: {problem}") from None


def write_atomically(path: Path, text: str) -> None:
    """Replace `path` by `text`: after a crash at any moment there is the old file or the new one."""
    beside = path.with_name(f".{path.name}.tmp")
    beside.unlink(missing_ok=True)  # what a crash left; and nothing is written through a link
    try:
        with attach_path(path), open(beside, "x", encoding="utf-8") as file:
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
    if not hasattr(os, "O_DIRECTORY"):  # Windows cannot open folders
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with attach_path(folder):
            os.fsync(handle)
    finally:
        os.close(handle)


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as one new safetensors file and have it on disk on return."""
    from safetensors.torch import save_file

    path.unlink(missing_ok=True)  # what a crash left; and nothing is written through a link
    try:
        save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, path)
    except safetensors.SafetensorError as problem:
        number = re.search(r"\(os error (\d+)\)", str(problem))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None
    with attach_path(path), open(path, "r+b") as file:  # Windows syncs only files that are open for writing
        os.fsync(file.fileno())


def load_tensors(path: Path, expected: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Read a safetensors file. Raises CheckpointError where it is none.

    `expected` holds tensors (on the device "meta") of the names, shapes and dtypes that the file must have: it is
    compared with the file's header before anything of its size is allocated.
    """
    from safetensors.torch import load_file

    found = tensors_in(path)
    if expected is not None:
        compare_tensors(path, found, expected)
    try:
        return load_file(path)
    except (OSError, safetensors.SafetensorError) as problem:
        raise CheckpointError(f"{path} cannot be read as safetensors: {problem}") from None


def compare_tensors(path: Path, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError where what a file holds differs from what it must hold in names, shapes or dtypes."""
    for name in sorted(found.keys() | expected.keys()):
        given, wanted = found.get(name), expected.get(name)
        if given is None or wanted is None or (given.shape, given.dtype) != (wanted.shape, wanted.dtype):
            raise CheckpointError(f"{path} does not fit: {_shown(name)} is {_form(given)}, expected {_form(wanted)}")


def _form(tensor: Tensor | None) -> str:
    """Shape and dtype in a message."""
    return "missing" if tensor is None else f"{list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def tensors_in(path: Path) -> dict[str, Tensor]:
    """What a safetensors file holds by its header alone: tensors on the device "meta". Raises CheckpointError."""
    import torch

    known = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    known |= {"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8}
    known |= {"U8": torch.uint8, "U16": torch.uint16, "U32": torch.uint32, "BOOL": torch.bool}
    found = {}
    try:
        with safetensors.safe_open(_plain_file(path), "pt") as file:
            for name in file.keys():  # noqa: SIM118  it is no mapping
                part = file.get_slice(name)
                if part.get_dtype() not in known:
                    raise CheckpointError(f"{path} has tensors of a dtype that is never written, {part.get_dtype()}")
                found[name] = torch.empty(part.get_shape(), dtype=known[part.get_dtype()], device="meta")
    except (OSError, RuntimeError, OverflowError, safetensors.SafetensorError) as problem:
        raise CheckpointError(f"{path} cannot be read as safetensors: {problem}") from None
    return found


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


def read_text(path: Path, most: int = MOST_BYTES, kind: str = "text") -> str:
    """A text file of at most `most` bytes, whose size is looked at first. Raises CheckpointError that names it."""
    try:
        size = _plain_file(path).stat().st_size
        if size > most:
            raise CheckpointError(f"{path} has {size:,} bytes; such a file has {most:,} at most")
        with open(path, "rb") as file:
            return file.read(most).decode("utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise CheckpointError(f"{path} cannot be read as {kind}: {problem}") from None


def _plain_file(path: Path) -> Path:
    """`path`, of which reading does not wait for anybody. Raises OSError where it is missing or no plain file."""
    if path.exists() and not path.is_file():
        raise OSError("it is not a plain file")
    return path


def parse_json(text: str) -> Any:
    """JSON as this package writes it. Raises ValueError, also for keys that occur twice and for what is nested too deep."""
    try:
        found = json.loads(text, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    level, depth = [found], 0
    while level:
        if (depth := depth + 1) > _DEEPEST:
            raise ValueError(f"it is nested more than {_DEEPEST} levels deep")
        inner = (x.values() if isinstance(x, dict) else x for x in level if isinstance(x, dict | list))
        level = [x for part in inner for x in part if isinstance(x, dict | list)]
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def read_json(path: Path, most: int = MOST_BYTES) -> Any:
    """Parse a JSON file of at most `most` bytes. Raises CheckpointError that names it where it is damaged."""
    try:
        return parse_json(read_text(path, most, "JSON"))
    except ValueError as problem:
        raise CheckpointError(f"{path} cannot be read as JSON: {problem}") from None
