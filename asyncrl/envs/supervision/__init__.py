"""Environments in worker processes that may crash, hang or leak."""
