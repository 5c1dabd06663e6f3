"""Pictures by OpenGL on machines without a display."""

from __future__ import annotations

import ctypes.util
import os
import sys

__all__ = ["MISSING_OPENGL", "choose_opengl"]

MISSING_OPENGL = "without a display it needs EGL or OSMesa, in Debian the packages libegl1 and libosmesa6"
"""What a machine lacks where MuJoCo finds no OpenGL."""


def choose_opengl() -> None:
    """Let MuJoCo draw into memory on machines without a display, which its default, GLFW, needs.

    Sets the environment variable MUJOCO_GL to ``egl`` or ``osmesa``, whichever is installed, unless it is set already.
    """
    has_display = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    if sys.platform != "linux" or has_display or os.environ.get("MUJOCO_GL"):
        return
    installed = (name for name, library in (("egl", "EGL"), ("osmesa", "OSMesa")) if ctypes.util.find_library(library))
    backend = next(installed, None)
    if backend:
        os.environ["MUJOCO_GL"] = backend
