"""Settings for all tests: where helper modules are found, where state is kept, how signals are handled."""

from __future__ import annotations

import atexit
import contextlib
import importlib
import os
import secrets
import signal
import sys
import tempfile
import warnings
from pathlib import Path

import pytest
from hypothesis import settings

FOLDER = str(Path(__file__).parent)
if FOLDER not in sys.path:
    sys.path.insert(0, FOLDER)
# Actors and command lines in other processes import the helper modules too, and open no window.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [FOLDER, os.environ.get("PYTHONPATH")]))
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core per test process
_state = tempfile.TemporaryDirectory(prefix="asyncrl-tests-")  # for the key that signs runs, which workers read too
atexit.register(_state.cleanup)
os.environ["XDG_STATE_HOME"] = _state.name
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
settings.register_profile("asyncrl", deadline=None)  # a busy machine must not fail a test
settings.load_profile("asyncrl")

# Shells start background jobs with signals ignored; the tests assume a terminal's defaults.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

with warnings.catch_warnings(action="ignore"), contextlib.suppress(ImportError):
    importlib.import_module("Box2D")  # its types warn when they are made; as an error, that ends the process

SLOW = {
    "test_api",
    "test_environment_faults",
    "test_extra_envs",
    "test_fuzz",
    "test_hogwild",
    "test_lockstep",
    "test_pretrained",
    "test_process_defaults",
    "test_resume",
    "test_training",
    "acting/test_bots",
    "acting/test_datasets",
    "agents/test_agent",
    "agents/test_evaluation",
    "agents/test_export",
    "agents/test_human",
    "algorithms/test_fixed_points",
    "algorithms/test_optimizers::test_steps_follow_the_formula",
    "algorithms/test_replay_based::test_a_run_on_the_corridor_finds_the_exact_values",
    "algorithms/test_update_rules",
    "bench/test_bench_tuning",
    "bench/test_bench_report",
    "cli/test_command_mistakes",
    "cli/test_commands",
    "cli/test_signals",
    "cli/test_train_remote",
    "cli/test_streams",
    "dashboard/test_page",
    "common/test_child_process",
    "common/test_without_posix",
    "dashboard/test_player",
    "dashboard/test_player_page",
    "docs/test_blocks::test_the_blocks_of_a_page_run",
    "docs/test_metrics",
    "docs/test_site",
    "engines/test_ray_cluster",
    "engines/test_ray_engine",
    "engines/test_learners",
    "engines/test_workers",
    "envs/test_atari",
    "envs/test_envpool",
    "envs/test_football",
    "envs/test_global_generators",
    "envs/test_mario",
    "envs/test_minigrid::test_it_trains",
    "envs/test_own_environment",
    "envs/test_restoring",
    "envs/test_sources",
    "envs/test_supervised",
    "envs/test_vizdoom",
    "plots/test_plots",
    "studies/test_benchmark",
    "studies/test_comparison",
    "studies/test_tuning",
    "studies/test_tuning_storage",
    "runs/test_checkpoint::test_a_byte_that_is_lost_or_turned_anywhere_in_a_file_of_tensors_is_found",
    "runs/test_checkpoint::test_a_byte_that_is_turned_anywhere_in_the_manifest_is_found_or_means_nothing",
    "runs/test_checkpoint::test_what_is_saved_comes_back",
    "runs/test_divergence",
    "runs/test_option_checks",
    "runs/test_option_refusals",
    "runs/test_hub",
    "runs/test_run",
    "sharing/test_share",
}
"""Modules, and tests in others, that train, start processes or load emulators: most take more than a second."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        module = str(item.path.relative_to(FOLDER).with_suffix(""))
        test = f"{module}::{getattr(item, 'originalname', item.name)}"
        if not SLOW.isdisjoint((module, test)):
            item.add_marker(pytest.mark.slow)
