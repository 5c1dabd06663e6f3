"""Comparing runs: settings, scores, where equal runs part, and both agents in one video."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from forged_runs import forged

import asyncrl
from asyncrl.cli import main
from asyncrl.cli.compare import _lines
from asyncrl.errors import UsageError
from asyncrl.runs.run import Run
from asyncrl.studies.comparison import compare, first_divergence

SMALL: dict[str, Any] = dict(steps=512, eval_episodes=2, envs_per_actor=4, engine="serial", progress=False)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs `one`, its copy `again` made with threads, `other` with another learning rate, and `seeds/2`, `seeds/3`."""
    folder = tmp_path_factory.mktemp("compared")
    asyncrl.train("CartPole-v1", "a3c", run_dir=folder / "one", **SMALL)
    asyncrl.train("CartPole-v1", "a3c", run_dir=folder / "again", **{**SMALL, "engine": "threads"})
    asyncrl.train("CartPole-v1", "a3c", run_dir=folder / "other", learning_rate=1e-4, **SMALL)
    for seed in (2, 3):
        asyncrl.train("CartPole-v1", "a3c", run_dir=folder / "seeds" / str(seed), seed=seed, **SMALL)
    return folder


def test_runs_that_were_meant_to_be_equal_are(runs: Path) -> None:
    found = compare(runs / "one", runs / "again", episodes=3)
    assert found.meant_to_be_equal
    assert found.settings.keys() == {"engine"}
    assert found.divergence is None
    assert found.equal_records > 2
    assert list(_lines(found))[-1] == f"Settings and seed are equal, and so are all {found.equal_records} records."
    assert found.difference.value == 0


@pytest.mark.parametrize("setting", [{"log_every": 256}, {"eval_every": 128}])
def test_runs_that_only_write_other_records_are_equal(runs: Path, tmp_path: Path, setting: dict[str, Any]) -> None:
    asyncrl.train("CartPole-v1", "a3c", run_dir=tmp_path / "run", **SMALL, **setting)
    found = compare(runs / "one", tmp_path / "run", episodes=1)
    assert (found.meant_to_be_equal, found.divergence) == (True, None)
    assert found.equal_records > 2


def test_the_first_metric_that_differs_is_found(runs: Path, tmp_path: Path) -> None:
    changed = Path(shutil.copytree(runs / "one", tmp_path / "changed"))
    lines = (changed / "metrics.jsonl").read_text().splitlines()
    number = next(i for i, line in enumerate(lines) if '"kind": "train"' in line and '"entropy"' in line)
    lines[number] = json.dumps({**json.loads(lines[number]), "entropy": 9.0, "time": 1e9})
    (changed / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    found = compare(runs / "one", changed, episodes=3).divergence
    assert found is not None
    assert (found.kind, found.metric, found.values[1]) == ("train", "entropy", 9.0)
    assert found.step == json.loads(lines[number])["step"]


def test_a_run_without_its_config_is_compared_by_its_checkpoint(runs: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(runs / "one", tmp_path / "copied"))
    (copied / "config.json").unlink()
    found = compare(copied, runs / "one", episodes=1)
    assert (found.settings, found.meant_to_be_equal, found.divergence) == ({}, True, None)


def test_times_and_rates_are_not_compared() -> None:
    one = [{"step": 1, "update": 1, "kind": "train", "time": 1.0, "steps_per_second": 9, "update_share": 0.5, "loss": 2.0}]
    two = [{**one[0], "time": 2.0, "steps_per_second": 8, "update_share": 0.1}]
    assert first_divergence(one, two) == (1, None)
    assert first_divergence(one, [*two, {**one[0], "step": 2}]) == (1, None)


@pytest.mark.parametrize("written", ["NaN", "null"])
def test_a_metric_that_is_nan_in_both_runs_is_equal(written: str) -> None:
    """It is null in metrics.jsonl; older files have NaN."""
    line = '{"step": 1, "update": 1, "kind": "train", "ratio": NaN, "means": {"a": NaN}}'
    record, other = json.loads(line), json.loads(line.replace("NaN", written))
    assert first_divergence([record], [other]) == (1, None)
    _, found = first_divergence([record], [{**other, "ratio": 1.0}])
    assert found is not None
    assert found.metric == "ratio"


def test_other_settings_are_listed_and_agents_compared_over_episodes(runs: Path) -> None:
    found = compare(runs / "one", runs / "other", episodes=5)
    assert found.settings == {"learning_rate": (pytest.approx(0.002), pytest.approx(1e-4))}
    assert not found.meant_to_be_equal
    assert not found.over_runs
    assert found.difference.has_interval
    assert found.difference.value == pytest.approx(found.scores[0].value - found.scores[1].value)


def test_runs_are_called_by_their_folders_and_agents_are_refused(runs: Path) -> None:
    found = compare(Run(runs / "one"), runs / "other", episodes=1)
    assert found.names == (str(runs / "one"), str(runs / "other"))
    with pytest.raises(UsageError, match=r"compare takes runs, .*, not an Agent: name agent\.checkpoint\.path"):
        compare(asyncrl.load(runs / "one"), runs / "other")  # type: ignore[arg-type]


def test_folders_of_runs_are_compared_over_runs(runs: Path, tmp_path: Path) -> None:
    found = compare(runs / "seeds", runs / "seeds", episodes=2)
    assert (found.over_runs, found.counts) == (True, (2, 2))
    assert found.verdict == "The interval contains 0: no difference is shown."
    assert compare(runs / "one", runs / "seeds", episodes=2).verdict.startswith("One value has no interval")
    with pytest.raises(UsageError, match="holds runs with different settings"):
        compare(runs, runs / "one")


def test_runs_in_different_environments_are_one_sentence(runs: Path, tmp_path: Path) -> None:
    run = asyncrl.train("Acrobot-v1", "random", run_dir=tmp_path / "run", **{**SMALL, "steps": 64, "eval_episodes": 0})
    with pytest.raises(UsageError, match=r"for CartPole-v1 and .* for Acrobot-v1: scores of different environments cannot"):
        compare(runs / "one", run.path)


def test_a_run_of_someone_else_runs_no_code(runs: Path, tmp_path: Path) -> None:
    def name_code(manifest: dict[str, Any]) -> None:
        manifest["contract"]["env"] = manifest["config"]["env"] = "evil_module:Environment"

    run = forged(Run(runs / "one"), tmp_path / "forged", name_code)
    with pytest.raises(UsageError, match=r'would run code from "evil_module:Environment"|evil_module.*--trust'):
        compare(run.path, run.path)


def test_the_command_prints_a_table_and_records_both_agents(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pygame", reason="pip install 'asyncrl[classic]'")
    video = tmp_path / "both.mp4"
    assert main(["compare", str(runs / "one"), str(runs / "other"), "--episodes", "2", "--video", str(video)]) == 0
    out = capsys.readouterr().out
    assert "learning_rate  0.002  0.0001" in out
    assert "A − B" in out
    code = "import sys, imageio.v3; print(*imageio.v3.imread(sys.argv[1], index=None).shape)"
    pictures, height, width, _ = map(int, subprocess.check_output([sys.executable, "-c", code, str(video)]).split())
    assert pictures > 5
    assert (height, width) == (430, 1206)


def test_the_command_prints_json(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(runs / "one"), str(runs / "seeds"), "--episodes", "2", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["difference"]["low"] is None
    assert facts["counts"] == [1, 2]
    assert main(["compare", str(runs / "one"), str(runs / "one"), "--video", "clip.avi"]) == 2
    assert "must end in .mp4 or .gif" in capsys.readouterr().err
