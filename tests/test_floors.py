"""The house has floors: a module imports only from strictly lower ones, or inside its own package."""

from __future__ import annotations

import ast
from pathlib import Path

import asyncrl

ROOT = Path(asyncrl.__file__).parent
FLOORS = """
errors version arithmetic conversion signature system
ranges children references
serialization randomness spaces rewards rollout interruption presets optimizers
envs returns distributions exploration bots actor_state
networks experience
algorithms schedule
datasets
actor learner config statistics
playback plans provenance
engines checkpoint evaluation video monitor filters imitation effects
run saved_state
agent changes checkpointer divergence evaluator new_run
human settings
training
hogwild
api
bench
cli __init__
__main__
"""
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS.strip().splitlines()) for room in rooms.split()}


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def test_no_module_imports_upwards_or_sideways() -> None:
    wrong = []
    for path in ROOT.rglob("*.py"):
        room = room_of(path)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "asyncrl":
                names = [node.module.split(".")[1]] if "." in node.module else [alias.name for alias in node.names]
                wrong += [f"{path.name}: {name}" for name in names if name != room and FLOOR[name] >= FLOOR[room]]
    assert wrong == []


def test_every_module_stands_on_a_floor() -> None:
    assert {room_of(path) for path in ROOT.rglob("*.py")} == FLOOR.keys()
