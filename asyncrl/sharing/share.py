"""Writes the folder of an agent that others can load, and uploads it."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from asyncrl.agents.agent import Agent, load
from asyncrl.agents.export import export
from asyncrl.agents.playing import evaluate, play
from asyncrl.common.folders import new_folders
from asyncrl.common.os_errors import name_target
from asyncrl.common.serialization import json_text, to_json, write_atomically
from asyncrl.common.validation import as_path
from asyncrl.envs import Contract, EnvSource, env_id_of
from asyncrl.errors import EnvironmentFault, UsageError
from asyncrl.runs.checkpoints import checkpoint
from asyncrl.runs.config.run_config import RunConfig
from asyncrl.runs.remote.hub import PREFIX, check_repository_name, hub_errors, import_hub
from asyncrl.runs.run import Run
from asyncrl.sharing.card import CURVE, ONNX, VIDEO, model_card
from asyncrl.version import __version__

__all__ = ["Shared", "share", "upload"]

_VIDEO_STEPS = 3_000


@dataclass(frozen=True)
class Shared:
    """The folder of a shared agent."""

    folder: Path
    files: Mapping[str, int]
    """Bytes by path in the folder."""
    missing: tuple[str, ...]
    """Sentences on what it could not get."""


def share(
    run: Agent | Run | Path | str,
    folder: Path | str,
    *,
    episodes: int = 30,
    seed: int = 1,
    greedy: bool | None = None,
    env: EnvSource | None = None,
    video: bool = True,
    onnx: bool = False,
    name: str | None = None,
    trust: bool = False,
    progress: bool | None = None,
) -> Shared:
    """Write an agent, the best one of a run, into a new folder, from which `load`, `evaluate` and `play` take it.

    It has the weights and settings, a model card README.md as the Hugging Face Hub shows it, with the score of an
    evaluation, the metrics of training without single episodes, a video and, with matplotlib, the learning curve.

    Args:
        run: A run, the folder of a run or a checkpoint, an agent, or the name of a pretrained agent.
        folder: The folder, which must be new or empty.
        episodes: Number of episodes of the evaluation.
        seed: Seed of the evaluation and of a recorded video.
        greedy: Evaluate the most probable actions; False samples them, None does as the run's evaluations.
        env: The environment, if the agent was trained in several.
        video: Take the run's video of this agent, or record one.
        onnx: Add the agent as an ONNX model, as `export` writes it.
        name: USER/NAME of the repository on the Hub, for the commands on the card.
        trust: Run code that the folder names even if someone else made the folder.
        progress: Whether to show the evaluation's progress; None shows it in a terminal or a notebook.

    Returns:
        The folder, its files with their sizes in bytes, and what it could not get.

    Raises:
        UsageError: If the folder is not empty, or the agent cannot be evaluated.
    """
    if name is not None:
        check_repository_name(name, name)
    target = as_path("folder", folder).absolute()  # an environment may change the working directory
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{folder} is not empty; name a new folder")
    agent = run if isinstance(run, Agent) else load(run, trust=trust)
    chosen = agent.contract.named(None if env is None else env_id_of(env))
    with _built(target) as inside:
        _copy_checkpoint(agent, inside)
        played = evaluate(agent, episodes, seed, greedy=greedy, env=chosen.env, progress=progress)
        missing = [*_add_video(agent, inside, seed, greedy, chosen.env)] if video else []
        missing += _add_curve(agent, inside)
        if onnx:
            export(agent, inside / ONNX, env=chosen.env)
        files = {path.relative_to(inside).as_posix() for path in inside.rglob("*") if path.is_file()}
        config = _without_paths(agent.checkpoint.config)
        card = model_card(
            agent.checkpoint,
            config,
            chosen,
            played,
            seed=seed,
            greedy=agent.resolve_greedy(greedy),
            name=name or target.name,
            files=files,
        )
        write_atomically(inside / "README.md", card)
    sizes = {path.relative_to(target).as_posix(): path.stat().st_size for path in target.rglob("*") if path.is_file()}
    return Shared(Path(os.path.relpath(target)), dict(sorted(sizes.items())), tuple(missing))


def upload(shared: Shared, name: str, *, private: bool = False) -> str:
    """Upload a shared agent to the repository USER/NAME on the Hugging Face Hub, which is created. Returns its address.

    Raises UsageError if huggingface_hub is missing, the user is not logged in, or the Hub refuses.
    """
    check_repository_name(name, name)
    hub = import_hub()
    with hub_errors(f"{PREFIX}{name}"):
        api = hub.HfApi(library_name="asyncrl", library_version=__version__)
        api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=shared.folder, commit_message="Upload an agent of asyncrl")
    return f"{api.endpoint}/{name}"


@contextlib.contextmanager
def _built(target: Path) -> Iterator[Path]:
    """Yield a folder that becomes `target` at the end of the block, and is removed if the block raises."""
    beside = target.with_name(f".{target.name}.tmp")
    with name_target(target, beside):
        if beside.is_symlink() or beside.is_file():
            beside.unlink()
    shutil.rmtree(beside, ignore_errors=True)
    with new_folders(beside.parent), name_target(target, beside):
        try:
            yield beside
            if target.is_dir():
                target.rmdir()  # it is empty
            os.replace(beside, target)
        finally:
            shutil.rmtree(beside, ignore_errors=True)


def _copy_checkpoint(agent: Agent, folder: Path) -> None:
    """Write the weights, the manifest without paths of this machine, and the metrics without single episodes."""
    saved = agent.checkpoint
    checkpoint.export(saved, folder)
    config, contract = _without_paths(saved.config), _without_capsules(saved.contract)
    if (config, contract) != (saved.config, saved.contract):
        copied = replace(saved, path=folder)
        checkpoint.amend(copied, config=config.to_json(), contract=to_json(contract))
    records = [json_text(record) for record in _run_of(agent).records() if record["kind"] != "episode"]
    if records:
        write_atomically(folder / "metrics.jsonl", "\n".join(records) + "\n")


def _without_paths(config: RunConfig) -> RunConfig:
    """Return the configuration without places of its author: names instead of paths, no storage and no cluster."""
    start, bot = config.init_from, config.bots.bot
    supervision = replace(config.environment.supervision, capsules=None)
    return replace(
        config,
        init_from=start and _name_of(start),
        storage=None,
        ray_address=None,
        bots=replace(config.bots, bot=bot and _name_of(bot)),
        environment=replace(config.environment, supervision=supervision),
    )


def _name_of(path: str) -> str:
    return Path(path).name if Path(path).is_absolute() else path


def _without_capsules(contract: Contract) -> Contract:
    """Return the contract without a folder of this machine for crash capsules."""
    others = tuple(map(_without_capsules, contract.others))
    return replace(contract, supervision=replace(contract.supervision, capsules=None), others=others)


def _add_video(agent: Agent, folder: Path, seed: int, greedy: bool | None, env: str) -> Iterator[str]:
    """Add a video of an episode; yield why there is none."""
    recorded = _run_of(agent).path / "videos" / f"{agent.checkpoint.path.name}.mp4"
    plays_so = env == agent.contract.env and agent.resolve_greedy(greedy) == agent.resolve_greedy(None)
    if plays_so and recorded.is_file():
        shutil.copyfile(recorded, folder / VIDEO)
        return
    try:
        play(agent, 1, seed, video=folder / VIDEO, greedy=greedy, env=env, max_steps=_VIDEO_STEPS)
    except (UsageError, EnvironmentFault) as problem:
        yield f"there is no video: {problem}"


def _add_curve(agent: Agent, folder: Path) -> list[str]:
    """Draw the learning curve; return why there is none."""
    run = _run_of(agent).path
    if not (run / "config.json").is_file():
        return []  # only the agent is left of the run
    if importlib.util.find_spec("matplotlib") is None:
        return ["there is no learning curve, which needs matplotlib: pip install 'asyncrl[plot]'"]
    from asyncrl.plots import plot

    try:
        plot(run, out=folder / CURVE)
    except UsageError as problem:
        return [f"there is no learning curve: {problem}"]
    return []


def _run_of(agent: Agent) -> Run:
    """The run of an agent; for one without a run, the folder of its checkpoint, which may have metrics."""
    path: Any = agent.checkpoint.path
    return Run(path.parent.parent if path.parent.name == "checkpoints" else path)
