"""What the handlers work with, put together once by `app.py`."""

from __future__ import annotations

from dataclasses import dataclass

from gemmapy.config import Settings
from gemmapy.core.clock import Clock
from gemmapy.core.peers import Peers
from gemmapy.gateway.auth import Auth
from gemmapy.gateway.handle import Gateway
from gemmapy.metering.calculator import CostCalculator
from gemmapy.metering.collector import MetricsCollector
from gemmapy.metering.hardware import Hardware
from gemmapy.metering.live import LiveFeed
from gemmapy.metering.prices import PriceDesk
from gemmapy.rag.library import Library
from gemmapy.storage.store import Store
from gemmapy.upstreams.catalogue import Catalogue
from gemmapy.upstreams.transport import Transport


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of a running gateway."""

    settings: Settings
    store: Store
    auth: Auth
    collector: MetricsCollector
    calculator: CostCalculator
    prices: PriceDesk
    hardware: Hardware
    live: LiveFeed
    gateway: Gateway
    library: Library
    catalogue: Catalogue
    transport: Transport
    clock: Clock
    peers: Peers
