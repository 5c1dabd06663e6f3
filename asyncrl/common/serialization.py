"""Dataclasses as JSON, tensors as safetensors, atomic writes and checked reads. Nothing is pickled."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import math
import os
import re
import sys
import types
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import safetensors

from asyncrl.common.os_errors import attach_path, name_target
from asyncrl.errors import CheckpointError, UsageError, suggestions

if TYPE_CHECKING:  # environment workers do not import torch
    from torch import Tensor

__all__ = [
    "check_tensors",
    "file_checksum",
    "file_sha256",
    "from_json",
    "json_text",
    "load_tensors",
    "parse_json",
    "read_header",
    "read_json",
    "read_text",
    "save_tensors",
    "sync_folder",
    "tensor_sha256",
    "to_json",
    "verify_file",
    "write_atomically",
    "write_together",
]

T = TypeVar("T")

_KINDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a string",
    tuple: "a list",
    dict: "a table",
}
"""What messages call the types of settings."""

MAX_BYTES = 16 * 2**20
"""Default size limit of text and JSON files. Parsed JSON takes some twenty times as much memory."""
_PLAIN = frozenset({str, int, float, bool, type(None)})
"""Types that JSON has; most values are of these."""
_MAX_DEPTH = 64
"""Nesting limit of JSON files."""


def to_json(value: Any) -> Any:
    """Convert a dataclass, with nested ones, enums and tuples, for `json.dump`.

    Fields with the metadata `saved=False` are left out.
    """
    if type(value) in _PLAIN:
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: to_json(getattr(value, name)) for name in _saved_names(type(value))}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    return value


def json_text(value: Any, **layout: Any) -> str:
    """Return JSON that every parser reads: NaN and infinities become null. `layout`: options of `json.dumps`."""
    try:
        return json.dumps(value, allow_nan=False, **layout)
    except ValueError:
        return json.dumps(_finite(value), **layout)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(x) for key, x in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(x) for x in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def from_json(cls: type[T], data: Any, where: str = "") -> T:
    """Return an instance of `cls` from JSON data, checked against its type hints. The inverse of `to_json`.

    Missing fields get their defaults. For an unknown key or a value of the wrong type it raises UsageError, which names
    the place, such as `algorithm.steps`; `where` is prepended to it.
    """
    return _decode(cls, data, where)  # type: ignore[no-any-return]


def _decode(hint: Any, data: Any, where: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(hint):
        return data if dataclasses.is_dataclass(data) else _decode_dataclass(hint, data, where)
    if origin in (Union, types.UnionType):
        if data is None and type(None) in arguments:
            return None
        members = [member for member in arguments if member is not type(None)]
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
            raise UsageError(f"{where}: {_shorten(data)} is not one of {', '.join(map(repr, values))}{near}")
        return hint(data)
    if hint is int and isinstance(data, float) and data.is_integer():
        return int(data)  # 1e6 in TOML and Python
    if hint is str and isinstance(data, os.PathLike):
        return os.fspath(data)
    if hint is Any:
        return data
    if hint is float and isinstance(data, int) and not isinstance(data, bool) and abs(data) <= sys.float_info.max:
        return float(data)
    expected = origin or hint
    if not isinstance(data, expected) or (expected is int and isinstance(data, bool)):
        raise UsageError(f"{where or 'value'}: expected {_KINDS.get(expected, expected.__name__)}, got {_shorten(data)}")
    return data


def _shorten(data: Any) -> str:
    """Return the repr of a value for a message, with at most 80 characters."""
    text = repr(data)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _is_saved(field: dataclasses.Field[Any]) -> bool:
    return bool(field.metadata.get("saved", True))


@functools.cache
def _saved_names(cls: Any) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(cls) if _is_saved(field))


_hints = functools.cache(get_type_hints)


def _decode_dataclass(cls: Any, data: Any, where: str) -> Any:
    if not isinstance(data, dict):
        raise UsageError(f"{where or cls.__name__}: expected a table of fields, got {_shorten(data)}")
    hints = _hints(cls)
    known = {field.name for field in dataclasses.fields(cls) if field.init and _is_saved(field)}
    prefix = f"{where}." if where else ""
    for key in data:
        if key not in known:
            near = suggestions(key, known) if len(key) < 80 else ""
            raise UsageError(f"{prefix}{key[:80]} is not a field of {cls.__name__}{near}")
    try:
        return cls(**{key: _decode(hints[key], item, f"{prefix}{key}") for key, item in data.items()})
    except (TypeError, ValueError) as error:
        raise UsageError(f"{where or cls.__name__}: {error}") from None


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace the file `path`. After a crash it has either the old or the new content. Text is UTF-8."""
    write_together({path: content})


def write_together(contents: Mapping[Path, str | bytes]) -> None:
    """Replace files of one folder, or none of them if one cannot be written. Text is UTF-8.

    After a crash in between, the last file may be missing: where it is, the others belong to it.
    """
    temporaries = {path: path.with_name(f".{path.name}.tmp") for path in contents}
    *_, last = contents
    try:
        for path, temporary in temporaries.items():
            content = contents[path]
            with attach_path(path), name_target(path, temporary):
                temporary.unlink(missing_ok=True)  # may be left from a crash, or be a link that must not be followed
                with open(temporary, "xb") as file:
                    file.write(content.encode() if isinstance(content, str) else content)
                    file.flush()
                    os.fsync(file.fileno())
        if len(contents) > 1:
            last.unlink(missing_ok=True)
        for path, temporary in temporaries.items():
            os.replace(temporary, path)
        sync_folder(last.parent)
    except BaseException:
        for temporary in temporaries.values():
            with contextlib.suppress(OSError):
                temporary.unlink()
        raise


def sync_folder(folder: Path) -> None:
    """Flush renames in a folder to disk."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows cannot open folders
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with attach_path(folder):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors to a new safetensors file and flush it to disk. Raises OSError."""
    from safetensors.torch import save_file

    path.unlink(missing_ok=True)  # may be left from a crash, or be a link that must not be followed
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
    except safetensors.SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None
    with attach_path(path), open(path, "r+b") as file:  # Windows syncs only files that are open for writing
        os.fsync(file.fileno())


def load_tensors(path: Path, expected: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file. Raises CheckpointError if it is damaged or does not match `expected`.

    `expected` gives the names, shapes and dtypes, as tensors on the device "meta". They are compared with the file's
    header before memory is allocated.
    """
    from safetensors.torch import load_file

    header = read_header(path)
    if expected is not None:
        check_tensors(path, header, expected)
    try:
        return load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read as safetensors: {error}") from None


def check_tensors(path: Path, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError if the tensors found in a file differ from the expected ones in names, shapes or dtypes."""
    for name in sorted(found.keys() | expected.keys()):
        actual, wanted = found.get(name), expected.get(name)
        if actual is None or wanted is None or (actual.shape, actual.dtype) != (wanted.shape, wanted.dtype):
            raise CheckpointError(
                f"{path} does not fit: {_shorten(name)} is {_describe(actual)}, expected {_describe(wanted)}"
            )


def _describe(tensor: Tensor | None) -> str:
    """Return the shape and dtype of a tensor for a message."""
    return "missing" if tensor is None else f"{list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def read_header(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file on the device "meta", without reading their values.

    Raises CheckpointError if the file is damaged or has a dtype that is never written.
    """
    import torch

    dtypes = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    dtypes |= {"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8}
    dtypes |= {"U8": torch.uint8, "U16": torch.uint16, "U32": torch.uint32, "BOOL": torch.bool}
    header = {}
    try:
        with safetensors.safe_open(_check_plain(path), "pt") as file:
            for name in file.keys():  # noqa: SIM118  it is not a mapping
                entry = file.get_slice(name)
                if entry.get_dtype() not in dtypes:
                    raise CheckpointError(
                        f"{path}: {_shorten(name)} has the dtype {entry.get_dtype()}, which is never saved"
                    )
                header[name] = torch.empty(entry.get_shape(), dtype=dtypes[entry.get_dtype()], device="meta")
    except (OSError, RuntimeError, OverflowError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read as safetensors: {error}") from None
    return header


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_checksum(path: Path) -> dict[str, Any]:
    """Return the entry of a file in a manifest: its sha256 and its size in bytes."""
    return {"sha256": file_sha256(path), "bytes": path.stat().st_size}


def verify_file(path: Path, checksum: Mapping[str, Any]) -> None:
    """Raise CheckpointError if a file is missing or does not match its entry in the manifest (`file_checksum`)."""
    try:
        if not path.is_file():
            raise FileNotFoundError
        size = path.stat().st_size
        if size != checksum["bytes"]:
            raise CheckpointError(f"{path} is truncated: {size} of {checksum['bytes']} bytes")
        if file_sha256(path) != checksum["sha256"]:
            raise CheckpointError(f"{path} is damaged: its sha256 is not the manifest's")
    except FileNotFoundError:  # perhaps only now: the run has removed it
        raise CheckpointError(f"{path} is missing") from None
    except OSError as problem:
        raise CheckpointError(f"{path} cannot be read: {problem.strerror}") from None


def tensor_sha256(tensor: Tensor) -> str:
    """Return the SHA-256 of a tensor's values in row-major order, in hexadecimal."""
    return hashlib.sha256(tensor.detach().cpu().contiguous().numpy().tobytes()).hexdigest()


def read_text(path: Path, max_bytes: int = MAX_BYTES, kind: str = "text") -> str:
    """Return the content of a UTF-8 file. Raises CheckpointError if it is larger than `max_bytes` or unreadable."""
    try:
        size = _check_plain(path).stat().st_size
        if size > max_bytes:
            raise CheckpointError(f"{path} has {size:,} bytes, more than the {max_bytes:,} allowed")
        with open(path, "rb") as file:
            return file.read(max_bytes).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read as {kind}: {error}") from None


def _check_plain(path: Path) -> Path:
    """Return `path`. Raises OSError if it is a folder, device or pipe; reading a pipe could block forever."""
    if path.exists() and not path.is_file():
        raise OSError("it is not a plain file")
    return path


def parse_json(text: str) -> Any:
    """Parse JSON. Raises ValueError, also for duplicate keys and for nesting beyond 64 levels."""
    try:
        data = json.loads(text, object_pairs_hook=_unique_keys)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    level, depth = [data], 0
    while level:
        if (depth := depth + 1) > _MAX_DEPTH:
            raise ValueError(f"it is nested more than {_MAX_DEPTH} levels deep")
        children = (x.values() if isinstance(x, dict) else x for x in level if isinstance(x, dict | list))
        level = [x for values in children for x in values if isinstance(x, dict | list)]
    return data


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) != len(pairs):
        raise ValueError("a key occurs twice")
    return data


def read_json(path: Path, max_bytes: int = MAX_BYTES) -> Any:
    """Parse a JSON file. Raises CheckpointError if it is larger than `max_bytes` or damaged."""
    try:
        return parse_json(read_text(path, max_bytes, "JSON"))
    except ValueError as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}") from None
