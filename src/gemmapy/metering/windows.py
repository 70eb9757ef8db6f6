"""What window an answer is of, said in the answer."""

from __future__ import annotations

from gemmapy.core.periods import Window
from gemmapy.metering.answers import AnsweredWindow


def answered(asked: Window, span: Window) -> AnsweredWindow:
    """The window that was answered, and whether it is another than was asked for."""
    return {"from": span.start.isoformat(), "to": span.end.isoformat(), "snapped": span != asked}
