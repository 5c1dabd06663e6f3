"""On Windows, as far as Linux can imitate it: no fcntl, no fork, none of the signals that only POSIX knows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

IMITATION = """
import fcntl, os, select, signal, sys, types
import gymnasium, psutil, safetensors.torch, tensorboard, torch, tyro  # these have Windows versions

REAL = fcntl
class msvcrt(types.ModuleType):
    LK_NBLCK, LK_UNLCK = 2, 0
    @staticmethod
    def locking(file, mode, nbytes):
        assert os.lseek(file, 0, os.SEEK_CUR) == 2**30 and nbytes == 1
        try:
            REAL.flock(file, REAL.LOCK_UN if mode == msvcrt.LK_UNLCK else REAL.LOCK_EX | REAL.LOCK_NB)
        except BlockingIOError:
            raise PermissionError(13, "Permission denied") from None

sys.modules["msvcrt"], sys.modules["fcntl"] = msvcrt("msvcrt"), None
ABSENT = {
    os: "fork register_at_fork sched_getaffinity pread killpg getpgrp posix_fallocate memfd_create O_DIRECTORY O_NOFOLLOW",
    signal: "SIGHUP SIGUSR1 SIGUSR2 SIGCHLD SIGIO SIGKILL pthread_sigmask",
    select: "poll",
}
for module, names in ABSENT.items():
    for name in names.split():
        delattr(module, name)
"""

TRAINING = """
import asyncrl
from asyncrl.common.file_lock import AlreadyLocked, check_unlocked, file_lock
from asyncrl.launch import resume
from asyncrl.errors import UsageError
from pathlib import Path

folder = Path(sys.argv[1])
settings = dict(steps=640, actors=2, envs_per_actor=2, eval_episodes=2, seed=1)
run = asyncrl.train("CartPole-v1", "a3c", run_dir=folder / "run", engine="serial", **settings)
resume(run.path, steps=1280, engine="threads")
print("steps", asyncrl.load(run.path).checkpoint.step)

lock = folder / "lock"
check_unlocked(lock)
with file_lock(lock):
    for attempt in (lambda: check_unlocked(lock), lambda: file_lock(lock).__enter__()):
        try:
            attempt()
        except AlreadyLocked as problem:
            print("locked by", "me" if problem.owner == os.getpid() else problem.owner)
with file_lock(lock):
    print("free again")

for refused in (dict(engine="processes"), dict(engine="hogwild"), dict(env_backend="async")):
    try:
        asyncrl.train("CartPole-v1", "a3c", run_dir=folder / "refused", **settings | refused)
    except UsageError as problem:
        print(problem)
print((folder / "refused").exists())
"""


def test_training_works_and_worker_processes_are_refused(tmp_path: Path) -> None:
    program = [sys.executable, "-c", IMITATION + TRAINING, str(tmp_path)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:4] == ["steps 1280", "locked by me", "locked by me", "free again"]
    assert lines[4] == "--engine processes needs Linux or macOS; use --engine threads or serial"
    assert lines[5] == "--engine hogwild needs Linux or macOS; use --engine threads or serial"
    assert lines[6] == "--env-backend async needs Linux or macOS; use --env-backend sync"
    assert lines[7] == "False"
