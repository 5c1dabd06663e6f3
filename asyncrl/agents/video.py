"""Video files, windows and cells of a notebook that show pictures [H, W, 3] uint8."""

from __future__ import annotations

import contextlib
import importlib
import io
import math
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from asyncrl.common.os_errors import attach_path, name_target
from asyncrl.common.signals import keep_signals_from_sdl
from asyncrl.errors import UsageError
from asyncrl.monitor.notebook import in_notebook

__all__ = ["NotebookCell", "Screen", "VideoFile", "Window", "check_video_file", "open_screen", "open_video"]

_HEADLESS_DRIVERS = ("dummy", "offscreen", "evdev")
"""SDL's fallbacks without a screen."""
_MIN_PIXELS = 420
"""Pictures with a smaller longer side are enlarged by an integer factor."""
_PROBE = 2**20
"""Bytes that show whether the disk is full."""
_MAX_UPDATES = 30.0
"""Pictures per second in a notebook, each of which is sent to the browser."""


class Screen(Protocol):
    """A context manager that shows pictures [H, W, 3] uint8."""

    def show(self, picture: np.ndarray) -> None: ...

    def __enter__(self) -> Screen: ...

    def __exit__(self, kind: Any, error: Any, trace: TracebackType | None) -> None: ...


def _size(picture: np.ndarray) -> tuple[int, int]:
    height, width = picture.shape[:2]
    return height, width


def _scale_factor(size: tuple[int, int]) -> int:
    return max(1, math.ceil(_MIN_PIXELS / max(size)))


def _fit(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a picture of this height and width: one of another size is scaled and padded with black."""
    if _size(picture) == size:
        return picture
    from PIL import Image, ImageOps

    return np.asarray(ImageOps.pad(Image.fromarray(np.ascontiguousarray(picture)), size[::-1]))


def open_screen(title: str, frames_per_second: float) -> Screen:
    """Open a place to watch in: the output of the cell in a notebook, else a window."""
    return NotebookCell(frames_per_second) if in_notebook() else Window(title, frames_per_second)


def open_video(path: Path, frames_per_second: float) -> VideoFile:
    """Open an .mp4 or .gif file. Raises UsageError as `check_video_file`."""
    check_video_file(path)
    return VideoFile(path, frames_per_second)


def check_video_file(path: Path) -> None:
    """Raise UsageError unless the file ends in .mp4 or .gif and its folder exists, OSError if that cannot be written."""
    if path.suffix not in (".mp4", ".gif"):
        raise UsageError(f"--video {path}: the file must end in .mp4 or .gif")
    if not path.parent.is_dir():
        raise UsageError(f"--video {path}: there is no folder {path.parent}")
    try:
        with tempfile.TemporaryFile(dir=path.parent):  # ffmpeg's failure would not say why
            pass
    except OSError as error:
        error.filename = str(path)
        raise


class VideoFile:
    """Writes a video picture by picture. The file appears when it is complete. Raises OSError if writing fails."""

    def __init__(self, path: Path, frames_per_second: float) -> None:
        import imageio.v2 as imageio

        self._path = path
        self._temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")
        with name_target(path, self._temporary):
            self._temporary.unlink(missing_ok=True)  # may be left from a crash, or be a link that must not be followed
        self._size: tuple[int, int] | None = None
        if path.suffix == ".gif":
            # GIF durations are in hundredths of a second, and viewers slow down those below two.
            duration = max(20, round(100 / frames_per_second) * 10)
            # In memory: Pillow keeps all pictures until the end anyway, and reports a failed write twice.
            self._gif: io.BytesIO | None = io.BytesIO()
            self._writer: Any = imageio.get_writer(self._gif, format=".gif", mode="I", duration=duration, loop=0)
        else:
            self._gif = None
            options: dict[str, Any] = {"macro_block_size": 2, "quality": 8, "ffmpeg_log_level": "fatal"}
            self._writer = imageio.get_writer(self._temporary, fps=frames_per_second, **options)

    def show(self, picture: np.ndarray) -> None:
        self._size = self._size or _size(picture)
        picture = _fit(picture, self._size)
        factor = 1 if self._path.suffix == ".gif" else _scale_factor(self._size)
        picture = picture.repeat(factor, axis=0).repeat(factor, axis=1)
        height, width = _size(picture)
        padding = ((0, height % 2), (0, width % 2), (0, 0))  # H.264 needs even sizes
        with self._translated_errors():
            self._writer.append_data(np.pad(picture, padding, mode="edge"))

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(self, kind: Any, error: Any, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self._finish()
            else:
                with contextlib.suppress(OSError):
                    self._writer.close()
        finally:
            with contextlib.suppress(OSError):
                self._temporary.unlink()

    def _finish(self) -> None:
        with self._translated_errors():
            self._writer.close()
            if self._gif is not None:
                self._temporary.write_bytes(self._gif.getbuffer())
            elif not (self._temporary.is_file() and _is_complete(self._temporary)):
                raise OSError  # ffmpeg failed; imageio does not report it
            self._temporary.replace(self._path)

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """Name the video in an OSError; one without an errno stands for a failure of ffmpeg, which does not say why."""
        with attach_path(self._path), name_target(self._path, self._temporary):
            try:
                yield
            except OSError as error:
                if error.errno is not None and not isinstance(error, BrokenPipeError):
                    raise
                with open(self._temporary, "ab", 0) as file:  # which fails in the same way if the disk is full
                    file.write(bytes(_PROBE))
                    os.fsync(file.fileno())
                raise OSError(0, "ffmpeg could not write the video", str(self._path)) from None


def _is_complete(path: Path) -> bool:
    """Return whether an .mp4 file has a table of contents, which ffmpeg writes last, and ends with a complete box."""
    size, position, boxes = path.stat().st_size, 0, set()
    with open(path, "rb") as file:
        while position + 8 <= size:
            file.seek(position)
            length, box = int.from_bytes(file.read(4), "big"), file.read(4)
            if length == 1:
                length = int.from_bytes(file.read(8), "big")
            boxes.add(box)
            position += max(length, 8)
    return b"moov" in boxes and position == size


class Window:
    """A window that shows pictures in real time. Closing it raises KeyboardInterrupt in `show`."""

    def __init__(self, title: str, frames_per_second: float) -> None:
        try:
            import pygame
        except ImportError:
            raise UsageError(
                "a window needs pygame: pip install 'asyncrl[classic]', or write a file with --video game.mp4"
            ) from None
        keep_signals_from_sdl()
        self._pygame = pygame
        self._interval = 1 / frames_per_second
        self.pressed: set[str] = set()
        """Names of the keys that are held down, such as "left", "space" or "a"."""
        self._surface: Any = None
        self._size: tuple[int, int] | None = None
        try:
            pygame.display.init()
        except pygame.error as error:
            raise UsageError(f"cannot open a window ({error}); write a file with --video game.mp4") from None
        if pygame.display.get_driver() in _HEADLESS_DRIVERS and "SDL_VIDEODRIVER" not in os.environ:
            raise UsageError("there is no screen here; write a file with --video game.mp4")
        pygame.display.set_caption(title)

    def show(self, picture: np.ndarray) -> None:
        start = time.monotonic()
        pygame = self._pygame
        self._size = self._size or _size(picture)
        picture = _fit(picture, self._size)
        height, width = self._size
        factor = _scale_factor(self._size)
        size = width * factor, height * factor
        if self._surface is None:
            try:
                self._surface = pygame.display.set_mode(size)
            except pygame.error as error:
                raise UsageError(f"cannot open a window ({error}); write a file with --video game.mp4") from None
        self._handle_events()
        image = pygame.surfarray.make_surface(picture.swapaxes(0, 1))
        self._surface.blit(pygame.transform.scale(image, size), (0, 0))
        pygame.display.flip()
        time.sleep(max(0.0, self._interval - (time.monotonic() - start)))

    def _handle_events(self) -> None:
        pygame = self._pygame
        for event in pygame.event.get():
            if event.type == pygame.QUIT:
                raise KeyboardInterrupt
            if event.type == pygame.KEYDOWN:
                self.pressed.add(pygame.key.name(event.key))
            elif event.type == pygame.KEYUP:
                self.pressed.discard(pygame.key.name(event.key))

    def __enter__(self) -> Window:
        return self

    def __exit__(self, kind: Any, error: Any, trace: TracebackType | None) -> None:
        self._pygame.display.quit()


class NotebookCell:
    """Shows pictures in real time below a cell of a notebook."""

    def __init__(self, frames_per_second: float) -> None:
        self._interval = 1 / min(frames_per_second, _MAX_UPDATES)
        self._display: Any = importlib.import_module("IPython.display")
        self._handle: Any = None
        self._due = time.monotonic()

    def show(self, picture: np.ndarray) -> None:
        import imageio.v2 as imageio

        factor = _scale_factor(_size(picture))
        data = imageio.imwrite("<bytes>", picture.repeat(factor, axis=0).repeat(factor, axis=1), format="jpg")
        image = self._display.Image(data=data, format="jpeg")
        time.sleep(max(0.0, self._due - time.monotonic()))
        self._due = time.monotonic() + self._interval
        if self._handle is None:
            self._handle = self._display.display(image, display_id=True)
        else:
            self._handle.update(image)

    def __enter__(self) -> NotebookCell:
        return self

    def __exit__(self, kind: Any, error: Any, trace: TracebackType | None) -> None:
        pass
