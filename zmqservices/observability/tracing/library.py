"""Internal: OpenTelemetry's library, imported here and nowhere else, and its current context in few steps."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, Token

try:
    from opentelemetry import context as contexts
    from opentelemetry.context import Context
    from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext
    from opentelemetry.propagate import extract, get_global_textmap, inject
    from opentelemetry.propagators.textmap import Getter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, SynchronousMultiSpanProcessor, TracerProvider
    from opentelemetry.sdk.trace import Span as SdkSpan
    from opentelemetry.sdk.trace import Tracer as SdkTracer
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
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

__all__ = [
    "ALWAYS_ON", "INVALID_SPAN", "NOTHING", "SPAN", "TRACER", "BatchSpanProcessor", "Context", "Getter",
    "InstrumentationScope", "Link", "NonRecordingSpan", "ParentBased", "ReadableSpan", "Resource", "SdkSpan", "SdkTracer",
    "SimpleSpanProcessor", "Span", "SpanContext", "SpanKind", "SpanLimits", "SpanProcessor", "Status", "StatusCode",
    "SynchronousMultiSpanProcessor", "TraceFlags", "Tracer", "TracerProvider", "attach", "detach", "extract",
    "get_current", "get_current_span", "get_global_textmap", "get_tracer_provider", "inject", "set_span_in_context",
]  # fmt: skip

#: A context without a trace.
NOTHING = Context()

#: The key under which OpenTelemetry keeps the span in a context.
(SPAN,) = set_span_in_context(INVALID_SPAN, NOTHING)

#: The key in a context of OpenTelemetry under which a worker leaves the tracer of its service.
TRACER = contexts.create_key("zmqservices-tracer")


def _variable() -> ContextVar[Context] | None:
    """The variable that holds the current context; None if OTEL_PYTHON_CONTEXT names another implementation."""
    runtime = getattr(contexts, "_RUNTIME_CONTEXT", None)
    found = getattr(runtime, "_current_context", None)
    return found if type(runtime) is ContextVarsRuntimeContext and isinstance(found, ContextVar) else None


_current = _variable()

#: The library's functions of these names. Where possible, the variable's methods that they call: those take a fifth of the time.
get_current: Callable[[], Context] = contexts.get_current if _current is None else _current.get
attach: Callable[[Context], Token[Context]] = contexts.attach if _current is None else _current.set
detach: Callable[[Token[Context]], None] = contexts.detach
