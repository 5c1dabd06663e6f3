"""The configuration of a run: the dataclass, presets and settings, what the machine decides, and refusals."""
