"""Internal: light spans of calls. A light span only becomes a span of OpenTelemetry's SDK when code needs one.

The SDK takes about 25 us and twenty objects for a span. Most spans of calls have a few attributes that are known from the
start, and only the exporter reads them.

Rule 1: reading its context and ending it are cheap; for anything else, a LightSpan first becomes a whole span of the SDK.
Rule 2: exporters get the same either way.
"""

from __future__ import annotations

from collections.abc import Mapping
from os import environ
from time import time_ns
from typing import Any

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


class LightSpan(SdkSpan):
    """A span of the SDK, most of which is made when it is first needed.

    `known`: the attributes, of types that OpenTelemetry takes. The mapping is not changed here.
    """

    def __init__(
        self, origin: Origin, name: str, context: SpanContext, parent: SpanContext | None, kind: SpanKind,
        known: Mapping[str, Any],
    ) -> None:  # fmt: skip
        # The constructor of the base is not called, because it takes most of the time. `__getattr__` calls it when needed.
        self._light: tuple[Origin, str, SpanContext, SpanContext | None, SpanKind, Mapping[str, Any], int] | None = (
            origin, name, context, parent, kind, known, time_ns(),
        )  # fmt: skip
        self.origin = origin
        self._spoken = context
        self._ended_at = 0

    def __getattr__(self, name: str) -> Any:
        """Called for an attribute that does not exist yet: makes the whole span."""
        light = self.__dict__.get("_light")
        if light is None:
            raise AttributeError(name)
        self._light = None
        origin, title, context, parent, kind, known, began = light
        super().__init__(
            title, context, parent, resource=origin.resource, attributes=known, kind=kind, span_processor=origin.processor,
            limits=SpanLimits(), instrumentation_scope=origin.scope,
        )  # fmt: skip
        self.start(began)
        if self._ended_at:
            self._end_time = self._ended_at
        return getattr(self, name)

    def get_span_context(self) -> SpanContext:
        return self._spoken

    def is_recording(self) -> bool:
        return not self._ended_at if self._light is not None else super().is_recording()

    def end(self, end_time: int | None = None) -> None:
        light = self._light
        if light is None or self._ended_at:
            super().end(end_time)
            return
        self._ended_at = end_time or time_ns()
        origin, name, context, parent, kind, known, began = light
        origin.processor.on_end(
            ReadableSpan(
                name, context, parent, origin.resource, known, kind=kind, start_time=began, end_time=self._ended_at,
                instrumentation_scope=origin.scope,
            )
        )  # fmt: skip
