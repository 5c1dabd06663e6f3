"""Options of a command, read from the fields of a dataclass and parsed from the command line.

A field with a default is an option, one without is a positional argument, and the docstring below it is its help.
Options of nested dataclasses are options too.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import math
import re
import textwrap
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from asyncrl.common.validation import check_numbers, flag, within
from asyncrl.errors import UsageError, suggestions

if TYPE_CHECKING:
    from asyncrl.cli.help import Basic

__all__ = [
    "HELP",
    "HelpShown",
    "Option",
    "docstrings",
    "greedy_or_sample",
    "note_working_directory",
    "options_of",
    "parse",
    "read_values",
    "relative",
    "remove_option",
    "with_values",
]

HELP = ("-h", "--help", "--help-all")

_REPEATABLE = {"track"}
"""Options that may be given several times, by field name; None stands for no value."""

T = TypeVar("T")

_FACTORS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9}
_SWITCH = {"true": True, "false": False}


class HelpShown(SystemExit):
    """The help was printed; the exit code is 0."""


class Option(NamedTuple):
    """An option of a command, or a positional argument."""

    name: str
    """The field's name."""
    hint: Any
    """The field's type."""
    default: Any
    owner: type
    """The dataclass of the field."""
    section: str
    """Name of the field that holds the nested dataclass."""
    positional: bool = False
    short: str = ""
    """A short text that the help shows instead of the field's docstring."""

    @property
    def type(self) -> Any:
        """The type without `None`, and of a tuple's items."""
        hint = self.hint
        if get_origin(hint) in (Union, types.UnionType):
            hint = next(argument for argument in get_args(hint) if argument is not types.NoneType)
        return get_args(hint)[0] if self.is_tuple else hint

    @property
    def help(self) -> str:
        """The docstring below the field, or the short text with the docstring's sentence on the default.

        It is read when it is shown: finding the docstrings in the source is slow.
        """
        text = docstrings(self.owner).get(self.name, "")
        _, marker, default = text.partition(" Default: ")
        return f"{self.short}.{marker}{default}" if self.short else text

    @property
    def is_tuple(self) -> bool:
        return get_origin(self.hint) is tuple

    @property
    def is_optional(self) -> bool:
        return types.NoneType in get_args(self.hint)

    @property
    def word(self) -> str:
        """How messages and the help write it: --lag, ENV, or RUN… for `runs`."""
        if not self.positional:
            return flag(self.name)
        return f"{self.name.removesuffix('s').upper()}…" if self.is_tuple else self.name.upper()


def parse(cls: type[T], command: str, arguments: Sequence[str], about: str, basic: Basic) -> T:
    """Parse `arguments` into an instance of `cls`.

    Args:
        cls: The dataclass of the command's options.
        command: The command's name, for its help.
        arguments: The words after the command.
        about: One sentence for the help.
        basic: Options that `--help` shows, by section; `--help-all` shows all.

    Raises:
        HelpShown: If the help was asked for.
        UsageError: For an unknown option or a value of the wrong type.
    """
    from asyncrl.cli.help import print_help, usage

    options = options_of(cls)
    if set(HELP) & set(arguments):
        print_help([usage(command, options)], about, options, basic, show_all="--help-all" in arguments)
        raise HelpShown(0)
    values = read_values(options, arguments)
    missing = [option for option in options if option.positional and option.default is dataclasses.MISSING]
    for option in missing:
        if option.name not in values:
            raise UsageError(f"{option.word} is missing: {usage(command, options)} (asyncrl {command} --help)")
    parsed: T = with_values(cls, values)
    check_numbers(parsed)
    if "seed" in values:
        within(parsed, 0, math.inf, "seed")
    return parsed


def options_of(target: Any, section: str = "options") -> list[Option]:
    """The options of a dataclass, or of an instance, whose values are the defaults then.

    Fields of an instance that have no default in its class are decided already: they are left out.
    """
    cls = target if isinstance(target, type) else type(target)
    hints = get_type_hints(cls)
    options: list[Option] = []
    for field in dataclasses.fields(cls):
        name, default = field.name, _default(field) if target is cls else getattr(target, field.name)
        required = _default(field) is dataclasses.MISSING
        if dataclasses.is_dataclass(default):
            options += options_of(default, name)
        elif target is cls or not required:
            positional = required or bool(field.metadata.get("positional"))
            options.append(Option(name, hints[name], default, cls, section, positional))
    return options


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def read_values(options: Iterable[Option], arguments: Sequence[str]) -> dict[str, Any]:
    """The values given in `arguments`, by option name. Raises UsageError for an unknown option or a bad value."""
    options = list(options)
    known = {flag(option.name): option for option in options if not option.positional}
    positionals = [option for option in options if option.positional]
    words, values = list(arguments), dict[str, Any]()
    while words:
        word = words.pop(0)
        if word.startswith("-") and word != "-":
            name, equals, value = word.partition("=")
            option, negated = _find(name, known)
            given = [value] if equals else []
            if not equals:
                while (
                    words
                    and len(given) < _most_values(option, words[0], given=len(given))
                    and not words[0].startswith("--")
                ):
                    given.append(words.pop(0))
            before = values.get(option.name, ()) if option.name in _REPEATABLE else ()
            new = _convert(option, given, negated=negated)
            values[option.name] = (*before, *new) if before and new else new
        elif positionals:
            option = positionals[0] if positionals[0].is_tuple else positionals.pop(0)  # a tuple takes all that follow
            new = _convert(option, [word], negated=False)
            values[option.name] = (*values.get(option.name, ()), *new) if option.is_tuple else new
        else:
            raise UsageError(f"unexpected argument {word!r}; options begin with --")
    return values


def _find(word: str, known: Mapping[str, Option]) -> tuple[Option, bool]:
    """The option that `word` names, and whether it is its negation, `--no-…`."""
    name = word.replace("_", "-")
    if name in known:
        return known[name], False
    positive = known.get(f"--{name.removeprefix('--no-')}")
    if name.startswith("--no-") and positive is not None and positive.type is bool:
        return positive, True
    from asyncrl.runs.config.foreign_names import explain_unknown

    raise UsageError(f"unknown option {word}{explain_unknown(name, known) or ' (--help-all lists them)'}")


def _most_values(option: Option, following: str, *, given: int) -> float:
    """How many of the following words may be values of `option`, the next of which is `following`."""
    if option.is_tuple and _is_enum(option) and given:
        names = [member.value for member in option.type]
        return math.inf if all(word in names for word in following.split(",")) else 0
    if option.is_tuple:
        return math.inf
    return 1 if option.type is not bool or following.casefold() in _SWITCH else 0


def _convert(option: Option, words: Sequence[str], *, negated: bool) -> Any:
    """The value of an option from the words after it."""
    name = option.word
    if option.type is bool:
        value = _SWITCH.get(words[0].casefold()) if words else True
        if option.is_optional and words == ["None"]:
            return None
        if value is None or (negated and words):
            raise UsageError(f"{name} is a switch and takes no value: write {name} or --no-{name.removeprefix('--')}")
        return value != negated
    is_repeatable = option.name in _REPEATABLE
    if not words and (is_repeatable or not option.is_tuple):
        raise UsageError(f"{name} needs a value{_expected(option)}")
    if option.is_tuple and _is_enum(option):
        words = [part for word in words for part in word.split(",")]
    if list(words) == ["None"] and (option.is_optional or is_repeatable):
        return () if is_repeatable else None
    try:
        values = tuple(map(_converter(option.type), words))
    except ValueError as problem:
        raise UsageError(f"{name}: {problem}") from None
    return values if option.is_tuple else values[0]


def _expected(option: Option) -> str:
    return f": {_choices(option.type)}" if _is_enum(option) else ""


def _is_enum(option: Option) -> bool:
    return isinstance(option.type, type) and issubclass(option.type, Enum)


def _converter(kind: Any) -> Callable[[str], Any]:
    """The function from a word to a value of type `kind`; it raises ValueError."""
    if issubclass(kind, Enum):
        return functools.partial(_member, kind)
    convert: Callable[[str], Any] = {int: whole_number, float: _number}.get(kind, kind)
    return convert


def _member(kind: type[Enum], word: str) -> Enum:
    values = [member.value for member in kind]
    if word not in values:
        raise ValueError(f"{word!r} is not one of {_choices(kind)}{suggestions(word, values)}")
    return kind(word)


def _choices(kind: type[Enum]) -> str:
    return ", ".join(str(member.value) for member in kind)


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise ValueError(f"{word!r} is not a number") from None


def whole_number(word: str) -> int:
    """The integer written as `word`: also 1e6, 1M, 1_000_000 and 1,000,000. Raises ValueError for anything else."""
    found = re.fullmatch(r"([+-]?[\d_,]*\.?\d*(?:e[+-]?\d{1,3})?)([kmgb]?)", word.strip().casefold())
    number = Decimal("nan")
    if found is not None:
        try:
            number = Decimal(re.sub("[_,]", "", found[1])) * _FACTORS[found[2]]
        except InvalidOperation:
            number = Decimal("nan")
    if not number.is_finite() or number != int(number):
        raise ValueError(f"{word!r} is not a whole number")
    return int(number)


def with_values(target: Any, values: Mapping[str, Any]) -> Any:
    """An instance of a dataclass with `values`, also in nested ones; other fields are as in `target`, or its defaults."""
    cls = target if isinstance(target, type) else type(target)
    changes = {}
    for field in dataclasses.fields(cls):
        default = _default(field) if target is cls else getattr(target, field.name)
        if dataclasses.is_dataclass(default):
            changes[field.name] = with_values(default, values)
        elif field.name in values:
            changes[field.name] = values[field.name]
    try:
        return cls(**changes) if target is cls else dataclasses.replace(target, **changes)
    except ValueError as problem:  # raised by a custom algorithm
        raise UsageError(f"{cls.__name__}: {problem}") from None


@functools.cache
def docstrings(cls: type) -> dict[str, str]:
    """The docstring below each field of a dataclass or each member of an enum, in one line; those of bases too."""
    texts: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if not (dataclasses.is_dataclass(base) or issubclass(base, Enum)) or base is Enum:
            continue
        try:
            source = inspect.getsource(base)
        except OSError:  # a class made at run time, whose fields are those of its bases
            continue
        (tree,) = ast.parse(textwrap.dedent(source)).body
        assert isinstance(tree, ast.ClassDef)
        for statement, following in zip(tree.body, tree.body[1:], strict=False):
            match statement, following:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    texts[name] = " ".join(text.split())
    return texts


def remove_option(words: list[str], option: str) -> list[str]:
    """Remove every `option VALUE` and `option=VALUE` from `words`; returns the values."""
    values = []
    for i in reversed(range(len(words))):
        if words[i].startswith(f"{option}="):
            values.append(words.pop(i).partition("=")[2])
        elif words[i] == option:
            if i + 1 == len(words):
                raise UsageError(f"{option} needs a value")
            values.append(words.pop(i + 1))
            del words[i]
    return values[::-1]


def greedy_or_sample(greedy: bool, sample: bool) -> bool | None:
    """`--greedy` and `--sample` as one value; None if neither is given."""
    if greedy and sample:
        raise UsageError("--greedy and --sample exclude each other")
    return greedy if greedy or sample else None


_home = Path.cwd()


def note_working_directory() -> None:
    """Remember the folder in which the command was called: an environment may change the working directory."""
    global _home
    _home = Path.cwd()


def relative(path: Path) -> Path:
    """`path` relative to the folder in which the command was called, if it lies inside."""
    return path.relative_to(_home) if path.is_relative_to(_home) else path
