"""Internal: the exporters of spans that the environment names (`OTEL_TRACES_EXPORTER`)."""

from __future__ import annotations

from importlib.metadata import entry_points
from os import environ
from typing import Any

from zmqservices.exceptions import ConfigurationError
from zmqservices.observability.tracing.attributes import LONGEST_TEXT


def exporters() -> list[Any]:
    """An exporter for each name. Raises ConfigurationError for one that is not installed."""
    names = [name.strip() for name in environ.get("OTEL_TRACES_EXPORTER", "otlp").split(",")]
    return [_exporter(name) for name in names if name not in ("", "none")]


def _exporter(name: str) -> Any:
    protocol = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    installed = {"grpc": "otlp_proto_grpc"}.get(protocol, "otlp_proto_http") if name == "otlp" else name
    for found in entry_points(group="opentelemetry_traces_exporter", name=installed):
        return found.load()()
    mend = "`pip install zmqservices[otel]` brings otlp over http/protobuf; console and none are always there"
    raise ConfigurationError(f"the exporter {installed[:LONGEST_TEXT]!r} of OTEL_TRACES_EXPORTER is not installed; {mend}")
