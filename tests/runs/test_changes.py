"""Settings that may change when a run is resumed, and the refusal of all others."""

from __future__ import annotations

import pytest

from asyncrl.api import configure
from asyncrl.common.validation import flag
from asyncrl.errors import UsageError
from asyncrl.runs.config.changes import changed, check_change, differences_of, may_change
from asyncrl.runs.config.run_config import RunConfig
from asyncrl.runs.config.setting_paths import setting_paths

CONFIG = configure("worlds:Corridor-v0", "dqn")
SETTINGS = {path[-1] for path in [*setting_paths(RunConfig), *setting_paths(type(CONFIG.algorithm), "algorithm")]}


@pytest.mark.parametrize("diverged", [False, True])
def test_every_setting_may_change_or_is_refused_with_the_reason(diverged: bool) -> None:
    for name in SETTINGS - set(may_change(diverged=diverged)):
        with pytest.raises(
            UsageError,
            match=f"^{flag(name)} cannot change (when a run is resumed|unless the run has diverged): it (affects|belongs)",
        ):
            check_change(CONFIG, name, diverged=diverged)
    for name in may_change(diverged=diverged):
        check_change(CONFIG, name, diverged=diverged)
    assert set(RunConfig.CHANGEABLE) < SETTINGS


def test_what_is_no_setting_is_answered_with_the_near_one() -> None:
    with pytest.raises(UsageError, match="unknown setting 'chekpoint_every'; did you mean 'checkpoint_every'"):
        changed(CONFIG, {"chekpoint_every": 3}, diverged=False)
    with pytest.raises(UsageError, match="unknown setting 'lr'; use learning_rate"):
        changed(CONFIG, {"lr": 1e-3}, diverged=False)


def test_what_changes_is_told_apart_from_what_stays() -> None:
    new = changed(CONFIG, {"log_every": 7, "eval_greedy": CONFIG.eval_greedy, "engine": "threads"}, diverged=False)
    assert differences_of(CONFIG, new) == {
        "log_every": (CONFIG.log_every, 7),
        "engine": (CONFIG.engine.value, "threads"),
    }
