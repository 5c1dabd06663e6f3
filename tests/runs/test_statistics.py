"""Statistics of a run: episodes, lag, rates, and the interquartile mean."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from asyncrl.algorithms.custom import RECORDED
from asyncrl.common.statistics import iqm, summarize
from asyncrl.experience import FullEpisodes, OnPolicy
from asyncrl.experience.rollout import Field, Layout, Rollout, Ticket
from asyncrl.runs.metrics.statistics import Episode, RunStatistics

STEPS = 3


def rollout(ticket: Ticket, reward: list[float], reset: list[bool], made_with: int = 0) -> Rollout:
    """STEPS steps of one environment; `reset` has one entry more."""
    layout = Layout(STEPS, 1, 1, Field((1,), torch.float32), Field((), torch.int64))
    made = layout.slot(torch.zeros(layout.nbytes, dtype=torch.uint8), 0)
    made.reward.copy_(torch.tensor(reward)[:, None])
    made.reset.copy_(torch.tensor(reset)[:, None])
    made.stamp.copy_(torch.tensor([ticket.number, ticket.actor, made_with]))
    return made


def statistics(actors: int = 1, slots: int = 4) -> RunStatistics:
    return RunStatistics(OnPolicy(STEPS), ["A"] * actors, 1, frame_skip=4, slots=slots)


def orders(number: int, actor: int = 0, version: int = 0) -> Ticket:
    return Ticket(number, actor, version, 0, 0)


episodes = st.lists(st.lists(st.integers(-9, 9), min_size=1, max_size=7), min_size=1, max_size=6)


@given(episodes)
def test_episodes_are_summed_over_rollouts_and_resets_do_not_count(played: list[list[int]]) -> None:
    """The episodes one after the other, a reset step worth 1000 after each, cut into rollouts wherever that falls."""
    reward = [r for episode in played for r in (*episode, 1000)]
    reset = [False, *(place == len(episode) for episode in played for place in range(1, len(episode) + 2))]
    padding = -len(reward) % STEPS
    reward, reset = reward + [0] * padding, reset + [False] * padding
    gathered, found = statistics(), []
    for number, t in enumerate(range(0, len(reward), STEPS)):
        made = rollout(orders(number), reward[t : t + STEPS], reset[t : t + STEPS + 1])
        found += gathered.consume(number, {orders(number): made}, waiting=0)
    assert [(e.score, e.length) for e in found] == [(sum(episode), len(episode)) for episode in played]
    record = gathered.record()
    assert record["episodes"] == len(played)
    assert record["mean_return"] == pytest.approx(sum(map(sum, played)) / len(played), abs=1e-3)


def test_the_returns_of_actors_are_kept_apart() -> None:
    gathered = statistics(actors=2)
    going_on = {orders(a, a): rollout(orders(a, a), [10.0**a] * 3, [False] * 4) for a in (0, 1)}
    assert gathered.consume(0, going_on, waiting=0) == []
    ending = {orders(3, 1): rollout(orders(3, 1), [10.0, 10.0, 5.0], [False] * 3 + [True])}
    (episode,) = gathered.consume(1, ending, waiting=0)
    assert episode == Episode(55.0, length=6, actor=1, env=0)
    gathered.updated(2, 7, {})
    (record,) = gathered.records([episode])
    assert {name: record[name] for name in record if name != "time"} == {
        "return": 55.0, "length": 6, "actor": 1, "env": 0, "kind": "episode", "step": 7, "update": 2
    }  # fmt: skip


def test_steps_that_the_next_rollout_has_too_are_counted_there() -> None:
    gathered = RunStatistics(OnPolicy(STEPS - 1, overlap=1), ["A"], 1, frame_skip=1, slots=4)
    ended = rollout(orders(0), [1.0, 2.0, 4.0], [False, False, False, True])
    again = rollout(orders(1), [4.0, 1000.0, 8.0], [False, True, False, True])
    assert gathered.consume(0, {orders(0): ended}, waiting=0) == []
    assert [e.score for e in gathered.consume(1, {orders(1): again}, waiting=0)] == [7]


def test_what_is_after_an_episode_does_not_count_where_a_rollout_is_a_whole_episode() -> None:
    gathered = RunStatistics(FullEpisodes(STEPS), ["A"], 1, frame_skip=1, slots=4)
    padded = rollout(orders(0), [1.0, 2.0, 1000.0], [False, False, True, True])
    for number in range(2):
        (episode,) = gathered.consume(number, {orders(0): padded}, waiting=0)
        assert (episode.score, episode.length) == (3, 2)


def test_the_lag_is_updates_between_the_weights_that_acted_and_those_that_learn() -> None:
    gathered = statistics(actors=2)
    made = {orders(n, n, v): rollout(orders(n, n, v), [0.0] * 3, [False] * 4, v) for n, v in enumerate([7, 4])}
    gathered.consume(8, made, waiting=0)
    record = gathered.record()
    assert (record["policy_lag"], record["policy_lag_max"]) == (2.5, 4)


def test_a_record_carries_rates_shares_and_metrics_and_begins_anew() -> None:
    gathered = statistics(slots=4)
    gathered.consume(0, {orders(0): rollout(orders(0), [0.0] * 3, [False] * 4)}, waiting=1)
    gathered.consume(1, {orders(1): rollout(orders(1), [0.0] * 3, [False] * 4)}, waiting=2)
    gathered.updated(2, 2 * STEPS, {"loss": torch.tensor(1.5)})
    first, second = gathered.record(), gathered.record()
    assert (first["kind"], first["update"], first["step"], first["loss"]) == ("train", 2, 2 * STEPS, 1.5)
    assert first["queue_fill"] == (1 / 4 + 2 / 4) / 2
    assert first["frames_per_second"] == pytest.approx(4 * first["steps_per_second"], abs=1)
    assert first["steps_per_second"] > 0
    assert (first["waiting_share"], first["learning_share"]) == (0, 0)
    assert first["mean_return"] is None
    assert second["steps_per_second"] == 0
    assert (second["policy_lag"], second["queue_fill"]) == (None, None)
    assert not {"loss", "learning_share"} & set(second)


def test_the_mean_return_is_over_the_last_100_episodes() -> None:
    gathered = statistics()
    for number in range(101):
        ended = rollout(orders(number), [0.0, 0.0, 0.0 if number else 1e6], [number > 0, False, False, True])
        gathered.consume(number, {orders(number): ended}, waiting=0)
    assert gathered.record()["mean_return"] == 0


returns = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40)


@given(returns)
def test_iqm_is_the_mean_of_the_middle_half(values: list[float]) -> None:
    """With each value four times, a quarter of them is as many as there are values."""
    middle = sorted(values * 4)[len(values) : -len(values)]
    assert iqm(np.array(values)) == pytest.approx(math.fsum(middle) / len(middle), abs=1e-6)


def test_iqm_is_along_the_last_axis() -> None:
    assert iqm(np.array([[0, 1, 2, 99], [99, 5, 6, 0]])).tolist() == [1.5, 5.5]


def test_a_summary_is_of_the_returns_and_the_same_each_time() -> None:
    values = [1.0, 2.0, 3.0, 4.0, 100.0]
    said = summarize(values)
    # a quarter of five is 1.25 values: 2 and 4 count ¾ each, 3 in full
    expected = dict(mean=22.0, std=float(np.std(values)), median=3.0, iqm=(0.75 * 2 + 3 + 0.75 * 4) / 2.5, episodes=5)
    assert {name: said[name] for name in expected} == pytest.approx(expected)
    assert min(values) <= said["iqm_interval"][0] < said["iqm"] < said["iqm_interval"][1] <= max(values)
    assert summarize(values) == said


def test_an_interval_is_the_same_however_much_is_resampled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(0, 1, 37).tolist()
    whole = summarize(values)
    monkeypatch.setattr("asyncrl.common.statistics._MAX_RESAMPLED", 1_000)
    assert summarize(values) == whole


def test_the_bootstrap_interval_holds_the_true_value_about_19_times_in_20() -> None:
    random = np.random.default_rng(0)
    intervals = [summarize(random.normal(0, 1, 30).tolist(), resamples=500)["iqm_interval"] for _ in range(200)]
    assert 0.87 < np.mean([low < 0 < high for low, high in intervals]) < 0.99


def test_every_field_of_a_record_is_closed_to_metrics() -> None:
    gathered = RunStatistics(OnPolicy(STEPS), ["A", "B"], 1, frame_skip=1, slots=4)
    ended = rollout(orders(0), [1.0, 2.0, 4.0], [False, False, False, True])
    ended.restarts[...] = 1
    gathered.consume(0, {orders(0): ended}, waiting=0)
    assert gathered.record().keys() == RECORDED
