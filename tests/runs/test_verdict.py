"""The verdict on a run's speed, from measured times: bottleneck, setting to change, expected gain."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from algorithm_worlds import world_of
from small_runs import asked, contract_of

from asyncrl.algorithms import ALGORITHMS
from asyncrl.api import configure
from asyncrl.common.stopwatch import LEARNER_STAGES
from asyncrl.runs.config.option_checks import reject_ineffective
from asyncrl.runs.config.resolution import resolve
from asyncrl.runs.config.run_config import RunConfig
from asyncrl.runs.speed.stage_times import StageTimes
from asyncrl.runs.speed.throughput import expected_gain
from asyncrl.runs.speed.verdict import Advisor, Verdict

SECONDS, STEPS = 100.0, 100_000
SMALL: dict[str, Any] = dict(actors=2, envs_per_actor=4, t_max=8, steps=1_000_000, eval_episodes=30)


def times(
    *, environments: float, acting: float, learner: dict[str, float], actors: int = 2, processor: float | None = None,
    busy: tuple[float, ...] | None = None, **more: Any,
) -> StageTimes:  # fmt: skip
    """Times of a run of 100 s; all of it is processor time unless `processor` says how much of the actors' is."""
    making = environments + acting
    used = making if processor is None else processor
    work = sum(seconds for stage, seconds in learner.items() if stage != "waiting")
    facts: dict[str, Any] = dict(
        seconds=SECONDS,
        steps=STEPS,
        updates=1_000,
        actors={"environments": environments, "acting": acting, "waiting": actors * SECONDS - making, "other": 0.0},
        learner={stage: learner.get(stage, 0.0) for stage in LEARNER_STAGES},
        rollouts=(1_000,) * actors,
        busy=busy or (making / actors,) * actors,
        actors_processor=used,
        learner_processor=work,
        delayed=0.0,
        busy_cores=(used + work) / SECONDS,
    )
    return StageTimes(**facts | more)


def resolved(env: str = "worlds:Corridor-v0", algorithm: str = "a3c", **settings: Any) -> RunConfig:
    config = configure(env, algorithm, **SMALL | dict(engine="processes", lag=1) | settings)
    return resolve(config, contract_of(config))


def judged(config: RunConfig, measured: StageTimes, cores: float = 8) -> Verdict:
    return Advisor(config, contract_of(config), cores).judge(measured)


def test_environments_that_wait_are_stepped_side_by_side() -> None:
    slow = times(environments=190, acting=5, processor=8, learner=dict(waiting=95, forward=5))
    verdict = judged(resolved(), slow)
    assert (verdict.bottleneck, verdict.flag) == ("environments", "--env-backend async")
    assert verdict.gain is not None
    assert 2.5 < verdict.gain < 4  # four environments per actor
    assert verdict.sentence == (
        "The environments take 95% of the actors' time, and the learner waits 95% of its time for rollouts: "
        f"with --env-backend async expect about {verdict.gain:.1f} times the speed."
    )


def test_more_actors_help_as_far_as_cores_go() -> None:
    busy = times(environments=150, acting=40, learner=dict(waiting=80, forward=20))
    config = resolved("CartPole-v1")
    gains = {cores: judged(config, busy, cores).gain or 1.0 for cores in (2.2, 4.0, 16.0)}
    assert gains[2.2] < 1.4 < gains[4.0] < 2.1 < gains[16.0] < 4.1
    assert judged(config, busy, 2.1).bottleneck == "cores"
    assert "All 2.1 cores are busy" in judged(config, busy, 2.1).sentence


def test_in_lockstep_more_actors_wait_where_the_lag_keeps_rollouts_back() -> None:
    """One rollout per update and lag 1: two are under way, whatever the number of actors."""
    slow = dict(environments=190, acting=5, processor=8, learner=dict(waiting=95, forward=5))
    config = resolved("CartPole-v1", rollouts_per_update=1)
    assert "--actors" not in (judged(config, times(**slow)).flag or "")
    four = judged(resolved("CartPole-v1", rollouts_per_update=1, actors=4), times(**slow, actors=4))
    assert four.flag == "--lag 3"
    assert four.gain is not None
    assert 1.5 < four.gain < 2.1


def test_one_thread_is_left_for_processes_where_cores_are_free() -> None:
    config = resolved(engine="serial", actors=2)
    turns = times(environments=55, acting=10, learner=dict(waiting=65, forward=15, backward=15, optimizer=5))
    verdict = judged(config, turns, cores=4)
    assert (verdict.bottleneck, verdict.flag) == ("environments", "--engine processes")
    assert verdict.gain is not None
    assert 1.8 < verdict.gain < 100 / 35  # the learner's own time remains
    assert "one after the other" in verdict.sentence
    assert "processes" not in (judged(config, turns, cores=1).flag or "")


def test_a_slow_learner_is_named_with_its_stages() -> None:
    learner = dict(waiting=2, batch=3, forward=40, backward=45, optimizer=10)
    config = resolved(algorithm="ppo", epochs=10, minibatches=2)
    verdict = judged(config, times(environments=30, acting=20, learner=learner))
    assert (verdict.bottleneck, verdict.flag) == ("learner", "--epochs 5")
    assert "forward 40%, backward 45%" in verdict.sentence
    recorded = judged(config, times(environments=30, acting=20, learner={**learner, "forward": 85, "backward": 0}))
    assert "(forward and backward 85%)" in recorded.sentence
    without = judged(resolved("CartPole-v1", "dqn"), times(environments=30, acting=20, learner=learner))
    assert (without.flag, without.gain) == (None, None)
    assert without.sentence.endswith("no single setting is expected to make it much faster here.")


def test_evaluations_that_take_most_of_the_time_should_be_rarer() -> None:
    learner = dict(waiting=20, forward=10, evaluation=70)
    verdict = judged(resolved(eval_every=10_000), times(environments=20, acting=10, learner=learner))
    assert verdict.bottleneck == "evaluation"
    assert verdict.flag is not None
    option, steps = verdict.flag.split()
    assert option == "--eval-every"
    factor = int(steps) / 10_000
    assert verdict.gain == pytest.approx(100 / (30 + 70 / factor), rel=0.01)
    at_the_end = judged(resolved(), times(environments=20, acting=10, learner=learner))
    assert at_the_end.flag == "--eval-episodes 10"


def test_a_straggler_is_named_and_the_others_need_not_wait() -> None:
    slow = times(environments=110, acting=3, processor=6, actors=4, busy=(5, 5, 98, 5), learner=dict(waiting=95, forward=5))
    verdict = judged(resolved("CartPole-v1", actors=4), slow)
    assert (verdict.bottleneck, verdict.flag) == ("straggler", "--schedule free")
    assert "Actor 2 takes 19.6 times as long" in verdict.sentence


def test_other_programs_are_blamed_for_the_cores_that_they_keep() -> None:
    disturbed = times(
        environments=100, acting=60, processor=30, learner=dict(waiting=80, forward=20), delayed=130.0, busy_cores=2.0
    )
    verdict = judged(resolved("CartPole-v1"), disturbed, cores=2)
    assert verdict.bottleneck == "cores"
    assert verdict.sentence.startswith("Other programs keep 1.5 of the 2 cores busy")


def test_nothing_changes_without_a_change() -> None:
    for settings in (dict(engine="serial"), dict(engine="processes"), dict(engine="processes", lag=0)):
        config = resolved(**settings)
        measured = times(environments=60, acting=20, learner=dict(waiting=60, forward=40))
        gain = expected_gain(measured, contract_of(config), config, config, cores=8)
        assert gain == pytest.approx(1.0) or gain < 1.0


def test_a_second_is_too_short() -> None:
    config = resolved()
    short = replace(times(environments=1, acting=1, learner={}), seconds=0.5)
    assert {judged(config, short).bottleneck, Advisor(config, contract_of(config)).judge(None).bottleneck} == {"unknown"}


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name != "random"])
def test_only_settings_that_the_algorithm_takes_are_named(name: str) -> None:
    config = resolve(asked(name, {"steps": 1_000}), contract_of(asked(name, {})))
    acting = times(environments=150, acting=40, processor=10, learner=dict(waiting=95, forward=5))
    learning = times(environments=20, acting=20, learner=dict(waiting=2, forward=50, backward=48))
    for measured in (acting, learning):
        flag = judged(config, measured).flag
        if flag is None or "--env-backend" in flag:
            continue
        changes = {
            option.strip("-").replace("-", "_"): value for option, value in zip(*[iter(flag.split())] * 2, strict=True)
        }
        changed = asked(name, {"steps": 1_000} | {k: int(v) if v.isdigit() else v for k, v in changes.items()})
        reject_ineffective(changed, contract_of(changed), changes)
    assert world_of(name) == config.env
