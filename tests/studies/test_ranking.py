"""The sentence that ranks methods, or says why it does not."""

from __future__ import annotations

import numpy as np

from asyncrl.studies.ranking import ranking


def around(mean: float, spread: float = 1.0) -> np.ndarray:
    return mean + spread * np.array([-1.0, 0.0, 1.0])


def test_methods_whose_intervals_do_not_overlap_are_ranked() -> None:
    assert ranking({"b": around(0), "a": around(10)}) == "Ranking: a > b."


def test_overlap_is_not_ranked_and_the_missing_seeds_are_said() -> None:
    text = ranking({"a": around(1), "b": around(0)})
    assert text.startswith("No ranking: a ≈ b, whose 95 % intervals overlap. To rank a and b, about ")
    assert "more seeds each are needed" in text


def test_one_missing_seed_is_in_the_singular() -> None:
    text = ranking({"a": around(4.6), "b": around(0)})
    assert text.endswith("To rank a and b, about 1 more seed each is needed.")


def test_methods_that_only_neighbours_keep_together_are_said_to_differ() -> None:
    text = ranking({"a": around(8), "b": around(4), "c": around(0)})
    assert text.startswith("No ranking: a ≈ b ≈ c")
    assert "But a > c." in text


def test_a_mixed_ranking_says_which_neighbours_overlap() -> None:
    assert ranking({"a": around(99), "b": around(1), "c": around(0)}).startswith("Ranking: a > b ≈ c. ≈ does not rank")


def test_equal_means_and_single_runs_are_never_ranked() -> None:
    same = np.full(5, 500.0)
    assert "the same mean: no number of seeds" in ranking({"a": same, "b": same})
    assert "a single run has no interval" in ranking({"a": np.array([1.0]), "b": np.array([9.0])})
    assert "need two runs each" in ranking({"a": np.array([1.0]), "b": around(9)})
    assert "only one method" in ranking({"a": same})


def test_intervals_that_are_missing_are_not_said_to_overlap() -> None:
    one = np.array([5.0])
    assert "a ≈ b, whose 95 % intervals overlap or are missing." in ranking({"a": around(9), "b": one})
    assert "these intervals overlap or are missing." in ranking({"a": around(99), "b": around(9), "c": one})
