"""Which methods the evidence ranks, in words."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from asyncrl.common.counting import counted
from asyncrl.studies.statistics import MAX_SEEDS, Estimate, mean_with_interval, seeds_to_separate, separated

__all__ = ["ranking"]


def ranking(scores: Mapping[str, np.ndarray], estimates: Mapping[str, Estimate] | None = None) -> str:
    """Sentences that rank methods where their intervals do not overlap, and say how many seeds would rank the others.

    Args:
        scores: [runs] scores of each method.
        estimates: The values and intervals to rank by; None takes the means of `scores`. With it, numbers of seeds are
            not given.
    """
    found = estimates or {name: mean_with_interval(values) for name, values in scores.items()}
    if len(found) < 2:
        return "There is nothing to rank: only one method has results."
    names = sorted(found, key=lambda name: found[name].value, reverse=True)
    if not any(estimate.has_interval for estimate in found.values()):
        return "No ranking: a single run has no interval (--seeds 5 is a start)."
    pairs = list(itertools.pairwise(names))
    apart = [separated(found[one], found[other]) for one, other in pairs]
    chain = names[0] + "".join(f" {'>' if ranked else '≈'} {name}" for ranked, name in zip(apart, names[1:], strict=True))
    overlap = "overlap" if all(estimate.has_interval for estimate in found.values()) else "overlap or are missing"
    if not any(apart):
        sentences = [f"No ranking: {chain}, whose 95 % intervals {overlap}."]
    else:
        sentences = [f"Ranking: {chain}."] + [f"≈ does not rank: these intervals {overlap}."] * (not all(apart))
    sentences += [f"But {one} > {other}." for one, other in _separated_across(names, found, apart)]
    if estimates is None:
        sentences += [_more(one, other, scores) for (one, other), ranked in zip(pairs, apart, strict=True) if not ranked]
    return " ".join(sentences)


def _separated_across(
    names: Sequence[str], found: Mapping[str, Estimate], apart: Sequence[bool]
) -> Iterator[tuple[str, str]]:
    """Pairs whose intervals do not overlap although those of all neighbours between them do."""
    for i, j in itertools.combinations(range(len(names)), 2):
        if not any(apart[i:j]) and separated(found[names[i]], found[names[j]]):
            yield names[i], names[j]


def _more(one: str, other: str, scores: Mapping[str, np.ndarray]) -> str:
    x, y = scores[one], scores[other]
    if min(len(x), len(y)) < 2:
        return f"{one} and {other} need two runs each to have intervals."
    if x.mean() == y.mean():
        return f"{one} and {other} have the same mean: no number of seeds would rank them."
    needed = seeds_to_separate(x, y)
    if needed is None:
        return f"{one} and {other} are too close: {MAX_SEEDS:,} seeds would not rank them."
    more = max(1, needed - min(len(x), len(y)))
    return f"To rank {one} and {other}, about {counted(more, 'more seed')} each {'is' if more == 1 else 'are'} needed."
