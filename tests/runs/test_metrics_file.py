"""Reading parts of metrics.jsonl."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_environment_faults import files_of_at_most

from asyncrl.runs.metrics.follower import MetricsFollower
from asyncrl.runs.metrics.metrics_file import read_records, truncate


def test_records_of_a_kind_are_read_without_the_others_and_thinned_out(tmp_path: Path) -> None:
    lines = [json.dumps({"step": i, "update": i, "kind": "train" if i % 10 == 0 else "video"}) for i in range(1_000)]
    file = tmp_path / "metrics.jsonl"
    file.write_text("\n".join([*lines[:500], '{"kind": "episode", torn', *lines[500:]]) + "\n")
    assert [record["step"] for record in read_records(file, ["train"])] == [*range(0, 1_000, 10)]
    some = [record["step"] for record in read_records(file, ["video"], most=50)]
    assert 50 <= len(some) <= 150
    assert some[-1] > 980


def test_fields_of_earlier_runs_have_todays_names(tmp_path: Path) -> None:
    now = {"step": 1, "update": 1, "kind": "train", "clip_fraction": 0.1, "return_std": 2.0, "loss": 0.5, "value_std": 3.0}
    before = {"clip_fraction": "clipped", "return_std": "return_spread", "value_std": "value_spread"}
    file = tmp_path / "metrics.jsonl"
    file.write_text(json.dumps({before.get(name, name): value for name, value in now.items()}) + "\n")
    assert [[*record.items()] for record in read_records(file)] == [[*now.items()]]
    follower = MetricsFollower(file)
    follower.read()
    assert follower.series["train"].last == now
    truncate(file, 1)
    assert '"clipped"' in file.read_text()


def test_few_records_among_many_of_other_kinds_are_all_read(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    other = [json.dumps({"step": step, "update": 1, "kind": "stages", "filler": "x" * 100}) for step in range(2_000)]
    videos = [json.dumps({"step": step, "update": 1, "kind": "video"}) for step in range(10)]
    file.write_text("\n".join([*other, *videos]) + "\n")
    assert [record["step"] for record in read_records(file, ["video"], most=10)] == list(range(10))
    assert [record["step"] for record in read_records(file, ["video"], most=4)] == [0, 3, 6, 9]


def test_records_that_cannot_be_dropped_on_a_full_disk_stay_and_no_piece_of_a_copy_does(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text("".join(json.dumps({"step": i, "update": i, "kind": "train"}) + "\n" for i in range(1_000)))
    with files_of_at_most(10_000), pytest.raises(OSError, match="File too large") as full:
        truncate(file, 900)
    assert full.value.filename == str(file)
    assert list(tmp_path.iterdir()) == [file]
    truncate(file, 900)
    assert [record["update"] for record in read_records(file)] == [*range(901)]
