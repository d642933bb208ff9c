"""Internal: the spans of outgoing calls."""

from __future__ import annotations

from typing import Any

from zmqservices.observability.statistics import OTHER, UNKNOWN_TARGETS, error_name
from zmqservices.observability.traceparent import TRACEPARENT
from zmqservices.observability.tracing.attributes import LONGEST_TEXT, SYSTEM, failed
from zmqservices.observability.tracing.library import Context, Span, SpanKind, get_current, inject, set_span_in_context
from zmqservices.observability.tracing.tracers import Tracers
from zmqservices.probes import OutgoingCall, guards_itself, ignore

#: Looked up once, which takes as long as making a dict.
CLIENT = SpanKind.CLIENT


class CallSpans:
    """The spans of the calls that this process makes."""

    def __init__(self, tracers: Tracers) -> None:
        self._tracers = tracers
        self._sampling = tracers.sampling
        #: The traces that calls begin outside of any worker. None if the sampler must be asked about each.
        self._new = tracers.sampling.new if tracers.sampling.reads else None
        #: The spans of sampled calls that are under way.
        self.open: dict[OutgoingCall, Span] = {}

    @guards_itself
    def began(self, call: OutgoingCall) -> None:
        """Begin the span of this call, if its trace is sampled, and write the trace into its headers."""
        try:
            headers = call.headers
            if headers is None:
                headers = call.headers = {}
            if TRACEPARENT in headers or self._new is None or get_current():
                parent = self._sampling.parent_of_sampled(headers)
                if parent is not None:
                    self._begin(call, headers, parent)
                return
            # The usual case of `parent_of_sampled`, in few steps.
            try:
                header = self._new.ready.pop()
            except IndexError:
                header = self._new.next()
            if header is None:
                self._begin(call, headers, self._sampling.begun(headers))
            else:
                headers[TRACEPARENT] = header
        except BaseException as exc:
            ignore(exc, self, "call_began")

    def _begin(self, call: OutgoingCall, headers: dict[str, Any], parent: Context) -> None:
        """Begin the span of a sampled call."""
        span = self._tracers.light(CLIENT, parent, headers, _of_call, call)
        if span is None:
            name, known = _of_call(call)
            span = self._tracers.start(self._tracers.current(), name, parent, CLIENT, known)
            inject(headers, set_span_in_context(span, parent))
            if not span.is_recording():
                return
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


def _of_call(call: OutgoingCall) -> tuple[str, dict[str, Any]]:
    """The name of the span of a call, and its attributes."""
    method = f"{call.service}/{call.method}"
    return method, {"rpc.system.name": SYSTEM, "rpc.method": method}
