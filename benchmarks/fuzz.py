"""Damage every kind of file that asyncrl reads, and check what its commands make of it.

    python benchmarks/fuzz.py --mutations 20000 --seed 1 --out benchmarks/results/fuzz.json

Files: manifests (also with matching hashes), safetensors (bytes, headers, values), marks, metrics, replay buffers,
capsules, datasets, and the folders they are in. Commands: load and act, inspect, evaluate, resume (until actors would
start), repro (until the environment would be made), reading a dataset. A command may load the file or raise one of the
package's own errors. Everything else is a fault: another exception, a crash, more than ten seconds of processor time, more
than two gigabytes of memory. Batches run in separate processes.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mutations import MUTATIONS_OF_JSON, MUTATIONS_OF_RUNS

SECONDS, BYTES = 10, 2 * 2**30
BATCH = 500


class Target(NamedTuple):
    """Files of one kind, and the command that reads them."""

    name: str
    folder: Path
    read: list[tuple[str, Callable[[], object]]]


class Hang(BaseException):
    """A command took too long."""


class Began(Exception):
    """Everything was read, and actors would start now."""


# The commands.


def quiet(command: list[str]) -> None:
    """Run a command silently. Raises the errors that it does not report itself."""
    from asyncrl.cli import main

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
        code = main(command)
    if code not in (0, 1, 2) or "Traceback" in said.getvalue().replace("Traceback of", ""):
        raise AssertionError(f"exit code {code}: {said.getvalue()[-2000:]}")
    if code == 2:
        raise Refused


class Refused(Exception):
    """The command reported an error."""


def resume(run: Path) -> None:
    """Resume a run until its actors would start."""
    from asyncrl import launch, training

    def begin(*_: object) -> Any:
        raise Began

    kept = training.open_engine
    training.open_engine = begin
    try:
        launch.resume(run, steps=10**6)
    finally:
        training.open_engine = kept


def act(run: Path) -> None:
    import asyncrl

    agent = asyncrl.load(run)
    if agent.contract.spaces.observation_size < 10_000:
        spaces = agent.contract.spaces
        agent.act(np.zeros((1, *spaces.observation_shape), spaces.observation_dtype))


def evaluate(run: Path) -> None:
    quiet(["evaluate", str(run), "--episodes", "1", "--max-steps", "20"])


def reproduce(file: Path) -> None:
    """Replay a capsule until its environment would be made."""
    from asyncrl.envs.supervision import capsule

    def begin(*_: object, **__: object) -> Any:
        raise Began

    kept = capsule.replay
    capsule.replay = begin
    try:
        quiet(["repro", str(file)])
    finally:
        capsule.replay = kept


def targets(folder: Path) -> Iterator[Target]:
    """Make intact files to damage."""
    from asyncrl.acting import datasets
    from asyncrl.api import configure, record, start
    from asyncrl.common.serialization import to_json
    from asyncrl.envs import describe
    from asyncrl.envs.supervision import capsule
    from asyncrl.envs.supervision.worker import Failure, FailureKind
    from asyncrl.runs.checkpoints import checkpoint

    small: dict[str, Any] = dict(steps=200, actors=2, envs_per_actor=2, engine="serial", eval_episodes=1, eval_every=100)
    replay = dict(capacity=100, learning_starts=50, batch_size=8, prioritized=True, target_every=50)
    for algorithm, more in {"a3c": dict(t_max=5, recurrent="lstm"), "dqn": replay, "reinforce": {}, "n-step-q": {}}.items():
        made = start(configure("CartPole-v1", algorithm, **small, **more), folder / algorithm)[0]
        *older, newest = made.checkpoints()
        for path in older:  # so that the damaged files are read
            checkpoint.delete(path)
        made.mark("best", newest)
        run = made.path
        commands = {
            "load and act": act,
            "inspect": lambda r: quiet(["inspect", str(r)]),
            "evaluate": evaluate,
            "resume": resume,
        }
        read = [(name, lambda c=c, r=run: c(r)) for name, c in commands.items()]
        yield Target(f"run of {algorithm}", run, read)
    contract = describe("CartPole-v1")
    for number in range(2):
        file = capsule.write(
            folder / f"capsules{number}",
            to_json(contract),
            seed=number,
            options=None,
            actions=[np.int64(1)] * 9 * number,
            action_space=contract_space(contract),
            failure=Failure(FailureKind.RAISED, "raised", "…"),
        )
        yield Target("capsule", file.parent, [("repro", lambda f=file: reproduce(f))])
    os.environ["MINARI_DATASETS_PATH"] = str(folder / "shelf")
    (folder / "shelf").mkdir()
    with warnings.catch_warnings(action="ignore"):
        record(folder / "a3c", "fuzz/cartpole-v0", 2)
    yield Target("dataset", folder / "shelf" / "fuzz", [("read", lambda: datasets.read("fuzz/cartpole-v0", contract))])


def contract_space(contract: Any) -> Any:
    import gymnasium

    return gymnasium.spaces.Discrete(contract.spaces.actions.count)


# Making and judging mutations.


class Scratch:
    """A folder that can be restored."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    def restore(self) -> None:
        for path in sorted(self._folder.rglob("*"), reverse=True):
            known = path in self._kept and path.is_file() and not path.is_symlink()
            if known and path.stat().st_size == len(self._kept[path]) and path.read_bytes() == self._kept[path]:
                continue
            if path.is_symlink() or not path.is_dir():
                path.unlink()
            elif not any(kept.is_relative_to(path) for kept in self._kept):
                shutil.rmtree(path)
        for path, data in self._kept.items():
            if not path.is_file():
                if path.is_dir():
                    shutil.rmtree(path)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)


def outcome(read: Callable[[], object]) -> tuple[str, str]:
    """Return "loaded", "refused" or "fault", and a description of the fault."""
    from asyncrl.errors import AsyncRLError

    def late(*_: object) -> None:
        raise Hang

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.signal(signal.SIGPROF, late)
    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, 12 * SECONDS)  # a wait uses no processor time
    try:
        with warnings.catch_warnings(action="ignore"):
            read()
    except Began:
        return "loaded", ""
    except (AsyncRLError, Refused):
        return "refused", ""
    except Hang:
        return "fault", f"more than {SECONDS} s in {''.join(traceback.format_exc(limit=-3))}"
    except BaseException as problem:
        place = traceback.extract_tb(problem.__traceback__)
        ours = [f for f in place if "/asyncrl/" in f.filename]
        last = ours[-1] if ours else place[-1]
        return "fault", f"{type(problem).__name__}: {str(problem)[:300]} ({Path(last.filename).name}:{last.lineno})"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    return ("loaded", "") if grown < BYTES else ("fault", f"{grown / 2**30:.1f} GiB more memory")


def mutate(folder: Path, seed: int, count: int) -> Iterator[dict[str, str]]:
    """Make `count` mutations and read each with one command."""
    everything = list(targets(folder))
    scratch = {target.folder: Scratch(target.folder) for target in everything}
    for number in range(seed, seed + count):
        chance = random.Random(number)
        target = chance.choice(everything)
        mutation = chance.choice(MUTATIONS_OF_RUNS if target.name.startswith("run") else MUTATIONS_OF_JSON)
        done = mutation.__name__
        with contextlib.suppress(
            IndexError, KeyError, ValueError, RuntimeError, ArithmeticError
        ):  # the mutation was impossible
            done = mutation(target.folder, chance)
        command, read = chance.choice(target.read)
        how, what = outcome(read)
        scratch[target.folder].restore()
        yield {
            "number": str(number),
            "target": target.name,
            "mutation": done,
            "command": command,
            "outcome": how,
            "what": what,
        }


def batch(seed: int, count: int) -> None:
    """Print one line per mutation; runs in a separate process."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_STATE_HOME"] = folder
        with contextlib.redirect_stdout(io.StringIO()):
            found = mutate(Path(folder), seed, count)
        for line in found:
            print(json.dumps(line), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutations", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--batch", type=int, default=0, help="used by this script itself")
    asked = parser.parse_args()
    if asked.batch:
        batch(asked.seed, asked.batch)
        return
    began = time.monotonic()
    table: collections.Counter[tuple[str, str, str]] = collections.Counter()
    faults: list[dict[str, str]] = []
    done = 0
    while done < asked.mutations:
        count = min(BATCH, asked.mutations - done)
        first = asked.seed + done
        command = [sys.executable, __file__, "--seed", str(first), "--batch", str(count)]
        ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        lines = [json.loads(line) for line in ended.stdout.splitlines()]
        if ended.returncode or len(lines) < count:
            died = f"the process ended with {ended.returncode}"
            lines.append(
                {"number": str(first + len(lines)), "target": "?", "mutation": "?", "command": "?"}
                | {"outcome": "fault", "what": died}
            )
        for line in lines:
            table[line["target"], line["command"], line["outcome"]] += 1
        faults += [line for line in lines if line["outcome"] == "fault"]
        done += max(1, len(lines))
        print(f"{done:>7,} mutations, {len(faults)} faults, {time.monotonic() - began:,.0f} s", flush=True)
        for line in [line for line in lines if line["outcome"] == "fault"][:10]:
            print("   ", line, flush=True)
    rows = [{"file": f, "command": c, "outcome": o, "count": n} for (f, c, o), n in sorted(table.items())]
    result = {"mutations": done, "seed": asked.seed, "faults": faults, "table": rows}
    if asked.out:
        asked.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
