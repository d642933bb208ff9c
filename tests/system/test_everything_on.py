"""The shop under load with everything on at once: metrics (a real Prometheus), traces, logs, `top`, the dashboard."""

import functools
import http.client
import itertools
import json
import os
import sys
import threading
import urllib.request
from contextlib import contextmanager

import pytest
import redis

from examples.shop.demo import CONFIG
from tests.contrib import servers
from tests.deploy.prometheus_server import Prometheus, of_dashboard
from tests.observability.otlp_endpoint import OtlpEndpoint
from tests.ports import free_port
from tests.system.conftest import staged
from tests.system.fork_server import ROOT
from tests.system.processes import eventually as eventually_exactly
from tests.terminal import Terminal

#: Seconds that anything here may take on a busy machine.
PATIENCE = 60.0

#: Looking costs processor time here.
eventually = functools.partial(eventually_exactly, pause=0.2)

#: What is on, in each process.
EVERYTHING = {
    "OTEL": "true", "ACCESS_LOG": "true", "LOG_FORMAT": "json", "slow_call_threshold": "0.5", "OPENAPI": "true",
    "events_backoff": "0.2",
}  # fmt: skip

#: One order, as the service and the name of each span, each below the one before.
TREE = [
    ("gateway", "POST /orders"), ("gateway", "orders/create"), ("orders", "orders/create"), ("orders", "send orders"),
    ("products", "process orders"),
]  # fmt: skip

#: Panels of the dashboard that are empty unless events are lost.
OF_LOSSES = {"sum by (messaging_consumer_group_name) (rate(zmqservices_events_lost_total[$__rate_interval]))"}


class Shop:
    """Two processes of products under a supervisor, one of orders, one of the gateway, and customers who never rest."""

    def __init__(self, stage, folder, redis_url, otlp_url):
        self.stage, self._folder = stage, folder
        self.web_port = free_port()
        self.metrics_ports = [free_port() for _ in range(3)]
        self.redis = redis.Redis.from_url(redis_url)
        self.environment = {
            "ZMQSERVICES_LOCAL_PORT": str(free_port()), "SHOP_ADDRESS": f"127.0.0.1:{self.web_port}", "SHOP_REDIS": redis_url,
            "SHOP_DB": f"sqlite:///{folder}/shop.db", "OTEL_EXPORTER_OTLP_ENDPOINT": otlp_url, "OTEL_BSP_SCHEDULE_DELAY": "200",
        }  # fmt: skip
        products, orders, gateway = self.metrics_ports
        self.processes = [
            self._run("products", products, "--processes", "2"), self._run("orders", orders), self._run("gateway", gateway)
        ]  # fmt: skip
        self._is_over = threading.Event()
        self._customers = threading.Thread(target=self._order_on, daemon=True)

    def _run(self, service, port, *options):
        settings = {**EVERYTHING, "JOURNAL_FOLDER": self._folder / "journal"}
        defined = [part for key, value in settings.items() for part in ("-d", f"{key}={value}")]
        return self.command("run", f"examples.shop.{service}", "-c", CONFIG, "--metrics-port", str(port), *options, *defined)

    def command(self, *arguments):
        return self.stage.start(arguments[0], [sys.executable, "-m", "zmqservices", *arguments], self.environment)

    def open(self):
        for process, times in zip(self.processes, (2, 1, 1), strict=True):
            eventually(lambda p=process, n=times: p.output().count("Services started") >= n or not p.is_running, PATIENCE)
        assert self.ask("POST", "/products", {"id": "zeppelin", "title": "Zeppelin", "in_stock": 1000})[0] == 201
        self._customers.start()

    def ask(self, method, path, body=None):
        """The status, and the value of the JSON body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.web_port, timeout=PATIENCE)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def order(self):
        return self.ask("POST", "/orders", {"lines": [{"product": "zeppelin", "quantity": 1}]})

    def _order_on(self):
        for path in itertools.cycle(["/products/zeppelin", "/products/none", "/nowhere"]):
            if self._is_over.wait(0.1):
                return
            self.order()
            if path != "/nowhere":
                self.ask("GET", path)

    @contextmanager
    def failing_handlers(self):
        """While it lasts, no event of an order can be handled: where its effect is stored, something else is."""
        self.redis.rename("orders_handled", "kept")
        self.redis.set("orders_handled", "something else")
        try:
            yield
        finally:
            self.redis.rename("kept", "orders_handled")

    def lines(self):
        """The lines of JSON of all logs."""
        found = (line for process in self.processes for line in process.output().splitlines())
        return [json.loads(line) for line in found if line.startswith("{")]

    def close(self):
        self._is_over.set()
        if self._customers.ident:
            self._customers.join(PATIENCE)
        self.redis.close()


@pytest.fixture(scope="module")
def otlp():
    endpoint = OtlpEndpoint()
    endpoint.start()
    yield endpoint
    endpoint.stop()


@pytest.fixture(scope="module")
def shop(guardian, otlp, tmp_path_factory, request):
    folder = tmp_path_factory.mktemp("shop")
    with servers.redis_server() as redis_url, staged(guardian, folder, request.node) as stage:
        shop = Shop(stage, folder, redis_url, otlp.url)
        try:
            shop.open()
            yield shop
        finally:
            shop.close()


@pytest.mark.timeout(180)
def test_a_real_prometheus_has_no_complaint_and_every_panel_of_the_dashboard_has_data(shop, tmp_path):
    prometheus = Prometheus(tmp_path, shop.metrics_ports)
    server = shop.stage.start("prometheus", prometheus.command)

    up = {f"127.0.0.1:{port}": ("up", "") for port in shop.metrics_ports}
    eventually(lambda: prometheus.targets() == up, PATIENCE, "all three targets are up")
    eventually(lambda: {health for health, _ in prometheus.rules().values()} == {"ok"}, PATIENCE, "all rules are healthy")
    with shop.failing_handlers():
        empty = dict.fromkeys(expression for _, expression in of_dashboard())

        def all_have_data():
            for expression in [one for one in empty if prometheus.results_of(one)]:
                del empty[expression]
            return empty.keys() <= OF_LOSSES

        # A call of what is not there is refused; a rate needs two scrapes.
        shop.stage.start("call", call(shop, "products.nonsense"), shop.environment).wait()
        eventually(all_have_data, PATIENCE, empty)

    # One page for both processes of products, each of which is named.
    processes = {labels["process"] for labels, value in prometheus.results_of("rpc_server_call_duration_seconds_count") if (
        labels["rpc_method"] == "products/get" and value > 0 and "process" in labels)}  # fmt: skip
    assert processes == {"1", "2"}
    # Three of four errors are the customers' own; what does not exist is no failure of the route.
    routes = {(one["http_route"], one["http_response_status_code"]) for one, _ in prometheus.results_of(
        "http_server_request_duration_seconds_count")}  # fmt: skip
    assert {("/orders", "201"), ("/products/<id>", "404")} <= routes
    # A scrape that a busy machine answers late makes an alert pending; what fires has lasted for a minute.
    assert prometheus.results_of('ALERTS{alertname="ServiceIsDown",alertstate="firing"}') == []
    assert [line for line in server.output().splitlines() if "level=error" in line or "level=ERROR" in line] == []


def call(shop, target):
    return [sys.executable, "-m", "zmqservices", "call", target]


@pytest.mark.timeout(180)
def test_the_spans_of_an_order_are_one_tree_over_four_processes(shop, otlp):
    eventually(lambda: any(is_whole(spans) for spans in by_trace(otlp)), PATIENCE, "all spans of an order have come")
    spans = next(spans for spans in by_trace(otlp) if is_whole(spans))

    root, *_ = chain = chain_of(spans)
    assert [(service, span.name) for service, span in chain] == TREE
    assert root[1].parent_span_id == b""
    # Nothing of the trace hangs beside the tree: what the gateway asked of products first is below the request, too.
    ids = {span.span_id for _, span in spans}
    assert [span.name for _, span in spans if span.parent_span_id and span.parent_span_id not in ids] == []
    assert ("products", "products/get") in {(service, span.name) for service, span in spans}


def by_trace(otlp):
    traces = {}
    for service, span in list(otlp.spans):
        traces.setdefault(span.trace_id, []).append((service, span))
    return [spans for spans in traces.values() if any(span.name == "POST /orders" for _, span in spans)]


def is_whole(spans):
    # Each method is a client's span and a server's; the gateway asked for one product.
    return len(spans) >= len(TREE) + 2 and len(chain_of(spans)) == len(TREE)


def chain_of(spans):
    """From the request on, each below the one before, as far as the tree is there."""
    chain, parent = [], b""
    for service, name in TREE:
        found = [one for one in spans if (one[0], one[1].name, one[1].parent_span_id) == (service, name, parent)]
        if not found:
            break
        chain.append(found[0])
        parent = found[0][1].span_id
    return chain


@pytest.mark.timeout(180)
def test_logs_name_every_call_the_slow_ones_and_the_failed_ones_by_their_traces(shop, otlp):
    shop.redis.client_pause(800)
    with shop.failing_handlers():
        shop.order()
        # On a busy machine others may be slow, too.
        slow = eventually(lambda: [one for one in shop.lines() if one["logger"] == "zmqservices.slow"
                                   and one["service"] == "gateway" and one["waited_seconds"] > 0.4
                                   and "products.get" in one["message"]], PATIENCE, "a slow call was logged")[0]  # fmt: skip
        failed = eventually(
            lambda: [one for one in shop.lines() if "WRONGTYPE" in json.dumps(one.get("exception"))], PATIENCE, "a handler failed"
        )[0]

    assert slow["seconds"] >= 0.5
    assert "waiting for replies" in slow["message"]
    assert (failed["service"], failed["exception"]["type"]) == ("products", "redis.exceptions.ResponseError")
    accessed = [one for one in shop.lines() if one["logger"] == "zmqservices.access"]
    assert {one["service"] for one in accessed} == {"gateway", "orders", "products"}
    assert {one["process"] for one in accessed if one["service"] == "products"} == {"1", "2"}
    for line in (slow, failed):
        trace = bytes.fromhex(line["trace_id"])
        eventually(lambda t=trace: t in {span.trace_id for _, span in list(otlp.spans)}, PATIENCE, "its trace was exported")


@pytest.mark.timeout(180)
def test_top_shows_the_services_under_load_in_a_terminal(shop, guardian):
    terminal = Terminal()
    command = [sys.executable, "-m", "zmqservices", "top", "--timeout", "20"]
    environment = {**shop.stage.environment(), **shop.environment, "TERM": "xterm"}
    top = guardian.servers.run(command, environment, ROOT, [terminal.slave] * 3)
    guardian.watch(top.pid)
    try:
        rate = r"[1-9][\d.]* "
        terminal.until(rf"gateway +1/1 up +{rate}[^\0]*orders +1/1 up +{rate}[^\0]*products +2/2 up +{rate}", PATIENCE)
        os.write(terminal.master, b"q")
        assert terminal.read_to_end(top) == 0
    finally:
        top.send_signal(9)
        top.wait(PATIENCE)
        guardian.forget(top.pid)
        terminal.close()


@pytest.mark.timeout(180)
def test_the_dashboard_shows_who_calls_whom_and_the_contract_is_served(shop):
    dashboard = shop.command("dashboard", "--port", "0")
    dashboard.has_said("dashboard: http://", PATIENCE)
    url = dashboard.output().partition("dashboard: ")[2].split()[0]

    with urllib.request.urlopen(f"{url}api/stream", timeout=PATIENCE) as stream:
        pictures = (json.loads(line[6:]) for line in stream if line.startswith(b"data: {"))
        picture = next(one for one in pictures if flows_of(one) >= {
            ("(clients)", "gateway"), ("gateway", "orders"), ("gateway", "products"), ("orders", "products")
        } and instances_of(one) == {"gateway": ["up"], "orders": ["up"], "products": ["up", "up"]})  # fmt: skip

    assert picture["problems"] == []
    status, contract = shop.ask("GET", "/openapi.json")
    assert (status, contract["openapi"][:2]) == (200, "3.") and "/orders" in contract["paths"]


def flows_of(picture):
    """Who calls whom, and who has events of whom, right now."""
    calls = {(one["from"], one["to"]) for one in picture.get("calls", ()) if one["rate"] > 0}
    return calls | {(one["source"], one["to"]) for one in picture.get("events", ()) if one["rate"] > 0}


def instances_of(picture):
    return {
        one["name"]: sorted(instance["state"] for instance in one["instances"])
        for one in picture.get("services", ())
        if one["kind"] == "service"
    }
