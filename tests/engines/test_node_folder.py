"""Temporary folders on a node are removed even if Ray kills the process that owns one."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from asyncrl.cluster.node_folder import NodeFolder
from asyncrl.runs.run_state import LOCK

OWNER = "from asyncrl.cluster.node_folder import NodeFolder; folder = NodeFolder(); print(folder.path, flush=True); input()"


def test_the_folder_of_a_process_that_was_killed_is_removed_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    mine = NodeFolder()
    (mine.path / "run").mkdir()
    run = tmp_path / "asyncrl-node-run"  # a user's run, which has a lock, too
    run.mkdir()
    (run / LOCK).touch()
    with subprocess.Popen(
        [sys.executable, "-c", OWNER],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        assert owner.stdout is not None
        theirs = Path(owner.stdout.readline().strip())
        another = NodeFolder()
        assert theirs.is_dir(), "it is in use"
        owner.kill()
    last = NodeFolder()
    assert not theirs.exists()
    assert (mine.path / "run").is_dir()
    for folder in (mine, another, last):
        folder.remove()
    assert list(tmp_path.iterdir()) == [run]
