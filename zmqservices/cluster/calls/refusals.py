"""Makes the errors that a call server sends: refusals by code, and shortened errors that fit into a message."""

from __future__ import annotations

from typing import Any

#: The most characters of each text of an error that is too large for a message.
LONGEST_ERROR_TEXT = 10_000

#: The exception that a refusal becomes at the caller, by code.
_EXC_TYPES = {
    "draining": "Draining",
    "overloaded": "Overloaded",
    "expired": "RpcTimeout",
    "unknown-service": "UnknownService",
    "cancelled": "CallCancelled",
    "forbidden": "Forbidden",
}


def refusal(code: str, value: str) -> dict[str, Any]:
    """The error of a call that did not run; `value` is its text."""
    exc_type = _EXC_TYPES.get(code, "ProtocolError")
    return {"exc_type": exc_type, "exc_path": "", "exc_args": [value], "value": value, "code": code}


def shortened(error: dict[str, Any]) -> dict[str, Any]:
    """An error that cannot be sent, with its fields as short texts. (A frame that is too large would end the link.)"""
    texts = {key: _short_text(str(value)) for key, value in error.items() if key != "exc_args"}
    return {**texts, "exc_args": []}


def _short_text(text: str) -> str:
    if len(text) > LONGEST_ERROR_TEXT:
        text = f"{text[:LONGEST_ERROR_TEXT]}... ({len(text):,} characters)"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
