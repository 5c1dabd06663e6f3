"""A trained policy outside of training: agents, evaluation, imitation, people at the keyboard, video."""
