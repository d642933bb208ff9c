"""Internal: light spans of calls. A light span only becomes a span of OpenTelemetry's SDK when code needs one.

The SDK takes about 25 us and twenty objects for a span. Most spans of calls have a few attributes that follow from the call, and
only the exporter reads them. Where few calls are sampled, this code is seldom in the processor's caches, and every step counts
several times. So a light span begins as two texts, its header and that of its parent.

Rule 1: reading its context and ending it are cheap; for anything else, a LightSpan first becomes a whole span of the SDK.
Rule 2: exporters get the same either way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import environ
from time import time_ns
from typing import Any, TypeAlias

from zmqservices.observability.traceparent import span_of
from zmqservices.observability.tracing.library import (
    BatchSpanProcessor,
    InstrumentationScope,
    ReadableSpan,
    Resource,
    SdkSpan,
    SimpleSpanProcessor,
    SpanContext,
    SpanKind,
    SpanLimits,
    SpanProcessor,
    TraceFlags,
)

#: The processors that read only spans that have ended.
_PLAIN = (BatchSpanProcessor, SimpleSpanProcessor)


def is_plain(processor: object) -> bool:
    """Whether this processor reads only spans that have ended."""
    return type(processor) in _PLAIN


def may_be_light() -> bool:
    """Whether light spans may be used: no environment variable asks for a feature that only the SDK's own spans have."""
    return not any(
        name.startswith("OTEL_") and name.endswith(("_LIMIT", "_DISABLED", "_INTERNAL_METRICS_ENABLED")) for name in environ
    )


class Origin:
    """The values that all spans of one service share."""

    __slots__ = ("resource", "scope", "processor")

    def __init__(self, resource: Resource, scope: InstrumentationScope, processor: SpanProcessor) -> None:
        self.resource = resource
        self.scope = scope
        self.processor = processor


#: Makes the name and the attributes of a span. The attributes have types that OpenTelemetry takes.
Describe: TypeAlias = Callable[..., tuple[str, Mapping[str, Any]]]

#: The flags of a span by the last two characters of its header. Making them takes several times as long.
_FLAGS = {flags: TraceFlags(int(flags)) for flags in ("01", "03")}


class LightSpan(SdkSpan):
    """A span of the SDK, most of which is made when it is first needed.

    `header`: the traceparent that names this span as the parent of others (see `traceparent.is_sampled`). `parent`: the
    traceparent of its own parent, which came from another process if `is_remote`; None for the first span of a trace.
    `describe(*about)` is called once, at the end of the span or before.
    """

    def __init__(
        self, origin: Origin, header: str, parent: str | None, is_remote: bool, kind: SpanKind, describe: Describe, *about: object
    ) -> None:
        # The constructor of the base is not called, because it takes most of the time. `__getattr__` calls it when needed.
        self.origin = origin
        self.header = header
        self._light: tuple[str | None, bool, SpanKind, Describe, Any, int] | None = (
            parent, is_remote, kind, describe, about, time_ns(),
        )  # fmt: skip
        self._spoken: SpanContext | None = None
        self._ended_at = 0

    def __getattr__(self, name: str) -> Any:
        """Called for an attribute that does not exist yet: makes the whole span."""
        light = self.__dict__.get("_light")
        if light is None:
            raise AttributeError(name)
        self._light = None
        parent, is_remote, kind, describe, about, began = light
        title, known = describe(*about)
        super().__init__(
            title, self.get_span_context(), self._context_of(parent, is_remote), resource=self.origin.resource, attributes=known,
            kind=kind, span_processor=self.origin.processor, limits=SpanLimits(), instrumentation_scope=self.origin.scope,
        )  # fmt: skip
        self.start(began)
        if self._ended_at:
            self._end_time = self._ended_at
        return getattr(self, name)

    def get_span_context(self) -> SpanContext:
        spoken = self._spoken
        if spoken is None:
            header = self.header
            spoken = self._spoken = SpanContext(int(header[3:35], 16), span_of(header), False, _FLAGS[header[53:]])
        return spoken

    def _context_of(self, parent: str | None, is_remote: bool) -> SpanContext | None:
        if parent is None:
            return None
        own = self.get_span_context()
        return SpanContext(own.trace_id, span_of(parent), is_remote, own.trace_flags)

    def is_recording(self) -> bool:
        return not self._ended_at if self._light is not None else super().is_recording()

    def end(self, end_time: int | None = None) -> None:
        light = self._light
        if light is None or self._ended_at:
            super().end(end_time)
            return
        self._ended_at = end_time or time_ns()
        parent, is_remote, kind, describe, about, began = light
        origin = self.origin
        name, known = describe(*about)
        origin.processor.on_end(
            ReadableSpan(
                name, self.get_span_context(), self._context_of(parent, is_remote), origin.resource, known, kind=kind,
                start_time=began, end_time=self._ended_at, instrumentation_scope=origin.scope,
            )
        )  # fmt: skip
