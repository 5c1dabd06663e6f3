"""200 mutations of `benchmarks/fuzz.py`: damaged files load, or are refused with one of the package's errors."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import fuzz


def test_whatever_becomes_of_a_file_it_loads_or_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", "")  # the mutations change it; this restores it
    found = list(fuzz.mutate(tmp_path, seed=1, count=200))
    assert [one for one in found if one["outcome"] == "fault"] == []
    assert {one["outcome"] for one in found} == {"loaded", "refused"}
    assert len({one["command"] for one in found}) == 6
