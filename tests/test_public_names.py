"""The public names of `asyncrl`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import asyncrl


def test_every_public_name_is_there_and_sorted() -> None:
    assert sorted(asyncrl.__all__) == asyncrl.__all__
    assert all(hasattr(asyncrl, name) for name in asyncrl.__all__)


def test_all_lists_every_public_name() -> None:
    modules = {name for name, value in vars(asyncrl).items() if type(value).__name__ == "module"}
    public = (
        {name for name in vars(asyncrl) if not name.startswith("_")} - modules - {"annotations", "Any", "TYPE_CHECKING"}
    )
    assert public <= set(asyncrl.__all__)


LARGE = {"gymnasium", "imageio", "numpy", "psutil", "rich", "sympy", "tensorboard", "torch"}


@pytest.mark.parametrize("code", ["import asyncrl, asyncrl.cli", "from asyncrl.cli import main; main(['--help'])"])
def test_neither_importing_the_package_nor_its_help_imports_anything_large(code: str) -> None:
    """Environment workers and `asyncrl --version` do not need torch."""
    imported = f"import sys; {code}; print(sys.modules.keys() & {LARGE}, file=sys.stderr)"
    finished = subprocess.run([sys.executable, "-c", imported], capture_output=True, text=True)
    assert finished.stderr == "set()\n"


def test_commands_that_read_runs_and_names_do_not_import_torch(tmp_path: Path) -> None:
    """They answer more than a second sooner."""
    run = tmp_path / "runs" / "one"
    run.mkdir(parents=True)
    config = {"env": "CartPole-v1", "steps": 20, "seed": 3, "algorithm": {"name": "a3c"}}
    records = [{"step": 10 * n, "update": n, "time": 1.0, "kind": "train", "mean_return": 9.0} for n in (1, 2)]
    (run / "config.json").write_text(json.dumps({"config": config}))
    (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    commands = ["list runs", "list pretrained", "list presets", "plot runs/one pretrained/pong-ppo", "repro --help"]
    code = """
import sys
from asyncrl.cli import main
for command in sys.argv[1:]:
    print(command, main(command.split()), "torch" in sys.modules, file=sys.stderr)
"""
    finished = subprocess.run([sys.executable, "-c", code, *commands], cwd=tmp_path, capture_output=True, text=True)
    assert finished.stderr.splitlines() == [f"{command} 0 False" for command in commands]


def test_training_imports_neither_the_compiler_of_torch_nor_the_plugins_of_tensorboard(tmp_path: Path) -> None:
    """They take more than a second and 0.15 s, and nothing is compiled or shown."""
    words = [
        "train",
        "a3c",
        "CartPole-v1",
        "--engine",
        "serial",
        "--steps",
        "320",
        "--quiet",
        "--run-dir",
        str(tmp_path / "run"),
    ]
    unneeded = {"torch._dynamo", "tensorboard.summary", "boto3", "fsspec"}
    code = f"import sys; from asyncrl.cli import main; sys.exit(main({words}) or str({unneeded} & sys.modules.keys()))"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert finished.stderr == "set()\n"


def test_the_outline_of_a_network_does_not_import_the_compiler_of_torch() -> None:
    """A run notes the number of its parameters before its first update."""
    code = """
import sys
from torch import float32
from asyncrl.algorithms import ALGORITHMS, network_outline
from asyncrl.envs.spaces import Actions, Spaces
from asyncrl.networks import NetworkConfig
for network in ("a3c-cnn", "nature-cnn", "padded-cnn", "same-cnn", "impala-resnet"):
    images = Spaces((4, 84, 84), "uint8", Actions((6,), (0,)))
    network_outline(ALGORITHMS["a3c"](), NetworkConfig(network=network), images, float32)
for algorithm in ALGORITHMS.values():
    network_outline(algorithm(), algorithm.network_config, Spaces((4,), "float32", Actions((6,), (0,))), float32)
sys.exit("sympy" in sys.modules or "torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_command_collects_garbage_but_not_among_its_modules() -> None:
    code = """
import gc, sys
from asyncrl import cli
from asyncrl.cli import list
list.run = lambda words: print(gc.isenabled(), gc.get_freeze_count() > 0) or 0
sys.argv = ["asyncrl", "list"]
cli.run_and_exit()
"""
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert finished.stdout == "True True\n", finished.stderr


def test_the_live_page_is_served_without_torch() -> None:
    """The page is there two seconds sooner, and its process is smaller."""
    pytest.importorskip("starlette", reason="pip install 'asyncrl[watch]'")
    code = "import sys, asyncrl.cli.watch, asyncrl.dashboard.app; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
