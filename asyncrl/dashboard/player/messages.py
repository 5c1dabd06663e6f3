"""Messages between the page's server, its players and the browser: a JSON object and bytes, such as a picture.

A message is two 32-bit big-endian lengths, the JSON in UTF-8, and the bytes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

from asyncrl.dashboard.feed import encoded

__all__ = ["HEADER", "pack", "unpack"]

HEADER = struct.Struct(">II")
LARGEST = 64 * 2**20
"""Bytes of the largest message that is read."""


def pack(content: dict[str, Any], attachment: bytes = b"") -> bytes:
    """Return a message. Numbers that are not finite become null."""
    body = encoded(content).encode()
    return HEADER.pack(len(body), len(attachment)) + body + attachment


def unpack(read: Callable[[int], bytes]) -> tuple[dict[str, Any], bytes] | None:
    """Return the next message; `read` returns exactly as many bytes as asked for, or b"" at the end. None at the end."""
    header = read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    length, attached = HEADER.unpack(header)
    if length + attached > LARGEST:
        raise ValueError(f"a message of {length + attached:,} bytes")
    content = json.loads(read(length))
    assert isinstance(content, dict)
    return content, read(attached) if attached else b""
