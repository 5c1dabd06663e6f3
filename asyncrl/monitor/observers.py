"""The sinks and callbacks of a run, in addition to the files of its folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from asyncrl.errors import UsageError
from asyncrl.monitor.background import Background
from asyncrl.monitor.callbacks import Callback, Callbacks
from asyncrl.monitor.guarded import Guarded
from asyncrl.monitor.sink import Sink
from asyncrl.monitor.trackers import TrackedRun, Tracker, open_tracker

__all__ = ["Observers"]


class Observers:
    """A view, the user's sinks and callbacks, and the trackers of the run."""

    def __init__(self, view: Sink | None = None, sinks: Sequence[Sink] = (), callbacks: Sequence[Callback] = ()) -> None:
        """Raises UsageError for an object that is not a sink or a callback."""
        for name, given in (("sinks", sinks), ("callbacks", callbacks)):
            if not isinstance(given, Iterable):
                raise UsageError(f"{name} is a list: {name}=[…], not {given!r:.80}")
        self.view = view
        self.callbacks = Callbacks(callbacks)
        self._guarded = [Guarded(sink) for sink in sinks]
        self._trackers: list[Background] = []

    def track(self, trackers: Iterable[Tracker], run: TrackedRun) -> None:
        """Start the trackers of the run."""
        self._trackers += [open_tracker(tracker, run) for tracker in trackers]

    @property
    def sinks(self) -> list[Sink]:
        """All of them, as sinks of a monitor."""
        return [*([] if self.view is None else [self.view]), *self._guarded, *self._trackers, self.callbacks]

    def say(self, line: str) -> None:
        """Show a message on the terminal or page, while no monitor is open."""
        if self.view is not None:
            self.view.say(line)

    @contextmanager
    def finished(self) -> Iterator[None]:
        """Close the sinks and trackers after the block; a monitor does not. Trackers show that an error ended it."""
        try:
            yield
        except Exception:
            for tracker in self._trackers:
                tracker.fail()
            raise
        finally:
            for sink in self._guarded:
                sink.finish()
            for tracker in self._trackers:
                tracker.finish()
