"""A checkpoint comes back as it was, or says what is wrong with it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch
from forged_runs import forge
from hypothesis import given, settings
from hypothesis import strategies as st
from interrupted_runs import flipped
from test_environment_faults import files_of_at_most

from asyncrl.api import configure
from asyncrl.errors import CheckpointError
from asyncrl.launch import start
from asyncrl.runs.checkpoints import checkpoint
from asyncrl.runs.checkpoints.manifest import read_manifest
from asyncrl.runs.run import Run

SMALL: dict[str, Any] = dict(steps=1_920, actors=3, envs_per_actor=4, t_max=8, seed=5, engine="serial")
TENSORS = [f"{name}.safetensors" for name in ("weights", "optimizer", "recent", "actors", "episodes")]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    settings = dict(SMALL, eval_episodes=3, eval_every=480, checkpoint_every=480, keep_checkpoints=2, lag=2)
    return start(configure("worlds:Corridor-v0", "a3c", **settings), tmp_path_factory.mktemp("checkpoint") / "run")[0]


@pytest.fixture(scope="module")
def scratch(finished: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that tests damage and mend."""
    return Path(shutil.copytree(finished.checkpoints()[-1], tmp_path_factory.mktemp("scratch") / "000000001920"))


def save_again(path: Path, found: checkpoint.Checkpoint, **others: bool) -> None:
    tensors = {name.removesuffix(".safetensors"): found.tensors(name.removesuffix(".safetensors")) for name in found.files}
    tensors["weights"] = {name: tensors["weights"][name] for name in found.parameters}  # in the network's order
    facts = {name: getattr(found, name) for name in ("step", "update", "seconds", "contract", "config")}
    checkpoint.save(path, tensors, **facts, **others)


def test_a_checkpoint_that_does_not_fit_is_named_and_leaves_nothing(finished: Run, tmp_path: Path) -> None:
    found = checkpoint.load(finished.checkpoints()[-1])
    with pytest.raises(OSError, match="File too large") as full, files_of_at_most(1_000):
        save_again(tmp_path / "000000000480", found)
    assert full.value.filename.startswith(f"{tmp_path}/000000000480/")
    assert list(tmp_path.iterdir()) == []


def test_what_is_saved_comes_back(finished: Run, tmp_path: Path) -> None:
    found = checkpoint.load(finished.checkpoints()[-1])
    save_again(tmp_path / "again", found)
    again = checkpoint.load(tmp_path / "again")
    names = [name for name in found.__dataclass_fields__ if name != "path"]
    assert {n: getattr(again, n) for n in names} == {n: getattr(found, n) for n in names}
    assert torch.equal(again.weights(), found.weights())
    assert set(found.files) == set(TENSORS)
    assert set(found.tensors("recent")) == {str(found.update - 2), str(found.update - 1)}


def test_a_run_folder_holds_json_text_and_safetensors_and_nothing_that_could_run_code(finished: Run) -> None:
    files = [p for p in finished.path.rglob("*") if p.is_file() and p.parent.name != "tensorboard" and p.name != ".lock"]
    kinds = {p.name if p.suffix in ("", ".json", ".txt") else p.suffix for p in files}
    assert kinds == {"config.json", "log.txt", "latest", "best", "manifest.json", ".jsonl", ".safetensors", ".toml"}
    for file in files:
        if file.suffix == ".safetensors":
            with safetensors.safe_open(file, "pt") as opened:
                assert opened.keys()
        elif file.suffix in (".json", ".jsonl"):
            whole = [file.read_text()] if file.suffix == ".json" else file.read_text().splitlines()
            assert all(isinstance(json.loads(text), dict) for text in whole)
    assert all(p.name.startswith("events.out.tfevents") for p in (finished.path / "tensorboard").iterdir())


def changed(**facts: Any) -> Callable[[bytes], bytes]:
    return lambda data: json.dumps({**json.loads(data), **facts}).encode()


DAMAGES: list[tuple[str, Callable[[bytes], bytes | None], str]] = [
    *[(name, lambda data: data[:-1], r"is truncated: \d+ of \d+ bytes") for name in TENSORS],
    *[(name, flipped, "is damaged: its sha256") for name in TENSORS],
    *[(name, lambda data: None, "is missing") for name in TENSORS],
    ("manifest.json", lambda data: None, "is not a checkpoint: it has no manifest.json"),
    ("manifest.json", lambda data: b"weights", "cannot be read as JSON"),
    ("manifest.json", lambda data: b"\xff" + data, "cannot be read as JSON"),
    ("manifest.json", lambda data: b'{"name": "left-pad"}', "is not a manifest of asyncrl"),
    ("manifest.json", lambda data: b"[1]", "is not a manifest of asyncrl"),
    ("manifest.json", changed(format=7), "has format 7; this asyncrl reads format 1: use the one that wrote it"),
    ("manifest.json", changed(config={}), "is damaged"),
    ("manifest.json", changed(contract={"env": 3}), "is damaged"),
]


@pytest.mark.parametrize(("name", "harm", "reason"), DAMAGES)
def test_damage_is_found_and_named(scratch: Path, name: str, harm: Callable[[bytes], bytes | None], reason: str) -> None:
    whole = (scratch / name).read_bytes()
    harmed = harm(whole)
    try:
        (scratch / name).unlink() if harmed is None else (scratch / name).write_bytes(harmed)
        with pytest.raises(CheckpointError, match=reason) as caught:
            checkpoint.load(scratch)
        assert str(scratch) in str(caught.value)
        assert name in str(caught.value) or "format" in reason
    finally:
        (scratch / name).write_bytes(whole)
    checkpoint.load(scratch)


def test_settings_of_another_version_are_not_called_damaged(scratch: Path) -> None:
    whole = (scratch / "manifest.json").read_bytes()

    def later(manifest: dict[str, Any]) -> None:
        manifest["asyncrl"] = "9.0"
        manifest["config"]["foresight"] = 3

    try:
        forge(scratch, later)
        with pytest.raises(CheckpointError, match=r"written by asyncrl '9\.0', .*: foresight is not .*; use that version$"):
            checkpoint.load(scratch)
    finally:
        (scratch / "manifest.json").write_bytes(whole)


@settings(max_examples=150, database=None)
@given(st.sampled_from(TENSORS), st.data())
def test_a_byte_that_is_lost_or_turned_anywhere_in_a_file_of_tensors_is_found(
    scratch: Path, name: str, data: st.DataObject
) -> None:
    whole = (scratch / name).read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    harmed = flipped(whole, place, data.draw(st.integers(1, 255))) if data.draw(st.booleans()) else whole[:place]
    try:
        (scratch / name).write_bytes(harmed)
        with pytest.raises(CheckpointError, match=name):
            checkpoint.load(scratch)
    finally:
        (scratch / name).write_bytes(whole)


@settings(max_examples=300, database=None)
@given(st.data())
def test_a_byte_that_is_turned_anywhere_in_the_manifest_is_found_or_means_nothing(
    scratch: Path, data: st.DataObject
) -> None:
    file, expected = scratch / "manifest.json", checkpoint.load(scratch)
    whole = file.read_bytes()
    try:
        file.write_bytes(flipped(whole, data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(1, 255))))
        with contextlib.suppress(CheckpointError):
            assert checkpoint.load(scratch) == expected
    finally:
        file.write_bytes(whole)


def test_weights_other_than_the_manifests_are_not_used(scratch: Path) -> None:
    found = checkpoint.load(scratch)
    with pytest.raises(CheckpointError, match="does not hold the weights"):
        checkpoint.Checkpoint(**{**vars(found), "weights_sha256": "0" * 64}).weights()


@pytest.mark.parametrize("renames_before", [0, 1])
def test_an_interrupted_save_leaves_the_earlier_checkpoint_and_no_half_one(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames_before: int
) -> None:
    run = Run(Path(shutil.copytree(finished.path, tmp_path / "run")))
    earlier = run.checkpoints()
    rename, calls = os.replace, iter(range(10))

    def replace(source: Path, target: Path) -> None:
        if next(calls) == renames_before:
            raise OSError("the disk is full")
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.os, "replace", replace)
        with pytest.raises(OSError, match="the disk is full"):
            save_again(run.checkpoint_path(2_400), checkpoint.load(earlier[-1]))
    assert run.checkpoints() == earlier
    assert list((run.path / "checkpoints").glob(".*")) == [], "it holds no space on a full disk"
    checkpoint.load(earlier[-1])
    save_again(run.checkpoint_path(2_400), checkpoint.load(earlier[-1]))
    assert run.checkpoints() == [*earlier, run.checkpoint_path(2_400)]
    checkpoint.load(run.checkpoint_path(2_400))


def test_a_checkpoint_stays_in_its_place_if_its_replacement_cannot_be_put_there(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(Path(shutil.copytree(finished.path, tmp_path / "run")))
    *_, last = earlier = run.checkpoints()
    rename = os.replace

    def replace(source: Path, target: Path) -> None:
        if str(source).endswith(".tmp") and Path(target) == last:
            raise OSError("the disk is full")
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.os, "replace", replace)
        with pytest.raises(OSError, match="the disk is full"):
            save_again(last, checkpoint.load(last))
    assert run.checkpoints() == earlier
    checkpoint.load(last)
    assert list((run.path / "checkpoints").glob(".*")) == []


def test_a_removal_that_is_killed_after_its_first_file_leaves_no_checkpoint(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(Path(shutil.copytree(finished.path, tmp_path / "run")))
    old = run.checkpoints()[0]
    unlink = Path.unlink

    def unlink_and_die(path: Path) -> None:
        unlink(path)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", unlink_and_die)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.delete(old)
    with pytest.raises(CheckpointError, match=r"is not a checkpoint: it has no manifest\.json"):
        read_manifest(old)
    checkpoint.delete(old)
    assert not old.exists()


def test_the_newest_and_the_best_are_kept(finished: Run, tmp_path: Path) -> None:
    assert 2 <= len(finished.checkpoints()) <= 3
    assert finished.marked("best") in finished.checkpoints()
    assert finished.marked("latest") == finished.checkpoints()[-1]
    run, found = Run(tmp_path), checkpoint.load(finished.checkpoints()[-1])
    for step in range(1, 6):
        save_again(run.checkpoint_path(step), found)
    run.mark("best", run.checkpoint_path(2))
    run.prune(2)
    assert run.checkpoints() == [run.checkpoint_path(step) for step in (2, 4, 5)]
    assert [checkpoint.load(path).update for path in run.checkpoints()] == [found.update] * 3


def test_the_checkpoint_that_a_rewind_returns_to_is_kept_though_it_is_not_scheduled(finished: Run, tmp_path: Path) -> None:
    run, found = Run(tmp_path), checkpoint.load(finished.checkpoints()[-1])
    save_again(run.checkpoint_path(1), found, scheduled=False)
    for step in (2, 3):
        save_again(run.checkpoint_path(step), found, sound=False)
    run.prune(1, scheduled=True)
    assert run.checkpoints() == [run.checkpoint_path(step) for step in (1, 3)]
