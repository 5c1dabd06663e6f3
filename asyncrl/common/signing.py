"""Signatures of files that this user has written on this machine, made with a key in the user's state folder.

Code that a file names is run without `--trust` only if the file has such a signature; see `Contract.check_trust`.
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

_KEY_BYTES = 32
_BINARY = getattr(os, "O_BINARY", 0)  # Windows otherwise translates line ends


def key_file() -> Path:
    """Return the key's path: ``asyncrl/key`` in ``XDG_STATE_HOME`` or ``~/.local/state``. Raises OSError without a home."""
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():
        try:
            state = Path.home() / ".local" / "state"
        except RuntimeError as error:
            raise OSError(str(error)) from None
    return state / "asyncrl" / "key"


def can_sign() -> bool:
    """Return whether there is a key or one can be created."""
    return bool(sign("", ""))


def sign(kind: str, content: str) -> str:
    """Return the signature of a file's `content` in hexadecimal, or "" if there is no key and none can be created.

    `kind` names the type of file, so that a signature holds for one type only.
    """
    try:
        key = _read_key() or _create_key()
    except OSError:
        return ""
    return hmac.new(key, f"{kind}\n{content}".encode(), hashlib.sha256).hexdigest()


def is_signed(kind: str, content: str, signature: object) -> bool:
    """Return whether `signature` is this user's for `content`. It never creates a key."""
    with contextlib.suppress(OSError):
        if isinstance(signature, str) and _read_key() is not None:
            return hmac.compare_digest(sign(kind, content).encode(), signature.encode(errors="replace"))
    return False


def _read_key() -> bytes | None:
    """Return the key, or None if there is none. Raises OSError if other users could have read or written it."""
    path = key_file()
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | _BINARY)
    except FileNotFoundError:
        return None
    with open(descriptor, "rb") as file:
        status, key = os.fstat(descriptor), file.read(_KEY_BYTES + 1)
    is_private = os.name != "posix" or (status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & 0o077)
    if not is_private or len(key) != _KEY_BYTES:
        raise OSError(f"{path} is not a private key file of this user")
    return key


def _create_key() -> bytes:
    """Create a key and return it, or the one that another process created meanwhile. Raises OSError."""
    path = key_file()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".key.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o600), "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)  # atomic, and never replaces another
    finally:
        temporary.unlink(missing_ok=True)
    key = _read_key()
    if key is None:
        raise OSError(f"{path} cannot be created")
    return key
