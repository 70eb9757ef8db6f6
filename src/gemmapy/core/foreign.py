"""JSON from elsewhere, of a client or an upstream: what decoding it can raise, whatever it holds.

`msgspec` checks what it is asked for and skips the rest, so a text that passed one look can fail a closer one.
"""

from __future__ import annotations

import msgspec

ABSENT = msgspec.Raw()
"""The default of a field that may not be there, known by its identity."""
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError)
"""Not JSON or of another shape; bytes that are not UTF-8; brackets nested past the stack; numbers past a double."""
