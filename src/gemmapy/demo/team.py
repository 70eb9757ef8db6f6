"""Who they are, what they run and how they work: data, of which everything else about the demo follows."""

from __future__ import annotations

from dataclasses import dataclass, field

DAYS = 90
CODING, CHAT, NATIVE, TEXT, EMBEDDING = (
    "/v1/chat/completions",
    "/api/ollama/chat",
    "/api/chat",
    "/api/generate",
    "/api/embed",
)


@dataclass(frozen=True, slots=True)
class Model:
    """A model, how fast it is on the team's machines, and what a token of it is charged."""

    name: str
    upstream: str
    tokens_per_second: float
    prompt_tokens_per_second: float
    input_usd: str | None
    """Per 1K tokens; None: nobody has set a price yet."""
    output_usd: str | None
    liked: float
    """The share of its ratings that are good."""
    since_day: int = 0
    """Introduced so many days after the first."""


@dataclass(frozen=True, slots=True)
class Role:
    """How a kind of work looks from the gateway."""

    endpoint: str
    models: dict[str, float]
    """Which ones, and how often."""
    prompt_tokens: float
    """Of a middling request; they are spread log-normally around it."""
    response_tokens: float
    client: str
    hours: tuple[int, int] = (9, 18)
    """Of the working day, where the person is."""
    weekend: float = 0.06
    """How much of a working day's use a day of the weekend sees."""
    cached: float = 0.0
    rated: float = 0.0
    streams: bool = True


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody of the team."""

    name: str
    role: str
    zone: str
    weight: float
    """Requests a working day, before all is scaled to the number wanted."""
    project: str
    is_admin: bool = False
    growth: float = 1.0
    """How many times more at the end of the quarter than at its beginning."""


MODELS = (
    Model("llama3.1:8b", "gpu-1", 94, 3200, "0.00006", "0.00012", 0.83),
    Model("gemma3:12b", "gpu-1", 62, 2100, "0.0001", "0.0002", 0.88),
    Model("llama3.3:70b", "gpu-2", 15, 480, "0.0006", "0.0012", 0.94),
    Model("qwen3:32b", "gpu-2", 33, 950, "0.00028", "0.00056", 0.92, since_day=52),
    Model("deepseek-r1:14b", "gpu-1", 51, 1700, None, None, 0.79, since_day=71),
    Model("nomic-embed-text", "gpu-1", 0, 9000, "0.00001", "0", 1.0),
)
DEARER_UNTIL_DAY = 45
"""On this day the price of llama3.3:70b came down from what is below."""
DEARER = ("llama3.3:70b", "0.0008", "0.0016")

ROLES = {
    "engineer": Role(
        CODING, {"gemma3:12b": 5, "qwen3:32b": 6, "llama3.1:8b": 2, "deepseek-r1:14b": 1}, 1400, 210, "Continue"
    ),
    "scientist": Role(
        TEXT, {"llama3.3:70b": 5, "qwen3:32b": 3, "deepseek-r1:14b": 2}, 900, 420, "notebook", (10, 20), 0.25
    ),
    "agent": Role(
        CHAT, {"llama3.1:8b": 6, "gemma3:12b": 4}, 320, 140, "Open WebUI", (8, 17), 0.3, cached=0.16, rated=0.22
    ),
    "writer": Role(
        CHAT, {"llama3.3:70b": 6, "gemma3:12b": 3}, 480, 520, "Open WebUI", (9, 17), 0.03, cached=0.05, rated=0.3
    ),
    "researcher": Role(NATIVE, {"llama3.3:70b": 7, "qwen3:32b": 4}, 3800, 640, "notebook", (11, 22), 0.4, rated=0.08),
    "bot": Role(
        CHAT, {"llama3.1:8b": 9, "gemma3:12b": 1}, 260, 120, "support bot", (0, 24), 0.7, cached=0.34, rated=0.03
    ),
    "indexer": Role(EMBEDDING, {"nomic-embed-text": 1}, 420, 0, "nightly index", (1, 5), 1.0, streams=False),
}

TEAM = (
    Person("amara", "engineer", "Europe/Berlin", 26, "platform", is_admin=True),
    Person("bo", "engineer", "Europe/Berlin", 34, "platform", growth=1.6),
    Person("chen", "engineer", "Europe/Berlin", 22, "search"),
    Person("dilnoza", "engineer", "Europe/Berlin", 41, "search", growth=1.9),
    Person("emeka", "engineer", "America/New_York", 29, "platform", growth=1.4),
    Person("farah", "engineer", "America/New_York", 17, "checkout"),
    Person("goran", "engineer", "Asia/Kolkata", 31, "checkout", growth=1.7),
    Person("hana", "scientist", "Europe/Berlin", 19, "research"),
    Person("ishaan", "scientist", "Asia/Kolkata", 24, "research", growth=1.3),
    Person("jola", "scientist", "America/New_York", 12, "search"),
    Person("kwame", "agent", "Europe/Berlin", 38, "support"),
    Person("lucia", "agent", "America/New_York", 44, "support", growth=1.2),
    Person("mei", "agent", "Asia/Kolkata", 36, "support"),
    Person("nadia", "agent", "Europe/Berlin", 27, "support", growth=0.6),
    Person("oskar", "writer", "Europe/Berlin", 15, "marketing"),
    Person("priya", "writer", "America/New_York", 18, "marketing", growth=1.5),
    Person("quinn", "researcher", "America/New_York", 16, "research"),
    Person("rasa", "researcher", "Europe/Berlin", 11, "research", growth=2.2),
    Person("sven", "engineer", "Europe/Berlin", 7, "platform"),
    Person("support-bot", "bot", "UTC", 120, "support", growth=1.8),
    Person("search-index", "indexer", "UTC", 60, "search"),
)
PROJECTS = ("platform", "search", "checkout", "research", "support", "marketing")
INTERN, INTERNS_SPIKE_DAY, INTERNS_SPIKE = "sven", 77, 90.0
"""On this day the intern ran a loop without an end."""
UNKNOWN_MODEL = "gpt-oss:120b"
"""What the intern asks for now and then, and nobody has."""


@dataclass(frozen=True, slots=True)
class Incident:
    """Half a day on which one machine kept falling over."""

    day: int = 64
    hours: tuple[int, int] = (8, 13)
    upstream: str = "gpu-2"
    failing: float = 0.55
    codes: tuple[str, ...] = field(default=("upstream_unreachable", "upstream_timeout", "upstream_error"))


INCIDENT = Incident()
