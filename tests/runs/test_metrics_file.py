"""Reading parts of metrics.jsonl."""

from __future__ import annotations

import json
from pathlib import Path

from asyncrl.runs.metrics_file import read_records


def test_records_of_a_kind_are_read_without_the_others_and_thinned_out(tmp_path: Path) -> None:
    lines = [json.dumps({"step": i, "update": i, "kind": "train" if i % 10 == 0 else "video"}) for i in range(1_000)]
    file = tmp_path / "metrics.jsonl"
    file.write_text("\n".join([*lines[:500], '{"kind": "episode", torn', *lines[500:]]) + "\n")
    assert [record["step"] for record in read_records(file, ["train"])] == [*range(0, 1_000, 10)]
    some = [record["step"] for record in read_records(file, ["video"], most=50)]
    assert 50 <= len(some) <= 150
    assert some[-1] > 980
