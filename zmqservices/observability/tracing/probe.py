"""Internal: the probes that make spans; public as `zmqservices.observability.tracing`."""

from __future__ import annotations

from typing import Any

from zmqservices.observability.tracing.call_spans import CallSpans
from zmqservices.observability.tracing.dispatch_spans import DispatchSpans
from zmqservices.observability.tracing.exporters import exporters
from zmqservices.observability.tracing.library import BatchSpanProcessor, TracerProvider
from zmqservices.observability.tracing.tracers import Tracers
from zmqservices.observability.tracing.worker_spans import WorkerSpans
from zmqservices.probes import ExcInfo, OutgoingCall, Probe


class Tracing(Probe):
    """Makes spans of the calls, events, requests and ticks of a process, and of the calls and events that these send.

    Attach it with `zmqservices.probes.attach`. Without a `provider` it uses the program's own one
    (`opentelemetry.trace.set_tracer_provider`), or else makes one as the environment says. Spans of a service have its name as
    `service.name`, even if several services run in one process. A provider of the program keeps its own resource; its spans
    have the service in the attribute `zmqservices.service`.

    Workers that are killed with their container, and requests that reach no method, have no spans.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._tracers = Tracers(provider)
        self._calls = CallSpans(self._tracers)
        self._workers = WorkerSpans(self._tracers)
        self._dispatches = DispatchSpans(self._tracers)
        # Hooks of all calls and workers: without the method between.
        self._bind("call_began", self._calls.began)
        self._bind("worker_started", self._workers.started if self._tracers.sampling.reads else self._workers.started_in_full)
        self.awaited_calls = self._calls.open
        self.awaited_workers = self._workers.open

    def _bind(self, hook: str, method: Any) -> None:
        setattr(self, hook, method)

    @property
    def provider(self) -> TracerProvider:
        """The provider whose tracers make the spans."""
        return self._tracers.provider

    def add_span_processor(self, processor: Any) -> None:
        """Export spans by this processor, too."""
        self._tracers.add_span_processor(processor)

    def close(self) -> None:
        """Export what was recorded. A provider that was made here is shut down."""
        self._tracers.close()

    def service_stopped(self, service: str, instance: str) -> None:
        self._workers.forget(instance)

    def worker_ended(self, worker_ctx: Any, result: object, exc_info: ExcInfo | None) -> None:
        self._workers.ended(worker_ctx, exc_info)

    def worker_dropped(self, worker_ctx: Any, exc: BaseException) -> None:
        self._workers.dropped(worker_ctx, exc)

    def call_ended(self, call: OutgoingCall) -> None:
        self._calls.ended(call)

    def event_began(self, source: str, type: str, headers: dict[str, Any] | None) -> None:
        self._dispatches.began(source, type, headers)

    def event_dispatched(self, source: str, type: str, seconds: float, exc: BaseException | None) -> None:
        self._dispatches.ended(exc)


class ExportedTracing(Tracing):
    """Tracing whose spans are exported as the environment says. The setting OTEL attaches one to a process.

    OTEL_TRACES_EXPORTER names installed exporters: `otlp` (the default), `console` or `none`. OTEL_EXPORTER_OTLP_ENDPOINT is
    the address of the collector (http://localhost:4318 by default). OTEL_TRACES_SAMPLER decides which traces are sampled (all
    by default). Raises ConfigurationError for an exporter that is not installed.
    """

    def __init__(self) -> None:
        super().__init__()
        if self._tracers.is_own:
            for exporter in exporters():
                self.add_span_processor(BatchSpanProcessor(exporter))
