"""A trained policy in use: agents, evaluation, imitation, video, and people at the keyboard."""
