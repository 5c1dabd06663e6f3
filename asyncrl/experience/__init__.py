"""Which experience an algorithm asks for, and the batches made of it."""

from asyncrl.experience.batch import Batch, stack_frames
from asyncrl.experience.kinds import Episodes, Experience, Fresh

__all__ = ["Batch", "Episodes", "Experience", "Fresh", "stack_frames"]
