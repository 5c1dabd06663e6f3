"""The peers' virtual environments, made on first use, and CleanRL's scripts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

__all__ = ["cleanrl_script", "python_of"]

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
VENVS = HERE.parent / ".peers"
TORCH = "torch==2.13.0"
PACKAGES = {
    "sb3": ("stable-baselines3==2.9.2", TORCH, "ale-py", "opencv-python-headless"),
    "cleanrl": (TORCH, "envpool", "gymnasium", "numpy", "tyro"),
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


def cleanrl_script(checkout: Path | str | None, name: str) -> Path:
    """Copy a script of CleanRL next to its virtual environment, from a checkout or a bare repository; returns the copy."""
    if not checkout:
        raise SystemExit(f"{name} is CleanRL's: pass --cleanrl PATH, a clone of vwxyzjn/cleanrl (or a bare one)")
    file = Path(checkout) / "cleanrl" / name
    if file.is_file():
        text = file.read_text()
    else:
        words = ["git", "-C", str(checkout), "show", f"HEAD:cleanrl/{name}"]
        text = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    copy = VENVS / "cleanrl" / "scripts" / name
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_text(text)
    return copy
