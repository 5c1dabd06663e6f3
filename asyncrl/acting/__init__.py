"""What makes rollouts: actors, bots, and recorded play."""
