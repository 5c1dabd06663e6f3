"""Functions of tensors as recorded operations, which TorchScript's interpreter runs: no Python, no autograd, no lock.

What CUDA graphs are on a GPU, this is on a CPU. With small networks, most of an update's time goes into choosing the next
operation. A function is recorded as the operations that reach the kernels, those of its backward pass included, and these
are run again on other tensors. They are the same operations on the same numbers, so the results are equal bit for bit.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from asyncrl.common.capture import CaptureError, generators_in, map_tensors, tensors_in
from asyncrl.common.hidden_warnings import hidden_warnings

__all__ = ["is_recording", "recorded"]

_as_recorded: Any = torch.jit.optimized_execution  # type: ignore[attr-defined]
"""With False, the block's thread runs operations as they are; optimized ones compute other numbers."""

_UNKNOWN = (torch.ops.aten.view.dtype,)
"""Operations that TorchScript does not know."""
_CHECKED_CALLS = 3
"""First calls in which the function is called, too: if the results differ, the recorded operations are not used."""


class _Call(NamedTuple):
    """One operation, as it was called."""

    operation: Any
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    result: Any

    @property
    def inputs(self) -> Iterator[Tensor]:
        return _tensors((self.arguments, tuple(self.options.values())))

    @property
    def generator(self) -> torch.Generator | None:
        return next((x for x in (*self.arguments, *self.options.values()) if isinstance(x, torch.Generator)), None)

    @property
    def changes_inputs(self) -> bool:
        return bool(self.operation._schema.is_mutable)

    @property
    def outputs(self) -> Iterator[Tensor]:
        return _tensors(self.result)

    def again(self, tensor: Callable[[Tensor], Tensor], generator: torch.Generator | None = None) -> Any:
        """Call the operation with other tensors, and another generator."""

        def other(x: Any) -> Any:
            if isinstance(x, Tensor):
                return tensor(x)
            if isinstance(x, torch.Generator):
                return generator
            return type(x)(map(other, x)) if isinstance(x, list | tuple) else x

        return self.operation(*map(other, self.arguments), **{name: other(x) for name, x in self.options.items()})


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the operations of its thread during the block; raises CaptureError for one that a recording cannot repeat."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[_Call] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # protecting this class from torch's compiler would import it, which takes seconds

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        call = _Call(operation, args, kwargs or {}, None)
        if _looks_at_numbers(operation, args):
            raise CaptureError(f"{operation} depends on a tensor's values")
        if torch.Tag.nondeterministic_seeded in operation.tags and call.generator is None:
            raise CaptureError(f"{operation} draws from the global generator")
        call = call._replace(result=operation(*args, **call.options))
        self.calls.append(call)
        return call.result


def _looks_at_numbers(operation: Any, arguments: Sequence[Any]) -> bool:
    """Whether an operation returns a number to Python, or a tensor whose size depends on numbers."""
    if operation is torch.ops.aten.index.Tensor:
        return any(x.dtype is torch.bool for x in _tensors(arguments[1:]))
    return not {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}.isdisjoint(operation.tags)


class _OutsideOfTorch(TorchFunctionMode):
    """Raises CaptureError where the numbers of a tensor leave torch, which `_Recorder` does not see."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in _TO_PYTHON:
            raise CaptureError(f"{function} reads a tensor's values")
        return function(*args, **(kwargs or {}))


_TO_PYTHON = (Tensor.numpy, Tensor.tolist, Tensor.__array__, Tensor.__dlpack__, Tensor.data_ptr)


class _Recording(threading.local):
    is_active = False


_recording = _Recording()


def is_recording() -> bool:
    """Whether this thread is recording: then everything must be computed from tensors by torch, and nothing kept."""
    return _recording.is_active


def recorded(function: Callable[[Any], Any], argument: Any) -> _Recorded:
    """Record `function` (see `Capture`). What is returned computes no gradients.

    Random numbers must be drawn from generators in the argument. Raises CaptureError for a function that reads a
    tensor's values, which may decide what it does, or draws from another generator.
    """
    _recording.is_active = True
    try:
        with _same_numbers_again(argument), _Recorder() as recorder, _OutsideOfTorch():
            result = function(argument)
    finally:
        _recording.is_active = False
    try:
        with _same_numbers_again(argument):
            captured = _Recorded(function, argument, recorder.calls, result)
            captured(argument)
    except RuntimeError as problem:
        raise CaptureError(f"TorchScript cannot run the operations: {problem}") from problem
    return captured


class _Recorded:
    """A recorded function."""

    def __init__(self, function: Callable[[Any], Any], argument: Any, calls: list[_Call], result: Any) -> None:
        inputs, outputs = tensors_in(argument), tensors_in(result)
        if len({id(x) for x in inputs}) < len(inputs):
            raise CaptureError("the argument has a tensor twice, which may be two tensors in another call")
        first, calls = _divided(_needed(calls, outputs))
        self._first = _First(first, argument)
        passed = [x for call in first for x in call.outputs]
        outside = _from_outside(calls, outputs, [*inputs, *passed])
        sources, traceable = [*inputs, *passed, *outside], [_traceable(call) for call in calls]

        def run(*tensors: Tensor) -> tuple[Tensor, ...]:
            current = {id(x): own for x, own in zip(sources, tensors, strict=True)}
            for call in traceable:
                found = call.again(lambda x: current[id(x)])
                current.update(zip(map(id, call.outputs), _tensors(found), strict=True))
            return tuple([current[id(x)] for x in outputs])

        self._function, self._result, self._unchecked = function, result, _CHECKED_CALLS
        self.is_in_use = True
        """Whether the recorded operations are run, instead of the function."""
        self._outside = [x.detach() for x in outside]
        changed = {id(x) for call in calls if call.changes_inputs for x in call.inputs}
        self._changed = [x.detach() for x in outside if id(x) in changed]
        with torch.no_grad(), hidden_warnings():  # TorchScript is deprecated, and has no successor
            trace: Any = torch.jit.trace
            self._run = trace(run, (*inputs, *passed, *self._outside), check_trace=False)

    def __call__(self, argument: Any) -> Any:
        if not self.is_in_use:
            return self._function(argument)
        return self._checked(argument) if self._unchecked else self._again(argument)

    def _again(self, argument: Any) -> Any:
        """Run the recorded operations on the tensors of `argument`."""
        with torch.no_grad(), _as_recorded(False):
            results = iter(self._run(*tensors_in(argument), *self._first(argument), *self._outside))
        return map_tensors(self._result, lambda _: next(results))

    def _checked(self, argument: Any) -> Any:
        """Run the recorded operations, and the function too. It is called from now on if their results differ."""
        with _same_numbers_again(argument):
            expected = self._function(argument)
        changed = [x.clone() for x in self._changed]
        found = self._again(argument)
        pairs = zip([*tensors_in(expected), *changed], [*tensors_in(found), *self._changed], strict=True)
        if all(torch.equal(own, other) for own, other in pairs):
            self._unchecked -= 1
            return found
        for x, value in zip(self._changed, changed, strict=True):
            x.copy_(value)
        self.is_in_use = False
        return expected


class _First:
    """The calls that TorchScript's interpreter cannot make, and those that they depend on. Python makes them first."""

    def __init__(self, calls: Sequence[_Call], argument: Any) -> None:
        self._calls, self._inputs = calls, list(map(id, tensors_in(argument)))
        generators = generators_in(argument)
        self._generators = [None if call.generator is None else _place(call.generator, generators) for call in calls]

    def __call__(self, argument: Any) -> list[Tensor]:
        """Return the results for the tensors and generators of `argument`."""
        if not self._calls:
            return []
        current, generators = dict(zip(self._inputs, tensors_in(argument), strict=True)), generators_in(argument)
        passed: list[Tensor] = []
        for call, place in zip(self._calls, self._generators, strict=True):
            found = [*_tensors(call.again(lambda x: current.get(id(x), x), None if place is None else generators[place]))]
            current.update(zip(map(id, call.outputs), found, strict=True))
            passed += found
        return passed


@contextlib.contextmanager
def _same_numbers_again(argument: Any) -> Iterator[None]:
    """Let the generators in `argument` draw the numbers of this block once more after it."""
    states = [(generator, generator.get_state()) for generator in generators_in(argument)]
    try:
        yield
    finally:
        for generator, state in states:
            generator.set_state(state)


def _place(generator: torch.Generator, generators: Sequence[torch.Generator]) -> int:
    """Return the index of `generator`, which Python may know as different objects."""
    for place, own in enumerate(generators):
        if cast(Any, own)._cdata == cast(Any, generator)._cdata:
            return place
    raise CaptureError("random numbers are drawn from a generator that is not in the argument")


def _divided(calls: Sequence[_Call]) -> tuple[list[_Call], list[_Call]]:
    """Return the calls that TorchScript cannot make with those that they depend on, and the others."""
    needed: set[int] = set()
    first, others = [], []
    for call in reversed(calls):
        if call.generator is not None or call.operation in _UNKNOWN or any(id(x) in needed for x in call.outputs):
            needed.update(map(id, call.inputs))
            first.append(call)
        else:
            others.append(call)
    return first[::-1], others[::-1]


def _traceable(call: _Call) -> _Call:
    """Return a call that TorchScript can trace.

    It cannot trace the operations of backward passes that take a list of bools, which says what results are wanted, and
    leave out the others. It can trace calls of functions in TorchScript, which may contain such operations.
    """
    if not any(isinstance(x, list) and x and isinstance(x[0], bool) for x in call.arguments):
        return call
    names = {id(x): f"x{i}" for i, x in enumerate(call.inputs)}
    parameters = ", ".join(f"{name}: Tensor" for name in names.values())
    arguments = ", ".join(names.get(id(x), repr(x)) for x in call.arguments)
    results = [f"y{i}" for i in range(len(call.result))]
    wanted = [y for y, x in zip(results, call.result, strict=True) if x is not None]
    source = (
        f"def call({parameters}):\n"
        f"    {', '.join(results)} = torch.ops.{str(call.operation).rpartition('.')[0]}({arguments})\n"
        f"    return {', '.join(wanted)}\n"
    )
    with hidden_warnings():
        return call._replace(operation=torch.jit.CompilationUnit(source).call, arguments=tuple(call.inputs))


def _needed(calls: Sequence[_Call], outputs: Sequence[Tensor]) -> list[_Call]:
    """Return the calls that `outputs` depend on, and those that change tensors or generators."""
    needed, kept = {id(x) for x in outputs}, []
    for call in reversed(calls):
        if call.changes_inputs or call.generator is not None or any(id(x) in needed for x in call.outputs):
            needed.update(map(id, call.inputs))
            kept.append(call)
    return kept[::-1]


def _from_outside(calls: Sequence[_Call], outputs: Sequence[Tensor], given: Sequence[Tensor]) -> list[Tensor]:
    """Return the tensors that are neither `given` nor computed by the calls: weights, gradients and constants."""
    known, outside = {id(x) for x in given}, []

    def look(x: Tensor) -> None:
        if id(x) not in known:
            known.add(id(x))
            outside.append(x)

    for call in calls:
        for x in call.inputs:
            look(x)
        known.update(map(id, call.outputs))
    for x in outputs:
        look(x)
    return outside


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested lists and tuples."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for x in value:
            yield from _tensors(x)
