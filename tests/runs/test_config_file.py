from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import asyncrl
from asyncrl.runs.config.saved_config import current_settings


def test_the_current_settings_are_those_of_the_newest_checkpoint(tmp_path: Path) -> None:
    small = dict(actors=1, envs_per_actor=2, eval_episodes=0, engine="serial", progress=False)
    run = asyncrl.train("CartPole-v1", "a3c", run_dir=tmp_path / "run", steps=200, **small)
    began = current_settings(json.loads((run.path / "config.json").read_text()))
    for steps in (400, 600):
        asyncrl.resume(run, steps=steps, engine="threads", progress=False)
    now = current_settings(json.loads((run.path / "config.json").read_text()))
    assert (began["steps"], began["engine"]) == (200, "serial")
    assert (now["steps"], now["engine"]) == (600, "threads")
    newest = json.loads(
        (run.path / "checkpoints" / (run.path / "latest").read_text().strip() / "manifest.json").read_text()
    )
    assert now == newest["config"]


@pytest.mark.parametrize(
    "facts",
    [None, [], {}, {"config": 3}, {"config": None, "resumed": [{"changes": {"steps": [1, 2]}}]}],
)
def test_what_is_damaged_has_no_settings(facts: Any) -> None:
    assert current_settings(facts) == {}


@pytest.mark.parametrize(
    "resumed", [3, [3], [{}], [{"changes": 3}], [{"changes": {"steps": 3}}], [{"changes": {"steps": []}}]]
)
def test_a_damaged_list_of_resumptions_changes_nothing(resumed: Any) -> None:
    assert current_settings({"config": {"steps": 1}, "resumed": resumed}) == {"steps": 1}
