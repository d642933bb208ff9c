"""Internal: the tracers of the services of one process, and spans that are made without them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from zmqservices.observability.traceparent import TRACEPARENT, child_of
from zmqservices.observability.tracing.library import (
    ALWAYS_ON,
    SPAN,
    TRACER,
    Context,
    InstrumentationScope,
    Link,
    ParentBased,
    Resource,
    SdkTracer,
    Span,
    SpanKind,
    SpanProcessor,
    SynchronousMultiSpanProcessor,
    Tracer,
    TracerProvider,
    get_current,
    get_tracer_provider,
)
from zmqservices.observability.tracing.light_spans import Describe, LightSpan, Origin, is_plain, may_be_light
from zmqservices.observability.tracing.new_traces import new_span_id
from zmqservices.observability.tracing.propagation import Sampling

#: Milliseconds that the last spans have to be exported when a process ends.
FLUSH_TIMEOUT = 5000


class Tracers:
    """The tracers of one process by service. Without a `provider`, the program's own is used, or else one made here."""

    def __init__(self, provider: TracerProvider | None = None) -> None:
        found = provider or get_tracer_provider()
        #: Whether the provider was made here, so that each service is a resource of its own.
        self.is_own = not isinstance(found, TracerProvider)
        self._processor = SynchronousMultiSpanProcessor()
        self.provider = found if isinstance(found, TracerProvider) else TracerProvider(
            active_span_processor=self._processor, shutdown_on_exit=False
        )  # fmt: skip
        self.sampling = Sampling(self.provider.sampler.get_description())
        #: Whether spans may be made without the SDK: see `LightSpan`.
        self.is_light = self.is_own and self.sampling.bound is not None and may_be_light()
        self._origins: dict[str, Origin] = {}
        #: Tracers by service; "" has the tracer of code that runs outside of services.
        self._by_service: dict[str, Tracer] = {"": self._tracer_of(self.provider)}

    def add_span_processor(self, processor: SpanProcessor) -> None:
        """Export spans by this processor, too."""
        self.is_light = self.is_light and is_plain(processor)
        self.provider.add_span_processor(processor)

    def close(self) -> None:
        """Export what was recorded. A provider that was made here is shut down."""
        if self.is_own:
            self.provider.force_flush(FLUSH_TIMEOUT)
            self.provider.shutdown()

    def _tracer_of(self, provider: TracerProvider) -> Tracer:
        tracer = provider.get_tracer("zmqservices", version("zmqservices"))
        if self.sampling.bound is None or not isinstance(tracer, SdkTracer):
            return tracer
        # This copy is asked for spans of sampled traces only, since sampling has been decided by then.
        decided = copy.copy(tracer)
        decided.sampler = ParentBased(ALWAYS_ON)
        return decided

    def of(self, service: str, instance: str) -> Tracer:
        """The tracer of this service."""
        found = self._by_service.get(service)
        if found is None:
            found = self._by_service[""]
            if self.is_own:
                named = {"service.name": service, "service.instance.id": instance}
                resource = self.provider.resource.merge(Resource(named))
                provider = TracerProvider(self.provider.sampler, resource, False, self._processor)
                found = self._tracer_of(provider)
            self._by_service[service] = found
        return found

    def origin(self, service: str, instance: str) -> Origin:
        """The values that all light spans of this service share."""
        found = self._origins.get(service)
        if found is None:
            tracer: Any = self.of(service, instance)
            scope = InstrumentationScope("zmqservices", version("zmqservices"))
            found = self._origins[service] = Origin(tracer.resource, scope, self._processor)
        return found

    def current(self) -> Tracer:
        """The tracer of the service whose worker runs here."""
        found = get_current().get(TRACER)
        return found if isinstance(found, Tracer) else self._by_service[""]

    def start(
        self, tracer: Tracer, name: str, parent: Context, kind: SpanKind, known: Mapping[str, Any],
        links: list[Link] | None = None,
    ) -> Span:
        """Begin a span of the SDK. A sampler that is asked about it sees its attributes and its links."""
        span = tracer.start_span(name, parent, kind, known if self.sampling.bound is None else None, links)
        if span.is_recording():
            span.set_attributes(known)  # A sampler need not return those that it was given.
        return span

    def light(
        self, kind: SpanKind, parent: Context, headers: dict[str, Any], describe: Describe, *about: object
    ) -> Span | None:
        """A light span for work inside a worker, or at the start of a trace; None if one cannot stand for it (baggage, say)."""
        if not self.is_light:
            return None
        if not parent:
            header = self.sampling.begun_header()
            span = LightSpan(self.origin("", ""), header, None, False, kind, describe, *about)
        else:
            outer = parent.get(SPAN)
            if type(outer) is not LightSpan or len(parent) != 2 or TRACER not in parent:
                return None
            header = child_of(outer.header, new_span_id())
            span = LightSpan(outer.origin, header, outer.header, False, kind, describe, *about)
        headers[TRACEPARENT] = header
        return span
