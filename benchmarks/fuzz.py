"""Damage every kind of file that asyncrl reads, and check what its commands make of it.

    python benchmarks/fuzz.py --mutations 20000 --seed 1 --out benchmarks/results/fuzz.json

Files: manifests (also with matching hashes), safetensors (bytes, headers, values), marks, metrics, replay memories,
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
from safetensors.torch import load_file, save_file

SECONDS, BYTES = 10, 2 * 2**30
BATCH = 500

ODD: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 3, 0.5, -0.0, 1e-320, 1e308, float("inf"), float("-inf"), float("nan")),
    *(2**31, 2**53, 2**63, -(2**63), 10**30, 10**400, 40_000, 10**9),
    *("", " ", "x", "\0", "\ud800", "é" * 99, "os:system", "../../etc/passwd", "/etc/passwd", "a" * 100_000, "nan", "-1"),
    *([], {}, [[]], [None], [1, 2], {"": 0}, {"name": "a3c"}, {"name": []}, [0] * 10_000, ["x"] * 100),
    *(
        "float32",
        "object",
        "uint8",
        "O",
        "a3c",
        "dqn",
        "random",
        "vizdoom",
        "envpool",
        "native",
        "async",
        "cuda",
        "hogwild",
    ),
]


class Target(NamedTuple):
    """Files of one kind, and the command that reads them."""

    name: str
    folder: Path
    read: list[tuple[str, Callable[[], object]]]


class Hang(BaseException):
    """A command took too long."""


class Began(Exception):
    """Everything was read, and actors would start now."""


# Mutations: each takes the folder and a generator, and returns what it did; files are put back afterwards.


def files_of(folder: Path, *endings: str) -> list[Path]:
    found = sorted(p for p in folder.rglob("*") if p.is_file() and "tensorboard" not in p.parts)
    return [p for p in found if not endings or p.suffix in endings]


def turn_bytes(folder: Path, random: random.Random) -> str:
    file = random.choice(files_of(folder))
    data = bytearray(file.read_bytes())
    for _ in range(random.choice([1, 1, 1, 3, 20])):
        if data:
            data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    file.write_bytes(data)
    return "bytes turned"


def cut_or_grow(folder: Path, random: random.Random) -> str:
    file = random.choice(files_of(folder))
    data = file.read_bytes()
    place, other = random.randint(0, len(data)), random.randint(0, len(data))
    file.write_bytes(
        random.choice([data[:place], data + data[place:], data[:place] + data[other:], b"", b"\0" * 64, b"\xff" + data])
    )
    return "cut or grown"


def sparse(folder: Path, random: random.Random) -> str:
    with open(random.choice(files_of(folder)), "ab") as file:
        file.truncate(random.choice([10**9, 3 * 10**9]))
    return "sparse gigabytes"


def replace_file(folder: Path, random: random.Random) -> str:
    file = random.choice(files_of(folder))
    file.unlink()
    match random.choice(["gone", "folder", "link", "loop", "pipe", "device"]):
        case "folder":
            (file / "inner").mkdir(parents=True)
        case "link":
            file.symlink_to("/etc/passwd")
        case "loop":
            file.symlink_to(file)
        case "pipe":
            os.mkfifo(file)
        case "device":
            file.symlink_to("/dev/zero")
    return "not a plain file"


def rename_file(folder: Path, random: random.Random) -> str:
    file = random.choice(files_of(folder))
    file.rename(file.with_name(random.choice(["x", ".DS_Store", "000000000001", "weights.safetensors.bak", "..x", "é"])))
    return "renamed"


def odd(random: random.Random) -> Any:
    return json.loads(json.dumps(random.choice(ODD)))


def change_json(data: Any, random: random.Random) -> Any:
    """A copy of `data` with one random change."""
    if random.random() < 0.15 or not isinstance(data, dict | list) or not data:
        if isinstance(data, int | float) and not isinstance(data, bool) and random.random() < 0.5:
            return random.choice([data + 1, -data, data * 10**6, float(data), str(data), [data]])
        return odd(random)
    if isinstance(data, list):
        place = random.randrange(len(data))
        match random.randrange(5):
            case 0:
                return data[:place] + data[place + 1 :]
            case 1:
                return data + [data[place]] * random.choice([1, 100])
            case 2:
                return data[::-1]
        return [*data[:place], change_json(data[place], random), *data[place + 1 :]]
    key = random.choice(list(data))
    rest = {name: value for name, value in data.items() if name != key}
    match random.randrange(8):
        case 0:
            return rest
        case 1:
            return {**rest, random.choice(["x", "", key + "x", "__class__", "../x"]): data[key]}
        case 2:
            return {**data, random.choice(["x", "trusted", "stranger", "format", "signature"]): odd(random)}
        case 3:
            return (
                {**data, key: deep(random.choice([60, 200, 5_000]))}
                if random.random() < 0.3
                else {**data, key: odd(random)}
            )
        case 4:
            return {**data, key: data[random.choice(list(data))]}
    return {**data, key: change_json(data[key], random)}


def deep(levels: int) -> Any:
    found: Any = 0
    for _ in range(min(levels, 400)):
        found = [found] if levels % 3 else {"a": found}
    return found


def json_text(data: Any, random: random.Random) -> str:
    text = json.dumps(data)
    match random.randrange(40):
        case 0:
            return text[:-1] + "," + text[1:]  # every key twice
        case 1:
            return "[" * 100_000 + text
        case 2:
            return text.replace("0", "NaN", 1)
        case 3:
            return text.replace("1", "1" * 5_000, 1)
    return text


def change_manifest(folder: Path, random: random.Random) -> str:
    from asyncrl.runs.manifest import manifest_sha256

    file = random.choice([p for p in files_of(folder) if p.name == "manifest.json"])
    manifest = json.loads(file.read_text())
    manifest.pop("manifest_sha256")
    for _ in range(random.choice([1, 1, 1, 2, 4])):
        part = random.choice([None, "contract", "config", "config", "files", "replay", "parameters"])
        if part is None or part not in manifest:
            manifest = change_json(manifest, random)
        else:
            manifest = {**manifest, part: change_json(manifest[part], random)}
        manifest = manifest if isinstance(manifest, dict) else {"weights_sha256": manifest}
    with contextlib.suppress(ValueError, RecursionError):
        manifest["manifest_sha256"] = manifest_sha256(manifest)
    file.write_text(json_text(manifest, random))
    return "manifest"


def change_text(folder: Path, random: random.Random) -> str:
    file = random.choice([p for p in files_of(folder) if p.suffix in (".json", "") or p.name == "metadata.json"])
    try:
        data = json.loads(file.read_text())
    except ValueError:
        data = odd(random)
    if isinstance(data, dict) and random.random() < 0.3:  # a table inside of a text
        key = random.choice(list(data))
        with contextlib.suppress(TypeError, ValueError):
            data[key] = json.dumps(change_json(json.loads(data[key]), random))
    file.write_text(json_text(change_json(data, random), random), errors="replace")
    return "JSON"


def seal(file: Path) -> None:
    """Update the manifests' hashes of this file."""
    from asyncrl.common.serialization import file_facts
    from asyncrl.runs.manifest import manifest_sha256

    run = next(p for p in file.parents if (p / "config.json").exists())
    for path in run.glob("checkpoints/*/manifest.json"):
        manifest = json.loads(path.read_text())
        for part in ("files", "replay"):
            inside = file.parent == path.parent if part == "files" else file.parent.name == "replay"
            if inside and file.name in manifest[part]:
                manifest[part][file.name] = file_facts(file)
        manifest.pop("manifest_sha256")
        path.write_text(json.dumps({**manifest, "manifest_sha256": manifest_sha256(manifest)}))


def change_header(folder: Path, random: random.Random) -> str:
    file = random.choice(files_of(folder, ".safetensors"))
    data = file.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = change_json(json.loads(data[8 : 8 + size]), random)
    text = json_text(header, random).encode()
    length = random.choice([len(text)] * 6 + [0, 2**40, len(text) + 1])
    file.write_bytes(length.to_bytes(8, "little") + text + data[8 + size :])
    seal(file)
    return "header of tensors"


def change_tensors(folder: Path, random: random.Random) -> str:
    file = random.choice(files_of(folder, ".safetensors"))
    tensors = {name: x.clone() for name, x in load_file(file).items()}
    for _ in range(random.choice([1, 1, 2])):
        name = random.choice(list(tensors))
        x = tensors[name]
        match random.randrange(9):
            case 0:
                del tensors[name]
            case 1:
                tensors[random.choice(["x", "9.actions", "recent", name + ".0"])] = x
            case 2:
                tensors[name] = x.to(random.choice([torch.float64, torch.int64, torch.uint8, torch.bool, torch.bfloat16]))
            case 3:
                tensors[name] = torch.cat([x, x]) if x.dim() else x.repeat(2)
            case 4:
                tensors[name] = x[:0] if x.dim() else x
            case 5:
                tensors[name] = x[None]
            case 6 if x.is_floating_point():
                x.view(-1)[: 1 + random.randrange(max(1, x.numel()))] = random.choice([np.nan, np.inf, 1e38, -1.0])
            case _:
                x.view(-1)[: 1 + random.randrange(max(1, x.numel()))] = random.choice([-1, 0, 1, 127])
        if not tensors:
            tensors["x"] = torch.zeros(1)
    save_file(tensors, file)
    seal(file)
    return "tensors"


def change_lines(folder: Path, random: random.Random) -> str:
    file = random.choice([p for p in files_of(folder) if p.name in ("metrics.jsonl", "latest", "best")])
    lines = file.read_bytes().split(b"\n")
    place = random.randrange(len(lines))
    with contextlib.suppress(ValueError):
        lines[place] = json.dumps(change_json(json.loads(lines[place]), random)).encode()
    lines.insert(
        place, random.choice([b"\xff", b"{", b"[" * 50_000, b"\0" * 100, b"../..", b"null", b"1e999", b'{"kind": []}'])
    )
    file.write_bytes(b"\n".join(lines))
    return "lines"


def litter(folder: Path, random: random.Random) -> str:
    place = random.choice([p for p in [folder, *folder.rglob("*")] if p.is_dir() and not p.is_symlink()])
    name = random.choice(
        [".DS_Store", ".directory", "desktop.ini", ".nfs0001", "000000000001", ".000000000001.tmp", "x.safetensors"]
    )
    with contextlib.suppress(FileExistsError):
        (place / name).mkdir() if random.random() < 0.5 else (place / name).write_text("x")
    return "foreign files"


ANY = [turn_bytes, cut_or_grow, replace_file, rename_file, litter]
RUN = (
    [*ANY, sparse]
    + [change_manifest] * 16
    + [change_tensors] * 5
    + [change_header] * 4
    + [change_lines] * 3
    + [change_text]
)
TEXTS = [*ANY, sparse] + [change_text] * 14


# Commands.


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
    from asyncrl import api, training

    def begin(*_: object) -> Any:
        raise Began

    kept = training.open_engine
    training.open_engine = begin
    try:
        api.resume(run, steps=10**6)
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
    from asyncrl.runs import checkpoint

    small: dict[str, Any] = dict(steps=200, actors=2, envs_per_actor=2, engine="serial", eval_episodes=1, eval_every=100)
    replay = dict(capacity=100, learning_starts=50, batch_size=8, prioritized=True, target_every=50)
    for algorithm, more in {"a3c": dict(t_max=5, recurrent="lstm"), "dqn": replay, "reinforce": {}, "n-step-q": {}}.items():
        made = start(configure("CartPole-v1", algorithm, **small, **more), folder / algorithm)[0]
        *older, newest = made.checkpoints()
        for path in older:  # what is damaged is what is read
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


# One mutation after the other.


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
    signal.setitimer(signal.ITIMER_REAL, 12 * SECONDS)  # what waits takes no time of the processor
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
        mutation = chance.choice(RUN if target.name.startswith("run") else TEXTS)
        done = mutation.__name__
        with contextlib.suppress(IndexError, KeyError, ValueError, RuntimeError, ArithmeticError):  # it could not be done
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
