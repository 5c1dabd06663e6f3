"""Folders for the Hugging Face Hub: an agent with a model card, a video and plots."""

from asyncrl.sharing.share import Shared, share, upload

__all__ = ["Shared", "share", "upload"]
