"""Writing down what was used, and reading back what it cost: the Python API, and the gateway's own."""
