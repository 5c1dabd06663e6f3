"""Pictures into a file or onto the screen."""

from __future__ import annotations

import contextlib
import io
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from asyncrl.common.os_errors import attach_path
from asyncrl.errors import UsageError

__all__ = ["Screen", "VideoFile", "Window", "open_video"]

_UNSEEN = ("dummy", "offscreen", "evdev")  # what SDL falls back to where there is no screen
_SMALLEST = 420  # pixels: smaller pictures are enlarged by a whole factor


class Screen(Protocol):
    """Something that shows pictures [H, W, 3] uint8, one after the other."""

    def show(self, picture: np.ndarray) -> None: ...

    def __enter__(self) -> Screen: ...

    def __exit__(self, kind: Any, fault: Any, trace: TracebackType | None) -> None: ...


def _size(picture: np.ndarray) -> tuple[int, int]:
    height, width = picture.shape[:2]
    return height, width


def _fitted(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture of this height and width: one of another size is scaled as far as it fits, on black."""
    if _size(picture) == size:
        return picture
    from PIL import Image, ImageOps

    return np.asarray(ImageOps.pad(Image.fromarray(np.ascontiguousarray(picture)), size[::-1]))


def open_video(path: Path, frames_per_second: float) -> VideoFile:
    """A .mp4 or .gif file. Raises UsageError for another ending or a folder that is not there."""
    if path.suffix not in (".mp4", ".gif"):
        raise UsageError(f"--video {path}: the ending must be .mp4 or .gif")
    if not path.parent.is_dir():
        raise UsageError(f"--video {path}: there is no folder {path.parent}")
    return VideoFile(path, frames_per_second)


class VideoFile:
    """A video written picture by picture; it appears under its name when it is whole. Raises OSError where it cannot be."""

    def __init__(self, path: Path, frames_per_second: float) -> None:
        import imageio.v2 as imageio

        self._path, self._beside = path, path.with_name(f".{path.stem}.tmp{path.suffix}")
        self._size: tuple[int, int] | None = None
        if path.suffix == ".gif":
            # A GIF counts hundredths of a second, and viewers slow down what is under two of them.
            duration = max(20, round(100 / frames_per_second) * 10)
            # Pillow keeps all pictures until the end anyway, and complains twice of a file that it cannot write.
            self._gif: io.BytesIO | None = io.BytesIO()
            self._writer: Any = imageio.get_writer(self._gif, format=".gif", mode="I", duration=duration, loop=0)
        else:
            self._gif = None
            self._writer = imageio.get_writer(self._beside, fps=frames_per_second, macro_block_size=2, quality=8)

    def show(self, picture: np.ndarray) -> None:
        self._size = self._size or _size(picture)
        picture = _fitted(picture, self._size)
        factor = 1 if self._path.suffix == ".gif" else max(1, -(-_SMALLEST // max(picture.shape[:2])))
        picture = picture.repeat(factor, axis=0).repeat(factor, axis=1)
        height, width = (n % 2 for n in picture.shape[:2])  # H.264 wants even sizes
        with _of_the_video(self._path):
            self._writer.append_data(np.pad(picture, ((0, height), (0, width), (0, 0)), mode="edge"))

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(self, kind: Any, fault: Any, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self._finish()
            else:
                with contextlib.suppress(OSError):
                    self._writer.close()
        finally:
            self._beside.unlink(missing_ok=True)

    def _finish(self) -> None:
        with _of_the_video(self._path):
            self._writer.close()
            if self._gif is not None:
                self._beside.write_bytes(self._gif.getbuffer())
            elif not _is_whole(self._beside):
                raise OSError  # ffmpeg has failed, and imageio does not tell
            self._beside.replace(self._path)


@contextmanager
def _of_the_video(path: Path) -> Iterator[None]:
    """Name the video in an OSError; where ffmpeg failed, that has no number and all that ffmpeg said."""
    try:
        with attach_path(path):
            yield
    except OSError as problem:
        if problem.errno is not None:
            raise
        what = "ffmpeg could not write it whole; free some space there, or see what ffmpeg says above"
        raise OSError(0, what, str(path)) from None


def _is_whole(path: Path) -> bool:
    """Has an .mp4 file its table of contents, which ffmpeg writes last, and end with a box's end?"""
    size, at, boxes = path.stat().st_size, 0, set()
    with open(path, "rb") as file:
        while at + 8 <= size:
            file.seek(at)
            length, box = int.from_bytes(file.read(4), "big"), file.read(4)
            if length == 1:
                length = int.from_bytes(file.read(8), "big")
            boxes.add(box)
            at += max(length, 8)
    return b"moov" in boxes and at == size


class Window:
    """A window that plays in real time; closing it raises KeyboardInterrupt."""

    def __init__(self, title: str, frames_per_second: float) -> None:
        try:
            import pygame
        except ImportError:
            raise UsageError(
                "a window needs pygame: pip install 'asyncrl[classic]' — or write a file with --video game.mp4"
            ) from None
        self._pygame, self._pause = pygame, 1 / frames_per_second
        self.pressed: set[str] = set()
        """Names of the keys that are held down: "left", "space", "a", …"""
        self._surface: Any = None
        self._size: tuple[int, int] | None = None
        try:
            pygame.display.init()
        except pygame.error as problem:
            raise UsageError(f"no window can be opened ({problem}); write a file with --video game.mp4") from None
        if pygame.display.get_driver() in _UNSEEN and "SDL_VIDEODRIVER" not in os.environ:
            raise UsageError("there is no screen here; write a file with --video game.mp4")
        pygame.display.set_caption(title)

    def show(self, picture: np.ndarray) -> None:
        began, pygame = time.monotonic(), self._pygame
        self._size = self._size or _size(picture)
        picture = _fitted(picture, self._size)
        height, width = self._size
        factor = max(1, -(-_SMALLEST // max(height, width)))
        size = width * factor, height * factor
        if self._surface is None:
            try:
                self._surface = pygame.display.set_mode(size)
            except pygame.error as problem:
                raise UsageError(f"no window can be opened ({problem}); write a file with --video game.mp4") from None
        self._listen()
        image = pygame.surfarray.make_surface(picture.swapaxes(0, 1))
        self._surface.blit(pygame.transform.scale(image, size), (0, 0))
        pygame.display.flip()
        time.sleep(max(0.0, self._pause - (time.monotonic() - began)))

    def _listen(self) -> None:
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

    def __exit__(self, kind: Any, fault: Any, trace: TracebackType | None) -> None:
        self._pygame.display.quit()
