"""Internal: reads the trace and the baggage in the headers from a peer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zmqservices.observability.tracing.library import NOTHING, Context, Getter, extract

BAGGAGE = "baggage"
TRACESTATE = "tracestate"


class _Texts(Getter[Mapping[str, Any]]):
    """Reads headers from a peer. A peer may send anything, so values that are not texts are ignored."""

    def get(self, carrier: Mapping[str, Any], key: str) -> list[str] | None:
        value = carrier.get(key)
        return [value] if isinstance(value, str) else None

    def keys(self, carrier: Mapping[str, Any]) -> list[str]:
        return [key for key in carrier if isinstance(key, str)]


_TEXTS = _Texts()


def extracted(headers: Mapping[str, Any], onto: Context = NOTHING) -> Context:
    """`onto`, with the trace and the baggage that travel in the headers."""
    return extract(headers, onto, _TEXTS)
