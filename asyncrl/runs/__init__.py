"""A run as data: its configuration, folder, checkpoints, schedule and statistics."""
