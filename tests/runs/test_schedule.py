"""The schedule alone, as arithmetic."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from asyncrl.experience.rollout import Ticket
from asyncrl.runs.schedule import Free, Lockstep

lockstep = st.builds(
    Lockstep,
    actors=st.integers(1, 5),
    rollouts=st.integers(1, 6),
    steps_per_rollout=st.just(10),
    updates=st.integers(1, 20),
    lag=st.integers(0, 4),
    publish_every=st.integers(1, 4),
)


def lifetime(schedule: Lockstep) -> list[tuple[int, Ticket]]:
    """Every ticket with the number of updates that were complete when it was ordered."""
    ordered = [(0, t) for _, tickets in schedule.initial_requests(0) for t in tickets]
    for update in range(schedule.updates):
        ordered += [(update + 1, t) for t in schedule.next_requests(update, schedule.expected(update))]
    return ordered


@given(lockstep)
def test_every_rollout_is_ordered_once_and_in_order(schedule: Lockstep) -> None:
    numbers = [ticket.number for _, ticket in lifetime(schedule)]
    assert numbers == list(range(schedule.updates * schedule.rollouts))


@given(lockstep)
def test_a_rollout_is_made_with_what_was_published_last_lag_updates_before_it_is_learned_from(schedule: Lockstep) -> None:
    for _, ticket in lifetime(schedule):
        due = max(0, ticket.number // schedule.rollouts - schedule.lag)
        assert ticket.version % schedule.publish_every == 0
        assert due - schedule.publish_every < ticket.version <= due


@given(lockstep)
def test_weights_exist_when_a_rollout_is_ordered_and_live_until_it_is_consumed(schedule: Lockstep) -> None:
    for complete, ticket in lifetime(schedule):
        consumed_by = ticket.number // schedule.rollouts
        assert ticket.version <= complete
        overwritten_by = ticket.version + schedule.weight_buffers * schedule.publish_every
        assert consumed_by < overwritten_by  # which exists only after that update


@given(lockstep)
def test_a_slot_is_ordered_again_only_after_its_rollout_was_consumed(schedule: Lockstep) -> None:
    holder: dict[int, int] = {}
    for complete, ticket in lifetime(schedule):
        if ticket.slot in holder:
            assert holder[ticket.slot] // schedule.rollouts < complete
        assert ticket.slot < schedule.slots
        holder[ticket.slot] = ticket.number


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 6), st.integers(1, 12), st.randoms())
def test_free_orders_exactly_what_the_run_consumes(
    actors: int, rollouts: int, more: int, updates: int, random: object
) -> None:
    schedule = Free(actors, rollouts, 10, updates, slots=max(actors, rollouts) + more)
    waiting = [t for _, tickets in schedule.initial_requests(0) for t in tickets]
    ordered = len(waiting)
    for update in range(updates):
        random.shuffle(waiting)  # type: ignore[attr-defined]
        consumed, waiting = waiting[: schedule.expected(update)], waiting[schedule.expected(update) :]
        assert len(consumed) == rollouts
        new = schedule.next_requests(update, consumed)
        assert {(t.slot) for t in waiting}.isdisjoint(t.slot for t in new)
        waiting += new
        ordered += len(new)
    assert (waiting, ordered) == ([], updates * rollouts)
