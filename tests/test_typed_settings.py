"""The types of settings that editors complete are those of the dataclasses."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from asyncrl.algorithms import ALGORITHMS
from asyncrl.runs.config.settings import setting_places
from asyncrl.typed_settings import Settings

ROOT = Path(__file__).parents[1]
MYPY = """
[mypy]
strict = true
python_version = 3.11
follow_imports = skip
[mypy-asyncrl,asyncrl.api,asyncrl.typed_settings,asyncrl.runs.config.run_config,asyncrl.monitor.trackers]
follow_imports = silent
[mypy-numpy.*]
follow_imports = skip
follow_imports_for_stubs = true
"""
"""Only with the modules that the calls below take types from: torch and numpy alone take most of a minute."""


def test_every_setting_has_a_type() -> None:
    names = {name for cls in ALGORITHMS.values() for name in setting_places(cls)}
    assert Settings.__annotations__.keys() == names


def test_the_file_is_what_its_generator_writes() -> None:
    spec = importlib.util.spec_from_file_location("generator", ROOT / "tools" / "typed_settings.py")
    assert spec is not None
    assert spec.loader is not None
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    written = (ROOT / "asyncrl" / "typed_settings.py").read_text(encoding="utf-8")
    assert written == generator.source(), "a setting has changed: run `make settings` (python tools/typed_settings.py)"


@pytest.mark.slow
def test_a_type_checker_finds_mistakes(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    calls = [
        'train("CartPole-v1", "ppo", steps=1_000, engine="threads", hidden=[8], track=["csv"])',
        'train("CartPole-v1", "ppo", stepz=1_000)',
        'train("CartPole-v1", "ppo", engine="thread")',
        'train("CartPole-v1", "ppo", learning_rate="fast")',
        'resume("run", steps=10, hidden=[8])',
    ]
    (tmp_path / "user.py").write_text("from asyncrl import resume, train\n" + "\n".join(calls) + "\n", encoding="utf-8")
    (tmp_path / "mypy.ini").write_text(MYPY, encoding="utf-8")
    words = ["--no-color-output", "--config-file", str(tmp_path / "mypy.ini"), "--cache-dir", str(tmp_path / "cache")]
    command = [sys.executable, "-m", "mypy", *words, str(tmp_path / "user.py")]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False).stdout
    lines = [line for line in found.splitlines() if "error:" in line]
    assert len(lines) == 4, found
    for line, word in zip(lines, ("stepz", "engine", "learning_rate", "hidden"), strict=True):
        assert word in line
