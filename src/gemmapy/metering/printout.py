"""A statement on paper: CSV for a spreadsheet, and a page of HTML that prints."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from decimal import Decimal
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from gemmapy.core.money import NUSD_PER_USD
from gemmapy.metering.answers import Statement

_COLUMNS = (
    *("model", "project", "username", "requests", "errors", "cache_hits", "prompt_tokens", "response_tokens"),
    *("unpriced_requests", "prompt_cost", "response_cost", "other_cost", "cost"),
)
_HEAD = ("statement", "month", "kind", "subject", "line", *_COLUMNS, "corrected_month", "reason")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_PAGE = Path(__file__).with_name("statement.html")


def as_csv(statement: Statement) -> str:
    """One row a line and a correction, then the total; RFC 4180, UTF-8, amounts in dollars with all their decimals."""
    out = io.StringIO()
    writer = csv.writer(out)
    first = [statement["number"], statement["month"], statement["kind"], _text(statement["subject"])]

    def row(kind: str, values: Mapping[str, Any], month: str = "", reason: str = "") -> None:
        cells = [_cell(name, values.get(name)) for name in _COLUMNS]
        writer.writerow([*first, kind, *cells, month, _text(reason)])

    writer.writerow(_HEAD)
    for line in statement["lines"]:
        row("usage", line)
    for correction in statement["corrections"]:
        shown = {"model": correction["model"], "requests": correction["requests"], "cost": correction["cost"]}
        row("correction", shown, correction["month"], correction["reason"])
    total: dict[str, Any] = {name: statement.get(name) for name in _COLUMNS if name not in ("model", "cost")}
    writer.writerow(
        [*first, "total", *(_cell(name, total.get(name)) for name in _COLUMNS[:-1]), _total(statement), "", ""]
    )
    return out.getvalue()


def _cell(name: str, value: Any) -> Any:
    if value is None:
        return ""
    if name.endswith("cost"):
        return exact(round(Decimal(repr(value)) * NUSD_PER_USD))
    return _text(value) if isinstance(value, str) else value


def _text(text: str) -> str:
    """A text that a spreadsheet would take for a formula is marked as a text (OWASP, "CSV Injection")."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def exact(nusd: int) -> str:
    """An amount in dollars with every decimal that it has, two at least, and no exponent: `0.00015`."""
    sign, nusd = ("-", -nusd) if nusd < 0 else ("", nusd)
    decimals = f"{nusd % NUSD_PER_USD:09d}".rstrip("0")
    return f"{sign}{nusd // NUSD_PER_USD}.{decimals:0<2}"


def _total(statement: Statement) -> str:
    return exact(statement["total_nusd"])


def as_html(statement: Statement) -> str:
    """A page that needs nothing else and loads nothing."""
    is_user = statement["kind"] == "user"
    lines = [
        (
            line["model"],
            (line.get("project") if is_user else line.get("username")) or "-",
            f"{line['requests']:,}",
            f"{line['prompt_tokens']:,}",
            f"{line['response_tokens']:,}",
            _cell("cost", line["cost"])
            + (f" ({line['unpriced_requests']:,} unpriced)" * bool(line["unpriced_requests"])),
        )
        for line in statement["lines"]
    ]
    corrections = [
        (f"{c['month']}: {c['model']}", c["reason"], f"{c['requests']:,}", "", "", _cell("cost", c["cost"]))
        for c in statement["corrections"]
    ]
    part = '<tbody><tr class="part"><th colspan="6" scope="rowgroup">Corrections of earlier months</th></tr>'
    total = (
        *("Total", "", f"{statement['requests']:,}", f"{statement['prompt_tokens']:,}"),
        *(f"{statement['response_tokens']:,}", _total(statement)),
    )
    return Template(_PAGE.read_text("utf-8")).substitute(
        number=statement["number"],
        month=escape(statement["month"]),
        kind="User" if is_user else "Project",
        other="Project" if is_user else "User",
        subject=escape(statement["subject"]),
        currency=escape(statement["currency"]),
        closed=escape(statement["closed_at"][:10]),
        lines=_rows(lines),
        corrections=f"{part}{_rows(corrections)}</tbody>" if corrections else "",
        total=_rows([total]),
        notes="".join(f"<p>{escape(note)}</p>" for note in _notes(statement)),
        **{"from": escape(statement["from"][:10]), "to": escape(statement["to"][:10])},
    )


def _notes(statement: Statement) -> list[str]:
    notes: list[str] = []
    if "own_cost" in statement and "charged_to_projects" in statement:
        charged, own = (_cell("cost", statement[name]) for name in ("charged_to_projects", "own_cost"))
        currency = statement["currency"]
        notes.append(f"Of this, {charged} {currency} is charged to projects and {own} {currency} is the user's own.")
    if statement["unpriced_requests"]:
        count = f"{statement['unpriced_requests']:,}"
        notes.append(f"{count} requests used models without a price. They are in no sum of money.")
    return notes


def _rows(rows: Sequence[Sequence[str]]) -> str:
    return "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
