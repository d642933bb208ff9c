"""The page of metrics: what it says of calls, events and requests, and that it stays small whatever comes from outside."""

import urllib.request
from collections import Counter
from contextlib import ExitStack, closing
from types import SimpleNamespace

import gevent
import pytest
from gevent import socket
from gevent.event import Event
from prometheus_client.parser import text_string_to_metric_families

from tests.stage import until
from tests.web.stage import Web
from zmqservices import probes
from zmqservices.events import EventDispatcher, event_handler
from zmqservices.exceptions import ConfigurationError
from zmqservices.observability import prometheus
from zmqservices.observability.prometheus import MEASURES, MetricsServer
from zmqservices.observability.statistics import MOST_ERRORS, MOST_TYPES, OTHER
from zmqservices.rpc import RpcProxy, rpc
from zmqservices.utils import turns
from zmqservices.web.handlers import http


class Maths:
    name = "maths"

    @rpc
    def double(self, number):
        return number * 2

    @rpc
    def fail(self, name="ValueError"):
        raise type(name, (Exception,), {})("no")


class Orders:
    name = "orders"
    maths = RpcProxy("maths")
    dispatch = EventDispatcher()

    @rpc
    def place(self, number, type="placed"):
        self.dispatch(type, self.maths.double(number))


class Mails:
    name = "mails"
    handled = Event()

    @event_handler("orders", "placed")
    def send(self, number):
        self.handled.set()


@pytest.fixture
def metrics():
    server = MetricsServer("127.0.0.1:0")
    server.start()
    yield server
    server.stop()


def parsed(server):
    """All samples of the page."""
    return [sample for family in text_string_to_metric_families(server.page().decode()) for sample in family.samples]


def samples(page, name, **labels):
    """The samples with this name and these labels. `page` is a server, or what `parsed` gave of it."""
    found = page if isinstance(page, list) else parsed(page)
    return [sample for sample in found if sample.name == name and labels.items() <= sample.labels.items()]


def value(server, name, **labels):
    (sample,) = samples(server, name, **labels)
    return sample.value


def get(server, path="/metrics", method="GET"):
    host, port = server.address[:2]
    request = urllib.request.Request(f"http://{host}:{port}{path}", method=method)
    try:
        with gevent.get_hub().threadpool.apply(urllib.request.urlopen, (request,), {"timeout": 5}) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def test_calls_are_counted_on_both_sides_with_errors_and_durations(metrics, serve, connect):
    container = serve(Maths)
    maths = connect().maths
    for number in range(3):
        maths.double(number)
    with pytest.raises(Exception, match="no"):
        maths.fail()

    page = parsed(metrics)
    at_server = {"rpc_system_name": "zmqservices", "service_name": "maths", "service_instance_id": container.instance_id}
    name = "rpc_server_call_duration_seconds"
    assert value(page, f"{name}_count", rpc_method="maths/double", error_type="", **at_server) == 3
    assert value(page, f"{name}_count", rpc_method="maths/fail", **at_server) == 1
    assert value(page, f"{name}_bucket", rpc_method="maths/double", le="+Inf", **at_server) == 3
    assert 0 < value(page, f"{name}_sum", rpc_method="maths/double", **at_server) < 10
    (failed,) = samples(page, f"{name}_count", rpc_method="maths/fail")
    assert failed.labels["error_type"].endswith("ValueError")
    assert value(page, "rpc_client_call_duration_seconds_count", rpc_method="maths/double", error_type="") == 3
    assert value(page, "zmqservices_queue_duration_seconds_count", method="double", kind="rpc") == 3
    assert value(page, "zmqservices_workers_max", service_name="maths") == 10


def test_events_are_counted_from_the_dispatch_to_the_handler(metrics, serve, connect):
    serve(Maths)
    serve(Orders)
    serve(Mails)
    Mails.handled.clear()

    connect().orders.place(1)
    assert Mails.handled.wait(30)

    event = {"messaging_system": "zmqservices", "messaging_destination_name": "orders:placed"}
    assert value(metrics, "messaging_client_sent_messages_total", messaging_operation_name="send", **event) == 1
    assert value(metrics, "messaging_client_operation_duration_seconds_count", error_type="", **event) == 1
    while not samples(metrics, "messaging_process_duration_seconds_count", service_name="mails", **event):
        gevent.sleep(0.01)
    (handled,) = samples(metrics, "messaging_process_duration_seconds_count", service_name="mails", **event)
    group = handled.labels["messaging_consumer_group_name"]
    of_group = {"messaging_destination_name": "orders", "messaging_consumer_group_name": group}
    while not samples(metrics, "zmqservices_events_acked_total", **of_group):
        gevent.sleep(0.01)
    assert value(metrics, "zmqservices_events_delivered_total", **of_group) == 1
    assert value(metrics, "zmqservices_dead_letters", **of_group) == 0
    assert value(metrics, "zmqservices_group_members", **of_group) == 1


def test_requests_are_counted_by_their_routes(metrics, serve):
    class Shop:
        name = "shop"

        @http("GET", "/orders/<int:number>")
        def order(self, request, number):
            return str(number)

        @http("GET", "/broken")
        def broken(self, request):
            raise ValueError("no")

    web = Web(serve(Shop, WEB_SERVER_ADDRESS="127.0.0.1:0"))
    for path in ("/orders/7", "/orders/8", "/broken", "/nowhere"):
        web.get(path)
    web.close()

    name = "http_server_request_duration_seconds_count"
    while len(samples(metrics, name)) < 3:
        gevent.sleep(0.01)
    assert value(metrics, name, http_route="/orders/<int:number>", http_response_status_code="200", error_type="") == 2
    assert value(metrics, name, http_route="/broken", error_type="500") == 1
    assert value(metrics, name, http_route=OTHER, http_response_status_code="404", http_request_method="GET") == 1


def test_a_flood_of_names_from_outside_does_not_grow_the_page(metrics, serve, connect):
    class Shop:
        name = "shop"

        @http("GET", "/hello")
        def hello(self, request):
            return "hello"

    serve(Maths)
    web = Web(serve(Shop, WEB_SERVER_ADDRESS="127.0.0.1:0"))
    cluster = connect()
    cluster.maths.double(1)

    def flood(numbers):
        for number in numbers:
            with pytest.raises(Exception, match="unknown|no"):
                getattr(cluster.maths, f"unknown_{number}")()
            with pytest.raises(Exception, match="no"):
                cluster.maths.fail(f"Error{number}")
            web.get(f"/nothing/{number}")
            for more in range(10):
                metrics.statistics.event_dispatched("orders", f"type_{number}_{more}", 0.001, None)
        return len(metrics.page().splitlines())

    first = flood(range(MOST_ERRORS + 5))
    second = flood(range(100, 105))
    web.close()

    assert second == first
    calls = MOST_ERRORS + 10
    page = parsed(metrics)
    assert value(page, "zmqservices_calls_refused_total", rpc_method=f"maths/{OTHER}", reason="unknown-method") == calls
    assert value(page, "rpc_client_call_duration_seconds_count", rpc_method=f"{OTHER}/{OTHER}") == calls
    sent = samples(page, "messaging_client_sent_messages_total")
    assert len(sent) == MOST_TYPES + 1
    assert sum(sample.value for sample in sent) == 10 * calls
    assert value(page, "messaging_client_sent_messages_total", messaging_destination_name=f"orders:{OTHER}") > 100
    assert len(samples(page, "rpc_server_call_duration_seconds_count", rpc_method="maths/fail")) == MOST_ERRORS + 1
    assert value(page, "http_server_request_duration_seconds_count", http_route=OTHER) == calls


def test_second_attempts_are_counted_by_method(metrics):
    for _ in range(2):
        metrics.statistics.call_hedged(SimpleNamespace(service="maths", method="double"))

    assert value(parsed(metrics), "zmqservices_client_calls_hedged_total", rpc_method="maths/double") == 2


def test_every_measure_is_exported(metrics, serve, connect):
    serve(Maths)
    serve(Orders)
    serve(Mails)
    connect().orders.place(1)
    measured = {measure.name for measure in probes.measures()}

    assert measured == set(MEASURES)
    page = parsed(metrics)
    assert all(samples(page, metric) for metric, _, _ in MEASURES.values())


def test_the_page_is_served_and_nothing_else(metrics):
    status, headers, body = get(metrics)
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert b"python_info" in body
    assert get(metrics, "/")[0] == 404
    assert get(metrics, method="POST")[0] == 405


def test_requests_that_arrive_together_are_answered_one_a_turn(metrics, monkeypatch):
    monkeypatch.setattr(turns, "LONGEST_TURN", 0.0)
    answered = Counter()
    page = lambda: answered.update([gevent.get_hub().loop.iteration]) or b""  # noqa: E731
    monkeypatch.setattr(metrics, "page", page)

    with socket.create_connection(metrics.address) as raw:
        raw.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
        until(lambda: answered.total() == 100)

    assert max(answered.values()) <= 2


def test_a_body_without_end_is_read_a_piece_a_turn_and_then_its_client_is_let_go(metrics, monkeypatch, capfd):
    monkeypatch.setattr(turns, "LONGEST_TURN", 0.0)
    monkeypatch.setattr(prometheus, "REQUEST_TIMEOUT", 0.5)
    pieces = Counter()
    read = prometheus._Reader.readinto
    count = lambda self, buffer: pieces.update([gevent.get_hub().loop.iteration]) or read(self, buffer)  # noqa: E731
    monkeypatch.setattr(prometheus._Reader, "readinto", count)

    with socket.create_connection(metrics.address) as raw:
        raw.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n" + b"x" * 1_000_000)
        while raw.recv(65_536):
            pass

    assert max(pieces.values()) <= 2
    assert "Timeout" not in capfd.readouterr().err


def test_what_has_stopped_counting_listens_to_nothing():
    server = MetricsServer("127.0.0.1:0")
    server.start()
    server.stop()

    assert not probes._attached


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("9464", "METRICS_ADDRESS is '9464'; HOST:PORT is needed, such as '127.0.0.1:9464'"),
        ("127.0.0.1:99999", "METRICS_ADDRESS is '127.0.0.1:99999'; HOST:PORT is needed"),
        ("no host:80", "METRICS_ADDRESS is 'no host:80', which cannot be resolved"),
    ],
)
def test_a_wrong_address_is_quoted(address, text):
    with pytest.raises(ConfigurationError, match=text):
        MetricsServer(address)


def test_a_port_that_is_taken_is_named(metrics):
    address = f"127.0.0.1:{metrics.address[1]}"

    with pytest.raises(ConfigurationError, match=f"cannot bind METRICS_ADDRESS {address}: Address already in use"):
        MetricsServer(address)


def test_a_client_that_never_finishes_its_request_is_let_go_and_others_get_the_page(metrics, monkeypatch):
    monkeypatch.setattr(prometheus, "REQUEST_TIMEOUT", 0.5)

    with ExitStack() as stack:
        several = range(prometheus.MOST_CONNECTIONS)
        slow = [stack.enter_context(closing(socket.create_connection(metrics.address))) for _ in several]
        for one in slow:
            one.sendall(b"GET /metrics HTTP/1.1\r\n")
            one.setblocking(False)
        # Sooner than a header would be too long.
        until(lambda: all(is_let_go(one, b"x") for one in slow), 5)

        assert get(metrics)[0] == 200


def is_let_go(raw, byte):
    """Whether the connection has ended; otherwise another byte is sent over it."""
    try:
        raw.send(byte)
        return raw.recv(65_536) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
