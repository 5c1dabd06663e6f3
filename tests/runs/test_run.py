"""A run's folder: what is damaged and not needed stops nothing, and what the run has not written stays where it is."""

from __future__ import annotations

import errno
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from interrupted_runs import Listener

import asyncrl
from asyncrl.api import configure
from asyncrl.cli import main
from asyncrl.errors import CheckpointError, DamageWarning, SystemFault, UsageError
from asyncrl.launch import newest_checkpoint, resume, start
from asyncrl.runs import run as runs_run
from asyncrl.runs.lookup import checkpoint_folder
from asyncrl.runs.run import Run

SMALL: dict[str, Any] = dict(steps=960, actors=2, envs_per_actor=4, t_max=8, engine="serial", eval_episodes=0, log_every=64)
REPLAY: dict[str, Any] = dict(
    steps=600, actors=1, envs_per_actor=2, t_max=5, engine="serial", capacity=200, learning_starts=50, batch_size=8
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    settings = dict(SMALL, eval_episodes=2, eval_every=320, checkpoint_every=320)
    return start(configure("worlds:Corridor-v0", "a3c", **settings), tmp_path_factory.mktemp("run") / "run")[0]


@pytest.fixture(scope="module")
def remembering(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with a replay buffer."""
    settings = dict(REPLAY, eval_episodes=0, checkpoint_every=150)
    return start(configure("worlds:Corridor-v0", "dqn", **settings), tmp_path_factory.mktemp("run") / "run")[0]


@pytest.fixture
def run(finished: Run, tmp_path: Path) -> Run:
    return Run(Path(shutil.copytree(finished.path, tmp_path / "run")))


@pytest.fixture
def memory(remembering: Run, tmp_path: Path) -> Run:
    return Run(Path(shutil.copytree(remembering.path, tmp_path / "memory")))


LINES: dict[str, bytes] = {
    "no UTF-8": b'{"step": 1, "update": 1, "kind": "\xff"}\n',
    "no JSON": b"\x00\x00\x00\n",
    "no object": b"3\n",
    "no kind": b'{"step": 1, "update": 1}\n',
    "an update that is text": b'{"step": 1, "update": "1", "kind": "train"}\n',
    "a return that is text": b'{"step": 1, "update": 1, "kind": "episode", "return": "1", "length": 3, "actor": 0}\n',
    "a return that is not finite": b'{"step": 1, "update": 1, "kind": "episode", "return": NaN, "length": 3, "actor": 0}\n',
    "an evaluation without its mean": b'{"step": 1, "update": 1, "kind": "eval"}\n',
    "nested too deep": b"[" * 100_000 + b"\n",
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES.keys())
def test_a_line_of_the_metrics_that_is_damaged_is_passed_over_and_said(run: Run, line: bytes) -> None:
    file, before = run.path / "metrics.jsonl", run.records()
    first, rest = file.read_bytes().split(b"\n", 1)
    file.write_bytes(first + b"\n" + line + rest)
    with pytest.warns(DamageWarning, match=r"metrics\.jsonl has 1 damaged line"):
        assert run.records() == before


def test_a_line_that_a_crash_tore_is_passed_over_in_silence(run: Run) -> None:
    file, before = run.path / "metrics.jsonl", run.records()
    file.write_bytes(file.read_bytes() + b'{"step": 12')
    assert run.records() == before


def test_an_episode_of_an_actor_that_there_is_not_stops_no_resume(run: Run) -> None:
    file = run.path / "metrics.jsonl"
    file.write_bytes(
        b'{"step": 8, "update": 1, "kind": "episode", "return": 1, "length": 3, "actor": 99}\n' + file.read_bytes()
    )
    resume(run.path, steps=1_024)
    assert newest_checkpoint(run).step == 1_024


def test_damaged_metrics_and_marks_stop_no_run_whose_checkpoints_are_whole(finished: Run, run: Run, tmp_path: Path) -> None:
    whole = Run(Path(shutil.copytree(finished.path, tmp_path / "whole")))
    file = run.path / "metrics.jsonl"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\n\xff\n"))
    for mark in ("latest", "best"):
        (run.path / mark).write_bytes(b"\x80\x00../../etc")
    with pytest.warns(DamageWarning, match="damaged lines"):
        resume(run.path, steps=1_280)
    resume(whole.path, steps=1_280)
    assert newest_checkpoint(run).weights_sha256 == newest_checkpoint(whole).weights_sha256
    kept, expected = ([r for r in one.records() if r["kind"] != "stages"] for one in (run, whole))  # those follow the clock
    assert len(kept) == len(expected)
    assert run.marked("latest") == run.checkpoints()[-1]


MARKS: dict[str, bytes] = {
    "empty": b"",
    "no text": b"\xff\xfe",
    "a way out": b"../../run/checkpoints/000000000960",
    "absolute": b"/",
    "nowhere": b"000000099999",
    "with a zero": b"0000000\x0000960",
    "long": b"0" * 100_000,
}


@pytest.mark.parametrize("mark", MARKS.values(), ids=MARKS.keys())
def test_marks_that_point_nowhere_lead_to_the_newest_whole_checkpoint(run: Run, mark: bytes) -> None:
    for name in ("latest", "best"):
        (run.path / name).write_bytes(mark)
    newest = run.checkpoints()[-1]
    with pytest.warns(DamageWarning, match="names no checkpoint of this run; using the newest"):
        assert checkpoint_folder(run.path) == newest
    (newest / "weights.safetensors").write_bytes(b"torn")
    with pytest.warns(DamageWarning):
        assert asyncrl.load(run.path).checkpoint.path == run.checkpoints()[-2]


def test_a_mark_that_is_damaged_leads_to_the_other_one(run: Run) -> None:
    (run.path / "best").write_text("garbage")
    with pytest.warns(DamageWarning, match="best names no checkpoint"):
        assert checkpoint_folder(run.path) == run.marked("latest")


@pytest.mark.parametrize("file", ["manifest.json", "weights.safetensors"])
def test_a_checkpoint_that_the_run_replaces_while_it_is_loaded_gives_way_to_the_next(
    run: Run, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    first, *_, last = run.checkpoints()
    run.mark("best", first)
    stat = Path.stat

    def replace(path: Path, **options: Any) -> Any:
        """Before a file of the checkpoint is looked at a second time, the run marks a better one and removes this."""
        found = stat(path, **options)
        if path == first / file and run.marked("best") == first:
            run.mark("best", last)
            shutil.rmtree(first)
        return found

    monkeypatch.setattr(Path, "stat", replace)
    assert asyncrl.load(run.path).checkpoint.path == last
    assert not first.exists()


def test_metrics_of_a_kind_that_does_not_exist_are_refused(run: Run) -> None:
    with pytest.raises(UsageError, match=r"^unknown kind of records 'evals'; did you mean 'eval'\?$"):
        run.metrics("evals")
    with pytest.raises(UsageError, match="there are train, episode, eval, stages, verdict"):
        run.metrics("nonsense")
    assert run.metrics("rewind") == {}


def test_metrics_are_read_from_the_folder_that_a_text_names(run: Run) -> None:
    assert Run(str(run.path)).metrics("eval") == run.metrics("eval")
    with pytest.raises(UsageError, match=r"runs/nowhere is not a run folder: it has no config\.json$"):
        Run("runs/nowhere").metrics()


def test_a_run_that_may_not_be_written_is_not_to_be_resumed_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(runs_run, "file_lock", refuse)
    with pytest.raises(SystemFault, match=r"\.lock: Permission denied; allow this user to write there$"), run.locked():
        pass


def test_a_fault_names_the_step_to_resume_from_though_the_mark_is_damaged(run: Run) -> None:
    (run.path / "latest").unlink()
    (run.path / "latest").mkdir()
    step = int(run.checkpoints()[-1].name)
    with pytest.raises(SystemFault, match=f"latest: Is a directory; .* resume from step {step} with"):
        resume(run.path, steps=step + 100)


def test_a_run_whose_checkpoints_are_lost_does_not_begin_anew(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """The folder may be a link to a disk that is not there at the moment."""
    metrics = (run.path / "metrics.jsonl").read_bytes()
    (run.path / "checkpoints").rename(run.path / "elsewhere")
    with pytest.raises(
        CheckpointError, match="checkpoints has none of the run's checkpoints; put them back; asyncrl train"
    ):
        resume(run.path, steps=1280)
    assert main(["train", "--resume", str(run.path), "--steps", "1280"]) == 2
    assert "put them back" in capsys.readouterr().err
    assert (run.path / "metrics.jsonl").read_bytes() == metrics
    (run.path / "elsewhere").rename(run.path / "checkpoints")
    assert newest_checkpoint(run).path == run.checkpoints()[-1]


def test_a_run_does_not_continue_from_a_checkpoint_of_another_run(run: Run, memory: Run) -> None:
    newest = run.checkpoints()[-1]
    other = Path(shutil.copytree(memory.checkpoints()[-1], run.checkpoint_path(99_999)))
    shutil.copytree(memory.replay_folder, run.replay_folder)
    view = Listener()
    assert newest_checkpoint(run, view).path == newest
    assert (
        f"{other} is of another run: it and {run.path / 'config.json'} have dqn in worlds:Corridor-v0 with" in view.said[0]
    )
    assert "and a3c in worlds:Corridor-v0 with" in view.said[0]
    (run.path / "config.json").write_text("{}")  # then a checkpoint is all that is known of the run
    assert newest_checkpoint(run).path == other


def test_a_file_of_the_replay_buffer_that_cannot_be_placed_leaves_nothing(memory: Run) -> None:
    newest = sorted(memory.replay_folder.iterdir())[-1]
    newest.unlink()
    (newest / "more").mkdir(parents=True)
    before = {path.name for path in memory.replay_folder.iterdir()}
    with pytest.raises(SystemFault, match=f"{newest.name}: Is a directory; a folder stands where a file must be"):
        resume(memory.path)
    assert {path.name for path in memory.replay_folder.iterdir()} <= before


def test_a_run_without_a_whole_checkpoint_says_so(run: Run) -> None:
    for path in run.checkpoints():
        (path / "manifest.json").unlink()
    for mark in ("latest", "best"):
        (run.path / mark).write_text("garbage")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no other checkpoint is used instead
        with pytest.raises(UsageError, match="has no checkpoint yet"):
            checkpoint_folder(run.path)


def litter(run: Run) -> list[Path]:
    """Foreign files and folders in a run's folder."""
    found = []
    for folder in (run.path, run.path / "checkpoints", *run.checkpoints(), run.replay_folder):
        if not folder.is_dir():
            continue
        for name in (".DS_Store", ".directory", "desktop.ini", ".nfs00000001", "notes.txt", "000000000001.txt", "12"):
            (folder / name).write_text("not ours")
            found.append(folder / name)
        for name in ("stray", ".Trash-1000", "0000"):
            (folder / name / "inner").mkdir(parents=True)
            (folder / name / "inner" / "weights.safetensors").write_text("not ours")
            found.append(folder / name / "inner" / "weights.safetensors")
    return found


@pytest.mark.parametrize("name", ["run", "memory"])
def test_foreign_files_in_a_run_are_kept_and_do_no_harm(name: str, request: pytest.FixtureRequest) -> None:
    run: Run = request.getfixturevalue(name)
    before, foreign = len(run.checkpoints()), litter(run)
    newest = newest_checkpoint(run)
    resume(run.path, steps=newest.step + 640, checkpoint_every=100, keep_checkpoints=1)
    assert all(path.exists() for path in foreign)
    assert newest_checkpoint(run).step == newest.step + 640
    assert len(run.checkpoints()) <= 2 < before + 2


def test_what_a_broken_save_left_is_removed(memory: Run) -> None:
    newest = newest_checkpoint(memory)
    for ending in ("tmp", "old"):
        shutil.copytree(newest.path, memory.path / "checkpoints" / f".{newest.path.name}.{ending}")
    (memory.replay_folder / ".000000000450.tmp").write_text("half a file")
    (memory.replay_folder / "000000000451.safetensors").write_text("of a checkpoint that was never finished")
    resume(memory.path, steps=newest.step + 100)
    names = [path.name for path in (*(memory.path / "checkpoints").iterdir(), *memory.replay_folder.iterdir())]
    assert not any(name.startswith(".") or "451" in name for name in names)


def moved(folder: Path, to: Path) -> None:
    """Move a folder to another disk, and leave a link in its place."""
    shutil.move(folder, to)
    folder.symlink_to(to, target_is_directory=True)


def test_a_replay_memory_on_another_disk_goes_on_among_foreign_files(memory: Run, tmp_path: Path) -> None:
    elsewhere = tmp_path / "large disk"
    moved(memory.replay_folder, elsewhere)
    foreign = [
        elsewhere / name for name in ("thesis.tex", "000000000001.safetensors", ".000000000001.tmp", "4.safetensors")
    ]
    for path in foreign:
        path.write_text("not ours")
    newest = newest_checkpoint(memory)
    resume(memory.path, steps=newest.step + 600, checkpoint_every=100, keep_checkpoints=1)
    assert all(path.read_text() == "not ours" for path in foreign)
    assert memory.replay_folder.is_symlink()
    needed = newest_checkpoint(memory).replay.keys()
    assert {path.name for path in elsewhere.iterdir()} == needed | {path.name for path in foreign}


def test_checkpoints_on_another_disk_go_on_among_foreign_files(run: Run, tmp_path: Path) -> None:
    elsewhere = tmp_path / "large disk"
    moved(run.path / "checkpoints", elsewhere)
    (elsewhere / "thesis.tex").write_text("not ours")
    resume(run.path, steps=1_600, checkpoint_every=64, keep_checkpoints=1)
    assert (elsewhere / "thesis.tex").exists()
    assert len(run.checkpoints()) <= 2


WRITTEN: dict[str, Callable[[Run], Path]] = {
    "a checkpoint": lambda run: run.checkpoints()[0],
    "a broken save": lambda run: run.path / "checkpoints" / ".000000000001.tmp",
    "a file of a checkpoint": lambda run: run.checkpoints()[0] / "target.safetensors",
    "a mark's beginning": lambda run: run.path / ".latest.tmp",
    "the metrics' beginning": lambda run: run.path / ".metrics.jsonl.tmp",
    "a replay file's beginning": lambda run: run.replay_folder / ".000000001200.tmp",
}


@pytest.mark.parametrize("place", WRITTEN.values(), ids=WRITTEN.keys())
def test_nothing_is_removed_or_written_through_a_link(memory: Run, tmp_path: Path, place: Callable[[Run], Path]) -> None:
    treasure = tmp_path / "treasure"
    treasure.mkdir()
    for name in ("manifest.json", "weights.safetensors", "thesis.tex"):
        (treasure / name).write_text("not ours")
    link, newest = place(memory), newest_checkpoint(memory)
    is_folder = link.is_dir() or ("checkpoints" in link.parts and not link.suffix)
    if link.is_dir():
        shutil.rmtree(link)
    link.unlink(missing_ok=True)
    link.symlink_to(treasure if is_folder else treasure / "thesis.tex")
    with warnings.catch_warnings(action="ignore"):
        resume(memory.path, steps=newest.step + 600, checkpoint_every=100, keep_checkpoints=1)
    assert {path.name: path.read_text() for path in treasure.iterdir()} == dict.fromkeys(
        ("manifest.json", "weights.safetensors", "thesis.tex"), "not ours"
    )


def test_a_log_that_is_a_link_is_not_written_to(run: Run, tmp_path: Path) -> None:
    (tmp_path / "profile").write_text("not ours")
    (run.path / "log.txt").unlink()
    (run.path / "log.txt").symlink_to(tmp_path / "profile")
    with pytest.raises(UsageError, match=r"log\.txt is a link"):
        resume(run.path, steps=1_024)
    assert (tmp_path / "profile").read_text() == "not ours"


@pytest.mark.parametrize("name", ["pretrained/../pretrained/pong-a3c", "pretrained/../run.py", "pretrained/"])
def test_a_pretrained_name_stays_among_the_pretrained(name: str) -> None:
    with pytest.raises(UsageError, match="unknown agent"):
        checkpoint_folder(name)


def test_the_command_line_says_of_damage_in_a_sentence(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    (run.path / "best").write_text("garbage")
    with warnings.catch_warnings(action="default"):
        assert main(["evaluate", str(run.path), "--episodes", "1"]) == 0
    assert capsys.readouterr().err == f"asyncrl: {run.path / 'best'} names no checkpoint of this run; using the newest\n"
