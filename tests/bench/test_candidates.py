"""Candidates keep the batch of an update and what is held; the choice needs more than the noise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_runs import asked, contract_of, options_of

from asyncrl.algorithms import ALGORITHMS
from asyncrl.bench.automatic import fewest_of_the_fastest
from asyncrl.bench.candidates import Bounds, SpeedSettings, choose, divisions, finalists, placements, refinements
from asyncrl.runs.config.resolution import resolve
from asyncrl.runs.config.run_config import EngineKind

NAMES = ("engine", "actors", "envs_per_actor", "rollouts_per_update", "t_max", "learner_threads", "env_threads")
ENGINES = st.sampled_from([EngineKind.SERIAL, EngineKind.THREADS, EngineKind.PROCESSES, EngineKind.HOGWILD])
counts = st.integers(1, 12)
speed_settings = st.builds(
    SpeedSettings,
    engine=ENGINES,
    actors=counts,
    envs_per_actor=st.integers(1, 64),
    rollouts_per_update=st.none() | counts,
    t_max=st.none() | st.integers(1, 256),
    learner_threads=counts,
    env_threads=st.just(1),
)
bounds_of = st.builds(
    Bounds, cores=counts, lag=st.none() | st.integers(0, 3), envs=st.just(1), has_env_threads=st.booleans()
)
held_names = st.sets(st.sampled_from(NAMES))


def candidates(present: SpeedSettings, bounds: Bounds, held: set[str]) -> list[SpeedSettings]:
    placed = placements(present, bounds, held)
    return [*placed, *(near for one in placed[:4] for near in refinements(one, bounds, held))]


@given(speed_settings, bounds_of, held_names)
def test_every_candidate_keeps_the_batch_and_what_is_held(present: SpeedSettings, bounds: Bounds, held: set[str]) -> None:
    held = held - ({"rollouts_per_update"} if present.rollouts_per_update is None else set())  # it was not given
    found = candidates(present, bounds, held)
    assert {one.batch for one in found} == {present.batch}
    assert [one for one in found if held & one.changes_from(present).keys()] == []
    assert all(min(one.actors, one.envs_per_actor, one.rollouts, one.learner_threads, one.env_threads) > 0 for one in found)


@given(speed_settings, bounds_of, held_names)
def test_the_present_settings_come_first_and_none_comes_twice(
    present: SpeedSettings, bounds: Bounds, held: set[str]
) -> None:
    placed = placements(present, bounds, held)
    assert placed[0] == present
    assert len(placed) == len(set(placed))
    assert present not in refinements(present, bounds, held)


@given(speed_settings, bounds_of)
def test_a_division_keeps_the_environments_and_the_share_of_them_in_a_batch(present: SpeedSettings, bounds: Bounds) -> None:
    if present.engine is EngineKind.HOGWILD:
        return
    for one in divisions(present, bounds, ()):
        assert one.envs == present.envs
        assert one.rollouts * present.actors == present.rollouts * one.actors
        assert one.actors <= max(2 * bounds.cores, present.actors)


@given(speed_settings, bounds_of)
def test_actors_that_are_added_to_a_held_size_do_not_idle(present: SpeedSettings, bounds: Bounds) -> None:
    if present.engine is EngineKind.HOGWILD or bounds.lag is None:
        return
    for one in divisions(present, bounds, {"envs_per_actor"})[1:]:
        assert one.actors <= (bounds.lag + 1) * one.rollouts
        assert one.envs_per_actor == present.envs_per_actor


def test_an_agent_in_several_environments_has_an_actor_for_each() -> None:
    present = SpeedSettings(EngineKind.PROCESSES, 4, 8, None, 16, 1, 1)
    found = divisions(present, Bounds(cores=8, lag=1, envs=3), ())
    assert [one.actors for one in found] == [4, 8, 16]


@pytest.mark.parametrize("algorithm", [name for name in ALGORITHMS if name != "random"])
def test_candidates_can_be_applied_to_every_algorithm(algorithm: str) -> None:
    """Also to replay methods: their buffer, replay ratio and batches are untouched."""
    more: dict[str, Any] = dict(actors=2, envs_per_actor=4, minibatches=1, capacity=4_000, learning_starts=500)
    known = {name: value for name, value in more.items() if name in options_of(algorithm)}
    config = asked(algorithm, known)
    contract = contract_of(config)
    resolved = resolve(config, contract)
    present = SpeedSettings.of(config, resolved)
    assert present.applied(config, present) == config
    for one in candidates(present, Bounds(cores=4, lag=1), {"engine"}):
        new = resolve(replace(one.applied(config, present), queue_size=None), contract)
        assert new.batch_steps == resolved.batch_steps
        assert SpeedSettings.of(one.applied(config, present), new) == one
        assert new.algorithm.experience().replay == resolved.algorithm.experience().replay


ONE = SpeedSettings(EngineKind.SERIAL, 2, 16, None, 16, 1, 1)
OTHER, THIRD = replace(ONE, actors=4, envs_per_actor=8), replace(ONE, actors=1, envs_per_actor=32)


def test_the_present_settings_are_kept_unless_others_are_faster_by_more_than_the_noise() -> None:
    assert choose({ONE: [100], OTHER: [102.9]}, ONE, 0.03) == ONE
    assert choose({ONE: [100], OTHER: [103.1]}, ONE, 0.03) == OTHER
    assert choose({ONE: [90, 110], OTHER: [115, 115]}, ONE, 0.03) == ONE, "the present ones differ by 20 % themselves"
    assert choose({ONE: [100, 101], OTHER: [80, 140], THIRD: [120, 120]}, ONE, 0.03) == THIRD


@given(st.dictionaries(speed_settings, st.floats(1, 1e6), min_size=1, max_size=8), st.data())
def test_the_choice_is_never_slower_than_the_present_settings(
    rates: dict[SpeedSettings, float], data: st.DataObject
) -> None:
    present = data.draw(st.sampled_from(list(rates)))
    chosen = choose({one: [rate] for one, rate in rates.items()}, present, 0.03)
    assert rates[chosen] >= rates[present]
    best = finalists(rates, present, 2)
    assert best[0] == present
    assert len(best) == min(3, len(rates))
    assert max(rates.values()) in [rates[one] for one in best]


def test_few_actors_are_preferred_among_those_that_are_about_equally_fast() -> None:
    assert fewest_of_the_fastest({ONE: 1.0, OTHER: 2.0, THIRD: 1.95}, ONE) == THIRD
    assert fewest_of_the_fastest({ONE: 1.0, OTHER: 1.04}, ONE) == ONE
    assert fewest_of_the_fastest({}, ONE) == ONE
