"""TensorBoard event files, written synchronously: torch's SummaryWriter writes, and fails, in a thread.

Only the messages are TensorBoard's: its RecordWriter imports every plugin and boto3, which takes 0.15 s and 12 MB.
"""

from __future__ import annotations

import os
import re
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from asyncrl.common.os_errors import attach_path

__all__ = ["EventFile"]

_FILE = re.compile(r"events\.out\.tfevents\.(\d{19})\..*")


class EventFile:
    """A new event file. Raises OSError with the file's name if it cannot be written."""

    def __init__(self, folder: Path, purge_step: int | None = None) -> None:
        """Make `folder` and the file. TensorBoard ignores events of older files from `purge_step` on."""
        from tensorboard.compat.proto import event_pb2, summary_pb2

        self._event, self._summary = event_pb2.Event, summary_pb2
        folder.mkdir(exist_ok=True)
        self.path = folder / f"events.out.tfevents.{_next_number(folder)}.{socket.gethostname()}.{os.getpid()}"
        self._file = open(self.path, "xb")
        self._write(self._event(wall_time=time.time(), file_version="brain.Event:2"))
        if purge_step is not None:
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._write(self._event(wall_time=time.time(), step=purge_step, session_log=start))

    def add(self, step: int, scalars: Mapping[str, float], histograms: Mapping[str, Sequence[float]]) -> None:
        """Write the values at `step`."""
        values = [self._summary.Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        values += [self._summary.Summary.Value(tag=tag, histo=self._histogram(x)) for tag, x in histograms.items()]
        self._write(self._event(wall_time=time.time(), step=step, summary=self._summary.Summary(value=values)))

    def add_image(self, step: int, tag: str, gif: Path) -> None:
        """Write a GIF at `step`; TensorBoard plays it."""
        data = gif.read_bytes()
        width, height = struct.unpack("<HH", data[6:10])
        image = self._summary.Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=data)
        value = self._summary.Summary.Value(tag=tag, image=image)
        self._write(self._event(wall_time=time.time(), step=step, summary=self._summary.Summary(value=[value])))

    def sync(self) -> None:
        """Write everything to disk."""
        with attach_path(self.path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        with attach_path(self.path):
            self._file.close()

    def _write(self, event: object) -> None:
        with attach_path(self.path):
            self._file.write(_framed(event.SerializeToString()))  # type: ignore[attr-defined]
            self._file.flush()

    def _histogram(self, values: Sequence[float]) -> object:
        x = np.asarray(values, dtype=np.float64)
        try:
            counts, edges = np.histogram(x, bins=30)
        except ValueError:  # the values differ by rounding only: too little for 30 bins
            counts, edges = np.histogram(x, bins=1, range=(x.min(), x.max() + abs(x.max()) + 1))
        return self._summary.HistogramProto(
            min=x.min(),
            max=x.max(),
            num=len(x),
            sum=x.sum(),
            sum_squares=x.dot(x),
            bucket_limit=edges[1:].tolist(),
            bucket=counts.tolist(),
        )


def _next_number(folder: Path) -> int:
    """The time in nanoseconds, or more if the clock was set back: TensorBoard reads files in the order of their names."""
    numbers = (int(found[1]) for path in folder.iterdir() if (found := _FILE.fullmatch(path.name)))
    return max(time.time_ns(), max(numbers, default=0) + 1)


def _framed(data: bytes) -> bytes:
    """`data` as a record of a TFRecord file: its length and itself, each followed by its checksum."""
    length = struct.pack("<Q", len(data))
    return b"".join((length, _masked_crc(length), data, _masked_crc(data)))


def _masked_crc(data: bytes) -> bytes:
    """The CRC-32C of `data`, rotated by 15 bits and increased by a constant, as TFRecord files have it."""
    crc = _MASK
    for byte in data:
        crc = _CRC_OF_BYTE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= _MASK
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & _MASK)


def _crc_of(byte: int) -> int:
    """The CRC-32C of one byte, without the inversions."""
    for _ in range(8):
        byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
    return byte


_MASK = 2**32 - 1
_CRC_OF_BYTE = tuple(map(_crc_of, range(256)))
