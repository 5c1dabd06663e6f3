"""The search spaces of settings, and the trials in Optuna's storage."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
from algorithm_worlds import world_of

from asyncrl.algorithms import A3C, ALGORITHMS, Choices, Range
from asyncrl.envs import describe
from asyncrl.errors import SystemFault, UsageError
from asyncrl.runs.config.settings import configure
from asyncrl.studies.tuning.report import write_results
from asyncrl.studies.tuning.space import Dimension, search_space
from asyncrl.studies.tuning.storage import Objective, State, Storage, storage_faults

FACTS: dict[str, Any] = dict(
    algorithm="a3c", env="CartPole-v1", objectives="score", space={"x": "Range"}, settings={"steps": 9}
)
SPACE = {
    "x": Dimension("x", Range(0.1, 10.0, log=True), False, 1.0),
    "y": Dimension("y", Choices((8,), (4, 4)), False, (8,)),
}


@dataclass(frozen=True)
class Own(A3C):
    """An algorithm with a search space of its own."""

    t_max: int = 7
    """Not searched: its type has no space."""
    boost: Annotated[float, Range(0.5, 2.0)] = 3.0


def space_of(algorithm: str, **settings: Any) -> dict[str, Dimension]:
    config = configure(world_of(algorithm), algorithm, **settings)
    return search_space(config, describe(config.env, config.environment), fixed=())


@pytest.mark.parametrize("algorithm", [name for name in ALGORITHMS if name != "random"])
def test_every_value_of_a_search_space_is_allowed(algorithm: str) -> None:
    spaces = describe(world_of(algorithm), configure(world_of(algorithm), algorithm).environment).spaces
    found = space_of(algorithm)
    assert {"learning_rate", "discount"} <= found.keys()
    for name, dimension in found.items():
        ends = [dimension.space.low, dimension.space.high] if isinstance(dimension.space, Range) else dimension.space.values
        for value in ends:
            config = configure(world_of(algorithm), algorithm, **{name: value})
            config.algorithm.check(spaces, config.network)
            config.optimizer.check()


def test_an_algorithm_of_ones_own_brings_its_search_spaces() -> None:
    config = configure("worlds:Corridor-v0", Own)
    found = search_space(config, describe(config.env, config.environment), fixed=("discount",))
    assert found["boost"].space == Range(0.5, 3.0)  # the default is inside
    assert "gae_lambda" in found
    assert not {"t_max", "discount"} & found.keys()


def test_settings_without_effect_are_not_searched() -> None:
    assert {"hidden", "activation"} <= space_of("a3c").keys()
    assert not {"hidden", "activation"} & space_of("a3c", network="radial").keys()
    assert "recurrent_size" in space_of("a3c", recurrent="gru")


def test_a_range_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="log=True from a positive one"):
        Range(0.0, 1.0, log=True)


def opened(folder: Path, *objectives: Objective, **facts: Any) -> Storage:
    return Storage(folder / "study.db", SPACE, objectives or [Objective.SCORE], FACTS | facts, seed=1)


def test_a_trial_below_the_median_is_pruned_and_the_best_is_found(tmp_path: Path) -> None:
    storage = opened(tmp_path)
    for score in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0):
        trial = storage.ask()
        assert not trial.report([score, score])
        trial.complete(score, 1.0)
    trial = storage.ask()
    assert not trial.report([0.5])  # the first evaluation decides nothing
    assert trial.report([0.5, 0.5])
    trial.prune(0.5, 1.0)
    storage.ask().fail("it diverged")
    assert [one.number for one in storage.best()][:2] == [7, 6]
    assert [one.state for one in storage.trials()[-2:]] == [State.PRUNED, State.FAILED]
    assert storage.trials()[-1].problem == "it diverged"
    assert sum(storage.importances().values()) == pytest.approx(1)
    first = storage.trials()[0].settings
    assert first == {"x": 1.0, "y": (8,)}


def test_a_study_that_is_opened_again_has_its_running_trial_and_draws_other_values(tmp_path: Path) -> None:
    storage = opened(tmp_path)
    storage.ask().complete(1.0, 1.0)
    begun = storage.ask()
    begun.report([3.0])
    again = opened(tmp_path)
    (found,) = again.unfinished()
    assert (found.number, found.settings) == (1, begun.settings)
    assert not found.report([3.0, 4.0])  # the first one is known
    assert again.ask().settings["x"] != begun.settings["x"]


def test_the_pareto_front_of_score_and_time(tmp_path: Path) -> None:
    storage = opened(tmp_path, Objective.SCORE, Objective.SECONDS)
    for score, seconds in ((10.0, 5.0), (8.0, 6.0), (7.0, 1.0), (11.0, 9.0)):
        trial = storage.ask()
        assert not trial.report([score])
        trial.complete(score, seconds)
    storage.ask().fail("it diverged")
    assert [one.number for one in storage.best()] == [3, 0, 2]


def completed(folder: Path, results: list[tuple[float, float]], *objectives: Objective) -> Storage:
    """A storage of trials with these scores and seconds."""
    storage = opened(folder, *objectives)
    for number, (score, seconds) in enumerate(results):
        storage.ask().complete(score, seconds)
        settings = folder / "trials" / f"{number:03}.toml"
        settings.parent.mkdir(exist_ok=True)
        settings.write_text("# settings\n")
    return storage


def test_trials_that_are_to_be_short_are_ranked_by_their_time(tmp_path: Path) -> None:
    storage = completed(tmp_path, [(100.0, 50.0), (90.0, 10.0), (120.0, 300.0)], Objective.SECONDS)
    assert [one.number for one in storage.best()] == [1, 0, 2]
    for number, seconds in ((0, 20.0), (1, 30.0)):
        storage.note_seed(number, 2, seconds)
    result = write_results(tmp_path, "a3c on CartPole-v1", [Objective.SECONDS], storage, range(2, 3))
    assert result.best.number == 0, "the shortest over the other seeds"
    assert "asyncrl tune: 50 s; 20.0 over other seeds" in result.settings_file.read_text()


def test_a_trial_that_failed_with_a_seed_does_not_win_by_the_mean_over_the_rest(tmp_path: Path) -> None:
    storage = completed(tmp_path, [(90.0, 1.0), (100.0, 1.0)])
    for number, seed, score in ((0, 2, 80.0), (0, 3, 80.0), (1, 2, 100.0), (1, 9, 100.0)):  # 9: of an earlier --seeds
        storage.note_seed(number, seed, score)
    result = write_results(tmp_path, "a3c on CartPole-v1", [Objective.SCORE], storage, range(2, 4))
    assert result.best.number == 0
    assert result.seeds == {0: {2: 80.0, 3: 80.0}, 1: {2: 100.0}}


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        ({"env": "Acrobot-v1"}, r"holds a tuning of a3c on CartPole-v1 \(--objectives score\); choose another --folder"),
        ({"objectives": "score,seconds"}, "holds a tuning of a3c on CartPole-v1"),
        ({"space": {"y": "Range"}}, "varies x in other search spaces"),
        ({"settings": {"steps": 10}}, "was tuned with another steps: 9, not 10"),
    ],
)
def test_the_storage_of_another_study_is_refused(tmp_path: Path, facts: dict[str, Any], sentence: str) -> None:
    opened(tmp_path)
    with pytest.raises(UsageError, match=sentence):
        opened(tmp_path, **facts)


@pytest.mark.parametrize("exists", [False, True])
def test_a_storage_that_cannot_be_written_is_named_and_can_be_used_again(tmp_path: Path, exists: bool) -> None:
    resource = pytest.importorskip("resource", reason="Windows has no limits")
    if exists:
        opened(tmp_path)
    file = tmp_path / "study.db"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, before[1]))
    try:
        with pytest.raises(SystemFault, match=r"study\.db: \S.*; see to the disk, then"), storage_faults(file):
            opened(tmp_path).ask()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert opened(tmp_path).ask().number == 0
