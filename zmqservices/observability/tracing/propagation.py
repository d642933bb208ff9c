"""Internal: sends traces in headers, and decides which of them are sampled.

Rule 1: OpenTelemetry's sampler decides. The usual samplers describe their rule as a text; their decision is computed here, which
takes a tenth of the time.
Rule 2: the headers of new traces are made many at a time, and the context of an unsampled trace has a span only if code looks at
it: see `NewTraces` and `UnsampledContext`.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import getrandbits
from typing import Any

from zmqservices.observability.traceparent import TRACEPARENT, bound_of, is_unsampled, parts_of, sampled, unsampled
from zmqservices.observability.tracing.library import (
    INVALID_SPAN,
    NOTHING,
    Context,
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    get_current,
    get_current_span,
    get_global_textmap,
    inject,
    set_span_in_context,
)
from zmqservices.observability.tracing.new_traces import NewTraces, new_span_id
from zmqservices.observability.tracing.reading import BAGGAGE, TRACESTATE, extracted
from zmqservices.observability.tracing.unsampled_context import UnsampledContext, header_in

W3C_HEADERS = {TRACEPARENT, TRACESTATE, BAGGAGE}

class Sampling:
    """The decisions of a provider's sampler that can be made without asking it."""

    def __init__(self, description: str) -> None:
        #: Whether traces travel in W3C's headers alone, so that one can be written and read without the library.
        self.is_plain = {TRACEPARENT} <= get_global_textmap().fields <= W3C_HEADERS
        #: Whether a trace that its first process does not sample is not sampled here either.
        self.follows = "remoteParentNotSampled:AlwaysOffSampler" in description
        #: Whether it is enough to read the header of a trace that is not sampled.
        self.reads = self.is_plain and self.follows
        #: The bound below which a new trace's id is sampled (see `bound_of`). None if the sampler must be asked.
        self.bound = bound_of(description) if self.is_plain else None
        #: The headers of the traces that begin here; None if the sampler must be asked about each.
        self.new = None if self.bound is None else NewTraces(self.bound)

    def parent_of_sampled(self, headers: dict[str, Any]) -> Context | None:
        """The parent of a span that begins here. None if the trace is not sampled, which `headers` then say."""
        here = get_current()
        if type(here) is UnsampledContext:
            header = headers.get(TRACEPARENT)
            if type(header) is not str or not is_unsampled(header):  # As that of a standalone client that a worker uses.
                headers[TRACEPARENT] = header_in(here.data)
                if BAGGAGE in here.data:
                    headers.setdefault(BAGGAGE, here.data[BAGGAGE])
            return None
        if not here and self.reads:
            header = headers.get(TRACEPARENT)
            if header is None:
                if self.new is not None:
                    header = self.new.next()
                    if header is not None:
                        headers[TRACEPARENT] = header
                        return None
                    return self.begun(headers)
            elif type(header) is str and is_unsampled(header):
                return None
        parent = self.decided(self._parent(headers))
        if not self.is_unsampled(parent):
            return parent
        header = headers.get(TRACEPARENT)
        if here or type(header) is not str or not is_unsampled(header):  # Malformed, so that the trace begins here.
            inject(headers, parent)
        return None

    def begun_header(self) -> str:
        """The header of the first span of a sampled trace."""
        bits = getrandbits(64) * (self.bound or 0) >> 64
        return sampled(getrandbits(64) << 64 | bits, new_span_id())

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
