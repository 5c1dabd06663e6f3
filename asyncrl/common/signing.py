"""Which files this user has written on this machine: they are signed with a key in the user's own state folder.

Names of code in a file are run without a question only where the signature is this user's; see `Contract.check_trust`.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import stat
from pathlib import Path

__all__ = ["can_sign", "is_signed", "key_file", "sign"]

_BYTES = 32
_BINARY = getattr(os, "O_BINARY", 0)  # Windows otherwise translates line ends


def key_file() -> Path:
    """Where the key is: ``asyncrl/key`` in ``XDG_STATE_HOME``, or in ``~/.local/state``. Raises OSError without a home."""
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():
        try:
            state = Path.home() / ".local" / "state"
        except RuntimeError as problem:
            raise OSError(str(problem)) from None
    return state / "asyncrl" / "key"


def can_sign() -> bool:
    """Is there a key, or can one be made?"""
    return bool(sign("", ""))


def sign(kind: str, content: str) -> str:
    """The signature of a file's `content`, hexadecimal; "" where no key can be kept. `kind`: what sort of file it is."""
    try:
        key = _read() or _make()
    except OSError:
        return ""
    return hmac.new(key, f"{kind}\n{content}".encode(), hashlib.sha256).hexdigest()


def is_signed(kind: str, content: str, signature: object) -> bool:
    """Has this user signed `content`? A key is not made for the question."""
    with contextlib.suppress(OSError):
        if isinstance(signature, str) and _read() is not None:
            return hmac.compare_digest(sign(kind, content).encode(), signature.encode(errors="replace"))
    return False


def _read() -> bytes | None:
    """The key; None where there is none. Raises OSError for a file that others could have written or read."""
    path = key_file()
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | _BINARY)
    except FileNotFoundError:
        return None
    with open(descriptor, "rb") as file:
        facts, key = os.fstat(descriptor), file.read(_BYTES + 1)
    is_private = os.name != "posix" or (facts.st_uid == os.geteuid() and not stat.S_IMODE(facts.st_mode) & 0o077)
    if not is_private or len(key) != _BYTES:
        raise OSError(f"{path} is not a key of this user's alone")
    return key


def _make() -> bytes:
    """A new key, or the one that another process has made at the same time. Raises OSError where it cannot be kept."""
    path = key_file()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_name(f".key.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o600), "wb") as file:
            file.write(secrets.token_bytes(_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(beside, path)  # whole or not at all, and never over another
    finally:
        beside.unlink(missing_ok=True)
    key = _read()
    if key is None:
        raise OSError(f"{path} cannot be made")
    return key
