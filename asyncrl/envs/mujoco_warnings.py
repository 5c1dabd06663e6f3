"""MuJoCo's warnings."""

from __future__ import annotations

import sys

__all__ = ["handle_mujoco_warnings"]


def handle_mujoco_warnings() -> None:
    """Let MuJoCo, if it is imported, write its warnings to standard error only.

    Otherwise it also adds each of them to MUJOCO_LOG.TXT in the working directory. Those about deprecated attributes are
    dropped: every environment would repeat what concerns only the author of its model. A handler that is set already
    stays.
    """
    mujoco = sys.modules.get("mujoco")
    if mujoco is not None and mujoco.get_mju_user_warning() is None:
        mujoco.set_mju_user_warning(_show)


def _show(message: str) -> None:
    if "is deprecated" not in message:
        print(f"WARNING: {message}", file=sys.stderr)
