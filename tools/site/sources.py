"""Pages that show files of the repository."""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]

PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "results.md",
    "examples/README.md": "examples.md",
}
"""Files of the repository that are pages of the site."""

FOLDERS = {
    "asyncrl/presets": "presets.md",
    "benchmarks": "results.md",
    "examples": "examples.md",
}
"""Folders that a page of the site describes."""

_LANGUAGES = {".py": "python", ".toml": "toml", ".yml": "yaml", ".json": "json", ".jsonl": "json", ".txt": "text"}
_LONGEST = 200_000


def as_page(path: Path) -> str:
    """A page that shows a file, or the Python files of a folder."""
    name = path.relative_to(ROOT).as_posix()
    head = f"---\nsearch:\n  exclude: true\nhide:\n  - navigation\n---\n\n# {name}\n\n"
    if path.is_dir():
        return head + "\n\n".join(f"## {file.name}\n\n{_fenced(file)}" for file in sorted(path.glob("*.py")))
    if path.suffix == ".ipynb":
        return head + _notebook(path)
    return head + _fenced(path)


def _fenced(path: Path) -> str:
    language = _LANGUAGES.get(path.suffix, "docker" if path.name == "Dockerfile" else "text")
    text = path.read_text(encoding="utf-8")[:_LONGEST]
    return f'````{language} linenums="1"\n{text}````\n'


def _notebook(path: Path) -> str:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    parts = ["".join(cell["source"]) for cell in cells]
    code = [cell["cell_type"] == "code" for cell in cells]
    return "\n\n".join(f"```python\n{part}\n```" if is_code else part for part, is_code in zip(parts, code, strict=True))
