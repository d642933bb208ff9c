"""Spans of calls, events, requests and ticks for OpenTelemetry. Stands on opentelemetry-sdk; the extra is `otel`.

`zmqservices run` uses it where the setting OTEL says so, and exports over OTLP as the environment says (`OTEL_*`). In a program
of your own:

    tracing = Tracing()                     # or Tracing(provider), with a TracerProvider of your own
    probes.attach(tracing)
    ...
    probes.detach(tracing)
    tracing.close()

The names of spans and attributes are those of the semantic conventions for RPC, messaging and HTTP, version 1.45. The context
of a trace (`traceparent`, `tracestate`, `baggage`, or what OTEL_PROPAGATORS names) travels in the context data of calls and
events. A process without OpenTelemetry passes it on, as all context data.

Rule 1: a trace is decided once, where it begins. One that is not sampled costs a header and no span, neither there (if the
sampler is one of those that follow their parent and else go by the id of the trace) nor in the processes that follow.
Rule 2: arguments and results are never recorded. Texts that may quote them are not either: of an entrypoint with
`sensitive_arguments` those of errors and the path of the URL, and those of errors in the spans of callers, who cannot know.
Rule 3: names of spans have few values: unknown methods are `_OTHER`, and types of events are attributes.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Mapping
from importlib.metadata import entry_points, version
from os import environ
from random import getrandbits
from typing import Any, NamedTuple

from gevent import getcurrent

from zmqservices.exceptions import ConfigurationError
from zmqservices.hosting.workers import current_job
from zmqservices.observability.statistics import OTHER, UNKNOWN_TARGETS, error_name, type_name
from zmqservices.observability.traceparent import TRACEPARENT, bound_of, is_unsampled, parts_of, sampled_parts, unsampled
from zmqservices.probes import ExcInfo, OutgoingCall, Probe

try:
    from opentelemetry import context as contexts
    from opentelemetry import propagate
    from opentelemetry.context import Context
    from opentelemetry.propagators.textmap import Getter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SynchronousMultiSpanProcessor, TracerProvider
    from opentelemetry.sdk.trace import Tracer as SdkTracer
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import (
        INVALID_SPAN,
        Link,
        NonRecordingSpan,
        Span,
        SpanContext,
        SpanKind,
        Status,
        StatusCode,
        TraceFlags,
        Tracer,
        get_current_span,
        get_tracer_provider,
        set_span_in_context,
    )
except ImportError as error:
    raise ImportError("opentelemetry-sdk is not installed; `pip install zmqservices[otel]` brings it") from error

# After these, so that what is missing is told.
from zmqservices.observability.spans import LightSpan, Origin, is_plain, may_be_light

__all__ = ["ExportedTracing", "Tracing"]

#: `rpc.system.name` and `messaging.system` of the conventions.
SYSTEM = "zmqservices"

BAGGAGE = "baggage"
TRACESTATE = "tracestate"
W3C_HEADERS = {TRACEPARENT, TRACESTATE, BAGGAGE}

#: Characters of a text from outside: an error, a type of events.
LONGEST_TEXT = 200

#: Milliseconds that the last spans have to be exported when a process ends.
FLUSH_TIMEOUT = 5000

#: Greenlets that dispatch at a time, before it is looked whether some of them were killed meanwhile.
MOST_DISPATCHING = 256

#: The key in a context of OpenTelemetry under which a worker leaves the tracer of its service.
_TRACER = contexts.create_key("zmqservices-tracer")

_NOTHING = Context()


class _Texts(Getter[Mapping[str, Any]]):
    """Reads headers that came from a peer, which may send anything: values that are no texts are not there."""

    def get(self, carrier: Mapping[str, Any], key: str) -> list[str] | None:
        value = carrier.get(key)
        return [value] if isinstance(value, str) else None

    def keys(self, carrier: Mapping[str, Any]) -> list[str]:
        return [key for key in carrier if isinstance(key, str)]


_TEXTS = _Texts()

class _Unsampled(NonRecordingSpan):
    """Stands for a trace that is not sampled. All such traces share it; whose it is, is looked up when somebody asks."""

    def __init__(self) -> None:
        pass  # Not the base's: there is no context yet.

    def get_span_context(self) -> SpanContext:
        trace, span, flags = parts_of(_here())
        return SpanContext(trace, span, True, TraceFlags(flags))


#: The key under which OpenTelemetry keeps the span in a context.
(_SPAN,) = set_span_in_context(_Unsampled(), _NOTHING)

#: The flags of a trace that begins here and is sampled: its id is random.
_BEGUN = TraceFlags(3)

#: The context of OpenTelemetry in which all code of such a trace runs: what it opens itself is not sampled either.
_UNSAMPLED = set_span_in_context(_Unsampled(), _NOTHING)


def _here() -> str:
    """The header of the unsampled trace that goes on here. A greenlet that a worker has spawned gets one of its own."""
    header = getattr(current_job(), "data", _NOTHING).get(TRACEPARENT)
    return header if type(header) is str and is_unsampled(header) else unsampled(getrandbits(64))


class _Work(NamedTuple):
    """What the spans of one entrypoint have in common. `kind` of an HTTP entrypoint's is SERVER, and `is_http` is true."""

    method: str
    kind: SpanKind
    is_http: bool
    group: str
    service: str
    instance: str


class _Traced(NamedTuple):
    """What is open while a worker runs whose trace is sampled: its span, and what ends its context."""

    span: Span
    token: Any


class Tracing(Probe):
    """Attach it to a process: each call, event, request and tick becomes a span, and so does what they call and dispatch.

    Without a `provider` it uses the one that the program has set (`opentelemetry.trace.set_tracer_provider`), and else
    makes one as the environment says. Spans of a service have its name as `service.name`, also where several services run in
    one process; a `provider` that was given or set keeps its own resource, and the service is the attribute
    `zmqservices.service`.

    Workers that are killed with their container, and requests that no method was asked for, have no spans.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        found = provider or get_tracer_provider()
        self._is_own = not isinstance(found, TracerProvider)
        self._processor = SynchronousMultiSpanProcessor()
        self._provider = found if isinstance(found, TracerProvider) else TracerProvider(
            active_span_processor=self._processor, shutdown_on_exit=False
        )  # fmt: skip
        self._workers: dict[Any, _Traced] = {}
        self._calls: dict[OutgoingCall, Span] = {}
        #: The dispatches of each greenlet, in their order; None for one that is not sampled. Not a weak mapping: a worker to
        #: which there is a weak reference runs no other job.
        self._dispatches: dict[Any, deque[Span | None]] = {}
        self._work: dict[Any, _Work] = {}
        description = self._provider.sampler.get_description()
        #: Whether traces travel in W3C's headers alone, so that one can be written and read without the library.
        self._is_plain = propagate.get_global_textmap().fields <= W3C_HEADERS
        #: Whether a trace that its first process does not sample is not sampled here either.
        self._follows = "remoteParentNotSampled:AlwaysOffSampler" in description
        #: Whether it is enough to read the header of a trace that is not sampled.
        self._reads = self._is_plain and self._follows
        #: Where traces that begin here are decided without the library: see `bound_of`. None where it is asked.
        self._bound = bound_of(description) if self._is_plain else None
        #: Whether spans may be made without the SDK: see `LightSpan`.
        self._is_light = self._is_own and self._bound is not None and may_be_light()
        self._origins: dict[str, Origin] = {}
        #: Tracers by service; "" is for what no service does.
        self._tracers: dict[str, Tracer] = {"": self._tracer_of(self._provider)}

    def add_span_processor(self, processor: Any) -> None:
        """Export spans by this processor, too."""
        self._is_light = self._is_light and is_plain(processor)
        self._provider.add_span_processor(processor)

    def close(self) -> None:
        """Export what was recorded. A provider that was made here is shut down."""
        if self._is_own:
            self._provider.force_flush(FLUSH_TIMEOUT)
            self._provider.shutdown()

    # --- tracers -----------------------------------------------------------------------------------------------------

    def _tracer_of(self, provider: TracerProvider) -> Tracer:
        tracer = provider.get_tracer("zmqservices", version("zmqservices"))
        if self._bound is None or not isinstance(tracer, SdkTracer):
            return tracer
        # A copy that is asked for spans of sampled traces only: those that begin here are decided already.
        decided = copy.copy(tracer)
        decided.sampler = ParentBased(ALWAYS_ON)
        return decided

    def _tracer(self, service: str, instance: str) -> Tracer:
        found = self._tracers.get(service)
        if found is None:
            found = self._tracers[""]
            if self._is_own:
                named = {"service.name": service, "service.instance.id": instance}
                resource = self._provider.resource.merge(Resource(named))
                provider = TracerProvider(self._provider.sampler, resource, False, self._processor)
                found = self._tracer_of(provider)
            self._tracers[service] = found
        return found

    def _origin(self, service: str, instance: str) -> Origin:
        found = self._origins.get(service)
        if found is None:
            tracer: Any = self._tracer(service, instance)
            scope = InstrumentationScope("zmqservices", version("zmqservices"))
            found = self._origins[service] = Origin(tracer.resource, scope, self._processor)
        return found

    def _current_tracer(self) -> Tracer:
        found = contexts.get_value(_TRACER)
        return found if isinstance(found, Tracer) else self._tracers[""]

    # --- workers -----------------------------------------------------------------------------------------------------

    def _work_of(self, worker_ctx: Any) -> _Work:
        entrypoint = worker_ctx.entrypoint
        found = self._work.get(entrypoint)
        if found is None:
            container, listed = worker_ctx.container, entrypoint.listed()
            what = "rpc" if listed is None else str(listed.get("kind", ""))
            kind = SpanKind.SERVER if what.startswith(("rpc", "http", "websocket")) else SpanKind.INTERNAL
            found = self._work[entrypoint] = _Work(
                f"{container.service_name}/{entrypoint.method_name}", kind, what == "http",
                "" if listed is None else str(listed.get("group", "")), container.service_name, container.instance_id,
            )  # fmt: skip
        return found

    def service_stopped(self, service: str, instance: str) -> None:
        for entrypoint in [entrypoint for entrypoint, work in self._work.items() if work.instance == instance]:
            del self._work[entrypoint]
        # Nobody is told of the end of workers that were killed.
        for worker_ctx in [each for each in list(self._workers) if each.container.instance_id == instance]:
            del self._workers[worker_ctx]

    def worker_started(self, worker_ctx: Any) -> None:
        data = worker_ctx.data
        if self._reads and BAGGAGE not in data:
            # The usual case of a trace that is not sampled, in few steps. The context is not detached: the worker's pool
            # throws it away after the job.
            header = data.get(TRACEPARENT)
            if header is not None:
                if type(header) is str and is_unsampled(header):
                    contexts.attach(_UNSAMPLED)
                    return
            elif self._bound is not None and not self._work_of(worker_ctx).is_http:
                bits = getrandbits(64)
                if bits >= self._bound:
                    header = data[TRACEPARENT] = unsampled(bits)
                    contexts.attach(_UNSAMPLED)
                    return
                if self._is_light and worker_ctx.event is None:
                    self._trace_lightly(worker_ctx, None, getrandbits(64) << 64 | bits, _BEGUN)
                else:
                    self._trace(worker_ctx, _NOTHING)
                return
            if self._is_light and TRACESTATE not in data and worker_ctx.event is None:
                parts = sampled_parts(header)
                if parts is not None:
                    parent = SpanContext(parts[0], parts[1], True, TraceFlags(parts[2] & _BEGUN))
                    self._trace_lightly(worker_ctx, parent, parts[0], parent.trace_flags)
                    return
        self._trace(worker_ctx, None)

    def _trace_lightly(self, worker_ctx: Any, parent: SpanContext | None, trace: int, flags: TraceFlags) -> None:
        """A worker that handles no event, whose trace is sampled, and with which nothing else travels."""
        work = self._work_of(worker_ctx)
        origin = self._origin(work.service, work.instance)
        name, known = self._described(worker_ctx, work)
        spoken = SpanContext(trace, getrandbits(64) or 1, False, flags)
        span = LightSpan(origin, name, spoken, parent, work.kind, known)
        worker_ctx.data[TRACEPARENT] = _header_of(spoken)
        here = Context({_SPAN: span, _TRACER: self._tracers[work.service]})
        self._workers[worker_ctx] = _Traced(span, contexts.attach(here))

    def _trace(self, worker_ctx: Any, parent: Context | None) -> None:
        """A worker whose trace is sampled, or must be looked at. `parent` is known where the trace begins and is sampled."""
        work, data = self._work_of(worker_ctx), worker_ctx.data
        carrier = data
        if parent is None:
            carrier = _headers(worker_ctx, work)
            parent = self._decided(propagate.extract(carrier, _NOTHING, _TEXTS))
        if self._is_unsampled(parent):
            if carrier is not data or TRACEPARENT not in data:
                propagate.inject(data, parent)
            contexts.attach(parent)
            return
        tracer = self._tracer(work.service, work.instance)
        span = self._start(tracer, worker_ctx, work, parent)
        here = set_span_in_context(span, parent)
        # What is called or dispatched from here names this span as its parent, also where it is sent later (an outbox).
        propagate.inject(data, here)
        self._workers[worker_ctx] = _Traced(span, contexts.attach(contexts.set_value(_TRACER, tracer, here)))

    def _start(self, tracer: Tracer, worker_ctx: Any, work: _Work, parent: Context) -> Span:
        event, kind, links = worker_ctx.event, work.kind, None
        if event is not None:
            kind = SpanKind.CONSUMER
            sent = get_current_span(parent).get_span_context()
            links = [Link(sent)] if sent.is_valid else None
        name, known = self._described(worker_ctx, work)
        span = tracer.start_span(name, parent, kind, links=links)
        if span.is_recording():
            span.set_attributes(known)
        return span

    def _described(self, worker_ctx: Any, work: _Work) -> tuple[str, dict[str, Any]]:
        """The name of a worker's span, and its attributes."""
        event, request = worker_ctx.event, _request(worker_ctx) if work.is_http else None
        name = work.method
        attributes: dict[str, Any] = {"zmqservices.call_id": worker_ctx.call_id}
        if not self._is_own:
            attributes["zmqservices.service"] = work.service
        if worker_ctx.queued_at and worker_ctx.started_at:
            attributes["zmqservices.queued_seconds"] = worker_ctx.started_at - worker_ctx.queued_at
        if event is not None:
            name = f"process {event.source}"
            attributes.update(_of_event(event.source, event.type, "process"))
            attributes["zmqservices.delivery_attempt"] = event.attempt
            if event.id is not None:
                attributes["messaging.message.id"] = event.id
            if work.group:
                attributes["messaging.consumer.group.name"] = work.group
        elif request is not None:
            name = f"{request.method} {request.route}" if request.route else request.method
            attributes.update({"http.request.method": request.method, "url.scheme": request.scheme})
            if not worker_ctx.entrypoint.sensitive_arguments:
                attributes["url.path"] = request.path
            if request.route:
                attributes["http.route"] = request.route
        elif work.kind is SpanKind.SERVER:
            attributes["rpc.system.name"] = SYSTEM
            attributes["rpc.method"] = name
        return name, attributes

    def worker_ended(self, worker_ctx: Any, result: Any, exc_info: ExcInfo | None) -> None:
        traced = self._workers.pop(worker_ctx, None) if self._workers else None
        if traced is None:
            return  # It is not sampled, or began before this was attached.
        contexts.detach(traced.token)
        span = traced.span
        if span.is_recording():
            expected = worker_ctx.entrypoint.expected_exceptions
            is_expected = exc_info is not None and expected and isinstance(exc_info[1], expected)
            if self._work_of(worker_ctx).is_http:
                span.set_attribute("http.response.status_code", _http_status(worker_ctx, exc_info, bool(is_expected)))
            if exc_info is not None:
                name, may_quote = type_name(exc_info[0]), bool(worker_ctx.entrypoint.sensitive_arguments)
                if not may_quote:
                    span.record_exception(exc_info[1])
                span.set_attribute("error.type", name)
                if not is_expected:
                    span.set_status(_failed(name if may_quote else exc_info[1]))
        span.end()

    def worker_dropped(self, worker_ctx: object, exc: BaseException) -> None:
        work = self._work_of(worker_ctx)
        parent = self._decided(propagate.extract(_headers(worker_ctx, work), _NOTHING, _TEXTS))
        if self._is_unsampled(parent):
            return
        span = self._start(self._tracer(work.service, work.instance), worker_ctx, work, parent)
        if span.is_recording():
            span.set_attribute("error.type", type_name(type(exc)))
            span.set_status(_failed(exc))
        span.end()

    # --- calls -------------------------------------------------------------------------------------------------------

    def call_began(self, call: OutgoingCall) -> None:
        headers = call.headers
        if headers is None:
            headers = call.headers = {}
        parent = self._parent_of_sampled(headers)
        if parent is None:
            return
        method = f"{call.service}/{call.method}"
        known = {"rpc.system.name": SYSTEM, "rpc.method": method}
        light = self._light(method, parent, SpanKind.CLIENT, known, headers) if self._is_light else None
        if light is not None:
            self._calls[call] = light
            return
        span = self._current_tracer().start_span(method, parent, SpanKind.CLIENT)
        propagate.inject(headers, set_span_in_context(span, parent))
        if span.is_recording():
            span.set_attributes(known)
            self._calls[call] = span

    def call_ended(self, call: OutgoingCall) -> None:
        span = self._calls.pop(call, None) if self._calls else None
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
            span.set_status(_failed(name))
        span.end()

    # --- events ------------------------------------------------------------------------------------------------------

    def event_began(self, source: str, type: str, headers: dict[str, Any] | None) -> None:
        if headers is None:
            headers = {}  # A publisher whose events have none: the span stands for itself.
        parent = self._parent_of_sampled(headers)
        span: Span | None = None
        if parent is not None:
            name, known = f"send {source}", _of_event(source, type, "send")
            span = self._light(name, parent, SpanKind.PRODUCER, known, headers) if self._is_light else None
            if span is None:
                span = self._current_tracer().start_span(name, parent, SpanKind.PRODUCER)
                propagate.inject(headers, set_span_in_context(span, parent))
                if span.is_recording():
                    span.set_attributes(known)
        here = getcurrent()
        begun = self._dispatches.get(here)
        if begun is None:
            if len(self._dispatches) >= MOST_DISPATCHING:
                self._forget_the_dead()
            begun = self._dispatches[here] = deque()
        begun.append(span)

    def _forget_the_dead(self) -> None:
        """Drop what greenlets left behind that were killed while they dispatched."""
        for greenlet in [each for each in list(self._dispatches) if each.dead]:
            del self._dispatches[greenlet]

    def event_dispatched(self, source: str, type: str, seconds: float, exc: BaseException | None) -> None:
        here = getcurrent()
        begun = self._dispatches.get(here)
        if begun is None:
            return  # It began before this was attached.
        span = begun.popleft()
        if not begun:
            del self._dispatches[here]
        if span is None:
            return
        if exc is not None and span.is_recording():
            span.set_attribute("error.type", error_name(exc))
            span.set_status(_failed(error_name(exc)))
        span.end()

    def _light(
        self, name: str, parent: Context, kind: SpanKind, known: Mapping[str, Any], headers: dict[str, Any]
    ) -> Span | None:
        """A span of what a worker does, or of what begins a trace, where nothing else travels; else None."""
        if not parent:
            bits = getrandbits(64) % (self._bound or 1)
            spoken = SpanContext(getrandbits(64) << 64 | bits, getrandbits(64) or 1, False, _BEGUN)
            span = LightSpan(self._origin("", ""), name, spoken, None, kind, known)
        else:
            outer = parent.get(_SPAN)
            if type(outer) is not LightSpan or len(parent) != 2 or _TRACER not in parent:
                return None
            above = outer.get_span_context()
            spoken = SpanContext(above.trace_id, getrandbits(64) or 1, False, above.trace_flags)
            span = LightSpan(outer.origin, name, spoken, above, kind, known)
        headers[TRACEPARENT] = _header_of(spoken)
        return span

    # --- contexts ----------------------------------------------------------------------------------------------------

    def _parent_of_sampled(self, headers: dict[str, Any]) -> Context | None:
        """The parent of a span that begins here; None where the trace is not sampled: then `headers` say so."""
        here = contexts.get_current()
        if here is _UNSAMPLED:
            header = headers.get(TRACEPARENT)
            if type(header) is not str or not is_unsampled(header):  # As that of a standalone client that a worker uses.
                headers[TRACEPARENT] = _here()
            return None
        if not here and self._reads:
            header = headers.get(TRACEPARENT)
            if header is None:
                if self._bound is not None:
                    bits = getrandbits(64)
                    if bits >= self._bound:
                        headers[TRACEPARENT] = unsampled(bits)
                        return None
                    return propagate.extract(headers, here, _TEXTS) if BAGGAGE in headers else here
            elif type(header) is str and is_unsampled(header):
                return None
        parent = self._decided(self._parent(headers))
        if not self._is_unsampled(parent):
            return parent
        if here or TRACEPARENT not in headers:
            propagate.inject(headers, parent)
        return None

    def _decided(self, parent: Context) -> Context:
        """`parent`; where no trace goes on in it and the one that begins is not sampled, with that said."""
        if self._bound is None or get_current_span(parent).get_span_context().is_valid:
            return parent
        bits = getrandbits(64)
        if bits < self._bound:
            return parent
        trace, span, flags = parts_of(unsampled(bits))
        return set_span_in_context(NonRecordingSpan(SpanContext(trace, span, True, TraceFlags(flags))), parent)

    @staticmethod
    def _parent(headers: Mapping[str, Any] | None) -> Context:
        """The context of what is done here; where nothing is, that which travels in the headers."""
        here = contexts.get_current()
        if headers and TRACEPARENT in headers and get_current_span(here) is INVALID_SPAN:
            return propagate.extract(headers, here, _TEXTS)
        return here

    def _is_unsampled(self, parent: Context) -> bool:
        """Whether the trace was decided against, so that no span of it need be made."""
        if not self._follows:
            return False
        spoken = get_current_span(parent).get_span_context()
        return spoken.is_valid and not spoken.trace_flags.sampled


class ExportedTracing(Tracing):
    """Tracing whose spans are exported as the environment says; the setting OTEL attaches one to a process.

    OTEL_TRACES_EXPORTER names exporters that are installed: `otlp` by default, `console`, `none`. OTEL_EXPORTER_OTLP_ENDPOINT
    says where to (http://localhost:4318 by default), OTEL_TRACES_SAMPLER which traces are sampled (all by default). Raises
    ConfigurationError for an exporter that is not installed.
    """

    def __init__(self) -> None:
        super().__init__()
        if self._is_own:
            for name in _exporters():
                self.add_span_processor(BatchSpanProcessor(_exporter(name)))


def _exporters() -> list[str]:
    names = [name.strip() for name in environ.get("OTEL_TRACES_EXPORTER", "otlp").split(",")]
    return [name for name in names if name not in ("", "none")]


def _exporter(name: str) -> Any:
    protocol = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    installed = {"grpc": "otlp_proto_grpc"}.get(protocol, "otlp_proto_http") if name == "otlp" else name
    for found in entry_points(group="opentelemetry_traces_exporter", name=installed):
        return found.load()()
    mend = "`pip install zmqservices[otel]` brings otlp over http/protobuf; console and none are always there"
    raise ConfigurationError(f"the exporter {installed[:LONGEST_TEXT]!r} of OTEL_TRACES_EXPORTER is not installed; {mend}")


def _header_of(spoken: SpanContext) -> str:
    return f"00-{spoken.trace_id:032x}-{spoken.span_id:016x}-{spoken.trace_flags:02x}"


def _request(worker_ctx: Any) -> Any:
    """The HTTP request of a worker; None where the entrypoint made other arguments of it."""
    found = worker_ctx.args[0] if worker_ctx.args else None
    return found if hasattr(found, "environ") and hasattr(found, "route") else None


def _headers(worker_ctx: Any, work: _Work) -> Mapping[str, Any]:
    """Where a worker's trace came from: its context data, and of an HTTP request the request's headers."""
    request = _request(worker_ctx) if work.is_http else None
    if request is None or TRACEPARENT in worker_ctx.data:
        found: Mapping[str, Any] = worker_ctx.data
        return found
    return {name.lower(): value for name, value in request.headers.items()}


def _http_status(worker_ctx: object, exc_info: ExcInfo | None, is_expected: bool) -> int:
    """The status of the answer, or of the one that `zmqservices.web` makes of an error."""
    found = getattr(_request(worker_ctx), "status", 200) if exc_info is None else getattr(exc_info[1], "code", None)
    return found if isinstance(found, int) else 400 if is_expected else 500


def _of_event(source: str, type: str, operation: str) -> dict[str, Any]:
    return {
        "messaging.system": SYSTEM, "messaging.operation.name": operation, "messaging.operation.type": operation,
        "messaging.destination.name": f"{source}:{type}"[:LONGEST_TEXT],
    }  # fmt: skip


def _failed(exc: BaseException | str) -> Status:
    return Status(StatusCode.ERROR, str(exc)[:LONGEST_TEXT])
