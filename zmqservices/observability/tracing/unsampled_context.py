"""Internal: the context of OpenTelemetry in which the code of an unsampled trace runs."""

from __future__ import annotations

from collections.abc import Callable
from random import getrandbits
from typing import Any

from zmqservices.observability.traceparent import TRACEPARENT, is_unsampled, parts_of, unsampled
from zmqservices.observability.tracing.library import SPAN, Context, NonRecordingSpan, SpanContext, TraceFlags
from zmqservices.observability.tracing.reading import BAGGAGE, extracted


class UnsampledContext(Context):
    """The context of a worker whose trace is not sampled. It gets its span when it is first read.

    Most methods neither open spans nor ask for the current one, and making a context with a span takes several times as long as
    making this. Spans that are opened inside it are not sampled either.
    """

    __slots__ = ("data",)

    #: The context data of the worker, which has the header of the trace.
    data: dict[str, Any]


def unsampled_context(data: dict[str, Any]) -> UnsampledContext:
    """The context of a worker with this context data."""
    here = UnsampledContext()
    here.data = data
    return here


def header_in(data: dict[str, Any]) -> str:
    """The header of the unsampled trace in the context data of a worker.

    It is made anew if the application has removed it, or if a peer sent a malformed one.
    """
    header = data.get(TRACEPARENT)
    if type(header) is str and is_unsampled(header):
        return header
    header = data[TRACEPARENT] = unsampled(f"{getrandbits(64):016x}")
    return header


class _UnsampledSpan(NonRecordingSpan):
    """The span of an unsampled trace. The ids are looked up when they are asked for."""

    def __init__(self, data: dict[str, Any]) -> None:
        # Not the base's: there is no context yet. Not the context of the worker: the two would refer to each other.
        self._data = data

    def __repr__(self) -> str:
        return f"NonRecordingSpan({self.get_span_context()!r})"

    def get_span_context(self) -> SpanContext:
        trace, span, flags = parts_of(header_in(self._data))
        return SpanContext(trace, span, True, TraceFlags(flags))


def _fill(here: UnsampledContext) -> None:
    """Put the span into the context, and the baggage that travels in the worker's context data."""
    if BAGGAGE in here.data:
        dict.update(here, extracted(here.data))
    dict.__setitem__(here, SPAN, _UnsampledSpan(here.data))


def _with_span(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method of a dict, after the span was put into it."""

    def read(self: UnsampledContext, *args: Any) -> Any:
        if not dict.__len__(self):
            _fill(self)
        return method(self, *args)

    return read


for _name in (
    "get", "copy", "keys", "items", "values", "__getitem__", "__contains__", "__iter__", "__reversed__", "__len__", "__eq__",
    "__ne__", "__or__", "__ror__", "__repr__",
):  # fmt: skip
    setattr(UnsampledContext, _name, _with_span(getattr(dict, _name)))
