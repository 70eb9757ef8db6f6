"""What the gateway costs: see `python -m benchmarks --help`, or `make bench`."""
