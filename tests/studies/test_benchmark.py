"""Benchmarks: runs as `asyncrl train` makes them, resumed after a kill, with a report."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import asyncrl
from asyncrl.cli import main
from asyncrl.errors import UsageError
from asyncrl.runs.run import Run
from asyncrl.studies import benchmark as benchmarks
from asyncrl.studies.benchmark import benchmark
from asyncrl.studies.export import score_arrays
from asyncrl.studies.study import Cell, Result, Study
from asyncrl.studies.suite import Method, Suite, Task, words

SETTINGS = {"steps": 4_096, "eval_episodes": 1, "checkpoint_every": 1_024, "actors": 1, "envs_per_actor": 4}
TASK = Task("CartPole-v1", (Method("a3c", "a3c"),), SETTINGS, random=21.8, reference=500.0)
SUITE = Suite("tiny", (TASK,), seeds=2, episodes=3)


def wait_until(condition: object, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.02)


def is_alive(folder: Path) -> bool:
    """Whether a process trains the run in `folder`."""
    try:
        with Run(folder).locked():
            return False
    except UsageError:
        return True


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study that was killed while its second run was training; the result of its first is made up."""
    folder = tmp_path_factory.mktemp("killed") / "study"
    study = Study(folder, SUITE)
    study.save_suite()
    study.with_result(Result("CartPole-v1", "a3c", 1, (20.0, 30.0, 40.0), 4_096, 1.0))
    code = f"import test_benchmark as t; t.benchmark(t.SUITE, folder={str(folder)!r}, jobs=1)"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parent)
    second = folder / "runs" / "CartPole-v1" / "a3c" / "seed-2"
    wait_until(lambda: (second / "latest").exists())
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: not is_alive(second), 10)  # the kernel ends the training with the study
    return folder


@pytest.fixture(scope="module")
def finished(killed: Path) -> tuple[Study, list[str]]:
    """The study after a second start, and what that said."""
    said: list[str] = []
    return benchmark(SUITE, folder=killed, say=said.append), said


def test_a_killed_study_repeats_no_finished_run_and_continues_the_other(finished: tuple[Study, list[str]]) -> None:
    study, said = finished
    assert said[0].startswith("1 of 2 runs to do")
    assert [result.seed for result in study.results] == [1, 2]
    first, second = (Run(study.path / cell.folder) for cell in study.cells())
    assert not first.path.exists()
    assert len(second.facts()["resumed"]) == 1


def test_a_run_of_a_study_is_the_run_that_train_makes(finished: tuple[Study, list[str]], tmp_path: Path) -> None:
    study, _ = finished
    run = asyncrl.train("CartPole-v1", "a3c", run_dir=tmp_path / "run", progress=False, seed=2, **SETTINGS)
    latest = run.marked("latest")
    assert latest is not None
    manifest = json.loads((latest / "manifest.json").read_text())
    assert study.results[1].weights_sha256 == manifest["weights_sha256"]


def test_a_complete_study_is_reported_again_without_a_run(finished: tuple[Study, list[str]]) -> None:
    study, _ = finished
    said: list[str] = []
    again = benchmark(study.path, say=said.append, vs=["rl-zoo"], export="scores.npz")
    assert said == []
    assert again.results == study.results
    text = (study.path / "report.md").read_text(encoding="utf-8")
    assert re.search(r"\| a3c +\| .* \|    2 \| 4,096 \|", text)
    assert "## Compared with: RL Baselines3 Zoo" in text
    assert "With fewer than 5 seeds" in text
    page = (study.path / "report.html").read_text(encoding="utf-8")
    assert "<svg" in page
    assert not re.search(r'(src|href)="(?!https://github\.com)[^#"]*//', page)  # nothing is loaded
    with np.load(study.path / "scores.npz") as arrays:
        assert arrays["a3c"].shape == (2, 1)
        assert arrays["a3c"][:, 0] == pytest.approx(TASK.normalized(study.scores(TASK, TASK.methods[0])))


def test_other_settings_of_the_same_runs_are_refused(finished: tuple[Study, list[str]]) -> None:
    study, _ = finished
    with pytest.raises(UsageError, match="has runs of a3c on CartPole-v1 with other settings"):
        benchmark(SUITE, folder=study.path, steps=99)
    with pytest.raises(UsageError, match="has results over 3 episodes, not 4"):
        benchmark(SUITE, folder=study.path, episodes=4)


def test_a_method_that_comes_back_with_other_settings_does_not_get_the_results_of_the_removed_one(tmp_path: Path) -> None:
    options = tuple(words(TASK.methods[0], TASK))
    Study(tmp_path, SUITE).save_suite()
    study = Study.load(tmp_path)
    for seed in (1, 2):
        study = study.with_result(Result("CartPole-v1", "a3c", seed, (20.0, 30.0, 40.0), 4_096, 1.0, options=options))
    without = replace(SUITE, tasks=(replace(TASK, methods=()), replace(TASK, env="Acrobot-v1", methods=())))
    benchmark(without, folder=tmp_path)
    assert Study.load(tmp_path).suite == without
    with pytest.raises(UsageError, match="has runs of a3c on CartPole-v1 with other settings"):
        benchmark(SUITE, folder=tmp_path, steps=99)
    assert len(benchmark(SUITE, folder=tmp_path).results) == 2


def test_a_method_whose_settings_file_has_changed_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[algorithm]\nname = "a3c"\n[optimizer]\nlearning_rate = 0.002\n')
    suite = replace(SUITE, tasks=(replace(TASK, methods=(Method("mine", "a3c", config=str(file)),)),))
    study = Study(tmp_path / "study", suite)
    study.save_suite()
    run = study.path / study.cells()[0].folder
    run.mkdir(parents=True)
    (run / "config.json").write_text(
        '{"config": {"optimizer": {"learning_rate": 0.001}, "learner_threads": 99, "seed": 9}}'
    )
    with pytest.raises(UsageError, match=r"mine on CartPole-v1, seed 1 was begun with learning_rate 0\.001, not 0\.002"):
        benchmark(study.path)


def test_results_that_another_process_has_added_meanwhile_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = Study(tmp_path, SUITE)
    study.save_suite()

    def slow(*found: object, **trust: bool) -> object:
        study.with_result(result(1)).with_result(result(2)).with_result(result(3))
        return configurations(*found, **trust)

    def result(seed: int) -> Result:
        return Result("CartPole-v1", "a3c", seed, (20.0,), 4_096, 1.0)

    configurations = benchmarks._configurations
    monkeypatch.setattr(benchmarks, "_configurations", slow)
    said: list[str] = []
    assert [one.seed for one in benchmark(tmp_path, say=said.append).results] == [1, 2, 3]
    assert said == []


def test_an_export_without_reference_scores_is_refused_before_a_run_starts(tmp_path: Path) -> None:
    suite = replace(SUITE, tasks=(replace(TASK, random=None, reference=None),))
    with pytest.raises(UsageError, match="no environment of the suite has the scores random and reference"):
        benchmark(suite, folder=tmp_path / "study", export="scores.npz")
    assert not (tmp_path / "study").exists()


def test_a_study_of_someone_else_starts_nothing(finished: tuple[Study, list[str]], tmp_path: Path) -> None:
    study, _ = finished
    facts = json.loads((study.path / "study.json").read_text())
    facts["suite"]["seeds"] = 3
    (tmp_path / "study.json").write_text(json.dumps(facts))
    with pytest.raises(UsageError, match="made by someone else, and its 3 unfinished runs may run code"):
        benchmark(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["study.json"]


def test_train_with_seeds_is_a_study_that_names_the_runs_that_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--steps", "512", "--hidden", "8", "8", "--run-dir", "cell", "--seeds", "1", "--seed", "7"]
    assert main(["train", "a3c", "failing_envs:Raising", *options]) == 1
    said = capsys.readouterr().out
    assert "a3c on failing_envs:Raising, seed 7: " in said
    assert "walk collapsed" in said
    assert "report" not in said, "there is none without results"
    study = Study.load(tmp_path / "cell")
    (cell,) = study.unfinished()
    assert words(cell.method, cell.task) == ["--steps", "512", "--hidden", "8", "8"]
    assert (study.path / cell.folder / "config.json").exists()


@pytest.mark.parametrize("option", ["--video", "--watch"])
def test_train_with_seeds_refuses_what_it_does_not_do(
    option: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "a3c", "CartPole-v1", "--seeds", "2", option]) == 2
    assert f"{option} has no effect with --seeds" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_settings_that_do_not_fit_are_refused_before_a_run_starts(tmp_path: Path) -> None:
    method = Method("a3c", "a3c", settings={"epsilon_steps": 5})
    with pytest.raises(UsageError, match="a3c on CartPole-v1: unknown setting 'epsilon_steps'"):
        benchmark(replace(SUITE, tasks=(replace(TASK, methods=(method,)),)), folder=tmp_path / "study")
    assert not (tmp_path / "study").exists()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UsageError, match="exists and holds no study; choose another --folder"):
        benchmark(SUITE, folder=tmp_path)


def test_methods_have_folders_of_their_own(tmp_path: Path) -> None:
    greek = [Cell(TASK, Method(name, "a3c"), 1).folder.parts[2] for name in ("ppo γ=0.9", "ppo λ=0.9")]
    assert greek == ["ppo-γ-0.9", "ppo-λ-0.9"]
    alike = replace(TASK, methods=(Method("lag 0", "a3c"), Method("Lag (0)", "a3c")))
    with pytest.raises(UsageError, match=r"lag 0 on CartPole-v1, seed 1 and Lag \(0\) on .* the same files: rename one"):
        benchmark(replace(SUITE, tasks=(alike,)), folder=tmp_path / "study")


def test_methods_without_all_runs_are_not_exported(tmp_path: Path) -> None:
    tasks = (TASK, replace(TASK, env="Acrobot-v1", methods=(*TASK.methods, Method("ppo", "ppo"))))
    results = [Result(task.env, method.name, 1, (5.0,), 9, 1.0) for task in tasks for method in task.methods]
    study = Study(tmp_path, replace(SUITE, tasks=tasks), tuple(results))
    assert score_arrays(study).keys() == {"a3c"}
    assert score_arrays(replace(study, results=study.results[1:])) == {}
