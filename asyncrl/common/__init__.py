"""What every other package uses: serialization, random streams, signals, child processes, the operating system's errors."""
