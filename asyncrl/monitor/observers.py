"""Everyone who sees the records of a run, besides the files of its folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from asyncrl.monitor.callbacks import Callback, Callbacks
from asyncrl.monitor.guarded import Guarded
from asyncrl.monitor.sink import Sink

__all__ = ["Observers"]


class Observers:
    """A view, the user's sinks, and the user's callbacks."""

    def __init__(self, view: Sink | None = None, sinks: Sequence[Sink] = (), callbacks: Sequence[Callback] = ()) -> None:
        """Raises UsageError for sinks and callbacks that are none."""
        self.view = view
        self.callbacks = Callbacks(callbacks)
        self._guarded = [Guarded(sink) for sink in sinks]

    @property
    def sinks(self) -> list[Sink]:
        """All of them, as sinks of a monitor."""
        return [*([] if self.view is None else [self.view]), *self._guarded, self.callbacks]

    @contextmanager
    def finished(self) -> Iterator[None]:
        """Close the user's sinks after the block; a monitor does not."""
        try:
            yield
        finally:
            for sink in self._guarded:
                sink.finish()
