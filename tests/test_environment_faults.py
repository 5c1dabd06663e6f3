"""Faults during training: the error names the cause, the run is saved, and no process is left."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import failing_envs
import own_networks
import psutil
import pytest
import torch

import asyncrl
from asyncrl.api import configure
from asyncrl.cli import main
from asyncrl.engines.workers import Workers
from asyncrl.envs import describe
from asyncrl.errors import ActorDied, CheckpointError, DivergenceError, EnvironmentFault, SystemFault
from asyncrl.launch import newest_checkpoint, resume, start
from asyncrl.learner import Learner
from asyncrl.monitor import Quiet
from asyncrl.runs.checkpoints.checkpoint import Checkpoint
from asyncrl.runs.checkpoints.checkpointer import Checkpointer
from asyncrl.runs.lookup import open_run

ENGINES = ["serial", "threads", "processes"]
REPLAYED: dict[str, Any] = dict(learning_starts=96, capacity=2_000, batch_size=16)
SMALL: dict[str, Any] = dict(steps=960, actors=3, envs_per_actor=4, t_max=8, eval_episodes=0, seed=5, log_every=96)


def children_of_ours() -> list[psutil.Process]:
    """Child processes, except the fork server, which the next run reuses."""
    me = psutil.Process()
    servers = [child for child in me.children() if "asyncrl.engines.workers" in " ".join(child.cmdline())]
    return [child for child in me.children(recursive=True) if child not in servers]


def shared_files_of_ours() -> set[str]:
    return {name for name in os.listdir("/dev/shm") if str(os.getpid()) in name}


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    before = shared_files_of_ours()
    yield
    assert children_of_ours() == []
    assert shared_files_of_ours() <= before


def saved_in(folder: Path) -> Checkpoint:
    """The checkpoint of the failed run: complete, finite, and with metrics up to it."""
    saved = newest_checkpoint(open_run(folder))
    assert torch.isfinite(saved.weights()).all()
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert max((r["update"] for r in records if r["kind"] == "train"), default=0) <= saved.update
    assert f"up to step {saved.step:,} is saved" in (folder / "log.txt").read_text()
    return saved


@pytest.mark.parametrize("engine", ENGINES)
def test_an_environment_that_raises_is_named_with_its_traceback_and_the_run_is_saved(tmp_path: Path, engine: str) -> None:
    named = (
        r"Failing-v0 raised RuntimeError in step: the corridor collapsed \(step \d+, seeds .+\) in actor [012], run seed 5"
    )
    with pytest.raises(EnvironmentFault, match=named) as caught:
        start(configure("worlds:Failing-v0", "a3c", engine=engine, **SMALL), tmp_path / "run")
    assert 'raise RuntimeError("the corridor collapsed")' in caught.value.traceback
    assert saved_in(tmp_path / "run").update >= 4


@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_whose_environment_failed_once_is_resumed_to_the_records_of_one_that_never_did(
    tmp_path: Path, engine: str
) -> None:
    kwargs = json.dumps({"failed": str(tmp_path / "failed")})
    config = configure("worlds:FailingOnce-v0", "a3c", engine=engine, env_kwargs=kwargs, **SMALL)
    with pytest.raises(EnvironmentFault, match="the corridor collapsed"):
        start(config, tmp_path / "run")
    assert saved_in(tmp_path / "run").update >= 4
    resume(tmp_path / "run")
    start(config, tmp_path / "whole")
    assert outline(tmp_path / "run") == outline(tmp_path / "whole")


def outline(folder: Path) -> list[tuple[Any, ...]]:
    """The episodes and updates that a run recorded."""
    named = ("kind", "step", "actor", "env", "return", "length", "loss")
    records = open_run(folder).records()
    return [tuple(one.get(name) for name in named) for one in records if one["kind"] in ("episode", "train")]


@pytest.mark.parametrize(
    ("engine", "how"),
    [
        ("serial", "SystemExit"),
        ("serial", "KeyboardInterrupt"),
        ("serial", "GeneratorExit"),
        ("serial", "MemoryError"),
        ("threads", "SystemExit"),
        ("processes", "KeyboardInterrupt"),
        ("hogwild", "SystemExit"),
    ],
)
def test_an_environment_that_wants_to_leave_has_failed(tmp_path: Path, engine: str, how: str) -> None:
    config = configure("worlds:Leaving-v0", "a3c", engine=engine, env_kwargs=json.dumps({"how": how}), **SMALL)
    with pytest.raises(EnvironmentFault, match=f"raised {how} in step: the window was closed") as caught:
        start(config, tmp_path / "run")
    assert "raise self._how(" in caught.value.traceback
    assert saved_in(tmp_path / "run").update >= (0 if engine == "hogwild" else 4)


def test_a_worker_whose_environment_wants_to_leave_has_failed(tmp_path: Path) -> None:
    small = SMALL | dict(actors=1, envs_per_actor=2)
    config = configure("worlds:Leaving-v0", "a3c", engine="serial", env_backend="async", restarts=0, **small)
    with pytest.raises(EnvironmentFault, match="raised SystemExit in step: the window was closed"):
        start(config, tmp_path / "run")
    assert saved_in(tmp_path / "run").update >= 4


def test_an_environment_that_leaves_while_it_is_made_or_imported_has_failed(tmp_path: Path) -> None:
    (tmp_path / "leaves.py").write_text("import sys\n\ndef make():\n    sys.exit()\n")
    (tmp_path / "left.py").write_text("import sys\nsys.exit()\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        for env in ("leaves:make", "left:Env"):
            with pytest.raises(EnvironmentFault, match="raised SystemExit when it was"):
                start(configure(env, "a3c", **SMALL), tmp_path / "run")


def test_what_fails_outside_of_an_update_is_saved_whatever_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(checkpointer: Checkpointer, *rest: Any) -> None:
        if checkpointer._learner.updates == 4:
            raise SystemExit

    monkeypatch.setattr(Checkpointer, "track_actors", leave)
    with pytest.raises(SystemExit):
        start(configure("worlds:Corridor-v0", "a3c", engine="serial", **SMALL), tmp_path / "run")
    assert saved_in(tmp_path / "run").update == 4


def test_an_update_that_fails_midway_leaves_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A half-finished update is not saved: a run resumed from it would differ."""
    gradient_step = Learner.gradient_step

    def fail(learner: Learner, *rest: Any, **options: Any) -> torch.Tensor:
        if learner.updates == 2:
            raise MemoryError
        return gradient_step(learner, *rest, **options)

    monkeypatch.setattr(Learner, "gradient_step", fail)
    with pytest.raises(MemoryError):
        start(configure("worlds:Corridor-v0", "a3c", engine="serial", **SMALL), tmp_path / "run")
    assert newest_checkpoint(open_run(tmp_path / "run")).update == 0


def weights_of(folder: Path) -> torch.Tensor:
    return newest_checkpoint(open_run(folder)).weights()


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Imitate a full disk: every write beyond `size` bytes of a file fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_records_that_cannot_be_written_end_a_run_which_is_saved_and_goes_on_exactly(tmp_path: Path) -> None:
    settings = SMALL | dict(steps=1_920, log_every=1, hidden=(8,))  # a checkpoint smaller than the records
    config = configure("worlds:Corridor-v0", "a3c", engine="serial", **settings)
    start(config, tmp_path / "whole")
    size = {path: path.stat().st_size for path in (tmp_path / "whole").rglob("*")}
    largest = max(size[path] for path in size if path.suffix == ".safetensors")
    limit = (largest + size[tmp_path / "whole" / "metrics.jsonl"]) // 2
    assert largest < limit
    with (
        files_of_at_most(limit),
        pytest.raises(SystemFault, match=r"File too large; raise .* resume from step .* --resume"),
    ):
        start(config, tmp_path / "cut")
    assert newest_checkpoint(open_run(tmp_path / "cut")).update > 0
    resume(tmp_path / "cut")
    assert weights_of(tmp_path / "cut").equal(weights_of(tmp_path / "whole"))


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before_and_no_piece_of_its_own(tmp_path: Path) -> None:
    config = configure("worlds:Corridor-v0", "dqn", engine="serial", checkpoint_every=96, **SMALL | REPLAYED)
    start(replace(config, steps=192), tmp_path / "run")
    before = newest_checkpoint(open_run(tmp_path / "run"))
    limit = max(file.stat().st_size for file in before.path.iterdir()) - 1
    with files_of_at_most(limit), pytest.raises(SystemFault, match=rf"resume from step {before.step:,} with"):
        resume(tmp_path / "run", steps=config.steps)
    assert newest_checkpoint(open_run(tmp_path / "run")).step == before.step
    assert [path for path in (tmp_path / "run").rglob(".*") if path.name != ".lock"] == []


def test_an_error_of_the_system_in_the_users_network_is_not_one_of_the_run_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def update(learner: Learner, rollouts: Any) -> Any:
        monkeypatch.setattr(own_networks.Encoder, "forward", lambda *inputs: os.stat(tmp_path / "table.bin"))
        return original(learner, rollouts)

    original = Learner.update
    monkeypatch.setattr(Learner, "update", update)
    words = "train a3c worlds:Corridor-v0 --network own_networks:Encoder --engine serial --eval-episodes 0 --run-dir"
    with pytest.raises(FileNotFoundError, match=r"table\.bin") as caught:
        main([*words.split(), str(tmp_path / "run")])
    assert caught.traceback[-1].name == "<lambda>"


def test_a_run_whose_folder_is_moved_away_is_saved_where_it_was(tmp_path: Path) -> None:
    class Mover(Quiet):
        def write(self, record: dict[str, Any]) -> None:
            if record["step"] > 500 and not (tmp_path / "elsewhere").exists():
                (tmp_path / "run").rename(tmp_path / "elsewhere")

    with pytest.raises(SystemFault, match="run: the run's folder was moved or removed during training; resume from"):
        start(configure("worlds:Corridor-v0", "a3c", engine="serial", **SMALL), tmp_path / "run", Mover())
    assert newest_checkpoint(open_run(tmp_path / "run")).step == SMALL["steps"]


def test_a_start_that_failed_before_anything_was_learned_is_begun_again_by_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure("worlds:Corridor-v0", "a3c", engine="serial", **SMALL)
    start(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(asyncrl.launch, "JsonLines", full_of_files)
        with pytest.raises(SystemFault, match=r"ulimit -n .* resume from its beginning with"):
            start(config, tmp_path / "run")
    resume(tmp_path / "run")
    assert weights_of(tmp_path / "run").equal(weights_of(tmp_path / "whole"))
    (tmp_path / "whole" / "metrics.jsonl").write_text('{"step": 0, "update": 0, "kind": "pretrain"}\n')
    shutil.rmtree(tmp_path / "whole" / "checkpoints")
    (tmp_path / "whole" / "latest").unlink()
    with pytest.raises(
        CheckpointError, match="is an unfinished run of `asyncrl pretrain`; start it again in another folder"
    ):
        resume(tmp_path / "whole")


def full_of_files(*rest: Any) -> None:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def test_an_actor_that_crashes_is_named_with_its_signal_and_the_run_is_saved(tmp_path: Path) -> None:
    with pytest.raises(
        ActorDied, match=r"actor [012] died \(killed by SIGABRT\) in worlds:Crashing-v0; --env-backend async"
    ):
        start(configure("worlds:Crashing-v0", "a3c", engine="processes", **SMALL), tmp_path / "run")
    assert saved_in(tmp_path / "run").update >= 4


@pytest.mark.parametrize("engine", ENGINES)
def test_a_gradient_that_is_not_a_number_ends_the_run_before_it_spoils_the_weights(tmp_path: Path, engine: str) -> None:
    config = configure("worlds:Exploding-v0", "a3c", engine=engine, reward_scale=1e10, **SMALL)
    with pytest.raises(
        DivergenceError, match=r"the gradient of \w+(\.\w+)+ is not finite at update 0, .* of actors 0, 1, 2;"
    ):
        start(config, tmp_path / "run")
    assert saved_in(tmp_path / "run").update == 0


def test_a_gradient_too_long_for_its_norm_ends_the_run_the_same_way(tmp_path: Path) -> None:
    with pytest.raises(DivergenceError, match=r"gradient of \w+(\.\w+)+ .*at update 0"):
        start(configure("worlds:Exploding-v0", "a3c", engine="serial", **SMALL), tmp_path / "run")
    assert saved_in(tmp_path / "run").update == 0


@pytest.mark.parametrize("algorithm", ["dqn", "qr-dqn", "iqn"])
def test_an_infinite_loss_with_a_bounded_gradient_ends_the_run_the_same_way(tmp_path: Path, algorithm: str) -> None:
    settings = SMALL | dict(t_max=4, learning_starts=60, capacity=600, prioritized=True, reward_scale=1e10)
    config = configure("worlds:Exploding-v0", algorithm, engine="serial", **settings)
    with pytest.raises(
        DivergenceError, match=r"^the loss is not finite at update \d+, .* of actors 0, 1, 2; .*--reward-scale"
    ):
        start(config, tmp_path / "run")


def test_workers_that_crash_once_an_episode_change_nothing_that_is_learned(tmp_path: Path) -> None:
    """They are restarted, replay the episode, and are counted."""
    settings: dict[str, Any] = dict(
        env_backend="async", restarts=100, actors=1, envs_per_actor=2, steps=40, t_max=5, eval_episodes=0
    )
    crumbs = tmp_path / "crumbs"
    crumbs.mkdir()
    flaky = json.dumps({"once": str(crumbs)})
    calm = asyncrl.train("failing_envs:Counting", "a3c", run_dir=tmp_path / "calm", **settings)
    crashing = asyncrl.train("failing_envs:Raising", "a3c", run_dir=tmp_path / "crashing", env_kwargs=flaky, **settings)
    one, other = (asyncrl.load(run.path).checkpoint.weights() for run in (calm, crashing))
    assert one.equal(other)
    crashes = len(list(crumbs.iterdir()))
    assert crashes >= 3
    records = [json.loads(line) for line in (crashing.path / "metrics.jsonl").read_text().splitlines()]
    assert max(record.get("worker_restarts", 0) for record in records) == crashes
    assert len(list((crashing.path / "capsules").iterdir())) == crashes


def test_workers_that_hang_are_killed_also_where_the_wait_for_their_end_is_interrupted() -> None:
    workers = Workers(failing_envs.hang, 2, describe("CartPole-v1"))
    received: list[int] = []
    while len(received) < 2:
        received += workers.receive(1.0)
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(KeyboardInterrupt):
            workers.close()
    finally:
        signal.signal(signal.SIGALRM, before)
