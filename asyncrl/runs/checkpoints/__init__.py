"""Checkpoints: what they contain, how they are written and read, and which one to return to after divergence."""
