"""Pictures of an environment: whatever it draws is a picture of red, green and blue, or one sentence."""

from __future__ import annotations

import contextlib
import ctypes.util
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import imageio.v3 as imageio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from worlds import Painter

from asyncrl.agents.video import check_video_file, open_video
from asyncrl.common.os_errors import describe_os_error
from asyncrl.envs import View, describe
from asyncrl.envs.offscreen import choose_opengl
from asyncrl.errors import UsageError


@contextlib.contextmanager
def painted(drawn: Any) -> Iterator[View]:
    """A view of an environment that draws this."""
    with contextlib.closing(View(describe("worlds:Painter"))) as view:
        view.reset(1)
        Painter.drawn = drawn
        yield view


SHAPES = st.tuples(st.integers(5, 9), st.integers(5, 9))
LAYOUTS = ["gray", "gray channel", "rgb", "rgba", "channels first"]


@given(
    SHAPES, st.sampled_from(LAYOUTS), st.sampled_from(["uint8", "int64", "float32", "float64"]), st.booleans(), st.data()
)
def test_every_layout_and_dtype_of_a_picture_is_converted(
    size: tuple[int, int], layout: str, dtype: str, to_one: bool, data: st.DataObject
) -> None:
    expected = data.draw(arrays.arrays(np.uint8, (*size, 3), elements=st.sampled_from([0, 255]), fill=st.nothing()))
    expected[0, 0] = 255  # otherwise the value of white is unknown
    if layout.startswith("gray"):
        expected[:] = expected[:, :, :1]
    drawn = (expected // 255 if to_one else expected).astype(dtype)
    match layout:
        case "gray":
            drawn = drawn[:, :, 0]
        case "gray channel":
            drawn = drawn[:, :, :1]
        case "rgba":
            drawn = np.concatenate([drawn, drawn[:, :, :1]], axis=2)
        case "channels first":
            drawn = np.moveaxis(drawn, 2, 0)
    with painted(drawn) as view:
        picture = view.picture()
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, expected)


def test_a_dark_picture_after_a_bright_one_stays_dark() -> None:
    bright, dark = np.full((8, 8, 3), 200.0), np.full((8, 8, 3), 1.0)
    with painted(bright) as view:
        assert view.picture().max() == 200
        Painter.drawn = dark
        assert view.picture().max() == 1


NO_PICTURES = {
    "None": (None, "its render returned None"),
    "not implemented": (NotImplementedError(), "its render is not implemented"),
    "a fault": (RuntimeError("no display"), "its render raised RuntimeError: no display"),
    "a list": ([np.zeros((8, 8, 3), np.uint8)] * 3, "its render returned a list"),
    "text": ("....", "its render returned a str"),
    "a number": (3, "its render returned a int"),
    "words": (np.array([["a"]]), "its render returned a ndarray, not an array of pixels"),
    "a row": (np.zeros(8), r"its render returned an array of shape \(8,\)"),
    "nothing": (np.zeros((0, 8, 3)), r"its render returned an array of shape \(0, 8, 3\)"),
    "two channels": (np.zeros((8, 8, 2)), r"its render returned an array of shape \(8, 8, 2\)"),
}


@pytest.mark.parametrize("what", NO_PICTURES)
def test_values_that_are_not_pictures_are_refused(what: str) -> None:
    drawn, why = NO_PICTURES[what]
    with painted(drawn) as view, pytest.raises(UsageError, match=f"worlds:Painter cannot be drawn: {why}"):
        view.picture()


def test_without_the_render_mode_that_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(Painter.metadata, "render_modes", ["human"])
    with painted(None) as view, pytest.raises(UsageError, match="cannot be drawn: it has no render mode rgb_array"):
        view.picture()


def test_a_class_without_a_constructor_cannot_be_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    registered = gymnasium.envs.registration.EnvSpec("Plain-v0", entry_point="invalid_envs:Right")
    monkeypatch.setitem(gymnasium.registry, "Plain-v0", registered)
    for env in ("invalid_envs:Right", "Plain-v0"):
        with pytest.raises(UsageError, match=f"^{env} cannot be drawn: its constructor takes no render_mode$"):
            View(describe(env))


@pytest.mark.parametrize(
    ("speed", "expected"),
    [(None, 30), (0, 30), (-5, 30), ("fast", 30), (float("nan"), 30), (float("inf"), 30), (7, 7), ("12", 12), (1e9, 240)],
)
def test_an_environment_without_render_fps_gets_the_default_speed(
    monkeypatch: pytest.MonkeyPatch, speed: Any, expected: float
) -> None:
    monkeypatch.setitem(Painter.metadata, "render_fps", speed)
    with painted(None) as view:
        assert view.frames_per_second == expected


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.EACCES, "Permission denied; allow this user to write there"),
        (errno.EROFS, "Read-only file system; make it writable"),
    ],
)
def test_a_folder_that_cannot_be_written_is_said_with_its_reason_before_the_first_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, sentence: str
) -> None:
    def refuse(file: object, flags: int, mode: int = 0o777) -> int:
        raise OSError(number, os.strerror(number), file)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OSError, match=os.strerror(number)) as refused:
        check_video_file(tmp_path / "x.mp4")
    assert describe_os_error(refused.value) == f"{tmp_path / 'x.mp4'}: {sentence}"


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=2, max_size=4))
def test_pictures_of_other_sizes_are_fitted_into_the_first_size(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[tuple[int, int]]
) -> None:
    path = tmp_path_factory.mktemp("video") / "game.gif"
    with open_video(path, 10) as video:
        for number, size in enumerate(sizes):
            video.show(np.full((*size, 3), 50 * number + 50, np.uint8))
    height, width = (n + n % 2 for n in sizes[0])
    assert imageio.imread(path, index=None).shape[1:] == (height, width, 3)  # equal pictures are one


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (431, 433), (32, 192)])
def test_videos_of_every_size_can_be_written(tmp_path: Path, size: tuple[int, int]) -> None:
    with open_video(tmp_path / "game.mp4", 10) as video:
        video.show(np.zeros((*size, 3), np.uint8))
    assert (tmp_path / "game.mp4").stat().st_size > 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a full disk to write to")
def test_a_full_disk_is_reported_in_place_of_what_ffmpeg_prints(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with contextlib.ExitStack() as stack:
        video = stack.enter_context(open_video(tmp_path / "game.mp4", 10))
        (tmp_path / ".game.tmp.mp4").symlink_to("/dev/full")
        video.show(np.zeros((64, 64, 3), np.uint8))
        with pytest.raises(OSError, match="No space left") as full:
            stack.close()
    assert describe_os_error(full.value).startswith(f"{tmp_path / 'game.mp4'}: No space left on device; ")
    assert (capfd.readouterr().err, list(tmp_path.iterdir())) == ("", [])


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_a_video_whose_name_is_too_long_is_refused(tmp_path: Path, suffix: str) -> None:
    path = (tmp_path / ("x" * 251)).with_suffix(suffix)
    with pytest.raises(OSError, match="too long") as refused:
        open_video(path, 10)
    assert describe_os_error(refused.value) == f"{path}: File name too long; shorten it"


def test_a_video_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    (tmp_path / ".game.tmp.mp4").symlink_to(tmp_path / "other")
    with open_video(tmp_path / "game.mp4", 10) as video:
        video.show(np.zeros((64, 64, 3), np.uint8))
    assert ((tmp_path / "other").stat().st_size, (tmp_path / "game.mp4").is_symlink()) == (0, False)


@pytest.mark.skipif(
    sys.platform != "linux" or not ctypes.util.find_library("EGL"), reason="install EGL, in Debian the package libegl1"
)
def test_mujoco_is_drawn_without_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mujoco", reason="install asyncrl[mujoco]")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL"):
        monkeypatch.setenv(name, "")
    with contextlib.closing(View(describe("InvertedPendulum-v5"))) as view:
        view.reset(1)
        assert view.picture().std() > 10


@pytest.mark.parametrize(
    ("variables", "installed", "chosen"),
    [
        ({}, ["EGL", "OSMesa"], "egl"),
        ({}, ["OSMesa"], "osmesa"),
        ({}, [], ""),
        ({"DISPLAY": ":0"}, ["EGL"], ""),
        ({"WAYLAND_DISPLAY": "wayland-0"}, ["EGL"], ""),
        ({"MUJOCO_GL": "glfw"}, ["EGL"], "glfw"),
    ],
)
def test_opengl_draws_into_memory_only_without_a_display(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], installed: list[str], chosen: str
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: name if name in installed else None)
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL"):
        monkeypatch.setenv(name, variables.get(name, ""))
    choose_opengl()
    assert os.environ["MUJOCO_GL"] == chosen
