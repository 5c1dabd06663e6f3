"""Studies on a Ray cluster: the results of one machine, though a node is lost."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from engines.ray_clusters import cluster

import asyncrl
from asyncrl.cli import main
from asyncrl.cluster.commands import FolderChanges
from asyncrl.errors import UsageError
from asyncrl.runs.run import Run
from asyncrl.studies.benchmark import benchmark
from asyncrl.studies.suite import Method, Suite, Task

pytest.importorskip("ray")

ROOT = Path(__file__).parents[2]
ENV = "benchmarks.slow_environments:Waiting"
SETTINGS: dict[str, Any] = {"steps": 2_400, "eval_episodes": 1, "checkpoint_every": 100, "actors": 1, "envs_per_actor": 4}
SUITE = Suite("tiny", (Task(ENV, (Method("a3c", "a3c"),), SETTINGS),), seeds=1, episodes=1)
RUN = Path("runs", "benchmarks.slow_environments-Waiting", "a3c", "seed-1")


def wait_until(condition: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A cluster whose first node has no place for a run."""
    with cluster(0) as found:
        found._shutdown_at_exit = False  # otherwise a thread could not add nodes
        yield found


@pytest.mark.slow
def test_a_study_whose_node_is_lost_has_the_results_of_one_machine(
    nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    folder, lost, lines = tmp_path / "study", nodes.add_node(num_cpus=1), list[str]()

    def lose_the_node() -> None:
        wait_until(lambda: Run(folder / RUN).marked("latest"))
        nodes.remove_node(lost, allow_graceful=False)
        nodes.add_node(num_cpus=1)

    with ThreadPoolExecutor(1) as beside:
        loss = beside.submit(lose_the_node)
        study = benchmark(SUITE, folder=folder, on_ray=nodes.address, say=lines.append)
        loss.result()
    assert not study.failures
    assert any("restarting it" in line for line in lines), lines

    (result,) = study.results
    monkeypatch.setattr("benchmarks.slow_environments.Waiting._spend", lambda self: None)
    alone = asyncrl.train(ENV, "a3c", run_dir=tmp_path / "alone", **SETTINGS)
    mark = alone.marked("latest")
    assert mark is not None
    assert result.weights_sha256 == json.loads((mark / "manifest.json").read_text())["weights_sha256"]
    assert Run(folder / RUN).is_signed_by_user


def test_an_address_that_is_none_is_refused_by_the_name_of_the_option(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--on-ray nowhere: expected HOST:PORT"):
        benchmark(SUITE, folder=tmp_path / "study", on_ray="nowhere")


def test_spreading_a_single_run_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "a3c", "CartPole-v1", "--on-ray", "auto"]) == 2
    assert "for the actors of one run: --engine ray" in capsys.readouterr().err


def test_files_are_copied_as_they_change(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(b"first\nsec")
    (tmp_path / "latest").write_bytes(b"1")
    (tmp_path / "weights").write_bytes(b"w")
    (tmp_path / ".lock").touch()
    changes = FolderChanges(tmp_path)
    pieces, gone, is_more = changes.take()
    assert [(one.name, one.at, one.content) for one in pieces] == [
        ("metrics.jsonl", None, b"first\n"),  # whole lines
        ("weights", None, b"w"),
        ("latest", None, b"1"),  # after what it names
    ]
    assert (gone, is_more) == ([], False)
    assert changes.take() == ([], [], False)
    with open(tmp_path / "metrics.jsonl", "ab") as file:
        file.write(b"ond\n")
    (tmp_path / "weights").unlink()
    pieces, gone, _ = changes.take()
    assert [(one.name, one.at, one.content) for one in pieces] == [("metrics.jsonl", 6, b"second\n")]
    assert gone == ["weights"]
    (tmp_path / "metrics.jsonl").write_bytes(b"other\nsecond\nthird\n")  # rewound and continued
    pieces, _, _ = changes.take()
    assert [(one.at, one.content) for one in pieces] == [(None, b"other\nsecond\nthird\n")]
