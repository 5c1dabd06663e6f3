"""The user's own networks: encoders to which the heads are added, and complete networks."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from asyncrl.common.named_code import describe_exception
from asyncrl.common.signals import is_from_keyboard
from asyncrl.envs.global_generators import preserved_generators, seeded_generators
from asyncrl.envs.spaces import Spaces
from asyncrl.errors import UsageError
from asyncrl.networks.encoders import entry_spaces, split
from asyncrl.networks.names import factory_named, is_custom
from asyncrl.networks.normalization import Normalizer

__all__ = ["CompleteNetwork", "CustomEncoder", "check_custom_network", "complete_network", "is_complete", "unpack"]

_PROBES = 2
"""Observations of a probe: two show whether a batch is kept."""
_CAST = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Layers whose weights autocast converts; subclasses may do otherwise."""

T = TypeVar("T")


class CompleteNetwork(nn.Module):
    """Base class of custom networks that include their heads.

    ``(observation [T, N, *O], state [N, S], valid [T, N] bool or None) → PolicyValue or ActionValues``

    It returns what the algorithm's own network returns: `PolicyValue` for policies, `ActionValues` for action values. The
    state is zero where an episode begins and must be zeroed after each step whose `valid` is False; `valid` may cover fewer
    than T steps, or be None. An observation with several parts comes as bytes, which `unpack` splits.
    """

    state_size: int = 0
    """S: numbers of the recurrent state of one environment."""


class CustomEncoder(nn.Module):
    """The user's module as an encoder: [N, *O] → [N, features].

    The module takes observations in the environment's dtype; those with several parts as a dict of tensors by name. In
    bfloat16 it runs under autocast.
    """

    def __init__(
        self, name: str, spaces: Spaces, dtype: torch.dtype, generator: torch.Generator, *, normalized: bool = False
    ) -> None:
        """With `normalized`, the parts of observations are normalized. Raises UsageError for a module that is not an
        encoder, or raises itself.
        """
        super().__init__()
        parts = [(index, entry) for index, entry in enumerate(spaces.entries) if normalized and not entry.choices]
        self.normalizers = nn.ModuleList(Normalizer(entry_spaces(entry, spaces), index) for index, entry in parts)
        self.dtype, self._spaces, self._name = dtype, spaces, name
        with seeded(generator):
            self.module = make_module(name, spaces)
            self.features = self._count_features()
        check_parameters(name, self.module)

    def forward(self, observation: Tensor) -> Tensor:
        inputs = unpack(self._spaces, observation, self.normalizers)
        if self.dtype is torch.float32:
            return self.module(inputs)  # type: ignore[no-any-return]
        with torch.autocast(observation.device.type, self.dtype):
            return self.module(inputs)  # type: ignore[no-any-return]

    def of_parts(self, values: Sequence[Tensor]) -> Tensor:
        """Return the features [N, F] in float32, given the parts' values [N, …] instead of their bytes."""
        return self.module(_normalized(self._spaces, values, self.normalizers))  # type: ignore[no-any-return]

    @torch.no_grad()
    def keep_in_compute_dtype(self) -> None:
        """Convert the weights that autocast would convert in each pass, if that leaves the outputs as they are."""
        if self.dtype is torch.float32:
            return
        layers: list[Any] = [layer for layer in self.modules() if type(layer) in _CAST]
        if not layers:
            return
        observation = _observations(self._spaces).to(layers[0].weight.device)
        before = self(observation)
        for layer in layers:
            layer.to(self.dtype)
        with contextlib.suppress(RuntimeError):
            if torch.equal(self(observation), before):
                return
        for layer in layers:  # the module uses the weights in another way
            layer.to(torch.float32)

    @torch.no_grad()
    def _count_features(self) -> int:
        observation = torch.zeros(_PROBES, *self._spaces.observation_shape, dtype=_dtype(self._spaces))
        features = _run(self._name, lambda: self(observation), self._spaces)
        if not isinstance(features, Tensor):
            raise UsageError(f"--network {self._name} returned {_kind(features)}; expected a tensor of features [N, F]")
        is_batch = features.dim() == 2 and len(features) == _PROBES and features.shape[1] > 0
        if not is_batch or not features.is_floating_point():
            raise UsageError(
                f"--network {self._name} returned a tensor {[*features.shape]} {_name_of_dtype(features)} for {_PROBES} "
                f"observations ({self._spaces}); expected floating-point features [{_PROBES}, F], one row each"
            )
        return features.shape[1]


def unpack(spaces: Spaces, observation: Tensor, normalizers: Iterable[Any] = ()) -> Any:
    """Return observations [N, *O] or [T, N, *O] as the environment's parts: a dict of tensors [N, *shape] by name.

    Stacked parts are [N, frames, *shape]. Discrete parts are int64 [N], counted from 0. An observation that is one array is
    returned as it is. Parts that have one of the `normalizers` are normalized, if observations are [N, *O].
    """
    if not spaces.entries:
        return observation
    return _normalized(spaces, split(spaces.entries, observation), normalizers)


def _normalized(spaces: Spaces, values: Sequence[Tensor], normalizers: Iterable[Any]) -> Any:
    """Return the values of an observation's parts by name, or the only one, after the `normalizers` of some of them."""
    named = {entry.name: value for entry, value in zip(spaces.entries, values, strict=True)}
    for normalizer in normalizers:
        name = spaces.entries[normalizer.part].name
        named[name] = normalizer(named[name])
    return named[""] if [*named] == [""] else named


def make_module(name: str, spaces: Spaces) -> nn.Module:
    """Return a new module of the network `name`. Raises UsageError if its factory raises or returns something else."""
    factory = factory_named(name)
    _check_arguments(name, factory, spaces)
    module = _run(name, lambda: factory(spaces), None)
    if not isinstance(module, nn.Module):
        raise UsageError(f"--network {name} made {_kind(module)}; expected a torch.nn.Module")
    return module


def _check_arguments(name: str, factory: Callable[..., Any], spaces: Spaces) -> None:
    """Raise UsageError for a factory that does not take the spaces as its only argument."""
    try:
        signature = inspect.signature(factory)
    except ValueError:  # one written in C, which need not have a signature
        return
    try:
        signature.bind(spaces)
    except TypeError as problem:
        raise UsageError(
            f"--network {name} is called with one argument, the environment's spaces, which it does not take: {problem}"
        ) from None


def is_complete(name: str, spaces: Spaces) -> bool:
    """Return whether a network is a custom `CompleteNetwork`. A function is called to find out."""
    if not is_custom(name):
        return False
    factory = factory_named(name)
    if isinstance(factory, type):
        return issubclass(factory, CompleteNetwork)
    with preserved_generators():
        return isinstance(make_module(name, spaces.features), CompleteNetwork)


def complete_network(name: str, spaces: Spaces, expected: nn.Module, generator: torch.Generator) -> CompleteNetwork:
    """Return a new `CompleteNetwork`, whose outputs have the form of those of the network `expected`.

    Raises UsageError if they do not.
    """
    with seeded(generator):
        module = make_module(name, spaces)
        assert isinstance(module, CompleteNetwork)
        observation = torch.zeros(1, _PROBES, *spaces.observation_shape, dtype=_dtype(spaces))
        with torch.no_grad():
            found = _run(name, lambda: _forward(module, observation), spaces)
            pattern = _forward(expected, observation)
    check_parameters(name, module)
    _check_form(name, found, pattern)
    if found.state.shape != (_PROBES, module.state_size):
        raise UsageError(
            f"--network {name} returned a state {[*found.state.shape]}; expected [{_PROBES}, {module.state_size}] "
            "(state_size)"
        )
    for attribute, _ in expected.named_buffers(recurse=False):
        if not hasattr(module, attribute):
            raise UsageError(f"--network {name} has no {attribute!r}, which the algorithm's loss needs")
    return module


def _forward(network: Any, observation: Tensor) -> Any:
    state = torch.zeros(observation.shape[1], network.state_size, dtype=torch.float32, device=observation.device)
    return network(observation, state, None)


def _check_form(name: str, found: Any, pattern: Any) -> None:
    """Raise UsageError unless the output of a complete network has the type and shapes of `pattern`."""
    expected = type(pattern).__name__
    if type(found) is not type(pattern):
        raise UsageError(f"--network {name} returned {_kind(found)}; the algorithm needs {_article(expected)}")
    for part, value in pattern._asdict().items():
        ours = getattr(found, part)
        if part == "state":
            continue
        if not isinstance(value, Tensor):  # a distribution
            if type(ours) is not type(value):
                raise UsageError(f"--network {name} returned a {part} {_kind(ours)}; expected {_kind(value)}")
            ours, value = ours.mode(), value.mode()
        if not isinstance(ours, Tensor) or ours.shape != value.shape or ours.dtype != value.dtype:
            form = f"{[*ours.shape]} {_name_of_dtype(ours)}" if isinstance(ours, Tensor) else _kind(ours)
            raise UsageError(
                f"--network {name} returned {expected} with {part} {form} for 1 step of {_PROBES} environments; expected "
                f"{[*value.shape]} {_name_of_dtype(value)}"
            )


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'AEIOU' else 'a'} {noun}"


@contextlib.contextmanager
def seeded(generator: torch.Generator) -> Iterator[None]:
    """Let draws from the process's global generators depend on `generator` alone, and leave no trace in them."""
    seed = int(torch.randint(2**31, (), generator=generator, dtype=torch.int64, device="cpu"))
    with seeded_generators(seed):
        yield


def check_parameters(name: str, module: nn.Module) -> None:
    """Raise UsageError for parameters that are not float32."""
    for parameter, value in module.named_parameters():
        if value.dtype is not torch.float32:
            raise UsageError(
                f"--network {name}: the parameter {parameter} is {_name_of_dtype(value)}; expected float32 (module.float())"
            )


def check_custom_network(name: str, spaces: Spaces) -> None:
    """Raise UsageError if the network's outputs depend on more than its parameters and its inputs.

    Actors receive the parameters only: outputs must not depend on statistics that change in a forward pass, on random
    numbers, or on tensors that differ from one instance to the next.
    """
    spaces = spaces.features  # an action mask is not for encoders
    one, other = (_made_for_check(name, spaces, seed) for seed in (1, 2))
    before = {key: buffer.clone() for key, buffer in one.named_buffers()}
    with preserved_generators(), torch.no_grad():
        state = torch.default_generator.get_state()
        output = _run(name, lambda: _output(one, spaces), spaces)
        draws = not torch.equal(torch.default_generator.get_state(), state)
        changed = [key for key, buffer in one.named_buffers() if not torch.equal(buffer, before[key])]
        for ours, theirs in zip(other.parameters(), one.parameters(), strict=True):
            ours.copy_(theirs)
        same = torch.equal(_run(name, lambda: _output(other, spaces), spaces), output)
        _run(name, lambda: _output(one, spaces, _PROBES + 1), spaces, _PROBES + 1)
        is_learned = _run(name, lambda: _is_learned(one, spaces), spaces)
    if not output.isfinite().all():
        raise UsageError(f"--network {name} returned numbers that are not finite for {_PROBES} observations ({spaces})")
    if changed:
        raise UsageError(
            f"--network {name}: training changes the buffer {changed[0]} (batch normalization does), but actors have "
            "copies of the parameters only; use layer normalization"
        )
    if draws:
        raise UsageError(
            f"--network {name} draws random numbers in its forward pass (dropout does), so a run could not be repeated; "
            "leave it out"
        )
    if not is_learned:
        raise UsageError(f"--network {name} learns nothing: no gradient passes from its output to its parameters")
    if not same:
        raise UsageError(
            f"--network {name}: its output depends on tensors that differ between two networks with the same parameters; "
            "make them nn.Parameters, or the same in every network"
        )


def _made_for_check(name: str, spaces: Spaces, seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    if not is_complete(name, spaces):
        return CustomEncoder(name, spaces, torch.float32, generator)
    with seeded(generator):
        return make_module(name, spaces)


@torch.enable_grad()
def _is_learned(network: nn.Module, spaces: Spaces) -> bool:
    """Whether gradients pass through a network; True if it has no parameters that learn."""
    output = _output(network, spaces)
    if output.requires_grad:
        output.sum().backward()  # type: ignore[no-untyped-call]
    return output.requires_grad or not any(parameter.requires_grad for parameter in network.parameters())


def _output(network: nn.Module, spaces: Spaces, count: int = _PROBES) -> Tensor:
    """Return what a network computes from `count` observations: an encoder's features, or the values of a complete one."""
    if isinstance(network, CustomEncoder):
        return network(_observations(spaces, count))  # type: ignore[no-any-return]
    output = _forward(network, _observations(spaces, count)[None])
    values: Tensor = output.outputs if hasattr(output, "outputs") else output.value
    return values


def _observations(spaces: Spaces, count: int = _PROBES) -> Tensor:
    """Return a batch of `count` observations for a probe: noise, or zeros where noise could be no observation."""
    shape, dtype, source = (count, *spaces.observation_shape), _dtype(spaces), torch.Generator().manual_seed(0)
    if spaces.is_image and dtype is torch.uint8:
        return torch.randint(256, shape, dtype=dtype, generator=source)
    if dtype is torch.float32 and not spaces.entries:
        return torch.rand(shape, dtype=dtype, generator=source)
    return torch.zeros(shape, dtype=dtype)


def _run(name: str, call: Callable[[], T], spaces: Spaces | None, count: int = _PROBES) -> T:
    """Return the result of the user's code. Raises UsageError that says what it raised, and for which observations."""
    try:
        return call()
    except UsageError:
        raise
    except BaseException as problem:
        if is_from_keyboard(problem):
            raise
        given = "" if spaces is None else f" for {count} observations ({spaces})"
        raise UsageError(f"--network {name} {describe_exception(problem)}{given}") from problem


def _dtype(spaces: Spaces) -> torch.dtype:
    dtype: torch.dtype = getattr(torch, spaces.observation_dtype)
    return dtype


def _name_of_dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _kind(value: Any) -> str:
    return "None" if value is None else _article(type(value).__qualname__)
