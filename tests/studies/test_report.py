"""The report of a study, from made-up results."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from asyncrl.plots.document import Figure, Rows, Text, to_html, to_markdown
from asyncrl.studies.published import find_reference
from asyncrl.studies.report import report, write_report
from asyncrl.studies.study import Result, Study
from asyncrl.studies.suite import Method, Suite, Task

METHODS = (Method("a3c", "a3c"), Method("ppo", "ppo"))
TASKS = tuple(Task(env, METHODS, random=0.0, reference=100.0) for env in ("CartPole-v1", "Acrobot-v1"))


def study(path: Path, better: float, seeds: int = 5) -> Study:
    """ppo's scores are those of a3c, and `better`."""
    results = [
        Result(task.env, method.name, seed, (50.0 + seed + better * (method.name == "ppo"),), 1_000, 2.0)
        for task in TASKS
        for method in METHODS
        for seed in range(1, seeds + 1)
    ]
    return Study(path, Suite("made up", TASKS, seeds=seeds), tuple(results))


def text_of(found: Study, *tables: str) -> str:
    return to_markdown(report(found, [find_reference(name) for name in tables]))


def test_clear_differences_are_ranked_with_all_statistics(tmp_path: Path) -> None:
    text = text_of(study(tmp_path, better=20))
    assert text.count("Ranking: ppo > a3c.") == 3  # in both environments, and normalized
    assert re.search(r"\| ppo over a3c \| +1\.00 \[1\.00, 1\.00\] \|", text)
    assert re.search(r"\| ppo +\| 0\.73 \[0\.72, 0\.74\] \| 0\.73 \[0\.72, 0\.74\] \| 0\.27", text)
    assert re.search(r"\| a3c +\| +100% \| +100% \| +0% \|", text)
    assert "fewer than 5 seeds" not in text


def test_overlap_is_not_ranked(tmp_path: Path) -> None:
    text = text_of(study(tmp_path, better=1))
    assert text.count("No ranking: ppo ≈ a3c, whose 95 % intervals overlap. To rank ppo and a3c, about ") == 2
    assert "Ranking:" not in text


def test_one_seed_ranks_nothing(tmp_path: Path) -> None:
    text = text_of(study(tmp_path, better=20, seeds=1))
    assert "Ranking:" not in text
    assert "a single run has no interval" in text
    assert "fewer than 5 seeds" in text


def test_published_scores_stand_beside_ours_and_single_runs_are_not_tested(tmp_path: Path) -> None:
    text = text_of(study(tmp_path, better=20), "rl-zoo", "cleanrl")
    assert re.search(r"\| ppo +\| 500\.0 \| +none \| +1 \| +100,000 \| CartPole-v1 \|", text)
    assert "ppo: not tested, because theirs has no interval over runs." in text
    assert "ppo: lower than ppo there." in text  # CleanRL's three runs on CartPole
    assert "ppo: higher than ppo there." in text  # and on Acrobot


def test_unfinished_environments_and_those_without_references_are_said(tmp_path: Path) -> None:
    suite = Suite("made up", (Task("Here-v0", METHODS),), seeds=2)
    text = text_of(Study(tmp_path, suite))
    assert "0 of 4 runs" in text
    assert "No run has finished." in text
    assert "No method has a run in every environment with reference scores." in text


def test_the_files_are_written_and_hostile_names_are_text(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pip install 'asyncrl[plot]'")
    write_report(study(tmp_path, better=20))
    assert (tmp_path / "report.md").read_text(encoding="utf-8").startswith("# made up")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 3
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    blocks = [Text("<script>"), Rows(["a|b"], [["<b>"]]), Figure("<svg ></svg>", '"x"')]
    assert "<script>" not in to_html("<title>", blocks)
    assert "a\\|b" in to_markdown(blocks)
