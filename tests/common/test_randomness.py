"""Streams are addressed, not advanced."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from asyncrl.common.randomness import Stream, environment_seeds, generator

words = st.integers(0, 2**32 - 1)
addresses = st.tuples(words, st.sampled_from(Stream), st.lists(words, max_size=2).map(tuple))
"""Root seed, stream, address; an address is one or two counts, each far below 2**32."""

Address = tuple[int, Stream, tuple[int, ...]]


def draw(address: Address) -> list[float]:
    root, stream, rest = address
    return torch.rand(4, generator=generator(root, stream, *rest)).tolist()


def seeds(address: Address) -> list[int]:
    root, stream, rest = address
    return environment_seeds(root, stream, 4, *rest)


@given(addresses)
def test_the_same_address_gives_the_same_numbers(address: Address) -> None:
    assert draw(address) == draw(address)
    assert seeds(address) == seeds(address)


@given(st.lists(addresses, min_size=2, max_size=2, unique=True))
def test_another_address_gives_other_numbers(pair: list[Address]) -> None:
    one, other = pair
    assert draw(one) != draw(other)
    assert [s // 2 for s in seeds(one)] != [s // 2 for s in seeds(other)]  # not only even for odd


def test_root_stream_and_every_part_of_the_address_count() -> None:
    at = [(1, Stream.ACTOR, ()), (2, Stream.ACTOR, ()), (1, Stream.LEARNER, ()), (1, Stream.ACTOR, (0,))]
    at += [(1, Stream.ACTOR, (1,)), (1, Stream.ACTOR, (0, 1)), (1, Stream.ACTOR, (1, 0))]
    assert len({tuple(draw(address)) for address in at}) == len(at)


def test_saved_runs_keep_their_numbers() -> None:
    """Change these and no run can be repeated any more: streams may only be added."""
    assert [(s.name, int(s)) for s in Stream][:5] == [
        ("NETWORK", 0), ("LEARNER", 1), ("ACTOR", 2), ("ENVIRONMENT", 3), ("EVALUATION", 4)
    ]  # fmt: skip
    assert environment_seeds(1, Stream.ENVIRONMENT, 3, 0, 0) == [2089158242, 655310138, 1967203730]
    assert torch.randint(1000, (4,), generator=generator(1, Stream.ACTOR, 17)).tolist() == [127, 70, 468, 672]


@given(words, st.integers(1, 64), st.lists(words, max_size=2))
def test_training_seeds_are_even_and_evaluation_seeds_odd_and_all_have_31_bits(
    root: int, count: int, address: list[int]
) -> None:
    training = environment_seeds(root, Stream.ENVIRONMENT, count, *address)
    evaluation = environment_seeds(root, Stream.EVALUATION, count, *address)
    assert len(training) == len(evaluation) == count
    assert {s % 2 for s in training} == {0}
    assert {s % 2 for s in evaluation} == {1}
    assert all(0 <= s < 2**31 for s in training + evaluation)
