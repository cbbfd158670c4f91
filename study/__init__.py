"""The study companion: sets up, runs, checks and ticks off. Standard library only; `python3 -m study --help`."""
