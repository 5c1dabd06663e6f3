"""The pretrained agents play as well as their recorded metrics."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import asyncrl
from asyncrl.runs.names import PRETRAINED, pretrained_names


@pytest.mark.parametrize("name", pretrained_names())
def test_a_pretrained_agent_has_the_metrics_of_the_run_that_made_it(name: str) -> None:
    agent = asyncrl.load(name)
    folder = PRETRAINED / Path(name).name
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert any(r["kind"] == "eval" and r["step"] == agent.checkpoint.step for r in records)
    assert set(agent.checkpoint.files) == {"weights.safetensors"}


@pytest.mark.parametrize(
    ("name", "steps", "least"),
    [
        *[("pretrained/pong-a3c", 1_000, 3), ("pretrained/pong-ppo", 600, 3)],  # a random one is far below 0 by then
        *[("pretrained/hopper-ppo", None, 3_000), ("pretrained/walker2d-ppo", None, 4_000)],
    ],
)
def test_a_pretrained_agent_plays_well(name: str, steps: int | None, least: float) -> None:
    result = asyncrl.evaluate(name, episodes=1, seed=3, greedy=True, max_steps=steps)
    assert min(result.returns) > least
