"""asyncrl share RUN DIR"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from asyncrl.api import share
from asyncrl.cli.options import greedy_or_sample, parse
from asyncrl.common.quoting import quoted
from asyncrl.errors import UsageError
from asyncrl.runs.remote.hub import PREFIX, check_repository_name, import_hub
from asyncrl.sharing import Shared, upload

_ABOUT = "Write an agent with a model card, a video and its learning curve into a folder, for the Hugging Face Hub."
BASIC = {"Options": ("episodes", "seed", "greedy", "sample", "video", "onnx", "env", "upload", "private", "trust")}
"""Options of the short help, by section."""


@dataclass(frozen=True)
class Arguments:
    run: str
    """Run folder (its best checkpoint, or RUN/latest), checkpoint folder, pretrained agent (asyncrl list pretrained), or
    hf:USER/NAME on the Hugging Face Hub."""
    folder: Path
    """New folder."""
    episodes: int = 30
    """Episodes of the evaluation that the card reports."""
    seed: int = 1
    """Seed of the evaluation."""
    greedy: bool = False
    """Evaluate the most probable actions. Without --greedy and --sample: as the run was evaluated."""
    sample: bool = False
    """Evaluate actions sampled from the policy."""
    env: str | None = None
    """One of the environments that the agent was trained in. Default: the first."""
    video: bool = True
    """Add a video of an episode; --no-video leaves it out."""
    onnx: bool = False
    """Add the agent as an ONNX model."""
    upload: str | None = None
    """USER/NAME: upload the folder to this repository of the Hub, where `asyncrl play hf:USER/NAME` finds it."""
    private: bool = False
    """With --upload: let only you see a repository that is created."""
    trust: bool = False
    """Run code that the folder names even if someone else made the folder."""


def run(arguments: Sequence[str]) -> int:
    asked = parse(Arguments, "share", arguments, _ABOUT, BASIC)
    if asked.upload is not None:
        check_repository_name(asked.upload, f"--upload {asked.upload}")
        import_hub()
    elif asked.private:
        raise UsageError("--private has no effect without --upload USER/NAME")
    shared = share(
        asked.run,
        asked.folder,
        episodes=asked.episodes,
        seed=asked.seed,
        greedy=greedy_or_sample(asked.greedy, asked.sample),
        env=asked.env,
        video=asked.video,
        onnx=asked.onnx,
        name=asked.upload,
        trust=asked.trust,
    )
    print(*_lines(shared), sep="\n", flush=True)
    if asked.upload is None:
        print(f"upload it with: hf upload USER/NAME {quoted(shared.folder)}")
        return 0
    total = sum(shared.files.values())
    print(f"uploading these {len(shared.files)} files, {total:,} bytes, to {PREFIX}{asked.upload}", flush=True)
    print(upload(shared, asked.upload, private=asked.private))
    return 0


def _lines(shared: Shared) -> list[str]:
    files = [f"{size:>12,} bytes  {shared.folder / name}" for name, size in shared.files.items()]
    return [*files, *shared.missing]
