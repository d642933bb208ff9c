"""Quotes values of peers for errors and logs: short, on one line, and without control characters.

Rule: only the part of a value that is shown is read, so that quoting a large value costs little.
"""

from __future__ import annotations

from reprlib import Repr

#: The most characters of a text, and the most bytes of a bytes value, that are quoted.
LONGEST_QUOTE = 200

_short = Repr()
_short.maxlevel = 3
_short.maxstring = _short.maxother = _short.maxlong = LONGEST_QUOTE
_short.maxdict = _short.maxlist = _short.maxtuple = _short.maxset = _short.maxfrozenset = 6


def quoted(value: object) -> str:
    """The value as Python writes it, cut if it is long: `'maths'`, `'aaaa'... (60,000,000 characters)`.

    Never raises. Never looks deeper than three levels into a value.
    """
    if isinstance(value, str):
        return repr(value) if len(value) <= LONGEST_QUOTE else f"{value[:LONGEST_QUOTE]!r}... ({len(value):,} characters)"
    if isinstance(value, bytes):
        return repr(value) if len(value) <= LONGEST_QUOTE else f"{value[:LONGEST_QUOTE]!r}... ({len(value):,} bytes)"
    try:
        return _short.repr(value)
    except Exception:
        return f"<{type(value).__name__}>"


def plain(text: str) -> str:
    """A short text without quotes, for the middle of a sentence: control characters are escaped."""
    return quoted(text)[1:-1] if len(text) <= LONGEST_QUOTE else quoted(text)
