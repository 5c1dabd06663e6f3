"""The model card of a shared agent: README.md with the metadata that the Hugging Face Hub reads."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from asyncrl.agents.evaluation import Evaluation
from asyncrl.common.quoting import quoted
from asyncrl.common.statistics import summarize
from asyncrl.envs import Contract, contract_lines
from asyncrl.envs.contract import named_outside
from asyncrl.envs.registry import family_named
from asyncrl.runs.checkpoints.checkpoint import Checkpoint
from asyncrl.runs.config.run_config import RunConfig
from asyncrl.runs.config.settings_file import settings_text
from asyncrl.runs.remote.hub import PREFIX
from asyncrl.version import __version__

__all__ = ["CURVE", "ONNX", "VIDEO", "model_card"]

VIDEO, CURVE, ONNX = "replay.mp4", "learning_curve.png", "onnx"
"""Files of the folder; the Hub shows a file of the name replay.mp4 above the card."""


def model_card(
    saved: Checkpoint,
    config: RunConfig,
    contract: Contract,
    played: Evaluation,
    *,
    seed: int,
    greedy: bool,
    name: str,
    files: Collection[str],
) -> str:
    """Return the text of the card.

    `played` is the evaluation with `seed` and `greedy`; `name` is USER/NAME or the folder's; `files` are those in the
    folder, which decide what the card mentions.
    """
    facts = summarize(list(played.returns))
    algorithm, source = config.algorithm.name, f"{PREFIX}{name}" if "/" in name else name
    low, high = facts["iqm_interval"]
    parts = [
        _front_matter(algorithm, contract.env, facts),
        f"# {algorithm} on {contract.env}\n",
        f"An agent trained with asyncrl {saved.asyncrl} for {saved.step:,} steps.\n",
        "| mean return | standard deviation | median | interquartile mean | 95 % interval of it | episodes |",
        "|---|---|---|---|---|---|",
        f"| {facts['mean']:.2f} | {facts['std']:.2f} | {facts['median']:.2f} | {facts['iqm']:.2f} | {low:.2f} … {high:.2f} "
        f"(bootstrap over episodes) | {facts['episodes']} |\n",
        f"Actions were {'the most probable ones' if greedy else 'sampled from the policy'}; the seed was {seed}.\n",
    ]
    if VIDEO in files:
        parts.append(f'<video controls src="{VIDEO}" width="480"></video>\n')
    if CURVE in files:
        parts.append(f"![Learning curve]({CURVE})\n")
    parts.append(_usage(source, contract, _trust(config.named_outside(), contract)))
    if f"{ONNX}/policy.onnx" in files:
        parts.append(
            f"`{ONNX}/policy.onnx` is the same agent for onnxruntime; `{ONNX}/contract.json` says how to use it.\n"
        )
    rows = "\n".join(contract_lines(contract))
    parts += ["## Environment\n", _fenced(rows), "Scores are comparable if all of this is the same.\n"]
    parts += [
        "## Training\n",
        "Save this as `settings.toml` to train such an agent: `asyncrl train --config settings.toml`.\n",
    ]
    parts.append(_fenced(settings_text(config, saved.contract, config), "toml"))
    parts.append(f"`weights_sha256` {saved.weights_sha256}; card written by asyncrl {__version__}.\n")
    return "\n".join(parts)


def _front_matter(algorithm: str, env: str, facts: Mapping[str, Any]) -> str:
    """Return the metadata: YAML, of which JSON is a part."""
    metric = {"type": "mean_reward", "name": "mean_reward", "value": f"{facts['mean']:.2f} +/- {facts['std']:.2f}"}
    task = {"type": "reinforcement-learning", "name": "reinforcement-learning"}
    result = {"task": task, "dataset": {"name": env, "type": env}, "metrics": [metric | {"verified": False}]}
    fields = {
        "library_name": "asyncrl",
        "pipeline_tag": "reinforcement-learning",
        "tags": [env, "reinforcement-learning", "deep-reinforcement-learning", algorithm],
        "model-index": [{"name": algorithm, "results": [result]}],
    }
    lines = [f"{field}: {json.dumps(value, ensure_ascii=False)}" for field, value in fields.items()]
    return "\n".join(["---", *lines, "---", ""])


def _usage(source: str, contract: Contract, trust: str) -> str:
    commands = [f"asyncrl play {quoted(source)}{trust}", f"asyncrl evaluate {quoted(source)} --episodes 30{trust}"]
    more = ", trust=True" if trust else ""
    program = ["import asyncrl", "", f'agent = asyncrl.load("{source}"{more})', "action = agent.act(observation)"]
    needed = [extra for one in contract.contracts for extra in family_named(one.family).extras(one)]
    extras = [*dict.fromkeys(needed), *["share"] * source.startswith(PREFIX)]
    install = f"pip install 'asyncrl[{','.join(extras)}]'" if extras else "pip install asyncrl"
    warning = "It names code of its author, which runs only with `--trust`.\n\n" if trust else ""
    return f"## Use\n\n{warning}" + _fenced("\n".join([install, *commands]), "sh") + _fenced("\n".join(program), "python")


def _trust(named: list[str], contract: Contract) -> str:
    """Return the option that strangers need if the agent names code from outside asyncrl and Gymnasium."""
    settings = contract.settings
    imports, kwargs = (settings.get(key) or {} for key in ("imports", "kwargs"))
    outside = named_outside([contract.env], imports, kwargs, contract.supervision.capsules)
    return " --trust" if named or outside else ""


def _fenced(text: str, language: str = "") -> str:
    """Return a block of code, which the text cannot end."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text.strip()}\n{fence}\n"
