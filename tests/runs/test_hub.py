"""Agents on the Hugging Face Hub are downloaded as data: nothing of a repository runs, and no name in it is used."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forged_runs import forge
from hub_server import hub

import asyncrl
from asyncrl.api import configure
from asyncrl.cli import main
from asyncrl.dashboard.watched import WatchedRuns
from asyncrl.errors import CheckpointError, UsageError
from asyncrl.launch import start
from asyncrl.runs.checkpoints import checkpoint
from asyncrl.runs.lookup import checkpoint_folder
from asyncrl.runs.remote.hub import hub_errors, import_hub


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub")
    settings: dict[str, Any] = dict(steps=160, actors=1, envs_per_actor=4, engine="serial", eval_episodes=0)
    run, _ = start(configure("CartPole-v1", "a3c", **settings), folder / "run")
    checkpoint.export(asyncrl.load(run.path).checkpoint, folder / "agent")
    return folder / "agent"


@pytest.fixture
def repository(agent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The repository hf:me/agent of another user."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with hub(tmp_path / "hub", tmp_path / "cache", monkeypatch):
        yield Path(shutil.copytree(agent, tmp_path / "hub" / "me" / "agent"))


def test_an_agent_is_downloaded_once_and_played(repository: Path) -> None:
    loaded = asyncrl.load("hf:me/agent")
    assert loaded.act(np.zeros(4, np.float32)) in (0, 1)
    assert len(asyncrl.evaluate("hf:me/agent@main", 2).returns) == 2
    assert loaded.checkpoint.contract.untrusted_source is not None
    shutil.rmtree(repository)
    assert asyncrl.load(f"hf:me/agent@{loaded.checkpoint.path.name}").checkpoint.step == loaded.checkpoint.step


def test_the_live_page_shows_an_agent_of_the_hub(repository: Path) -> None:
    (agent,) = WatchedRuns(["hf:me/agent"])
    assert agent.name == "hf:me/agent"


def test_only_three_files_of_a_repository_are_downloaded(repository: Path, tmp_path: Path) -> None:
    (repository / "setup.py").write_text("raise SystemExit")
    (repository / "metrics.jsonl").write_text('{"step": 1, "update": 1, "kind": "eval", "mean": 1.0}\n')
    folder = checkpoint_folder("hf:me/agent")
    assert {path.name for path in folder.iterdir()} == {"manifest.json", "weights.safetensors", "metrics.jsonl"}
    assert all(path.resolve().is_relative_to(tmp_path / "cache") for path in folder.iterdir())


def names_code(manifest: dict[str, Any]) -> None:
    manifest["contract"]["env"] = "spy:make"


def names_network(manifest: dict[str, Any]) -> None:
    manifest["config"]["network"]["network"] = "spy:make"


def leads_out(manifest: dict[str, Any]) -> None:
    manifest["files"]["../../secret.safetensors"] = manifest["files"]["weights.safetensors"]


def is_larger(manifest: dict[str, Any]) -> None:
    manifest["files"]["weights.safetensors"]["bytes"] = 100


HOSTILE: dict[str, tuple[Callable[[dict[str, Any]], None], type[UsageError], str]] = {
    "an environment": (names_code, UsageError, r'was not made by you .* environment "spy:make"'),
    "a network": (names_network, UsageError, r'was not made by you .* network "spy:make"'),
    "a way out": (leads_out, CheckpointError, "is not a file of a checkpoint"),
    "a larger file": (is_larger, CheckpointError, r"weights\.safetensors has [\d,]+ bytes, more than the 100 expected"),
}


@pytest.mark.parametrize(("change", "error", "sentence"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_repository_runs_nothing(
    repository: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[dict[str, Any]], None],
    error: type[UsageError],
    sentence: str,
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "spy.py").write_text("raise SystemExit('the code of a stranger has run')")
    forge(repository, change)
    with pytest.raises(error, match=sentence):
        asyncrl.evaluate("hf:me/agent", 1)
    if error is CheckpointError:
        assert not list((tmp_path / "cache").rglob("weights.safetensors"))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("hf:me/other", "there is no hf:me/other on the Hub, or it is private"),
        ("hf:me/empty", r"hf:me/empty is not an agent of asyncrl: the repository has no manifest\.json"),
        ("hf:me/agent@other", "the repository has no such revision"),
        ("hf:agent", "hf:agent does not name a repository of the Hugging Face Hub; expected USER/NAME"),
        ("hf:../../etc", "does not name a repository"),
        ("hf:me/agent@../..", "is not a revision"),
    ],
)
def test_what_is_not_there_is_said_in_a_sentence(
    repository: Path, capsys: pytest.CaptureFixture[str], name: str, sentence: str
) -> None:
    (repository.parent / "empty").mkdir()
    with pytest.raises(UsageError, match=sentence):
        asyncrl.load(name)
    assert main(["play", name, "--video", "x.mp4"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_without_a_connection_nothing_is_uploaded_and_a_sentence_says_so() -> None:
    huggingface_hub = import_hub()
    api = huggingface_hub.HfApi(endpoint="http://127.0.0.1:1", token="none")
    with pytest.raises(UsageError, match=r"^hf:me/agent: the Hub cannot be reached: .*refused"), hub_errors("hf:me/agent"):
        api.create_repo("me/agent")


def test_without_a_connection_an_earlier_download_serves(
    agent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hub(tmp_path / "hub", tmp_path / "cache", monkeypatch):
        shutil.copytree(agent, tmp_path / "hub" / "me" / "agent")
        asyncrl.load("hf:me/agent")
    assert asyncrl.load("hf:me/agent").checkpoint.step == asyncrl.load(agent).checkpoint.step
    with pytest.raises(UsageError, match="hf:me/other cannot be downloaded, and no earlier download is there"):
        asyncrl.load("hf:me/other")
