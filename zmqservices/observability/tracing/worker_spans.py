"""Internal: the spans of workers: calls that are served, events that are handled, requests and ticks."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import Token
from typing import Any, TypeAlias

from zmqservices.observability.statistics import type_name
from zmqservices.observability.traceparent import LAST_DIGIT, TRACEPARENT, child_of, is_sampled, is_unsampled
from zmqservices.observability.tracing.attributes import EntrypointKind, failed, http_status, kind_of, of_worker, request_of
from zmqservices.observability.tracing.library import (
    NOTHING,
    SPAN,
    TRACER,
    Context,
    Link,
    Span,
    SpanKind,
    Tracer,
    attach,
    detach,
    get_current_span,
    inject,
    set_span_in_context,
)
from zmqservices.observability.tracing.light_spans import LightSpan
from zmqservices.observability.tracing.new_traces import new_span_id
from zmqservices.observability.tracing.reading import BAGGAGE, TRACESTATE, extracted
from zmqservices.observability.tracing.tracers import Tracers
from zmqservices.observability.tracing.unsampled_context import UnsampledContext, unsampled_context
from zmqservices.probes import ExcInfo, guards_itself, ignore

#: The span of a running worker whose trace is sampled, and the token that ends its context.
OpenSpan: TypeAlias = tuple[Span, Token[Context]]


class WorkerSpans:
    """The spans of the workers of this process."""

    def __init__(self, tracers: Tracers) -> None:
        self._tracers = tracers
        self._sampling = tracers.sampling
        self._new = tracers.sampling.new
        self._kinds: dict[Any, EntrypointKind] = {}
        #: The spans of running workers whose traces are sampled.
        self.open: dict[Any, OpenSpan] = {}

    def _kind_of(self, worker_ctx: Any) -> EntrypointKind:
        entrypoint = worker_ctx.entrypoint
        found = self._kinds.get(entrypoint)
        if found is None:
            found = self._kinds[entrypoint] = kind_of(entrypoint, worker_ctx.container)
        return found

    def forget(self, instance: str) -> None:
        """This instance of a service has stopped."""
        for entrypoint in [entrypoint for entrypoint, of in self._kinds.items() if of.instance == instance]:
            del self._kinds[entrypoint]
        # Probes are not told when a worker that was killed ends.
        for worker_ctx in [each for each in list(self.open) if each.container.instance_id == instance]:
            del self.open[worker_ctx]

    @guards_itself
    def started(self, worker_ctx: Any) -> None:
        """Begin the span of this worker, if its trace is sampled, and put the trace into the context of its code.

        For samplers that follow the parent. Otherwise, call `started_in_full`.
        """
        try:
            data = worker_ctx.data
            try:
                # A trace that is not sampled, in few steps. The rest of the header is checked when code asks for the trace. So a
                # malformed header with this digit begins a new trace that no sampler is asked about. Its sender could as well
                # have sent a valid one. The context is not detached: the worker's pool throws it away after the job.
                if data[TRACEPARENT][LAST_DIGIT] == "0":
                    here = UnsampledContext()
                    here.data = data
                    attach(here)
                    return
            except (TypeError, LookupError):
                pass  # There is no header, or it is malformed.
            self.started_in_full(worker_ctx)
        except BaseException as exc:
            ignore(exc, self, "worker_started")

    def started_in_full(self, worker_ctx: Any) -> None:
        """As `started`, for any header and any sampler."""
        data = worker_ctx.data
        header = data.get(TRACEPARENT)
        if not self._sampling.reads:
            self._begin(worker_ctx, None)
        elif header is None and BAGGAGE not in data and self._new is not None and not self._kind_of(worker_ctx).is_http:
            begun = self._new.next()
            if begun is not None:
                data[TRACEPARENT] = begun
                attach(unsampled_context(data))
            elif self._may_be_light(worker_ctx):
                self._begin_lightly(worker_ctx, None, self._sampling.begun_header())
            else:
                self._begin(worker_ctx, NOTHING)
        elif type(header) is not str:
            self._begin(worker_ctx, None)
        elif is_sampled(header) and self._may_be_light(worker_ctx):
            self._begin_lightly(worker_ctx, header, child_of(header, new_span_id()))
        elif is_unsampled(header):
            attach(unsampled_context(data))
        else:
            self._begin(worker_ctx, None)

    def _may_be_light(self, worker_ctx: Any) -> bool:
        data = worker_ctx.data
        return self._tracers.is_light and worker_ctx.event is None and BAGGAGE not in data and TRACESTATE not in data

    def _begin_lightly(self, worker_ctx: Any, parent: str | None, header: str) -> None:
        """Begin a sampled worker for which `_may_be_light` is true."""
        of, tracers = self._kind_of(worker_ctx), self._tracers
        origin = tracers.origin(of.service, of.instance)
        span = LightSpan(origin, header, parent, True, of.kind, of_worker, worker_ctx, of, not tracers.is_own)
        worker_ctx.data[TRACEPARENT] = header
        here = Context({SPAN: span, TRACER: tracers.of(of.service, of.instance)})
        self.open[worker_ctx] = span, attach(here)

    def _begin(self, worker_ctx: Any, parent: Context | None) -> None:
        """Begin a worker whose trace is sampled, or may be. `parent` is given if the trace begins here and is sampled."""
        of, data = self._kind_of(worker_ctx), worker_ctx.data
        carrier = data
        if parent is None:
            carrier = _headers(worker_ctx, of)
            parent = self._sampling.decided(extracted(carrier))
        if self._sampling.is_unsampled(parent):
            if carrier is not data or TRACEPARENT not in data:
                inject(data, parent)
            attach(parent)
            return
        tracer = self._tracers.of(of.service, of.instance)
        span = self._start(tracer, worker_ctx, of, parent)
        here = set_span_in_context(span, parent)
        # Calls and events from here name this span as their parent, even if they are sent later (by an outbox).
        inject(data, here)
        self.open[worker_ctx] = span, attach(Context({**here, TRACER: tracer}))

    def _start(self, tracer: Tracer, worker_ctx: Any, of: EntrypointKind, parent: Context) -> Span:
        kind, links = of.kind, None
        if worker_ctx.event is not None:
            kind = SpanKind.CONSUMER
            sent = get_current_span(parent).get_span_context()
            links = [Link(sent)] if sent.is_valid else None
        name, known = of_worker(worker_ctx, of, names_service=not self._tracers.is_own)
        return self._tracers.start(tracer, name, parent, kind, known, links)

    def ended(self, worker_ctx: Any, exc_info: ExcInfo | None) -> None:
        """End the span of this worker."""
        open_span = self.open.pop(worker_ctx, None) if self.open else None
        if open_span is None:
            return  # The worker is not sampled, or began before this probe was attached.
        span, token = open_span
        detach(token)
        is_http = self._kind_of(worker_ctx).is_http
        if (is_http or exc_info is not None) and span.is_recording():
            _note_outcome(span, worker_ctx, exc_info, is_http)
        span.end()

    def dropped(self, worker_ctx: Any, exc: BaseException) -> None:
        """The span of a call that never began."""
        of = self._kind_of(worker_ctx)
        parent = self._sampling.decided(extracted(_headers(worker_ctx, of)))
        if self._sampling.is_unsampled(parent):
            return
        span = self._start(self._tracers.of(of.service, of.instance), worker_ctx, of, parent)
        if span.is_recording():
            span.set_attribute("error.type", type_name(type(exc)))
            span.set_status(failed(exc))
        span.end()


def _headers(worker_ctx: Any, of: EntrypointKind) -> Mapping[str, Any]:
    """The headers in which a worker's trace arrived: its context data, or those of its HTTP request."""
    request = request_of(worker_ctx) if of.is_http else None
    if request is None or TRACEPARENT in worker_ctx.data:
        found: Mapping[str, Any] = worker_ctx.data
        return found
    return {name.lower(): value for name, value in request.headers.items()}


def _note_outcome(span: Span, worker_ctx: Any, exc_info: ExcInfo | None, is_http: bool) -> None:
    """Write the error of a worker, and the status of its HTTP response, into its span."""
    expected = worker_ctx.entrypoint.expected_exceptions
    is_expected = exc_info is not None and bool(expected) and isinstance(exc_info[1], expected)
    if is_http:
        span.set_attribute("http.response.status_code", http_status(worker_ctx, exc_info, is_expected))
    if exc_info is not None:
        name, may_quote = type_name(exc_info[0]), bool(worker_ctx.entrypoint.sensitive_arguments)
        if not may_quote:
            span.record_exception(exc_info[1])
        span.set_attribute("error.type", name)
        if not is_expected:
            span.set_status(failed(name if may_quote else exc_info[1]))
