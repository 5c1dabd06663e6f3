"""The version, alone in a file, so that the command line need import nothing to print it."""

__version__ = "0.1.0"
