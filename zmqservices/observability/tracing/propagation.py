"""Internal: sends traces in headers, and decides which of them are sampled.

Rule 1: OpenTelemetry's sampler decides. The usual samplers describe their rule as a text; their decision is computed here, which
takes a tenth of the time.
Rule 2: all unsampled traces share one context of OpenTelemetry. Its span looks up the ids of its trace when they are asked for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextvars import ContextVar
from random import getrandbits
from typing import Any

from zmqservices.observability.traceparent import TRACEPARENT, bound_of, edge_of, is_unsampled, parts_of, unsampled
from zmqservices.observability.tracing.library import (
    INVALID_SPAN,
    NOTHING,
    Context,
    Getter,
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    extract,
    get_current,
    get_current_span,
    get_global_textmap,
    inject,
    set_span_in_context,
)

BAGGAGE = "baggage"
TRACESTATE = "tracestate"
W3C_HEADERS = {TRACEPARENT, TRACESTATE, BAGGAGE}

#: The flags of a trace that begins here and is sampled: its id is random.
BEGUN = TraceFlags(3)

#: Traces for which random digits are drawn together; drawing for each alone takes several times as long.
DRAWN = 256

#: The part of the drawn digits that belongs to each trace.
_PARTS = [slice(place, place + 16) for place in range(0, 16 * DRAWN, 16)]

#: 16 hexadecimal digits for each of the next traces.
_drawn: list[str] = []

# Otherwise a forked child would give traces the ids that its parent gives.
os.register_at_fork(after_in_child=_drawn.clear)


def random_digits() -> str:
    """16 random hexadecimal digits, the lower half of a trace's id."""
    while True:
        try:
            return _drawn.pop()
        except IndexError:
            fresh = os.urandom(8 * DRAWN).hex()
            _drawn.extend(map(fresh.__getitem__, _PARTS))


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


def header_of(spoken: SpanContext) -> str:
    """The `traceparent` that names this span as the parent."""
    return f"00-{spoken.trace_id:032x}-{spoken.span_id:016x}-{spoken.trace_flags:02x}"


class _Unsampled(NonRecordingSpan):
    """The span of all traces that are not sampled. The ids of the trace at hand are looked up when they are asked for."""

    def __init__(self) -> None:
        pass  # Not the base's: there is no context yet.

    def __repr__(self) -> str:
        return f"NonRecordingSpan({self.get_span_context()!r})"

    def get_span_context(self) -> SpanContext:
        trace, span, flags = parts_of(header_here())
        return SpanContext(trace, span, True, TraceFlags(flags))


#: The context of OpenTelemetry in which all code of an unsampled trace runs. Spans that this code opens are not sampled either.
UNSAMPLED = set_span_in_context(_Unsampled(), NOTHING)

#: The context data of the worker whose trace is not sampled, where UNSAMPLED is the context. A copy of the worker's context has
#: both.
data_here: ContextVar[dict[str, Any]] = ContextVar("zmqservices-unsampled-data")


def header_here() -> str:
    """The header of the unsampled trace of the code that runs here."""
    data = data_here.get(None)
    header = None if data is None else data.get(TRACEPARENT)
    if type(header) is str and is_unsampled(header):
        return header
    header = unsampled(random_digits())
    if data is not None:
        data[TRACEPARENT] = header  # The application removed the first header; this one replaces it.
    return header


class Sampling:
    """The decisions of a provider's sampler that can be made without asking it."""

    def __init__(self, description: str) -> None:
        #: Whether traces travel in W3C's headers alone, so that one can be written and read without the library.
        self.is_plain = get_global_textmap().fields <= W3C_HEADERS
        #: Whether a trace that its first process does not sample is not sampled here either.
        self.follows = "remoteParentNotSampled:AlwaysOffSampler" in description
        #: Whether it is enough to read the header of a trace that is not sampled.
        self.reads = self.is_plain and self.follows
        #: The bound below which a new trace's id is sampled (see `bound_of`). None if the sampler must be asked.
        self.bound = bound_of(description) if self.is_plain else None
        #: The same bound as hexadecimal digits.
        self.edge = None if self.bound is None else edge_of(self.bound)

    def parent_of_sampled(self, headers: dict[str, Any]) -> Context | None:
        """The parent of a span that begins here. None if the trace is not sampled, which `headers` then say."""
        here = get_current()
        if here is UNSAMPLED:
            header = headers.get(TRACEPARENT)
            if type(header) is not str or not is_unsampled(header):  # As that of a standalone client that a worker uses.
                headers[TRACEPARENT] = header_here()
            return None
        if not here and self.reads:
            header = headers.get(TRACEPARENT)
            if header is None:
                if self.edge is not None:
                    digits = random_digits()
                    if digits >= self.edge:
                        headers[TRACEPARENT] = unsampled(digits)
                        return None
                    return self.begun(headers)
            elif type(header) is str and is_unsampled(header):
                return None
        parent = self.decided(self._parent(headers))
        if not self.is_unsampled(parent):
            return parent
        if here or TRACEPARENT not in headers:
            inject(headers, parent)
        return None

    @staticmethod
    def begun(headers: Mapping[str, Any]) -> Context:
        """The parent of the first span of a sampled trace, outside of workers: a context with baggage at most."""
        return extracted(headers) if BAGGAGE in headers else NOTHING

    def decided(self, parent: Context) -> Context:
        """`parent`. If it has no trace and the new trace is not sampled, the context says so."""
        if self.bound is None or get_current_span(parent).get_span_context().is_valid:
            return parent
        bits = getrandbits(64)
        if bits < self.bound:
            return parent
        trace, span, flags = parts_of(unsampled(f"{bits:016x}"))
        return set_span_in_context(NonRecordingSpan(SpanContext(trace, span, True, TraceFlags(flags))), parent)

    @staticmethod
    def _parent(headers: Mapping[str, Any] | None) -> Context:
        """The context of the code that runs here; without a span in it, the context that the headers carry."""
        here = get_current()
        if headers and TRACEPARENT in headers and get_current_span(here) is INVALID_SPAN:
            return extracted(headers, here)
        return here

    def is_unsampled(self, parent: Context) -> bool:
        """Whether the trace is known not to be sampled, so that none of its spans need be made."""
        if not self.follows:
            return False
        spoken = get_current_span(parent).get_span_context()
        return spoken.is_valid and not spoken.trace_flags.sampled
