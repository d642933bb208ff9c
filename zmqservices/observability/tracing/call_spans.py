"""Internal: the spans of outgoing calls."""

from __future__ import annotations

from zmqservices.observability.statistics import OTHER, UNKNOWN_TARGETS, error_name
from zmqservices.observability.traceparent import TRACEPARENT, unsampled
from zmqservices.observability.tracing.attributes import LONGEST_TEXT, SYSTEM, failed
from zmqservices.observability.tracing.library import Span, SpanKind, get_current, inject, set_span_in_context
from zmqservices.observability.tracing.propagation import random_digits
from zmqservices.observability.tracing.tracers import Tracers
from zmqservices.probes import OutgoingCall


class CallSpans:
    """The spans of the calls that this process makes."""

    def __init__(self, tracers: Tracers) -> None:
        self._tracers = tracers
        self._sampling = tracers.sampling
        #: A trace that a call begins outside of any worker is sampled if the digits of its id are less than this. None: ask the
        #: sampler.
        self._edge = tracers.sampling.edge if tracers.sampling.reads else None
        #: The spans of sampled calls that are under way.
        self.open: dict[OutgoingCall, Span] = {}

    def began(self, call: OutgoingCall) -> None:
        """Begin the span of this call, if its trace is sampled, and write the trace into its headers."""
        headers = call.headers
        if headers is None:
            headers = call.headers = {}
        edge = self._edge
        if edge is not None and TRACEPARENT not in headers and not get_current():
            # The usual case of `Sampling.parent_of_sampled`, in few steps.
            digits = random_digits()
            if digits >= edge:
                headers[TRACEPARENT] = unsampled(digits)
                return
            parent = self._sampling.begun(headers)
        else:
            followed = self._sampling.parent_of_sampled(headers)
            if followed is None:
                return
            parent = followed
        method = f"{call.service}/{call.method}"
        known = {"rpc.system.name": SYSTEM, "rpc.method": method}
        span = self._tracers.light(method, parent, SpanKind.CLIENT, known, headers)
        if span is None:
            span = self._tracers.current().start_span(method, parent, SpanKind.CLIENT)
            inject(headers, set_span_in_context(span, parent))
            if not span.is_recording():
                return
            span.set_attributes(known)
        self.open[call] = span

    def ended(self, call: OutgoingCall) -> None:
        """End the span of this call."""
        span = self.open.pop(call, None) if self.open else None
        if span is None:
            return
        if call.moves:
            span.set_attribute("zmqservices.moves", call.moves)
        if call.error is not None:
            name = error_name(call.error)
            if name.rpartition(".")[2] in UNKNOWN_TARGETS:
                span.update_name(OTHER)
                span.set_attributes({"rpc.method": OTHER, "rpc.method_original": f"{call.service}/{call.method}"[:LONGEST_TEXT]})
            span.set_attribute("error.type", name)
            span.set_status(failed(name))
        span.end()
