"""Logs: structlog over the standard library's logging, so that libraries' messages come out in one form.

Redaction is the last line of defence, not the first: no module logs a credential. Whatever still looks like one (an API
key, a JWT, a bearer header, the key in a `/k/<key>/` path) is blanked before it is written.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Literal

from gemmapy.core.loading import without

with without("rich"):  # for tracebacks that are never printed so; 20 ms and 3 MiB
    import structlog

_SECRETS = re.compile(
    r"gp-[A-Za-z0-9_-]{8,}"
    r"|eyJ[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"
    r"|(?<=/k/)[^/\s\"']+"
    r"|(?i:(?<=bearer )[^\s\"']+)"
)
_SECRET_NAMES = frozenset({"password", "new_password", "token", "api_key", "key", "secret", "authorization"})
BLANK = "[redacted]"


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
"""But for tabs and line feeds, which tracebacks are made of."""


def redact(text: str) -> str:
    """The text with everything that looks like a credential blanked."""
    return _SECRETS.sub(BLANK, text)


def _redact_event(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in event.items():
        if name in _SECRET_NAMES:
            event[name] = BLANK
        elif isinstance(value, str):
            event[name] = _plain(redact(value))
    # What somebody else has put into a message must not look like another message.
    event["event"] = str(event.get("event", "")).replace("\n", "\\n")
    return event


def _plain(text: str) -> str:
    """A text that does nothing to a terminal: what a model server or a client called something may be anything."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def configure(level: str = "info", form: Literal["auto", "console", "json"] = "auto") -> None:
    """Sets logging up for the process; standard error takes it all."""
    as_json = form == "json" or (form == "auto" and not sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(),
    ]
    # A traceback becomes text before it is redacted; the console's own rendering would come after.
    final: list[Any] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        _redact_event,
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=final))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Routine talk of libraries: uvicorn's access log holds whole URLs, keys in paths included.
    logging.getLogger("uvicorn.access").disabled = True
    for noisy in ("uvicorn", "uvicorn.error", "alembic", "asyncio"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
