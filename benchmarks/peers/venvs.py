"""The peers' virtual environments, made on first use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

__all__ = ["python_of"]

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
VENVS = HERE.parent / ".peers"
TORCH = "torch==2.13.0"
PACKAGES = {
    "sb3": ("stable-baselines3==2.9.2", TORCH, "ale-py", "opencv-python-headless"),
}
"""What each peer's virtual environment has."""


def python_of(side: str) -> Path:
    """Return the Python of a side, installed on first use; asyncrl's is the running one."""
    if side == "asyncrl":
        return Path(sys.executable)
    folder = VENVS / side
    python = folder / "bin" / "python"
    if not (folder / "installed").exists():
        print(f"installing {', '.join(PACKAGES[side])} into {folder}", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        constraints = ("-c", ROOT / "constraints.txt")
        subprocess.run([python, "-m", "pip", "install", "--quiet", *constraints, *PACKAGES[side]], check=True)
        (folder / "installed").touch()
    return python
