"""Spans of calls, events, requests and ticks for OpenTelemetry. Needs opentelemetry-sdk; the extra is `otel`.

`zmqservices run` uses it if OTEL is set, and exports over OTLP as the environment says (`OTEL_*`). In your own program:

    tracing = Tracing()                     # or Tracing(provider), with a TracerProvider of your own
    probes.attach(tracing)
    ...
    probes.detach(tracing)
    tracing.close()

The names of spans and attributes are those of the semantic conventions for RPC, messaging and HTTP, version 1.45. The context
of a trace (`traceparent`, `tracestate`, `baggage`, or the headers of OTEL_PROPAGATORS) is sent in the context data of calls and
events. A process without OpenTelemetry passes it on, like all context data.

Rule 1: whether a trace is sampled is decided once, where it begins. A trace that is not sampled costs a header. It costs no span
in later processes, and none in the first one if the sampler follows the parent and otherwise decides by the id of the trace.
Rule 2: arguments and results are never recorded, and neither are texts that may quote them. For an entrypoint with
`sensitive_arguments`, these are the texts of errors and the path of the URL. A caller cannot know whether arguments are
sensitive, so spans of callers have no texts of errors at all.
Rule 3: names of spans have few values: unknown methods are `_OTHER`, and types of events are attributes.
"""

from zmqservices.observability.tracing.probe import ExportedTracing, Tracing

__all__ = ["ExportedTracing", "Tracing"]
