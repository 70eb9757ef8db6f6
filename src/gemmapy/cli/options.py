"""Options that several commands have, and how they open the data."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from gemmapy.config import Settings
from gemmapy.core.errors import ConfigurationError
from gemmapy.storage.engine import database_path
from gemmapy.storage.store import Store

Data = Annotated[
    Path | None, typer.Option("--data", metavar="DIR", help="The data folder. [GEMMAPY_DATA; default: ./data]")
]
Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Settings. [GEMMAPY_CONFIG; default: ./gemmapy.toml]")
]


def parse_moment(text: str) -> datetime:
    """A moment as people write it: `2026-12-01` is its first second in UTC, `2026-12-01T08:00+01:00` an hour there."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a moment such as 2026-12-01 or 2026-12-01T08:00+01:00.") from None
    if moment.tzinfo is None and len(text) > len("2026-12-01"):
        raise typer.BadParameter(f"{text!r} needs a time zone, as in {text}Z or {text}+01:00.")
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


Moment = Annotated[
    datetime | None,
    typer.Option("--at", metavar="MOMENT", parser=parse_moment, help="A day, or a time with its zone (ISO 8601)."),
]


Concurrent = Annotated[str | None, typer.Option(metavar="N", help="Requests at once.")]
Requests = Annotated[str | None, typer.Option(metavar="N", help="Requests a minute.")]
Tokens = Annotated[str | None, typer.Option(metavar="N", help="Tokens a minute.")]


def whole(text: str | None) -> int | Literal[""] | None:
    """A limit as it was given: a number, `default` for none of one's own, nothing at all for unchanged (`""`)."""
    if text is None:
        return ""
    if text == "default":
        return None
    if not text.isdecimal():
        raise typer.BadParameter(f"{text!r} is neither a whole number nor 'default'.")
    return int(text)


def share(text: str | None) -> float | Literal[""] | None:
    """The same for a weight."""
    try:
        weight = float(text) if text not in (None, "default") else None
    except ValueError:
        weight = 0.0
    if weight is not None and not 0.01 <= weight <= 1000:
        raise typer.BadParameter(f"{text!r} is neither a number from 0.01 to 1000 nor 'default'.")
    return "" if text is None else weight


def said(value: float | None) -> str:
    """A limit as it is shown."""
    return "default" if value is None else f"{value:g}"


@contextmanager
def opened(data: Path | None, config: Path | None = None) -> Generator[Store]:
    """The store of an existing data folder, beside a running gateway or without one.

    Raises ConfigurationError where there is no data: a mistyped folder must not be made.
    """
    settings = Settings.load(config, data=data)
    if not database_path(settings.data).is_file():
        raise ConfigurationError(
            f"There are no data in {settings.data.resolve()}.", hint="Give the gateway's folder with --data."
        )
    with Store.open(settings.data) as store:
        yield store


def table(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Prints rows under headings, as wide as they need to be."""
    texts = [["" if cell is None else str(cell) for cell in row] for row in rows]
    widths = [max(len(line[place]) for line in [list(headings), *texts]) for place in range(len(headings))]
    for line in [list(headings), *texts]:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
