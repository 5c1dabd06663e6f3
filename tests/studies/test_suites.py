"""Suite files: what they say, and the mistakes in them, each with its line and a suggestion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from asyncrl.algorithms import is_algorithm
from asyncrl.errors import UsageError
from asyncrl.presets import preset_names
from asyncrl.studies.published import find_reference, game, table_names
from asyncrl.studies.statistics import mean_with_interval
from asyncrl.studies.suite import read_suite, suite_names, words

SUITE = """\
seeds = 2
settings = { steps = 300 }

[environments."CartPole-v1"]
methods = ["a3c", "careful ppo"]
random = 21.8
reference = 500
settings = { t_max = 16 }

[methods."careful ppo"]
algorithm = "ppo"
preset = "ppo/cartpole"
settings = { learning_rate = 1e-4, steps = 200, normalize_observation = true, hidden = [8, 8] }
"""


def read(folder: Path, text: str) -> str:
    """The message that a suite file is refused with."""
    (folder / "mine.toml").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as refused:
        read_suite(folder / "mine.toml")
    return str(refused.value).removeprefix(f"{folder / 'mine.toml'}, ")


def test_a_methods_options_are_those_of_suite_environment_and_method(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(SUITE, encoding="utf-8")
    suite = read_suite(tmp_path / "mine.toml")
    (task,) = suite.tasks
    a3c, ppo = task.methods
    assert (suite.name, suite.seeds, suite.episodes) == ("mine", 2, 100)
    assert words(a3c, task) == ["--steps", "300", "--t-max", "16"]
    assert words(ppo, task) == [
        *("--preset", "ppo/cartpole", "--steps", "200", "--t-max", "16", "--learning-rate", "0.0001"),
        *("--normalize-observation", "--hidden", "8", "8"),
    ]
    assert task.normalized(np.array([21.8, 500.0])) == pytest.approx([0, 1])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds = 2", "seedz = 2", "line 1: there is no key 'seedz'; did you mean 'seeds'?"),
        ("seeds = 2", "seeds = 0", "line 1: seeds must be 1 or more, not 0"),
        ("seeds = 2", 'seeds = "two"', "line 1: seeds: expected a whole number, got 'two'"),
        ("steps = 300", "stepz = 300", "line 2: a3c has no setting 'stepz'; did you mean 'steps'?"),
        ("t_max = 16", "tmax = 16", "line 8: a3c has no setting 'tmax'; did you mean 't_max'?"),
        ("t_max = 16", "seed = 16", "line 8: seed is not a setting of a suite: use seeds and first_seed"),
        ('"a3c", ', '"a3d", ', "line 5: there is no method 'a3d'; did you mean 'a3c'?"),
        ("random = 21.8\n", "", "line 4: CartPole-v1 needs both random and reference, two different scores, or neither"),
        ('algorithm = "ppo"', 'algoritm = "ppo"', "line 11: there is no key 'algoritm' in [methods.careful ppo]; did you"),
        ("learning_rate", "learning_rat", "line 13: ppo has no setting 'learning_rat'; did you mean 'learning_rate'"),
        ('methods = ["a3c", "careful ppo"]', "methods = 3", "line 5: methods of CartPole-v1 must be a list such as"),
        ('["a3c", "careful ppo"]', '["a3c", "careful ppo"', "line 6, column 1: unclosed array"),
    ],
)
def test_a_mistake_is_answered_with_its_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert read(tmp_path, SUITE.replace(old, new)).startswith(message)


def test_a_suite_without_environments_is_refused(tmp_path: Path) -> None:
    assert "the suite has no environments" in read(tmp_path, "seeds = 3")


def test_an_unknown_suite_is_answered_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match="there is no suite 'clasic'; did you mean 'classic'"):
        read_suite("clasic")


@pytest.mark.parametrize("name", suite_names())
def test_the_suites_of_the_package_name_what_exists_and_their_sources(name: str) -> None:
    suite = read_suite(name)
    for task in suite.tasks:
        assert task.source
        for method in task.methods:
            assert is_algorithm(method.algorithm)
            assert method.preset is None or method.preset in preset_names()


@pytest.mark.parametrize("name", table_names())
def test_the_tables_of_the_package_have_sources_and_one_score_per_method_and_environment(name: str) -> None:
    table = find_reference(name)
    assert table.source.startswith("https://")
    assert table.rules
    keys = [(score.method, score.env) for score in table.scores]
    assert len(keys) == len(set(keys)) > 10


def test_scores_are_found_under_other_versions_of_an_environment() -> None:
    assert game("ALE/Pong-v5") == game("PongNoFrameskip-v4") == game("Pong")
    assert game("CartPole-v1") != game("CartPole-swingup-v1")
    best = find_reference("mnih2016").of("ALE/SpaceInvaders-v5")[0]
    assert (best.method, best.estimate.value) == ("a3c-lstm", 23846.0)
    assert not best.estimate.has_interval
    assert find_reference("cleanrl").of("Hopper-v5")[0].estimate.has_interval


def test_published_deviations_divide_by_the_number_of_runs() -> None:
    (ppo,) = (score for score in find_reference("cleanrl").of("Pong-v5") if score.method == "ppo")
    runs = 20.36 + 0.20 * np.array([np.sqrt(1.5), 0, -np.sqrt(1.5)])  # NumPy's std of these is 0.20
    assert ppo.estimate == pytest.approx(tuple(mean_with_interval(runs)))


def test_an_unknown_table_is_answered_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match="there is no study and no table 'rlzoo'; did you mean 'rl-zoo'"):
        find_reference("rlzoo")
