"""Messages with tensors between processes of one machine: the tensors travel in shared memory."""

from __future__ import annotations

import io
import mmap
import os
import pickle
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from asyncrl.engines.shared_memory import SharedMemory
from asyncrl.experience.rollout import Field

__all__ = ["Mailbox"]


class Mailbox:
    """Shared memory that holds the tensors of the newest messages and grows with them.

    One process writes. A message is valid until the next ones are written.
    """

    def __init__(self, memory: SharedMemory) -> None:
        self._file = memory
        self._memory = torch.zeros(0, dtype=torch.uint8)

    def write(self, values: Sequence[Any]) -> list[bytes]:
        """Write a message for each of the readers. Returns what each of them gives to `read`."""
        offset, messages, tensors = 0, [], []
        for value in values:
            pickler = _Pickler(offset)
            messages.append(pickler.pickled(value))
            tensors += pickler.tensors
            offset = pickler.end
        self._grow(offset)
        for start, tensor in tensors:
            _field(tensor).view(self._memory, start).copy_(tensor)
        return messages

    def read(self, message: bytes) -> Any:
        """Return the value of a message; its tensors are views of the shared memory."""
        self._grow(os.fstat(self._file.file).st_size)
        return _Unpickler(io.BytesIO(message), self._memory).load()

    def _grow(self, nbytes: int) -> None:
        """View `nbytes` of memory or more."""
        if nbytes <= len(self._memory):
            return
        if os.fstat(self._file.file).st_size < nbytes:
            os.ftruncate(self._file.file, nbytes)
        self._memory = torch.frombuffer(mmap.mmap(self._file.file, nbytes), dtype=torch.uint8)


def _field(tensor: Tensor) -> Field:
    return Field(tuple(tensor.shape), tensor.dtype)


_Place = tuple[int, tuple[int, ...], torch.dtype]
"""The byte at which a tensor begins, its shape and its dtype."""


class _Pickler(pickle.Pickler):
    """Replaces each tensor by its place in the memory, from byte `end` on, and each generator by its state."""

    def __init__(self, end: int) -> None:
        self._file = io.BytesIO()
        super().__init__(self._file, protocol=pickle.HIGHEST_PROTOCOL)
        self.end = end
        self.tensors: list[tuple[int, Tensor]] = []

    def pickled(self, value: Any) -> bytes:
        self.dump(value)
        return self._file.getvalue()

    def persistent_id(self, value: Any) -> _Place | bytes | None:
        if isinstance(value, torch.Generator):
            return value.get_state().numpy().tobytes()
        if not isinstance(value, Tensor):
            return None
        start, field = self.end, _field(value)
        self.tensors.append((start, value.detach()))
        self.end += field.nbytes
        return start, field.shape, field.dtype


class _Unpickler(pickle.Unpickler):
    """The inverse of `_Pickler`."""

    def __init__(self, file: io.BytesIO, memory: Tensor) -> None:
        super().__init__(file)
        self._memory = memory

    def persistent_load(self, place: _Place | bytes) -> Tensor | torch.Generator:
        if isinstance(place, bytes):
            random = torch.Generator()
            random.set_state(torch.frombuffer(bytearray(place), dtype=torch.uint8))
            return random
        start, shape, dtype = place
        return Field(shape, dtype).view(self._memory, start)
