"""Datasets of the Corridor."""

from __future__ import annotations

from pathlib import Path

import pytest
from corridor_episodes import BOTS, CORRIDOR, random_player

from asyncrl.acting import datasets
from asyncrl.api import record
from asyncrl.envs import describe


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where datasets lie."""
    (tmp_path / "shelf").mkdir()
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "shelf"))


@pytest.fixture
def walked(tmp_path: Path, shelf: None) -> str:
    """Ten episodes of a bot that walks to the goal."""
    (tmp_path / "bots.py").write_text(BOTS)
    record(CORRIDOR, "corridor/right-v0", 10, bot=f"{tmp_path / 'bots.py'}:right")
    return "corridor/right-v0"


@pytest.fixture
def chance(shelf: None) -> str:
    """Sixty episodes of random actions."""
    contract = describe(CORRIDOR)
    datasets.write(
        "corridor/chance-v0", contract, list(datasets.record(random_player(CORRIDOR), contract, 60, 1)), "chance"
    )
    return "corridor/chance-v0"
