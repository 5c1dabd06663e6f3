"""Which experience an algorithm asks for, and the batches made of it."""

from asyncrl.experience.archive import Archive
from asyncrl.experience.batch import Batch, stack_frames
from asyncrl.experience.kinds import Episodes, Experience, Fresh, Stored
from asyncrl.experience.options import ReplayOptions, ReplayPlan, Storage
from asyncrl.experience.replay import Replay, Sample

__all__ = [
    "Archive",
    "Batch",
    "Episodes",
    "Experience",
    "Fresh",
    "Replay",
    "ReplayOptions",
    "ReplayPlan",
    "Sample",
    "Storage",
    "Stored",
    "stack_frames",
]
