"""asyncrl train --remote-learner: the command itself on a node of the Ray cluster of --engine ray."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from asyncrl.cli.options import relative
from asyncrl.cli.train_options import Output
from asyncrl.cluster.connection import check_nodes, connect, nodes
from asyncrl.cluster.learner import run_on_a_node
from asyncrl.common.signals import handle_stop_signals
from asyncrl.errors import UsageError
from asyncrl.launch import check
from asyncrl.runs.config.run_config import Device, EngineKind, RunConfig
from asyncrl.runs.config.settings_file import settings_text
from asyncrl.runs.new_run import run_name
from asyncrl.runs.remote.folder import RemoteFolder, is_url, remote_errors
from asyncrl.runs.remote.run_copy import check_vacant, pull
from asyncrl.runs.run import Run

__all__ = ["train_remotely"]

_SETTINGS = "settings.toml"


def train_remotely(config: RunConfig, asked: Collection[str], output: Output, home: Path) -> int:
    """Train with the learner on another node, and copy the run from its storage into its run folder at the end.

    Raises UsageError for settings that are impossible, as in this process, and without a cluster or a storage.
    """
    _check(config, output)
    given, contract = check(replace(config, device=Device.AUTO), asked=asked, home=home)
    assert given.storage is not None
    path = home / ("runs" if output.run_dir is None else output.run_dir)
    run = Run((path / run_name(given) if output.run_dir is None else path).absolute())
    remote = RemoteFolder(given.storage) / run.path.name
    if run.path.exists():
        raise UsageError(f"{run.path} exists; choose another --run-dir")
    check_vacant(remote)
    words = ["--trust", "--no-video", *(["--quiet"] * output.quiet)]

    with connect(given.ray_address), handle_stop_signals() as stop:
        check_nodes()
        gpus = config.device is Device.CUDA or (config.device is Device.AUTO and any(node.gpus >= 1 for node in nodes()))
        text = settings_text(replace(given, ray_address="auto"), contract)
        begin = ["--config", _SETTINGS, "--run-dir", f"runs/{run.path.name}"]
        begin += ["--device", "cuda", "--precision", config.precision.value] if gpus else []

        def command() -> list[str]:
            with remote_errors(f"{remote.url} cannot be read"):
                return ["train", *(["--resume", _url(remote)] if remote.has("config.json") else begin), *words]

        say = _say if not output.quiet else lambda sentence: None
        code = run_on_a_node(command, {_SETTINGS: text}, num_gpus=int(gpus), show=_show, say=say, stop=stop)
    if code in (0, 1, 130) and remote.has("config.json"):
        pull(remote, run, replay=True)
        print(f"copied from {remote.url} to: {relative(run.path)}")
    return code


def _check(config: RunConfig, output: Output) -> None:
    """Raise UsageError for settings that a learner on another node has no use for, or that it lacks."""
    if config.engine is not EngineKind.RAY:
        raise UsageError("--remote-learner has no effect without --engine ray")
    if config.ray_address is None:
        raise UsageError("--remote-learner needs a cluster: --ray-address auto, or HOST:PORT")
    if config.storage is None:
        raise UsageError(
            "--remote-learner needs --storage URL: if the learner's node is lost, the run continues from there"
        )
    for option, is_given in (("watch", output.watch), ("seeds", output.seeds is not None), ("on-ray", output.on_ray)):
        if is_given:
            raise UsageError(f"--{option} needs the learner in this process: leave out --remote-learner")


def _url(remote: RemoteFolder) -> str:
    """The URL of a folder: a path would be resumed in its place."""
    return remote.url if is_url(remote.url) else Path(remote.url).as_uri()


def _show(out: bytes, errors: bytes) -> None:
    for stream, text in ((sys.stdout, out), (sys.stderr, errors)):
        if text:
            stream.write(text.decode(errors="replace"))
            stream.flush()


def _say(sentence: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {sentence}", file=sys.stderr, flush=True)
