"""Print the learning curves of several runs as a table: mean training return of the last 100 episodes.

.venv/bin/python benchmarks/curves.py benchmarks/results/pong/*.jsonl
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

STEPS = (250_000, 500_000, 750_000, 1_000_000, 1_250_000, 1_500_000, 2_000_000)


def main() -> None:
    print("| run | " + " | ".join(f"{steps / 1e6:g} M" for steps in STEPS) + " | last evaluation |")
    print("|---" * (len(STEPS) + 2) + "|")
    for name in sys.argv[1:]:
        records = [json.loads(line) for line in Path(name).read_text().splitlines()]
        train = [record for record in records if record["kind"] == "train"]
        cells = []
        for steps in STEPS:
            until = [record["mean_return"] for record in train if record["step"] <= steps * 1.01]
            cells.append(f"{until[-1]:.1f}" if train[-1]["step"] >= steps * 0.99 and until[-1] is not None else "")
        score = [record["mean"] for record in records if record["kind"] == "eval"]
        print(f"| {Path(name).stem} | " + " | ".join(cells) + f" | {score[-1] if score else ''} |")


if __name__ == "__main__":
    main()
