"""Settings: what the operator decides. Command line > `GEMMAPY_*` in the environment > `gemmapy.toml` > defaults.

Read once at the start, frozen after. Everything is checked here, so that a mistake is told in the words of the setting,
before anything runs.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from gemmapy.core.errors import ConfigurationError

PREFIX = "GEMMAPY_"
CONFIG_NAME = "gemmapy.toml"
OLLAMA_URL = "http://localhost:11434"
COMPARED = (
    "openai/gpt-5.4-mini",
    "anthropic/claude-sonnet-5-5",
    "google/gemini-3.8-flash",
    "mistral/mistral-small-latest",
    "groq/llama-3.3-70b-versatile",
)
"""The hosted models that costs are compared with where the operator names no others."""
_UPSTREAM_KEY = re.compile(r"GEMMAPY_UPSTREAM_[A-Z0-9_]+_API_KEY")
Kind = Literal["ollama", "openai", "llamacpp"]
_KINDS = ("ollama", "openai", "llamacpp")


class UpstreamSettings(BaseModel):
    """One server that runs models."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    name: str = Field(default="", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$|^$")
    url: str | None = None
    """`ollama`: its root. `openai`: its base URL, which usually ends in `/v1`. Not for `llamacpp`."""
    api_key: SecretStr | None = None
    model_path: Path | None = None
    """`llamacpp` only: a GGUF file; without one, the SmolLM2-135M that comes with `gemmapy[local]`."""
    places: int | None = Field(default=None, ge=0)
    """How many requests it is asked at once, the others wait; 0: any number. None: as `places` says."""
    dialects: tuple[Literal["ollama", "openai"], ...] | None = None
    """What it speaks, where that is not what its kind speaks: an `ollama` that has no `/v1`, an `openai` that has."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `KIND=URL`, `NAME:KIND=URL`, `llamacpp` or `llamacpp=PATH`. Raises ValueError."""
        what, _, where = text.strip().partition("=")
        name, colon, kind = what.rpartition(":")
        if kind not in _KINDS or (colon and not name):
            raise ValueError(
                f"{text!r} is not KIND=URL or NAME:KIND=URL; KIND is one of {', '.join(_KINDS)}"
                f" (for example ollama={OLLAMA_URL})"
            )
        if kind == "llamacpp":
            return cls(kind=kind, name=name, model_path=Path(where).expanduser() if where else None)
        return cls(kind=kind, name=name, url=where or None)  # pyright: ignore[reportArgumentType]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kind == "llamacpp":
            if self.url is not None:
                raise ValueError("an upstream of kind llamacpp runs inside GemmaPy and takes no url")
            if self.model_path is not None and not self.model_path.is_file():
                raise ValueError(f"there is no model file {self.model_path}")
            return self
        if self.model_path is not None:
            raise ValueError("model_path is for upstreams of kind llamacpp")
        if self.url is None and self.kind == "openai":
            raise ValueError("an upstream of kind openai needs a url, for example openai=http://localhost:8000/v1")
        if self.url is not None:
            parts = urlsplit(self.url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError(f"an upstream's url must be http://... or https://..., got {parts.scheme or 'none'}")
            if parts.username or parts.password or parts.query or parts.fragment:
                raise ValueError(
                    "an upstream's url must not hold a user, password, query or fragment; keys go into api_key"
                )
        return self

    @property
    def address(self) -> str | None:
        """The url without a slash at its end; Ollama's default where none is given."""
        if self.kind == "llamacpp":
            return None
        return (self.url or OLLAMA_URL).rstrip("/")


class Settings(BaseModel):
    """Every setting; docs/configuration.md is tested to name each of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Path = Path("data")
    """The folder that holds everything: database, secret, backups."""
    host: str = "127.0.0.1"
    """The address to listen on; 0.0.0.0 for every network."""
    port: int = Field(default=5000, ge=0, le=65535)
    upstreams: tuple[UpstreamSettings, ...] = ()
    """In the order in which a model is looked for. None: Ollama if it answers, else the embedded model."""
    admin_password: SecretStr | None = None
    """The first admin's password, used at the first start only; generated and printed where it is not given."""
    secret: SecretStr | None = None
    """Signs login tokens, at least 32 characters; generated and kept in the data folder where it is not given."""
    base_path: str = ""
    """The path under which a proxy serves the gateway, as in `/llm`."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks whose `X-Forwarded-*` headers are believed."""
    tls_cert: Path | None = None
    tls_key: Path | None = None
    cors_origins: tuple[str, ...] = ()
    """Web pages' origins that may call the API from a browser."""
    max_body_mb: float = Field(default=64, gt=0, le=4096)
    """The largest body of an LLM request."""
    compare_models: tuple[str, ...] = COMPARED
    """Hosted models, `PROVIDER/MODEL`, whose prices requests are compared with; empty: with none."""
    connect_timeout_s: float = Field(default=5, gt=0)
    first_byte_timeout_s: float = Field(default=600, gt=0)
    """Until an upstream begins to answer; it may load a model first."""
    idle_timeout_s: float = Field(default=120, gt=0)
    """Between two pieces of an upstream's answer."""
    client_timeout_s: float = Field(default=30, gt=0)
    """For a client to send a request's head, to go on with its body, or to take what it is sent."""
    retention_days: int | None = Field(default=None, ge=1, le=36_500)
    """How many whole days the ledger keeps; older ones retire. None: all."""
    drain_timeout_s: float = Field(default=30, ge=0)
    """How long running requests may go on after SIGTERM."""
    max_connections: int = Field(default=20_000, gt=0)
    """Open client connections; more are turned away."""
    workers: int = Field(default=1, ge=1, le=64)
    """Processes that answer requests. With more than one, a process of its own keeps the books for all."""
    hang_timeout_s: float = Field(default=5, ge=0)
    """Of several processes, one that could have answered its supervisor for so long and has not is killed and started
    again. 0: none is."""
    model_threads: int | None = Field(default=None, ge=1)
    """The embedded model's threads; by default the machine's cores less one."""
    model_slots: int = Field(default=4, ge=1, le=64)
    """How many requests the embedded model answers at once."""
    model_context: int = Field(default=4096, ge=256)
    """Tokens of context of each of those."""
    embedding_model: str | None = Field(default=None, min_length=1, max_length=200)
    """Embeds documents and the questions to them, where a collection names no other. None: full-text search only."""
    cache: Literal["off", "auto", "on"] = "auto"
    """Which answers are kept for those who ask the same again. auto: of `/api/ollama/*` and of whoever asks for it; on:
    of every path. By default only what has the same answer each time (temperature 0, a seed, embeddings)."""
    cache_mb: float = Field(default=64, ge=0, le=1024 * 1024)
    cache_entries: int = Field(default=10_000, ge=0)
    cache_ttl_s: float = Field(default=3_600, gt=0, le=10 * 365 * 86_400)
    cache_disk_mb: float = Field(default=0, ge=0, le=1024 * 1024)
    """How much of the kept answers is stored on disk too, so that a restart does not forget them. 0: none is."""
    cache_shared: bool = False
    """Whether one user's answers are given to others too."""
    retries: int = Field(default=2, ge=0, le=20)
    """Further attempts where an upstream fails before it has begun to answer."""
    retry_wait_s: float = Field(default=0.25, ge=0, le=60)
    """Before the first of them, at most; doubled each time."""
    retry_longest_wait_s: float = Field(default=5, ge=0, le=600)
    """The longest wait, also where an upstream's `Retry-After` asks for one."""
    retry_total_s: float = Field(default=30, ge=0)
    """After so long since a request came, no other attempt begins."""
    retry_timeouts: bool = False
    """Whether another attempt follows a time-out, after which the engine may still be at work."""
    fallbacks: dict[str, tuple[str, ...]] = Field(default_factory=dict[str, tuple[str, ...]])
    """By model, those that take its place where nobody can serve it, in this order."""
    places: int | None = Field(default=None, ge=0)
    """How many requests an upstream is asked at once, where it has no number of its own; 0: any. None: the embedded
    model's slots, and any number of other upstreams."""
    queue_length: int = Field(default=2_000, ge=0)
    """How many requests may wait in front of one upstream."""
    queue_length_per_caller: int = Field(default=500, ge=0)
    queue_wait_s: float = Field(default=300, gt=0)
    """How long they wait at most; who would wait longer is turned away at once."""
    limit_concurrent: int = Field(default=0, ge=0)
    """Requests of each user at once, of those who have no limit of their own; 0, here and below: any number."""
    limit_concurrent_per_model: int = Field(default=0, ge=0)
    """Requests of each user at once with any one model."""
    limit_requests_per_minute: int = Field(default=0, ge=0)
    limit_tokens_per_minute: int = Field(default=0, ge=0)
    limit_models: dict[str, int] = Field(default_factory=dict[str, int])
    """Requests at once with a model, of all users together."""
    max_requests: int = Field(default=5_000, ge=1)
    """LLM requests inside the gateway at once, waiting ones included; more are turned away."""
    body_memory_mb: float | None = Field(default=None, gt=0)
    """For the bodies of all requests together; None: four times the largest one."""
    breaker_failures: int = Field(default=5, ge=0)
    """After so many failures in `breaker_window_s`, if they are half of all, an upstream is left alone; 0: never."""
    breaker_window_s: float = Field(default=30, gt=0)
    breaker_open_s: float = Field(default=5, gt=0, le=3_600)
    """For how long, before one request tries; twice as long each time that fails, up to a minute."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "console", "json"] = "auto"
    """auto: console on a terminal, json elsewhere."""

    @classmethod
    def load(cls, config: Path | None = None, **given: Any) -> Settings:
        """Reads every source; `given` is what the command line says, and wins. Raises ConfigurationError."""
        path = config or (Path(os.environ["GEMMAPY_CONFIG"]) if os.environ.get("GEMMAPY_CONFIG") else None)
        if path is not None and not path.is_file():
            raise ConfigurationError(f"There is no configuration file {path}.")
        return cls.of(_of_file(path or Path(CONFIG_NAME)), of_environment(), given)

    @classmethod
    def of(cls, *sources: Mapping[str, Any]) -> Settings:
        """Put together from sources, each of which wins over those before it; a None says nothing. Raises
        ConfigurationError."""
        said = {name: value for source in sources for name, value in source.items() if value is not None}
        try:
            return cls(**said)
        except ValidationError as error:
            raise ConfigurationError(_in_words(error)) from None

    @field_validator("upstreams", mode="before")
    @classmethod
    def _parse_upstreams(cls, value: Any) -> Any:
        entries: Any = [text for text in re.split(r"[,\s]+", value) if text] if isinstance(value, str) else value
        if not isinstance(entries, list | tuple):
            return entries
        given: list[Any] = [*entries]
        return tuple(UpstreamSettings.parse(entry) if isinstance(entry, str) else entry for entry in given)

    @field_validator("upstreams", mode="after")
    @classmethod
    def _name_upstreams(cls, value: tuple[UpstreamSettings, ...]) -> tuple[UpstreamSettings, ...]:
        named: dict[str, UpstreamSettings] = {}
        for upstream in value:
            name = upstream.name or upstream.kind
            if not upstream.name:
                count = 2
                while name in named:
                    name, count = f"{upstream.kind}{count}", count + 1
            if name in named:
                raise ValueError(f"two upstreams are named {name!r}")
            variable = f"{PREFIX}UPSTREAM_{re.sub(r'[^A-Za-z0-9]', '_', name).upper()}_API_KEY"
            key = upstream.api_key or (SecretStr(os.environ[variable]) if os.environ.get(variable) else None)
            named[name] = upstream.model_copy(update={"name": name, "api_key": key})
        return tuple(named.values())

    @field_validator("trusted_proxies", "cors_origins", "compare_models", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(text for text in re.split(r"[,\s]+", value) if text) if isinstance(value, str) else value

    @field_validator("fallbacks", mode="before")
    @classmethod
    def _parse_fallbacks(cls, value: Any) -> Any:
        return parse_fallbacks(value) if isinstance(value, str) else value

    @field_validator("fallbacks", mode="after")
    @classmethod
    def _check_fallbacks(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for model, others in value.items():
            if not others or not all(others) or model in others or len(set(others)) < len(others):
                raise ValueError(f"the models after {model!r} must be others than it, each once, and at least one")
        return value

    @field_validator("limit_models", mode="before")
    @classmethod
    def _parse_limit_models(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        pairs = [text.rpartition("=") for text in re.split(r"[,\s]+", value) if text]
        if not all(model and number.isdecimal() for model, _, number in pairs):
            raise ValueError(f"{value!r} is not MODEL=NUMBER, several with commas between them")
        return {model: int(number) for model, _, number in pairs}

    @field_validator("limit_models", mode="after")
    @classmethod
    def _check_limit_models(cls, value: dict[str, int]) -> dict[str, int]:
        if not all(model and number >= 1 for model, number in value.items()):
            raise ValueError("each model's number must be 1 or more")
        return value

    @field_validator("trusted_proxies", mode="after")
    @classmethod
    def _check_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            ipaddress.ip_network(network, strict=False)
        return value

    @field_validator("base_path", mode="after")
    @classmethod
    def _check_base_path(cls, value: str) -> str:
        if value and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+/?", value):
            raise ValueError("base_path must look like /llm")
        return value.rstrip("/")

    @field_validator("secret", mode="after")
    @classmethod
    def _check_secret(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < 32:
            raise ValueError("the secret must have at least 32 characters")
        return value

    @field_validator("admin_password", mode="after")
    @classmethod
    def _check_admin_password(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not 8 <= len(value.get_secret_value()) <= 1024:
            raise ValueError("the first admin's password must have 8 to 1024 characters")
        return value

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key go together")
        for path in (self.tls_cert, self.tls_key):
            if path is not None and not path.is_file():
                raise ValueError(f"there is no file {path}")
        return self

    @model_validator(mode="after")
    def _check_body_memory(self) -> Self:
        if self.body_memory_mb is not None and self.body_memory_mb < 2 * self.max_body_mb:
            least = 2 * self.max_body_mb
            raise ValueError(
                f"body_memory_mb must be at least twice max_body_mb, {least:g}, got {self.body_memory_mb:g}"
            )
        return self

    @property
    def body_memory_bytes(self) -> int:
        return int((self.body_memory_mb or 4 * self.max_body_mb) * 1024 * 1024)

    @property
    def max_body_bytes(self) -> int:
        return int(self.max_body_mb * 1024 * 1024)

    @property
    def url(self) -> str:
        """Where a person on this machine finds the gateway."""
        host = "localhost" if self.host in ("127.0.0.1", "0.0.0.0", "::", "::1") else self.host  # noqa: S104
        return f"{'https' if self.tls_cert else 'http'}://{host}:{self.port}{self.base_path}"


def parse_fallbacks(text: str) -> dict[str, tuple[str, ...]]:
    """Reads `llama3>mistral>phi4`, several with commas or spaces between them. Raises ValueError."""
    chains: dict[str, tuple[str, ...]] = {}
    for chain in re.split(r"[,\s]+", re.sub(r"\s*>\s*", ">", text.strip())):
        if chain:
            model, *others = chain.split(">")
            if not model or not others or model in chains:
                raise ValueError(f"{chain!r} is not MODEL>OTHER or MODEL>OTHER>ANOTHER, once for each model")
            chains[model] = tuple(others)
    return chains


def _of_file(path: Path) -> dict[str, Any]:
    """What the configuration file says; nothing where there is none. Raises ConfigurationError."""
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}.") from None


def of_environment() -> dict[str, str]:
    """What `GEMMAPY_*` say; an empty one says nothing. A misspelt one would be ignored in silence, so it is an error.

    Raises ConfigurationError.
    """
    variables = {PREFIX + name.upper(): name for name in Settings.model_fields}
    for name in os.environ:
        if name.startswith(PREFIX) and name not in {*variables, "GEMMAPY_CONFIG"} and not _UPSTREAM_KEY.fullmatch(name):
            near = difflib.get_close_matches(name, variables, 1)
            raise ConfigurationError(f"{name} is not a setting." + (f" Do you mean {near[0]}?" if near else ""))
    return {name: os.environ[variable] for variable, name in variables.items() if os.environ.get(variable)}


def _in_words(error: ValidationError) -> str:
    """A ValidationError without the values, which may be secrets."""
    parts: list[str] = []
    for problem in error.errors(include_input=False, include_url=False):
        where = ".".join(str(step) for step in problem["loc"])
        text = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(where, Settings.model_fields, 1)
            text = "there is no such setting" + (f"; do you mean {near[0]}?" if near else "")
        parts.append(f"{where}: {text}" if where else text)
    return "; ".join(parts)
