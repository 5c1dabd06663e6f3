"""CSV files of a run's records, one for each kind."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

from asyncrl.monitor.sink import Record
from asyncrl.monitor.table import row

__all__ = ["CsvFiles"]


class CsvFiles:
    """`train.csv`, `eval.csv`, … with a column for each field; lists, such as the returns of an evaluation, are left out.
    Numbers that are not finite are empty, as after a resumption: they are null in `metrics.jsonl`.

    Files of an earlier part of the run are written again from `earlier`, its records. Rows after the step of a rewind are
    dropped, as they are in `metrics.jsonl`.
    """

    def __init__(self, folder: Path, earlier: Iterable[Record] = ()) -> None:
        folder.mkdir(exist_ok=True)
        for file in folder.glob("*.csv"):
            file.unlink()
        self._folder = folder
        self._names: dict[str, list[str]] = {}
        self._files: dict[str, TextIO] = {}
        for record in earlier:
            self.write(record)

    def write(self, record: Record) -> None:
        kind = record["kind"]
        if kind == "rewind":
            for other in list(self._files):
                self._rewrite(other, self._names[other], record["step"])
        values = {name: _cell(x) for name, x in row(record).items() if name != "kind" and not isinstance(x, list)}
        names = self._names.get(kind, [])
        new = [name for name in values if name not in names]
        if new:
            self._names[kind] = names = [*names, *new]
            self._rewrite(kind, names)
        _writer(self._files[kind], names).writerow(values)

    def flush(self) -> None:
        for file in self._files.values():
            file.flush()

    def _rewrite(self, kind: str, names: list[str], last_step: float = math.inf) -> None:
        """Begin the file of a kind, with the columns `names` and the rows that it has up to `last_step`."""
        path, rows = self._folder / f"{kind}.csv", list[dict[str, Any]]()
        if kind in self._files:
            self._files.pop(kind).close()
            found = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline=""))
            rows = [one for one in found if int(one["step"]) <= last_step]
        path.unlink(missing_ok=True)  # may be a link, which is not followed
        self._files[kind] = file = open(path, "x", encoding="utf-8", newline="")
        _writer(file, names).writeheader()
        _writer(file, names).writerows(rows)

    def say(self, line: str) -> None:
        pass

    def close(self) -> None:
        for file in self._files.values():
            file.close()


def _cell(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _writer(file: TextIO, names: list[str]) -> csv.DictWriter[str]:
    return csv.DictWriter(file, names, lineterminator="\n")
