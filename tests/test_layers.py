"""Modules import only from lower layers or their own package; docs/architecture.md lists the layers, top first."""

from __future__ import annotations

import ast
from pathlib import Path

import asyncrl

ROOT = Path(asyncrl.__file__).parent
ARCHITECTURE = Path(__file__).parent.parent / "docs" / "architecture.md"


def layers() -> dict[str, int]:
    """The layer of every package and top-level module; 0 is the lowest."""
    block = ARCHITECTURE.read_text().split("## Layers")[1].split("```text")[1].split("```")[0]
    names = [line.split("  ")[0].replace("/", "").replace(".py", "").split() for line in block.strip().splitlines()]
    return {name: height for height, layer in enumerate(reversed(names)) for name in layer}


def package_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported_packages(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "asyncrl":
            found += [node.module.split(".")[1]] if "." in node.module else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [alias.name.split(".")[1] for alias in node.names if alias.name.startswith("asyncrl.")]
    return found


def test_no_module_imports_from_its_own_layer_or_a_higher_one() -> None:
    height = layers()
    wrong = []
    for path in ROOT.rglob("*.py"):
        package = package_of(path)
        imported = set(imported_packages(ast.parse(path.read_text()))) - {package}
        wrong += [f"{path.relative_to(ROOT)} imports {name}" for name in imported if height[name] >= height[package]]
    assert wrong == []


def test_every_package_has_a_layer() -> None:
    assert {package_of(path) for path in ROOT.rglob("*.py")} == layers().keys()


def test_only_the_registry_of_environments_knows_their_families() -> None:
    """Inside envs: core modules, then supervision, then families, and the registry above them."""
    wrong = []
    for folder in ("envs", "envs/supervision"):
        for path in (ROOT / folder).glob("*.py"):
            imports = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
            families = [node.module for node in imports if (node.module or "").startswith("asyncrl.envs.families")]
            wrong += [f"{path.relative_to(ROOT)} imports {name}" for name in families if path.name != "registry.py"]
    assert wrong == []
