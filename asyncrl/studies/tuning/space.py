"""The settings that a tuning study searches, and their values in Optuna's storage."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin, get_type_hints

from asyncrl.algorithms import Random
from asyncrl.common.search_space import Choices, Range
from asyncrl.common.validation import flag
from asyncrl.envs import Contract
from asyncrl.errors import UsageError, continued, suggestions
from asyncrl.runs.config.option_checks import ineffective, reject_ineffective
from asyncrl.runs.config.resolution import resolve
from asyncrl.runs.config.run_config import RunConfig
from asyncrl.runs.config.settings import leaves

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

__all__ = ["Dimension", "search_space"]


@dataclass(frozen=True)
class Dimension:
    """A setting that is searched."""

    name: str
    space: Range | Choices
    is_whole: bool
    """Whether its values are whole numbers."""
    default: Any
    """The value that the study starts from."""

    def distribution(self) -> BaseDistribution:
        """The space as Optuna writes it."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if isinstance(self.space, Choices):
            return CategoricalDistribution([stored(value) for value in self.space.values])
        if self.is_whole:
            return IntDistribution(round(self.space.low), round(self.space.high), log=self.space.log)
        return FloatDistribution(self.space.low, self.space.high, log=self.space.log)

    def value(self, found: Any) -> Any:
        """The setting's value, given the one that Optuna stores."""
        if isinstance(self.space, Choices):
            return next(value for value in self.space.values if stored(value) == found)
        return int(found) if self.is_whole else float(found)

    @property
    def start(self) -> Any:
        """The default as Optuna stores it; the end of the range if the default is outside."""
        if isinstance(self.space, Range):
            return min(max(self.default, self.space.low), self.space.high)
        return stored(self.default)


def stored(value: Any) -> Any:
    """A value in Optuna's storage, which takes numbers, text, truth values and None."""
    if isinstance(value, Enum):
        return value.value
    return " ".join(map(str, value)) if isinstance(value, tuple) else value


def search_space(
    config: RunConfig, contract: Contract, *, fixed: Collection[str], names: Collection[str] = ()
) -> dict[str, Dimension]:
    """The dimensions of a study of `config`, by name: the settings with a space that have an effect and are not `fixed`.

    Spaces include the values of `config`. `names` are those to search; () stands for all.
    Raises UsageError for names without a space or without effect, and if nothing is left to search.
    """
    if isinstance(config.algorithm, Random):
        raise UsageError("random learns nothing, so there is nothing to tune")
    known = dict(_annotated(config))
    for name in names:
        if name not in known:
            every = leaves(config)
            why = "has no search space" if name in every else "does not exist"
            sentence = f"--search: the setting {name!r} {why}{suggestions(name, known)}"
            raise UsageError(continued(sentence, f"there are {', '.join(known)}"))
        if name in fixed:
            raise UsageError(f"{flag(name)} is given a value, so --search {name} cannot vary it; leave out one of them")
    if names:
        reject_ineffective(config, contract, names)
    without = {*fixed, *ineffective(config, resolve(config, contract), contract)}
    chosen = {name: known[name] for name in names or known if name not in without}
    if not chosen:
        raise UsageError(f"{config.algorithm.name} has nothing to search: none of its settings has a search space")
    return chosen


def _annotated(options: Any) -> Iterator[tuple[str, Dimension]]:
    """The settings with a search space in a dataclass and in those nested in it."""
    hints: Mapping[str, Any] = get_type_hints(type(options), include_extras=True)
    for field in dataclasses.fields(options):
        value, hint = getattr(options, field.name), hints[field.name]
        if dataclasses.is_dataclass(value):
            yield from _annotated(value)
        elif get_origin(hint) is Annotated:
            kind, *notes = get_args(hint)
            for space in (note for note in notes if isinstance(note, Range | Choices)):
                yield field.name, Dimension(field.name, space.including(value), kind is int, value)
