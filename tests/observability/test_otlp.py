"""`zmqservices run` with OTEL: spans of several processes arrive at a real OTLP endpoint, and make one tree across a SIGKILL."""

import os
import signal
import sys
from pathlib import Path

import gevent
import pytest
from gevent import subprocess

from tests.observability.otlp_endpoint import OtlpEndpoint

SERVICES = """
import os, time
from pathlib import Path
import gevent
from zmqservices.events import EventDispatcher, event_handler
from zmqservices.rpc import RpcProxy, rpc
from zmqservices.web.handlers import http

class Gateway:
    name = "gateway"
    orders = RpcProxy("orders")

    @http("POST", "/orders")
    def place(self, request):
        self.orders.place(request.get_data(as_text=True))
        return "taken"

class Orders:
    name = "orders"
    dispatch = EventDispatcher()

    @rpc
    def place(self, product):
        self.dispatch("placed", product)
"""

PRODUCTS = """
from pathlib import Path
import gevent
from zmqservices.events import event_handler

class Products:
    name = "products"

    @event_handler("orders", "placed")
    def take(self, product):
        if not Path("hung").exists():
            Path("hung").touch()
            gevent.sleep(3600)
"""


@pytest.fixture
def bound_on_time():
    """Processes take their time on a busy machine."""
    with gevent.Timeout(110):
        yield


@pytest.fixture
def endpoint():
    endpoint = OtlpEndpoint()
    endpoint.start()
    yield endpoint
    endpoint.stop()


@pytest.fixture
def run(tmp_path, cluster_config, endpoint):
    """`run("shop", ...)`: a process of `zmqservices run`, as soon as its services have started."""
    (tmp_path / "shop.py").write_text(SERVICES)
    (tmp_path / "stock.py").write_text(PRODUCTS)
    processes = []

    def start(module, *more, **variables):
        environ = {
            **os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint.url,
            "OTEL_BSP_SCHEDULE_DELAY": "50", **variables,
        }  # fmt: skip
        settings = {
            "DIRECTORY": cluster_config["DIRECTORY"], "NAMESPACE": cluster_config["NAMESPACE"], "OTEL": "true",
            "JOURNAL_FOLDER": tmp_path / "journals", "DIRECTORY_TTL": "2",
        }  # fmt: skip
        defined = [part for key, value in settings.items() for part in ("-d", f"{key}={value}")]
        command = [sys.executable, "-m", "zmqservices", "run", module, *defined, *more]
        process = subprocess.Popen(command, cwd=tmp_path, env=environ, stderr=subprocess.PIPE)
        processes.append(process)
        heard = b""
        for line in process.stderr:
            heard += line
            if b"Services started" in line:
                break
        else:
            pytest.fail(heard.decode())
        process.reader = gevent.spawn(process.stderr.read)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    for process in processes:
        process.wait()


def wait_until(holds, what):
    with gevent.Timeout(60, AssertionError(what())):
        while not holds():
            gevent.sleep(0.02)


@pytest.mark.system
@pytest.mark.timeout(120)
def test_the_spans_of_three_processes_are_one_tree_across_a_sigkill(run, endpoint, tmp_path, free_port):
    products = run("stock")
    run("shop", "-d", f"WEB_SERVER_ADDRESS=127.0.0.1:{free_port}")
    asked = subprocess.run(
        ["curl", "-sS", "--fail", "-d", "tea", f"http://127.0.0.1:{free_port}/orders"], capture_output=True, check=False
    )
    assert asked.stdout == b"taken", asked.stderr
    wait_until((tmp_path / "hung").exists, lambda: "no handler was called")

    products.kill()
    products.wait()
    run("stock")

    names = lambda: [(service, span.name) for service, span in endpoint.spans]  # noqa: E731
    wait_until(lambda: endpoint.named("process orders"), names)
    wait_until(lambda: len(endpoint.named("orders/place")) == 2 and endpoint.named("POST /orders"), names)
    kind = type(endpoint.spans[0][1]).SpanKind
    (root,) = endpoint.named("POST /orders")
    (client,) = endpoint.named("orders/place", kind.Value("SPAN_KIND_CLIENT"))
    (server,) = endpoint.named("orders/place", kind.Value("SPAN_KIND_SERVER"))
    (sent,), (handled,) = endpoint.named("send orders"), endpoint.named("process orders")
    assert root.parent_span_id == b""
    chain = [root, client, server, sent, handled]
    assert [span.parent_span_id for span in chain[1:]] == [span.span_id for span in chain[:-1]]
    assert {span.trace_id for span in chain} == {root.trace_id}
    assert [link.span_id for link in handled.links] == [sent.span_id]
    attempts = [one.value.int_value for one in handled.attributes if one.key == "zmqservices.delivery_attempt"]
    assert attempts and attempts[0] >= 2
    services = {span.span_id: service for service, span in endpoint.spans}
    assert [services[span.span_id] for span in chain] == ["gateway", "gateway", "orders", "orders", "products"]
