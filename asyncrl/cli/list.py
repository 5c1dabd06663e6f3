"""asyncrl list algorithms|envs|presets|networks|pretrained"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from asyncrl.cli.options import parse


class What(Enum):
    ALGORITHMS = "algorithms"
    ENVS = "envs"
    PRESETS = "presets"
    NETWORKS = "networks"
    PRETRAINED = "pretrained"


@dataclass(frozen=True)
class Arguments:
    what: What
    """What to list."""


def run(arguments: Sequence[str]) -> int:
    asked = parse(Arguments, "list", arguments, "List what there is.")
    for line in _lines(asked.what):
        print(line)
    return 0


def _lines(what: What) -> list[str]:
    match what:
        case What.ALGORITHMS:
            from asyncrl.algorithms import ALGORITHMS

            return [f"{name:<16}{cls.summary}" for name, cls in ALGORITHMS.items()]
        case What.ENVS:
            from asyncrl.envs import known_ids

            return known_ids()
        case What.PRESETS:
            from asyncrl.presets import preset_names

            return [line for name in preset_names() for line in _preset(name)]
        case What.NETWORKS:
            from asyncrl.networks import DESCRIPTIONS

            return [f"{network.value:<16}{text}" for network, text in DESCRIPTIONS.items()]
        case What.PRETRAINED:
            from asyncrl.run import pretrained_names

            return pretrained_names()


def _preset(name: str) -> list[str]:
    from asyncrl.presets import read_preset

    preset = read_preset(name)
    notes = [f"{'':<30}{key}: {preset[key]}" for key in ("source", "deviations") if key in preset]
    return [f"{name:<30}{preset['description']}", *notes]
