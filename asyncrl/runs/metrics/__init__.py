"""The metrics of a run: computed, written, and read again while they grow."""
