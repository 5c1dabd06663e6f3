"""A shared agent is a folder that others load, and a repository on the Hub."""

from __future__ import annotations

import errno
import json
import os
import shutil
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from hub_server import hub

import asyncrl
from asyncrl.api import configure
from asyncrl.cli import main
from asyncrl.envs import describe
from asyncrl.envs.registry import FAMILIES
from asyncrl.errors import UsageError
from asyncrl.launch import start
from asyncrl.runs.checkpoints import checkpoint
from asyncrl.runs.config.run_config import Device
from asyncrl.runs.run import Run
from asyncrl.sharing.card import _usage

NEED_MORE = {"gymnasium", "envpool"}
"""Families whose environments have different extras."""
SMALL: dict[str, Any] = dict(steps=320, actors=1, envs_per_actor=4, engine="serial", log_every=1)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return start(configure("CartPole-v1", "a3c", eval_episodes=2, **SMALL), tmp_path_factory.mktemp("share") / "run")[0]


def test_the_folder_is_loaded_and_has_a_card_with_the_score(run: Run, tmp_path: Path) -> None:
    shared = asyncrl.share(run, tmp_path / "agent", episodes=5)
    assert shared.files.keys() == {
        *("README.md", "manifest.json", "metrics.jsonl", "weights.safetensors", "replay.mp4", "learning_curve.png")
    }
    card = (tmp_path / "agent" / "README.md").read_text(encoding="utf-8")
    found = asyncrl.evaluate(tmp_path / "agent", 5)
    assert found.returns == asyncrl.evaluate(run, 5).returns
    assert f"| {found.mean:.2f} |" in card
    yaml = pytest.importorskip("yaml", reason="pip install huggingface_hub")
    matter = yaml.safe_load(card.split("---\n")[1])
    assert matter["library_name"] == "asyncrl"
    (result,) = matter["model-index"][0]["results"]
    assert result["metrics"][0]["value"].startswith(f"{found.mean:.2f} +/- ")
    assert '<video controls src="replay.mp4"' in card
    assert "asyncrl play agent\n" in card
    assert "--trust" not in card
    assert str(tmp_path) not in card


def test_an_agent_that_is_loaded_already_is_shared_as_its_run_is(run: Run, tmp_path: Path) -> None:
    asyncrl.share(run, tmp_path / "run" / "agent", episodes=1, video=False)
    asyncrl.share(asyncrl.load(run), tmp_path / "loaded" / "agent", episodes=1, video=False)
    cards = [(tmp_path / source / "agent" / "README.md").read_text(encoding="utf-8") for source in ("run", "loaded")]
    assert cards[0] == cards[1]


def test_the_settings_on_the_card_train_such_an_agent(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asyncrl.share(run, tmp_path / "agent", episodes=1, video=False)
    card = (tmp_path / "agent" / "README.md").read_text(encoding="utf-8")
    (tmp_path / "settings.toml").write_text(card.split("```toml\n")[1].split("```")[0], encoding="utf-8")
    again = asyncrl.train(config=tmp_path / "settings.toml", run_dir=tmp_path / "again", progress=False)
    assert asyncrl.load(again).checkpoint.weights_sha256 == asyncrl.load(run).checkpoint.weights_sha256


@pytest.mark.parametrize(
    ("env", "family", "versions", "extra"),
    [
        *((family.examples[0], family.name, {}, family.name) for family in FAMILIES if family.name not in NEED_MORE),
        ("CartPole-v1", "gymnasium", {}, None),
        ("Hopper-v5", "gymnasium", {"mujoco": "3"}, "mujoco"),
        ("LunarLander-v3", "gymnasium", {"box2d": "2"}, "box2d"),
        ("CoinrunEasy-v0", "envpool", {}, "procgen"),
        ("AntBulletEnv-v0", "envpool", {}, "envpool"),
    ],
)
def test_the_card_names_the_extra_that_the_environment_needs(
    run: Run, env: str, family: str, versions: dict[str, str], extra: str | None
) -> None:
    contract = replace(asyncrl.load(run).contract, env=env, family=family, versions=versions)
    assert extra is None or extra in (metadata.metadata("asyncrl").get_all("Provides-Extra") or ())
    command = "pip install asyncrl\n" if extra is None else f"pip install 'asyncrl[{extra}]'"
    assert command in _usage("agent", contract, "")


@pytest.mark.parametrize(("env", "simulator"), [("Hopper-v5", "mujoco"), ("LunarLander-v3", "box2d")])
def test_contracts_have_the_version_of_the_simulator(env: str, simulator: str) -> None:
    pytest.importorskip(simulator if simulator == "mujoco" else "Box2D")
    assert describe(env).versions[simulator] == metadata.version(simulator)


def test_no_path_of_this_machine_is_shared(run: Run, tmp_path: Path) -> None:
    config = configure(
        "CartPole-v1", "a3c", eval_episodes=0, init_from=str(run.path), storage=str(tmp_path / "store"), **SMALL
    )
    second, _ = start(config, tmp_path / "second")
    asyncrl.share(second, tmp_path / "agent", episodes=1, video=False)
    texts = [path.read_text(encoding="utf-8") for path in (tmp_path / "agent").iterdir() if path.suffix in (".md", ".json")]
    assert not [text for text in texts if str(run.path.parent) in text or str(tmp_path) in text]
    assert asyncrl.load(tmp_path / "agent").checkpoint.contract.untrusted_source is None


def test_an_agent_of_a_gpu_is_shared_from_a_machine_without_one(run: Run, tmp_path: Path) -> None:
    saved = asyncrl.load(shutil.copytree(run.path, tmp_path / "run")).checkpoint
    checkpoint.amend(saved, config=replace(saved.config, device=Device.CUDA).to_json())
    asyncrl.share(tmp_path / "run", tmp_path / "agent", episodes=1, video=False)
    assert 'device = "cuda"' in (tmp_path / "agent" / "README.md").read_text(encoding="utf-8")


def test_an_agent_that_names_code_says_so_on_its_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, _ = start(configure("failing_envs:Counting", "a3c", eval_episodes=0, **SMALL), tmp_path / "run")
    assert main(["share", str(run.path), str(tmp_path / "agent"), "--episodes", "1", "--onnx"]) == 0
    said = capsys.readouterr().out
    assert "there is no video: failing_envs:Counting cannot be drawn" in said
    assert "onnx/policy.onnx" in said
    card = (tmp_path / "agent" / "README.md").read_text(encoding="utf-8")
    assert "It names code of its author" in card
    assert "asyncrl play agent --trust" in card


def test_what_cannot_be_shared_is_refused_and_leaves_nothing(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    for words, sentence in (
        ([str(tmp_path / "full")], "is not empty; name a new folder"),
        ([str(tmp_path / "new"), "--private"], "--private has no effect without --upload"),
        ([str(tmp_path / "new"), "--upload", "me"], "--upload me does not name a repository"),
        ([str(tmp_path / "new"), "--episodes", "0"], "--episodes must be 1 or more"),
    ):
        assert main(["share", str(run.path), *words]) == 2
        assert sentence in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_an_agent_that_cannot_be_written_leaves_no_folder(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert main(["share", str(run.path), str(tmp_path / "agents" / "new"), "--no-video"]) == 1
    assert f"{tmp_path}/agents/new/manifest.json: No space left on device; free some" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_too_long_is_refused(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / ("x" * 251)
    assert main(["share", str(run.path), str(folder)]) == 2
    assert capsys.readouterr().err == f"asyncrl: {folder}: File name too long; shorten it\n"


def test_what_is_uploaded_is_said_and_comes_back(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with hub(tmp_path / "hub", tmp_path / "cache", monkeypatch):
        words = [
            "share",
            str(run.path),
            str(tmp_path / "agent"),
            "--episodes",
            "1",
            "--no-video",
            "--upload",
            "me/cartpole",
        ]
        assert main(words) == 0
        assert "uploading these 5 files" in capsys.readouterr().out
        assert main(["evaluate", "hf:me/cartpole", "--episodes", "3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["returns"] == list(asyncrl.evaluate(run, 3).returns)
    assert "asyncrl play hf:me/cartpole" in (tmp_path / "hub/me/cartpole/README.md").read_text(encoding="utf-8")


def test_a_repository_must_have_the_name_of_one(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.\./x does not name a repository"):
        asyncrl.share(run, tmp_path / "agent", name="../x")


def test_the_video_is_of_the_environment_and_the_choice_of_actions_that_are_shared(run: Run, tmp_path: Path) -> None:
    agent = asyncrl.load(run)
    recorded = run.path / "videos" / f"{agent.checkpoint.path.name}.mp4"
    recorded.parent.mkdir(exist_ok=True)
    recorded.write_bytes(b"recorded")
    try:
        for greedy in (None, True, False):
            asyncrl.share(run, tmp_path / str(greedy), episodes=1, greedy=greedy)
            copied = (tmp_path / str(greedy) / "replay.mp4").read_bytes() == b"recorded"
            assert copied == (agent.resolve_greedy(greedy) == agent.resolve_greedy(None))
    finally:
        recorded.unlink()
