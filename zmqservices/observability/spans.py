"""Spans of calls that the SDK need not make, since nobody but their exporter looks at most of them. Internal.

The SDK takes about 25 us and twenty objects for a span. Most spans of calls have a few attributes, known from the start, and
nothing is added until they end.

Rule 1: a LightSpan becomes a whole span of the SDK with the first method that is more than reading its context or ending it.
Rule 2: what exporters get is the same either way.
Imported by `tracing` alone, which tells what to install where OpenTelemetry is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from os import environ
from time import time_ns
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind

#: The processors that look at spans only when they have ended.
_PLAIN = (BatchSpanProcessor, SimpleSpanProcessor)


def is_plain(processor: object) -> bool:
    """Whether this processor looks at spans only when they have ended."""
    return type(processor) in _PLAIN


def may_be_light() -> bool:
    """Whether the environment asks for nothing that only the SDK's own way of making a span has."""
    return not any(
        name.startswith("OTEL_") and name.endswith(("_LIMIT", "_DISABLED", "_INTERNAL_METRICS_ENABLED")) for name in environ
    )


class Origin:
    """What the spans of one service have in common."""

    __slots__ = ("resource", "scope", "processor")

    def __init__(self, resource: Resource, scope: InstrumentationScope, processor: SpanProcessor) -> None:
        self.resource = resource
        self.scope = scope
        self.processor = processor


class LightSpan(SdkSpan):
    """A span of the SDK of which the most is made when it is asked for.

    `known`: its attributes, of types that OpenTelemetry takes; not changed here.
    """

    def __init__(
        self, origin: Origin, name: str, context: SpanContext, parent: SpanContext | None, kind: SpanKind,
        known: Mapping[str, Any],
    ) -> None:  # fmt: skip
        # Not the base's: that is what takes the time. `__getattr__` makes up for it.
        self._light: tuple[Origin, str, SpanContext, SpanContext | None, SpanKind, Mapping[str, Any], int] | None = (
            origin, name, context, parent, kind, known, time_ns(),
        )  # fmt: skip
        self.origin = origin
        self._spoken = context
        self._ended_at = 0

    def __getattr__(self, name: str) -> Any:
        """Called for what is not there yet: make all of it."""
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
