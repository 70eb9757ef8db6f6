"""GemmaPy: a self-hosted gateway that meters, prices and shows every LLM request.

from gemmapy import CostCalculator, MetricsCollector, Store

with Store.open("data") as store:
    CostCalculator(store).get_user_costs(user_id=1, period="month")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gemmapy.app import create_app
    from gemmapy.config import Settings
    from gemmapy.metering.calculator import CostCalculator
    from gemmapy.metering.collector import MetricsCollector
    from gemmapy.metering.finished import FinishedRequest
    from gemmapy.storage.store import Store

__version__ = "0.1.0"
__all__ = ["CostCalculator", "FinishedRequest", "MetricsCollector", "Settings", "Store", "__version__", "create_app"]

_HOMES = {
    "CostCalculator": "gemmapy.metering.calculator",
    "FinishedRequest": "gemmapy.metering.finished",
    "MetricsCollector": "gemmapy.metering.collector",
    "Settings": "gemmapy.config",
    "Store": "gemmapy.storage.store",
    "create_app": "gemmapy.app",
}


def __getattr__(name: str) -> Any:
    """Loads what is asked for, so that `gemmapy version` does not load a web server."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
