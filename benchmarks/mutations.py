"""The mutations of fuzz.py: each changes one thing in a folder of files and returns its name."""

from __future__ import annotations

import contextlib
import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

__all__ = ["MUTATIONS_OF_JSON", "MUTATIONS_OF_RUNS"]

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
    from asyncrl.runs.checkpoints.manifest import manifest_sha256

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
    from asyncrl.common.serialization import file_checksum
    from asyncrl.runs.checkpoints.manifest import manifest_sha256

    run = next(p for p in file.parents if (p / "config.json").exists())
    for path in run.glob("checkpoints/*/manifest.json"):
        manifest = json.loads(path.read_text())
        for part in ("files", "replay"):
            inside = file.parent == path.parent if part == "files" else file.parent.name == "replay"
            if inside and file.name in manifest[part]:
                manifest[part][file.name] = file_checksum(file)
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
MUTATIONS_OF_RUNS = (
    [*ANY, sparse]
    + [change_manifest] * 16
    + [change_tensors] * 5
    + [change_header] * 4
    + [change_lines] * 3
    + [change_text]
)
MUTATIONS_OF_JSON = [*ANY, sparse] + [change_text] * 14
