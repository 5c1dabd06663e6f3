"""Actors, scripted bots and recorded datasets: everything that produces rollouts."""
