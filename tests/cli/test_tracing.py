"""`zmqservices run` with OTEL exports spans over OTLP as the environment says."""

import signal
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.ports import free_port

TICKING = """
    from zmqservices.timer import timer


    class Clock:
        name = "clock"

        @timer(30, eager=True)
        def tick(self):
            print("ticked", flush=True)
"""


class Collector(BaseHTTPRequestHandler):
    """An endpoint of OTLP over HTTP."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.taken.append((self.path, self.headers["Content-Type"], body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture
def collector():
    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        server.taken = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.system
@pytest.mark.timeout(180)
def test_all_spans_arrive_at_a_collector_even_the_last_before_the_exit(start, write, collector, monkeypatch):
    write("clock.py", TICKING)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    process = start("run", "clock", "-d", "OTEL=true", "-d", "ANNOUNCE=false")
    process.until("ticked")
    process.signal(signal.SIGTERM)
    assert process.end() == 0

    ((path, kind, body),) = collector.taken
    assert (path, kind) == ("/v1/traces", "application/x-protobuf")
    (of_resource,) = ExportTraceServiceRequest.FromString(body).resource_spans
    resource = {each.key: each.value.string_value for each in of_resource.resource.attributes}
    assert (resource["service.name"], resource["deployment.environment.name"]) == ("clock", "test")
    (span,) = of_resource.scope_spans[0].spans
    assert span.name == "clock/tick"
    assert 0 < span.start_time_unix_nano <= span.end_time_unix_nano


@pytest.mark.system
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "settings, variables, told",
    [
        ("OTEL=maybe", {}, "OTEL is 'maybe'; true or false is needed"),
        ("OTEL=true", {"OTEL_TRACES_EXPORTER": "zipkin"}, "the exporter 'zipkin' of OTEL_TRACES_EXPORTER is not installed"),
        ("OTEL=true", {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "the exporter 'otlp_proto_grpc' of OTEL_TRACES_EXPORTER is not"),
    ],
)
def test_settings_that_prevent_tracing_are_reported(zmqservices, write, monkeypatch, settings, variables, told):
    write("clock.py", TICKING)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    result = zmqservices("run", "clock", "-d", settings, "--directory", f"local:{free_port()}")

    assert result.returncode == 2
    assert told in result.stderr
    assert "Traceback" not in result.stderr
