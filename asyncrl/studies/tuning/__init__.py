"""A search for better settings: each trial is a run that `asyncrl train` makes."""
