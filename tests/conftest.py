"""Settings for all tests: where helper modules are found, where state is kept, how signals are handled."""

from __future__ import annotations

import atexit
import compileall
import contextlib
import gc
import importlib
import os
import secrets
import signal
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

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
if sys.dont_write_bytecode:  # every process that a test starts would compile asyncrl and the helper modules again
    compileall.compile_dir(Path(FOLDER).parent / "asyncrl", quiet=2)
    compileall.compile_dir(FOLDER, maxlevels=0, quiet=2)
_SHARED_MEMORY = "/dev/shm"


def _holds_temporary_files(folder: str) -> bool:
    """Whether there are 4 GiB to spare in a folder whose programs may be run, which some containers forbid."""
    if not os.path.isdir(folder):
        return False
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize > 4 << 30 and not found.f_flag & os.ST_NOEXEC


if "TMPDIR" not in os.environ and _holds_temporary_files(_SHARED_MEMORY):
    # Every checkpoint waits for the disk, which memory spares. What Ray and torch's compiler leave stays on the disk.
    os.environ.setdefault("RAY_TMPDIR", tempfile.gettempdir())
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.path.join(tempfile.gettempdir(), f"torchinductor_{os.getuid()}"))
    os.environ["TMPDIR"] = _SHARED_MEMORY
    tempfile.tempdir = None  # pytest has asked for it already
_state = tempfile.TemporaryDirectory(prefix="asyncrl-tests-")  # for the key that signs runs, which workers read too
atexit.register(_state.cleanup)
os.environ["XDG_STATE_HOME"] = _state.name
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
os.environ |= {"RAY_worker_niceness": "0"}  # with Ray's 15 its nodes hardly run beside other tests
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
    "test_equality_checks::test_the_parameter_that_differs_is_named",
    "test_extra_envs",
    "test_fuzz",
    "test_hogwild",
    "test_kills",
    "test_lockstep",
    "test_pretrained",
    "test_process_defaults",
    "test_public_names::test_the_outline_of_a_network_does_not_import_the_compiler_of_torch",
    "test_public_names::test_training_imports_neither_the_compiler_of_torch_nor_the_plugins_of_tensorboard",
    "test_resume",
    "test_training",
    "test_trust::test_ones_own_network_and_algorithm_need_no_trust_and_a_strangers_do",
    "test_trust::test_what_a_strangers_run_names_is_not_run_by_any_command",
    "test_untrusted_files::test_a_resumed_run_takes_no_tensors_but_those_that_it_would_write",
    "acting/test_actor_state::test_a_run_is_resumed_where_every_episode_has_just_begun",
    "acting/test_bots",
    "acting/test_datasets",
    "acting/test_imitation",
    "agents/test_agent",
    "agents/test_evaluation",
    "agents/test_evaluation_videos::test_videos_are_of_evaluations_and_leave_the_weights_as_they_are",
    "agents/test_export",
    "agents/test_human",
    "algorithms/test_fixed_points",
    "algorithms/test_masked_targets::test_targets_from_replay_are_over_what_the_next_observation_allows",
    "algorithms/test_masked_training",
    "algorithms/test_normalization::test_encoders_see_every_number_with_mean_0_and_spread_1",
    "algorithms/test_own_algorithms::test_a_class_that_only_this_process_has_is_trained_in_others",
    "algorithms/test_own_algorithms::test_the_command_line_trains_evaluates_and_continues_it",
    "algorithms/test_replay_based::test_a_run_on_the_corridor_finds_the_exact_values",
    "algorithms/test_update_rules",
    "bench/test_bench_tuning",
    "bench/test_bench_report",
    "cli/test_command_mistakes",
    "cli/test_commands",
    "cli/test_signals",
    "cli/test_train_remote",
    "cli/test_streams",
    "common/test_capture::test_captured_gradients_train_the_same_weights",
    "common/test_child_process",
    "common/test_serialization::test_a_configuration_survives_a_round_trip",
    "common/test_validation::test_no_numeric_option_of_a_run_takes_what_is_no_number_or_out_of_range",
    "common/test_without_posix",
    "dashboard/test_page",
    "dashboard/test_player",
    "dashboard/test_player_page",
    "docs/test_blocks::test_the_blocks_of_a_page_run",
    "docs/test_metrics",
    "docs/test_pages::test_the_algorithm_of_the_guide_is_trained_continued_and_evaluated",
    "docs/test_pages::test_the_commands_of_the_guides_run",
    "docs/test_pages::test_the_family_of_the_guide_is_trained_and_evaluated",
    "docs/test_pages::test_the_masked_environment_of_the_page_is_trained_in_and_acted_in",
    "docs/test_pages::test_the_other_networks_of_the_guide_are_trained",
    "docs/test_pages::test_the_programs_of_the_guides_run",
    "docs/test_site",
    "engines/test_ray_cluster",
    "engines/test_ray_actor::test_an_update_does_not_write_to_its_rollouts",
    "engines/test_ray_engine",
    "engines/test_learners",
    "engines/test_workers",
    "envs/test_action_masks::test_a_bad_mask_is_a_fault_that_names_the_step",
    "envs/test_action_masks::test_workers_give_the_same_masks",
    "envs/test_atari",
    "envs/test_capsules",
    "envs/test_envpool",
    "envs/test_football",
    "envs/test_global_generators",
    "envs/test_gymnasium::test_a_bad_observation_is_a_fault_that_names_environment_step_and_seeds",
    "envs/test_gymnasium::test_an_environment_that_raises_is_a_fault_with_its_own_traceback",
    "envs/test_gymnasium::test_environment_workers_import_neither_torch_nor_what_only_their_parent_needs",
    "envs/test_gymnasium::test_every_environment_has_its_own_seed",
    "envs/test_gymnasium::test_the_step_after_an_episode_ends_only_resets",
    "envs/test_mario",
    "envs/test_minigrid::test_it_trains",
    "envs/test_own_environment",
    "envs/test_registry::test_the_examples_of_a_family_are_its_environments",
    "envs/test_restoring",
    "envs/test_sources",
    "envs/test_supervised",
    "envs/test_sync_vector::test_odd_infos_and_shared_buffers_do_no_harm",
    "envs/test_view::test_every_layout_and_dtype_of_a_picture_is_converted",
    "envs/test_vizdoom",
    "experience/test_archive::test_a_written_buffer_is_read_back",
    "experience/test_archive::test_every_row_that_a_frame_stack_may_reach_back_to_is_kept",
    "experience/test_batch::test_a_full_episode_rollout_holds_one_episode_per_environment",
    "experience/test_batch::test_an_overlapping_rollout_begins_with_the_end_of_the_previous_one",
    "experience/test_batch::test_frame_stacks_are_rebuilt_across_truncations",
    "experience/test_batch::test_frame_stacks_are_rebuilt_where_games_end_at_different_times",
    "experience/test_replay::test_samples_equal_the_recorded_history",
    "experience/test_replay::test_sequences_equal_the_recorded_history",
    "monitor/test_monitor::test_the_panel_is_as_wide_as_the_terminal_and_never_wraps",
    "networks/test_dense_acting::test_a_dense_body_computes_what_the_modules_compute",
    "networks/test_own_networks::test_a_package_registers_a_network_by_an_entry_point",
    "networks/test_own_networks::test_a_run_notes_its_source_and_says_when_that_has_changed",
    "networks/test_own_networks::test_a_run_whose_network_has_got_other_parameters_is_not_continued",
    "networks/test_own_networks::test_a_run_with_an_own_network_is_resumed_and_evaluated",
    "networks/test_own_networks::test_frozen_parameters_stay_and_a_network_may_have_none",
    "plots/test_plots",
    "studies/test_benchmark",
    "studies/test_comparison",
    "studies/test_study_statistics::test_intervals_are_those_of_rliable_up_to_the_bootstraps_noise",
    "studies/test_tuning",
    "studies/test_tuning_storage",
    "runs/test_checkpoint::test_a_byte_that_is_lost_or_turned_anywhere_in_a_file_of_tensors_is_found",
    "runs/test_checkpoint::test_a_byte_that_is_turned_anywhere_in_the_manifest_is_found_or_means_nothing",
    "runs/test_checkpoint::test_what_is_saved_comes_back",
    "runs/test_divergence",
    "runs/test_former_names::test_a_former_option_is_reported_and_has_its_effect",
    "runs/test_option_checks",
    "runs/test_option_refusals",
    "runs/test_hub",
    "runs/test_normalized_runs::test_an_observation_far_from_zero_is_learned_from_if_it_is_normalized",
    "runs/test_run",
    "runs/test_settings_file::test_the_file_of_a_run_starts_it_again",
    "runs/test_stage_times::test_every_engine_records_where_the_time_goes",
    "runs/test_stage_times::test_slow_environments_are_found_in_a_real_run",
    "runs/storage/test_storage::test_a_run_continues_from_its_storage_to_the_same_weights",
    "runs/storage/test_copies::test_an_upload_that_stops_anywhere_leaves_the_checkpoint_before_or_after",
    "runs/storage/test_storage::test_the_runs_in_a_storage_are_listed_as_those_of_a_folder",
    "sharing/test_share",
}
"""Modules, and tests in others, that train, start processes or load emulators: most take more than a second."""


@pytest.fixture(scope="session", autouse=True)
def kept_fork_servers() -> Iterator[None]:
    """A run on serial or threads does not end the idle fork servers: every new one imports torch again."""
    from asyncrl import launch
    from asyncrl.common import fork_pool

    kept = SimpleNamespace(prepare=fork_pool.prepare, shutdown_idle=lambda: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "fork_pool", kept)
        yield
    fork_pool.shutdown_idle()


def pytest_collection_finish() -> None:
    """Leave the modules, which stay until the end, out of every collection of garbage."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        module = str(item.path.relative_to(FOLDER).with_suffix(""))
        test = f"{module}::{getattr(item, 'originalname', item.name)}"
        if not SLOW.isdisjoint((module, test)):
            item.add_marker(pytest.mark.slow)
