"""Internal: the spans in which events are dispatched."""

from __future__ import annotations

from collections import deque
from typing import Any

from gevent import getcurrent

from zmqservices.observability.statistics import error_name
from zmqservices.observability.tracing.attributes import failed, of_event
from zmqservices.observability.tracing.library import Span, SpanKind, inject, set_span_in_context
from zmqservices.observability.tracing.tracers import Tracers

#: Greenlets that may dispatch at the same time before the spans of killed ones are looked for.
MOST_DISPATCHING = 256


class DispatchSpans:
    """The spans of the events that this process dispatches."""

    def __init__(self, tracers: Tracers) -> None:
        self._tracers = tracers
        #: The spans of each greenlet's dispatches, in order; None for a dispatch that is not sampled. This is no weak mapping,
        #: because a worker with a weak reference to it runs no other job.
        self._open: dict[Any, deque[Span | None]] = {}

    def began(self, source: str, type: str, headers: dict[str, Any] | None) -> None:
        """Begin the span of a dispatch, if its trace is sampled, and write the trace into the event's headers."""
        if headers is None:
            headers = {}  # This publisher's events carry no headers, so nothing can refer to the span.
        parent = self._tracers.sampling.parent_of_sampled(headers)
        span: Span | None = None
        if parent is not None:
            name, known = f"send {source}", of_event(source, type, "send")
            span = self._tracers.light(SpanKind.PRODUCER, parent, headers, lambda: (name, known))
            if span is None:
                span = self._tracers.start(self._tracers.current(), name, parent, SpanKind.PRODUCER, known)
                inject(headers, set_span_in_context(span, parent))
        here = getcurrent()
        begun = self._open.get(here)
        if begun is None:
            if len(self._open) >= MOST_DISPATCHING:
                self._forget_the_dead()
            begun = self._open[here] = deque()
        begun.append(span)

    def _forget_the_dead(self) -> None:
        """Drop the spans of greenlets that were killed while they dispatched."""
        for greenlet in [each for each in list(self._open) if each.dead]:
            del self._open[greenlet]

    def ended(self, exc: BaseException | None) -> None:
        """End the span of the oldest running dispatch of this greenlet."""
        here = getcurrent()
        begun = self._open.get(here)
        if begun is None:
            return  # It began before this was attached.
        span = begun.popleft()
        if not begun:
            del self._open[here]
        if span is None:
            return
        if exc is not None and span.is_recording():
            span.set_attribute("error.type", error_name(exc))
            span.set_status(failed(error_name(exc)))
        span.end()
