"""An endpoint of OTLP over HTTP that keeps the spans which it is sent."""

import gzip
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class OtlpEndpoint:
    """Listens in threads of its own from `start` to `stop`. `spans` has the service and the span of each."""

    def __init__(self):
        self.spans = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.take = self._take
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def start(self):
        self._thread.start()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _take(self, body):
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            names = {one.key: one.value.string_value for one in resource.resource.attributes}
            for scope in resource.scope_spans:
                assert scope.scope.name == "zmqservices"
                self.spans += [(names["service.name"], span) for span in scope.spans]

    def named(self, name, kind=None):
        """The spans of this name, and of this kind if one is given."""
        return [span for _, span in list(self.spans) if span.name == name and kind in (None, span.kind)]

    def traces(self):
        """By trace id: how often each (service, name of a span) is in it."""
        found = {}
        for service, span in list(self.spans):
            found.setdefault(span.trace_id, Counter())[service, span.name] += 1
        return found


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        assert self.path == "/v1/traces"
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.take(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass
