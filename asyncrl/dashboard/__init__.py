"""The live page of `asyncrl watch`: a small server on this machine and the page that it serves."""

from __future__ import annotations

from asyncrl.dashboard.process import Page, watch

__all__ = ["Page", "watch"]
