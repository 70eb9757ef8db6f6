"""`gemmapy version`."""

from __future__ import annotations

import gemmapy


def version() -> None:
    """Print the version."""
    print(f"gemmapy {gemmapy.__version__}")
