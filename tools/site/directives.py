"""Comments in a page that are replaced by text made from the source code and the results.

<!-- code: asyncrl/algorithms/a3c.py A3C.loss -->   functions, classes or methods of a file
<!-- options: a3c -->                               options of an algorithm, from its dataclass
<!-- presets: a3c -->                               presets of an algorithm; `*` for all
<!-- results: learning-a3c-CartPole-v1.json -->     scores in benchmarks/results; with words: of commands that have them
<!-- curve: TITLE | NAME = FILE.jsonl, … -->        learning curves of benchmarks/results
<!-- algorithms -->                                 all algorithms
<!-- help: train -->                                `asyncrl train --help-all`
<!-- public names -->                               the API reference of `asyncrl.__all__`
"""

from __future__ import annotations

import ast
import contextlib
import functools
import io
import json
import os
import re
import shlex
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any

from curves import drawing
from sources import ROOT

RESULTS = ROOT / "benchmarks" / "results"
DIRECTIVE = re.compile(
    r"^<!-- (code|options|presets|results|curve|algorithms|commands|public names)(?:: (.*?))? -->$", re.M
)


def expand(text: str) -> str:
    """`text` with its directives replaced."""
    return DIRECTIVE.sub(lambda found: _cached(found[1], found[2] or ""), text)


@functools.cache
def _cached(name: str, value: str) -> str:
    return _DIRECTIVES[name](value)


def code(value: str) -> str:
    """Parts of a source file, under the file's name."""
    path, *names = value.split()
    text = (ROOT / path).read_text(encoding="utf-8")
    parts = [textwrap.dedent(source_of(text, name)) for name in names]
    return f'```python title="{path}"\n' + "\n\n".join(parts) + "\n```"


def source_of(text: str, name: str) -> str:
    """The source of a function, class or method `C.f` in the module `text`, without the docstring of a function."""
    body: list[ast.stmt] = ast.parse(text).body
    found: ast.stmt | None = None
    for part in name.split("."):
        named = [n for n in body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == part]
        if not named:
            raise LookupError(f"there is no {name}")
        found, body = named[0], named[0].body
    assert isinstance(found, ast.FunctionDef | ast.ClassDef)
    lines = text.splitlines()
    start = min([found.lineno, *(d.lineno for d in found.decorator_list)])
    chosen = set(range(start, (found.end_lineno or 0) + 1))
    first = found.body[0]
    if isinstance(found, ast.FunctionDef) and ast.get_docstring(found) and len(found.body) > 1:
        chosen -= set(range(first.lineno, (first.end_lineno or 0) + 1))
    return "\n".join(lines[number - 1] for number in sorted(chosen))


def options(value: str) -> str:
    """Tables of an algorithm's options: its own, and those that it shares with others folded away."""
    from asyncrl.algorithms import ALGORITHMS
    from asyncrl.cli.options import options_of

    found = options_of(ALGORITHMS[value]())
    titles = {"exploration": "Exploration", "replay": "Replay buffer", "sequences": "Replay of sequences (`--recurrent`)"}
    titles["munchausen_targets"] = "Munchausen targets"
    parts = [_option_table(option for option in found if option.section == "options")]
    for section, title in titles.items():
        rows = [option for option in found if option.section == section]
        if rows:
            parts.append(f'??? quiet "{title}"\n\n' + textwrap.indent(_option_table(rows), "    "))
    for title, part in (("Optimizer", ALGORITHMS[value].optimizer), ("Network", ALGORITHMS[value].network_config)):
        parts.append(f'??? quiet "{title}"\n\n' + textwrap.indent(_option_table(options_of(part)), "    "))
    return "\n\n".join(parts)


def _option_table(rows: Iterable[Any]) -> str:
    lines = ["| option | default | meaning |", "|---|---|---|"]
    for option in rows:
        text = " ".join(option.help.split()).replace("|", "\\|").replace("$", "\\$")
        kind = option.type
        values = (
            f" One of {', '.join(f'`{m.value}`' for m in kind)}."
            if isinstance(kind, type) and issubclass(kind, Enum)
            else ""
        )
        lines.append(f"| `--{option.name.replace('_', '-')}` | {_shown(option.default)} | {text}{values} |")
    return "\n".join(lines)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None or value == "" or value == ():
        return ""
    if isinstance(value, Enum):
        return f"`{value.value}`"
    if isinstance(value, tuple):
        return "`" + " ".join(f"{item:g}" if isinstance(item, float) else str(item) for item in value) + "`"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:g}" if isinstance(value, float) else f"`{value}`"


def presets(value: str) -> str:
    """The presets of an algorithm, each with its settings folded away."""
    from asyncrl.presets import preset_names, read_preset

    found = {name: read_preset(name) for name in preset_names()}
    if value == "rainbow/atari":
        found = {value: found[value]}
    elif value != "*":
        found = {name: preset for name, preset in found.items() if preset["algorithm"]["name"] == value}
    return "\n\n".join(_preset(name, preset) for name, preset in found.items())


def _preset(name: str, preset: dict[str, Any]) -> str:
    chosen = [f"`{pattern}`" for pattern in preset.get("environments", ())]
    chosen += [f"any environment with {kind}" for kind in _kinds(preset.get("kinds", ()))]
    text = [f"Used by itself in {', '.join(chosen)}." if chosen else f"Used with `--preset {name}`."]
    text += [f"Source: {preset['source']}."] if "source" in preset else []
    text += [f"Deviations: {preset['deviations']}."] if "deviations" in preset else []
    toml = (ROOT / "asyncrl" / "presets" / f"{name}.toml").read_text(encoding="utf-8")
    settings = toml[toml.index("\n[") + 1 :]
    block = f"{' '.join(text)}\n\n```toml\n{settings}```"
    title = f"`{name}`: {preset['description']}".replace('"', "'")
    return f'??? quiet "{title}"\n\n' + textwrap.indent(block, "    ")


def _kinds(kinds: Iterable[str]) -> list[str]:
    words = {"discrete": "numbers and discrete actions", "continuous": "numbers and continuous actions"}
    return [words.get(kind, kind) for kind in kinds]


def results(value: str) -> str:
    """A table of the scores in a file of benchmarks/results, and the command that made them."""
    file, *words = shlex.split(value)
    text = (RESULTS / file).read_text(encoding="utf-8")
    if file.endswith(".jsonl"):
        records = [json.loads(line) for line in text.splitlines()]
        return _by_seed(records, words) if words else _evaluations(records)
    result = json.loads(text)
    has_best = any("kept" in row for row in result["runs"])
    best = " best agent |" if has_best else ""
    lines = [f"| seed | steps | mean return |{best} IQM with its 95 % interval | training |"]
    lines.append("|---|---|---|---|---|" + "---|" * has_best)
    for row in result["runs"]:
        low, high = row["iqm_interval"]
        kept = f" {row.get('kept', row['mean']):.1f} |" if has_best else ""
        lines.append(
            f"| {row['seed']} | {row['step']:,} | {row['mean']:.1f} |{kept} {row['iqm']:.1f} [{low:.1f}, {high:.1f}] | "
            f"{row['training_seconds']:.0f} s |"
        )
    machine = result["machine"]
    note = f"`python {result['command']}`, {machine['cores']} cores ({machine['cpu']}), 100 episodes per seed."
    return "\n".join([*lines, "", note])


def _by_seed(records: list[dict[str, Any]], words: list[str]) -> str:
    """A table of the commands that begin with `words`, with the scores of all seeds in a row."""
    start = " ".join(["asyncrl train", *words])
    groups: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        if record["command"].startswith(f"{start} --seed"):
            options = re.sub(r" --(seed|engine|learner-threads) \w+", "", record["command"].removeprefix(start))
            groups.setdefault(options.strip(), []).append(record)
    if not groups:
        raise LookupError(f"no command begins with {start!r}")
    has_best = any("kept" in record for group in groups.values() for record in group)
    lines = [f"| `{start}` | steps | seeds | last agent |" + " best agent |" * has_best + " training |"]
    lines.append("|---|---|---|---|---|" + "---|" * has_best)
    for options, group in groups.items():
        last = _list([record["mean"] for record in group])
        best = f" {_list([record.get('kept', record['mean']) for record in group])} |" if has_best else ""
        times = sorted(record["training_seconds"] for record in group)
        name = f"`{options}`" if options else "the preset"
        lines.append(
            f"| {name} | {group[0]['step']:,} | {len(group)} | {last} |{best} {times[0]:.0f} … {times[-1]:.0f} s |"
        )
    return "\n".join(lines)


def _evaluations(records: list[dict[str, Any]]) -> str:
    """A table of the evaluations of one run, and its command."""
    lines = ["| steps | mean return | IQM, 95 % interval | episodes |", "|---|---|---|---|"]
    for record in records:
        if record["kind"] == "eval":
            low, high = record["iqm_interval"]
            interval = f"[{low:.1f}, {high:.1f}]"
            lines.append(
                f"| {record['step']:,} | {record['mean']:.1f} | {interval} | {record['episodes']} {record['mode']} |"
            )
    return "\n".join([*lines, "", f"`{records[0]['command']}`"])


def _list(scores: list[float]) -> str:
    """Scores from high to low; one that occurs several times is counted."""
    counts = Counter(f"{score:.1f}" for score in sorted(scores, reverse=True))
    return ", ".join(f"{score} × {count}" if count > 1 else score for score, count in counts.items())


def curve(value: str) -> str:
    """A drawing of learning curves: mean return of the last 100 training episodes, and evaluations as dots."""
    title, _, files = value.partition(" | ")
    lines, dots = {}, {}
    for item in files.split(", "):
        name, _, file = item.partition(" = ")
        records = [json.loads(line) for line in (ROOT / file).read_text(encoding="utf-8").splitlines()]
        train = [r for r in records if r.get("kind") == "train" and r["mean_return"] is not None]
        lines[name] = [(r["step"], r["mean_return"]) for r in train]
        dots[name] = [(r["step"], r["mean"]) for r in records if r.get("kind") == "eval"]
    caption = f"{title}; dots are evaluations" if any(dots.values()) else title
    return drawing(caption, lines, dots)


def algorithms(_: str) -> str:
    """A table of all algorithms, with links to their pages."""
    from asyncrl.algorithms import ALGORITHMS

    lines = ["| algorithm | |", "|---|---|"]
    for name, cls in ALGORITHMS.items():
        page = ROOT / "docs" / "algorithms" / f"{name}.md"
        shown = f"[`{name}`]({name}.md)" if page.exists() else f"`{name}`"
        lines.append(f"| {shown} | {cls.summary} |")
    return "\n".join(lines)


def commands(_: str) -> str:
    """All commands with their whole help."""
    from asyncrl.cli import COMMANDS, main

    os.environ["COLUMNS"] = "100"
    parts = []
    for name in COMMANDS:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            main([name, "--help-all"])
        parts.append(f"## asyncrl {name}\n\n```text\n{printed.getvalue().strip()}\n```")
    return "\n\n".join(parts)


def public_names(_: str) -> str:
    """The public names of `asyncrl` by kind, for mkdocstrings."""
    import asyncrl

    groups: dict[str, list[str]] = {"Functions": [], "Classes": [], "Errors and warnings": []}
    for name in asyncrl.__all__:
        value = getattr(asyncrl, name)
        if isinstance(value, str):
            continue
        is_error = isinstance(value, type) and issubclass(value, Exception)
        kind = "Errors and warnings" if is_error else "Classes" if isinstance(value, type) else "Functions"
        groups[kind].append(f"::: {value.__module__}.{value.__qualname__}")
    return "\n\n".join(f"## {title}\n\n" + "\n\n".join(names) for title, names in groups.items())


_DIRECTIVES: dict[str, Callable[[str], str]] = {
    "code": code,
    "options": options,
    "presets": presets,
    "results": results,
    "curve": curve,
    "algorithms": algorithms,
    "commands": commands,
    "public names": public_names,
}
