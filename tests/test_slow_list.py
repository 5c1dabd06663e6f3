"""The list of slow tests: an entry whose test has another name now would put a slow test into the fast subset."""

from __future__ import annotations

import ast
from pathlib import Path

FOLDER = Path(__file__).parent


def test_every_entry_names_a_module_or_a_test_that_exists() -> None:
    tree = ast.parse((FOLDER / "conftest.py").read_text())
    (entries,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "SLOW"
    )
    missing = []
    for module, _, test in (entry.partition("::") for entry in sorted(entries)):
        file = FOLDER / f"{module}.py"
        if not file.is_file() or (test and f"def {test}(" not in file.read_text()):
            missing.append(f"{module}::{test}")
    assert missing == []
