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

from zmqservices.observability.tracing.probe import ExportedTracing, Tracing

__all__ = ["ExportedTracing", "Tracing"]
