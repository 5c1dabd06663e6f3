"""Check and measure asyncrl on a GPU, one part after the other; `run.sh` calls this.

    benchmarks/gpu/run.sh RESULTS
    benchmarks/gpu/run.sh RESULTS --device cpu --scale 0.05    (tries the script without a GPU)
    benchmarks/gpu/run.sh RESULTS --only resume

Every part runs in a separate process. One that fails or exceeds its time limit is recorded with the end of its output, and
the next one runs. Results are in RESULTS/gpu.json, written again after each part.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from parts import PARTS, Bench

from asyncrl.runs.provenance import machine


def utilization() -> str:
    """What nvidia-smi says of the GPUs."""
    query = "--query-gpu=name,driver_version,memory.total"
    try:
        return subprocess.run(["nvidia-smi", query, "--format=csv"], capture_output=True, text=True).stdout
    except FileNotFoundError:
        return "no nvidia-smi"


def run_part(name: str, asked: argparse.Namespace) -> int:
    """Run one part in this process and write what it found."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(asked.device, asked.engine, asked.scale, Path(folder), asked.results)
        try:
            bench.report(PARTS[name][1](bench))
        except Exception:
            bench.report({"failed": traceback.format_exc()[-2_000:]})
    return 0


def found_by(name: str, asked: argparse.Namespace, limit: float) -> dict[str, Any]:
    """Run one part in a separate process."""
    result = asked.results / "part.json"
    result.unlink(missing_ok=True)
    command: Sequence[str] = [sys.executable, __file__, *sys.argv[1:], "--part", name]
    with (asked.results / "output.txt").open("w") as output:
        try:
            ended: Any = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, timeout=limit).returncode
        except subprocess.TimeoutExpired:
            ended = f"no end after {limit:.0f} s"
    if result.exists():
        return {**json.loads(result.read_text()), **({"ended": ended} if ended else {})}
    return {"failed": f"{ended}: {(asked.results / 'output.txt').read_text()[-2_000:]}"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=540.0, help="no part runs longer than this after the start")
    parser.add_argument("--only", default="", help="parts whose name contains one of these, separated by |")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.part:
        raise SystemExit(run_part(asked.part, asked))
    began = time.monotonic()
    report: dict[str, Any] = {"machine": machine(), "gpu": utilization(), "device": asked.device, "parts": {}}
    patience = 1 if asked.device == "cuda" else 10
    for name, (limit, _) in PARTS.items():
        left = asked.seconds - (time.monotonic() - began)
        if left < 5 or not any(one in name for one in asked.only.split("|")):
            continue
        started = time.monotonic()
        found = found_by(name, asked, min(patience * limit, left))
        report["parts"][name] = found | {"part_seconds": round(time.monotonic() - started, 1)}
        (asked.results / "gpu.json").write_text(json.dumps(report, indent=1) + "\n")
        print(f"{time.monotonic() - began:6.1f} s  {name}: {json.dumps(found)[:700]}")
    for name in ("part.json", "output.txt"):
        (asked.results / name).unlink(missing_ok=True)


if __name__ == "__main__":
    main()
