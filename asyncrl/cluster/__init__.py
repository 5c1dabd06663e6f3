"""A Ray cluster: the connection to it, and commands that run on its nodes."""
