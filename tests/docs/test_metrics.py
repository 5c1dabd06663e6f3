"""docs/metrics.md lists every field of metrics.jsonl, and none that does not exist."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from algorithm_worlds import world_of

from asyncrl.agents.imitation import Epoch
from asyncrl.algorithms import ALGORITHMS
from asyncrl.api import configure
from asyncrl.envs.families.gymnasium import Gymnasium
from asyncrl.launch import start
from asyncrl.runs.run import RECORD_KINDS

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
SMALL: dict[str, Any] = dict(steps=160, actors=2, envs_per_actor=4, eval_episodes=2, engine="serial", seed=5)
REPLAY = dict(learning_starts=100, capacity=600, batch_size=16, replay_ratio=0.05)
OWN: dict[str, dict[str, Any]] = {
    "dqn": REPLAY,
    "c51": REPLAY,
    "qr-dqn": REPLAY,
    "iqn": REPLAY,
    "sac": REPLAY,
    "sac-discrete": REPLAY,
    "td3": REPLAY,
    "linear-q": {},
}
DIVERGING = dict(gradient_clipping="none", learning_rate_schedule="constant", learning_rate=8.0, on_divergence="rewind")


def documented() -> dict[str, set[str]]:
    """The page's fields by kind of record; those of every record are under ""."""
    fields: dict[str, set[str]] = defaultdict(set)
    kind = ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            kind = line.strip("# `") if "`" in line else ""
        elif line.startswith("| `"):
            fields[kind] |= set(re.findall(r"`(\w+)`", line.split("|")[1]))
    return fields


def recorded(folder: Path) -> dict[str, set[str]]:
    fields: dict[str, set[str]] = defaultdict(set)
    for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        fields[record["kind"]] |= record.keys()
    return fields


def test_every_kind_of_record_is_documented_and_every_documented_kind_exists() -> None:
    assert documented().keys() - {""} == set(RECORD_KINDS)


class Measured(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A corridor whose infos hold a result, `distance`."""

    def __init__(self) -> None:
        super().__init__(gymnasium.make("worlds:Corridor-v0"))

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        *result, info = self.env.step(action)
        return (*result, {**info, "distance": 1.0})  # type: ignore[return-value]


def test_every_field_is_documented_and_every_documented_field_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Gymnasium, "measures", lambda self, contract: ("distance",))
    (tmp_path / "crumbs").mkdir()
    crashing = dict(
        steps=12,
        eval_episodes=0,
        actors=1,
        envs_per_actor=2,
        t_max=5,
        env_backend="async",
        restarts=100,
        env_kwargs=json.dumps({"once": str(tmp_path / "crumbs")}),
    )
    runs = [(world_of(name), name, OWN.get(name, {})) for name in ALGORITHMS if name != "random"]
    runs += [("worlds:Corridor-v0", "a3c", dict(normalize_return=True, normalize_value=True))]
    runs += [("worlds:Corridor-v0", "a3c", dict(extra_envs=("worlds:Forgetful",)))]
    runs += [("worlds:Corridor-v0", "linear-q", dict(DIVERGING, steps=704, checkpoint_every=96, t_max=8))]
    runs += [(f"{__name__}:Measured", "a3c", {}), ("failing_envs:Raising", "a3c", crashing)]
    runs += [("worlds:Corridor-v0", "random", dict(steps=640, patience=1, eval_every=96, video_every=96))]
    found: dict[str, set[str]] = defaultdict(set)
    for number, (env, algorithm, settings) in enumerate(runs):
        folder = tmp_path / str(number)
        start(configure(env, algorithm, **SMALL | settings), folder)
        for kind, fields in recorded(folder).items():
            found[kind] |= fields

    page = documented()
    common = page.pop("")
    assert page.pop("lost") == {"actor", "rollout", "reason"}  # made in engines/test_ray_engine.py
    assert page.pop("pretrain") == set(Epoch._fields)
    for kind in found.keys() | page.keys():
        assert found[kind] == page[kind] | common, kind
