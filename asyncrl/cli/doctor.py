"""asyncrl doctor"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata

import psutil
import torch

from asyncrl.cli.options import parse
from asyncrl.common.hardware import cores, has_bfloat16
from asyncrl.engines.shared_memory import available_memory
from asyncrl.version import __version__

EXTRAS = {
    "atari": ("ale-py", "opencv-python-headless"),
    "box2d": ("Box2D",),
    "classic": ("pygame-ce",),
    "data": ("minari", "h5py"),
    "mario": ("gym-super-mario-bros", "nes-py", "opencv-python-headless"),
    "vizdoom": ("vizdoom", "opencv-python-headless"),
    "envpool": ("envpool",),
    "procgen": ("envpool", "PyQt5-Qt5"),
    "minigrid": ("minigrid",),
}
_GIB = 2**30


@dataclass(frozen=True)
class Arguments:
    """No arguments."""


def run(arguments: Sequence[str]) -> int:
    parse(Arguments, "doctor", arguments, "Show this machine and the installed packages.", {})
    memory = psutil.virtual_memory()
    print(f"asyncrl {__version__}, Python {platform.python_version()}, {platform.platform()}")
    print(f"cores               {cores()} of {os.cpu_count()}")
    print(f"memory              {available_memory() / _GIB:.1f} of {memory.total / _GIB:.1f} GiB free")
    print(f"torch               {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}")
    print(f"bfloat16            {'yes: --precision auto uses it' if has_bfloat16() else 'no: --precision auto means fp32'}")
    print(f"GPU                 {torch.cuda.get_device_name() if torch.cuda.is_available() else 'none that torch sees'}")
    for extra, packages in EXTRAS.items():
        missing = [p for p in packages if _version(p) is None]
        found = ", ".join(f"{p} {_version(p)}" for p in packages if p not in missing)
        print(f"{extra:<20}{found}" + (f"; missing: pip install 'asyncrl[{extra}]'" if missing else ""))
    return 0


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
