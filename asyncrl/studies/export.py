"""Scores of a study as arrays for other tools."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from asyncrl.common.serialization import write_atomically
from asyncrl.errors import UsageError
from asyncrl.studies.study import Study

__all__ = ["check_export", "export_scores", "score_arrays"]


def score_arrays(study: Study, *, normalized: bool = True) -> dict[str, np.ndarray]:
    """[runs, environments] scores by method, the score dictionary that rliable takes.

    Methods are in it that ran in every environment, over as many seeds in each. With `normalized`, environments without
    reference scores are left out.
    """
    tasks = [task for task in study.suite.tasks if task.reference is not None or not normalized]
    found = {}
    for name in dict.fromkeys(method.name for task in tasks for method in task.methods):
        columns = []
        for task in tasks:
            methods = {method.name: method for method in task.methods}
            scores = study.scores(task, methods[name]) if name in methods else np.zeros(0)
            columns.append(task.normalized(scores) if normalized else scores)
        if columns and len({len(column) for column in columns}) == 1 and len(columns[0]):
            found[name] = np.stack(columns, axis=1)
    return found


def check_export(study: Study, path: Path) -> Path:
    """Return the path. Raises UsageError unless there can be scores for it, and it is an .npz file in a folder that exists
    or in the study's, which may not.
    """
    if all(task.reference is None for task in study.suite.tasks):
        raise UsageError(f"--export {path}: no environment of the suite has the scores random and reference")
    if path.suffix != ".npz":
        raise UsageError(f"--export {path}: the file must end in .npz")
    if path.parent != study.path and not path.parent.is_dir():
        raise UsageError(f"--export {path}: there is no folder {path.parent}")
    return path


def export_scores(study: Study, path: Path) -> None:
    """Write [runs, environments] normalized scores, one array per method and group of environments.

    An array is called METHOD, or GROUP/METHOD if the suite has several groups.
    """
    groups = list(dict.fromkeys(task.group for task in study.suite.tasks))
    arrays = {}
    for group in groups:
        for name, array in score_arrays(study.of_group(group)).items():
            arrays[f"{group}/{name}" if len(groups) > 1 else name] = array
    if not arrays:
        raise UsageError(f"--export {path}: no method has as many finished runs in every environment with reference scores")
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    write_atomically(path, content.getvalue())
