"""Spans of calls, events, requests and ticks: one tree for what one request causes, and none for what is not sampled."""

import logging
from contextvars import copy_context

import gevent
import pytest
from gevent.event import Event
from opentelemetry import baggage, context, propagate, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    Decision,
    ParentBased,
    ParentBasedTraceIdRatio,
    Sampler,
    SamplingResult,
)
from opentelemetry.trace import SpanKind, StatusCode

from tests.stage import aside, until
from tests.web.stage import Web
from zmqservices.contextdata import ContextDataProvider
from zmqservices.events import EventDispatcher, event_handler
from zmqservices.exceptions import RemoteError
from zmqservices.observability.logs import ids_of
from zmqservices.observability.statistics import OTHER
from zmqservices.observability.tracing import Tracing
from zmqservices.observability.tracing.attributes import LONGEST_TEXT
from zmqservices.probes import attach, attached, detach
from zmqservices.rpc import RpcProxy, rpc
from zmqservices.standalone.events import event_dispatcher
from zmqservices.timer import timer
from zmqservices.web.handlers import http
from zmqservices.web.websocket import rpc as websocket_rpc

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class TraceParent(ContextDataProvider):
    context_key = "traceparent"


class Gateway:
    name = "gateway"
    orders = RpcProxy("orders")

    @http("POST", "/orders/<int:number>")
    def order(self, request, number):
        return str(self.orders.place(number))

    @http("GET", "/broken")
    def broken(self, request):
        raise KeyError("gone")


class Orders:
    name = "orders"
    dispatch = EventDispatcher()
    parent = TraceParent()

    @rpc(sensitive_arguments="number")
    def place(self, number):
        with trace.get_tracer("shop").start_as_current_span("price"):
            self.dispatch("placed", {"number": number})
        return number

    @rpc(expected_exceptions=ValueError)
    def refuse(self, error="ValueError"):
        raise {"ValueError": ValueError, "KeyError": KeyError}[error]("no")

    @rpc
    def seen(self):
        return self.parent, baggage.get_baggage("customer")


class Products:
    name = "products"
    handled = Event()
    failures = 0

    @event_handler("orders", "placed")
    def take(self, payload):
        if Products.failures:
            Products.failures -= 1
            raise RuntimeError("the warehouse is closed")
        Products.handled.set()


class Spans:
    """What was exported."""

    def __init__(self, tracing):
        self.exporter = InMemorySpanExporter()
        tracing.add_span_processor(SimpleSpanProcessor(self.exporter))

    def all(self):
        return self.exporter.get_finished_spans()

    def named(self, name, count=1):
        """The spans of this name, in the order of their ends, once there are so many."""
        until(lambda: len([span for span in self.all() if span.name == name]) >= count, 10)
        return [span for span in self.all() if span.name == name]

    def one(self, name):
        (span,) = self.named(name)
        return span


@pytest.fixture
def tracing():
    tracing = Tracing()
    with attached(tracing):
        yield tracing
    tracing.close()


@pytest.fixture
def spans(tracing):
    return Spans(tracing)


@pytest.fixture
def users_tracer(tracing, monkeypatch):
    """`opentelemetry.trace.get_tracer` gives users a tracer of the same provider, as `set_tracer_provider` would for good."""
    monkeypatch.setattr(trace, "get_tracer", lambda name: tracing.provider.get_tracer(name))


@pytest.fixture(autouse=True)
def nothing_handled():
    Products.handled.clear()
    Products.failures = 0


def parent_of(span):
    return None if span.parent is None else span.parent.span_id


def test_a_request_and_all_that_it_causes_are_one_tree(spans, users_tracer, serve):
    serve(Orders)
    serve(Products)
    web = Web(serve(Gateway, WEB_SERVER_ADDRESS="127.0.0.1:0"))

    answer = web.ask("POST", "/orders/3", headers={"Traceparent": f"00-{TRACE}-{PARENT}-01", "Baggage": "customer=7"})

    assert answer.text == "3"
    request, handled = spans.one("POST /orders/<int:number>"), spans.one("process orders")
    (client, served), price, sent = spans.named("orders/place", 2), spans.one("price"), spans.one("send orders")
    if client.kind is SpanKind.SERVER:
        client, served = served, client
    assert [f"{span.context.trace_id:032x}" for span in spans.all()] == [TRACE] * len(spans.all())
    assert f"{request.parent.span_id:016x}" == PARENT
    for span, parent in ((client, request), (served, client), (price, served), (sent, price), (handled, sent)):
        assert span.parent.span_id == parent.context.span_id, span.name
    kinds = [span.kind for span in (request, client, served, price, sent, handled)]
    assert [kind.name for kind in kinds] == ["SERVER", "CLIENT", "SERVER", "INTERNAL", "PRODUCER", "CONSUMER"]
    assert [link.context.span_id for link in handled.links] == [sent.context.span_id]
    assert [span.resource.attributes["service.name"] for span in (request, client, served, sent, handled)] == [
        "gateway", "gateway", "orders", "orders", "products",
    ]  # fmt: skip
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["http.route"] == "/orders/<int:number>"
    assert served.attributes["rpc.method"] == client.attributes["rpc.method"] == "orders/place"
    assert handled.attributes["messaging.destination.name"] == "orders:placed"
    assert handled.attributes["messaging.message.id"].startswith("orders:")
    assert 3 not in served.attributes.values()

    assert web.ask("GET", "/broken").status == 500
    broken = spans.one("GET /broken")
    assert (broken.attributes["http.response.status_code"], broken.parent) == (500, None)
    assert (broken.attributes["error.type"], broken.status.status_code) == ("KeyError", StatusCode.ERROR)
    web.close()


def test_baggage_reaches_methods_and_travels_on(spans, serve, connect):
    serve(Orders)
    token = context.attach(baggage.set_baggage("customer", "7"))
    try:
        parent, customer = connect().orders.seen()
    finally:
        context.detach(token)

    assert customer == "7"
    assert parent.split("-")[2] == f"{spans.named('orders/seen', 2)[0].context.span_id:016x}"


def test_errors_are_statuses_and_expected_ones_are_not(spans, serve, connect):
    serve(Orders)
    orders = connect().orders
    for error in ("ValueError", "KeyError"):
        with pytest.raises((ValueError, KeyError, RemoteError)):
            orders.refuse(error)

    expected, failed = [span for span in spans.named("orders/refuse", 4) if span.kind is SpanKind.SERVER]
    assert (expected.status.status_code, failed.status.status_code) == (StatusCode.UNSET, StatusCode.ERROR)
    assert [span.attributes["error.type"] for span in (expected, failed)] == ["ValueError", "KeyError"]
    assert [event.name for event in failed.events] == ["exception"]
    at_client = [span for span in spans.all() if span.kind is SpanKind.CLIENT]
    assert [span.status.status_code for span in at_client] == [StatusCode.ERROR] * 2


def test_a_redelivered_event_is_handled_in_the_trace_of_its_dispatch(spans, serve, connect):
    serve(Orders, elsewhere=True)
    serve(Products, events_backoff=0.01)
    Products.failures = 2

    connect().orders.place(1)

    assert Products.handled.wait(10)
    sent, handled = spans.one("send orders"), spans.named("process orders", 3)
    assert [span.attributes["zmqservices.delivery_attempt"] for span in handled] == [1, 2, 3]
    assert {span.parent.span_id for span in handled} == {sent.context.span_id}
    assert [span.status.status_code for span in handled] == [StatusCode.ERROR, StatusCode.ERROR, StatusCode.UNSET]


def test_a_call_over_a_websocket_begins_a_trace_as_a_call_that_is_served(spans, serve):
    class Chat:
        name = "chat"

        @websocket_rpc
        def say(self, socket_id):
            return "said"

    web = Web(serve(Chat, WEB_SERVER_ADDRESS="127.0.0.1:0"))

    assert web.websocket().result("say") == "said"

    span = spans.one("chat/say")
    assert (span.kind, span.parent) == (SpanKind.SERVER, None)
    assert span.resource.attributes["service.name"] == "chat"
    web.close()


def test_ticks_begin_traces_of_their_own(spans, serve):
    class Clock:
        name = "clock"

        @timer(interval=0.02)
        def tick(self):
            pass

    serve(Clock)

    first, second = spans.named("clock/tick", 2)[:2]
    assert first.kind is SpanKind.INTERNAL and first.parent is None
    assert first.context.trace_id != second.context.trace_id


def test_a_process_without_tracing_passes_the_trace_on(serve, connect):
    serve(Orders)
    sent = f"00-{TRACE}-{PARENT}-01"

    parent, _ = connect(context_data={"traceparent": sent, "tracestate": "a=1"}).orders.seen()

    assert parent == sent


@pytest.mark.parametrize("sampler", [ALWAYS_OFF, ParentBased(ALWAYS_OFF)], ids=["off", "by the parent"])
def test_what_is_not_sampled_is_not_recorded_and_told_to_others(sampler, serve, connect):
    exporter, provider = InMemorySpanExporter(), TracerProvider(sampler=sampler)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    serve(Orders)
    with attached(Tracing(provider)):
        unsampled, _ = connect().orders.seen()
        followed, _ = connect(context_data={"traceparent": f"00-{TRACE}-{PARENT}-00"}).orders.seen()

    assert exporter.get_finished_spans() == ()
    assert [int(sent[-2:], 16) & 1 for sent in (unsampled, followed)] == [0, 0]
    assert followed.split("-")[1] == TRACE


def test_the_parent_decides_whether_a_trace_is_sampled(serve, connect):
    exporter, provider = InMemorySpanExporter(), TracerProvider(sampler=ParentBased(ALWAYS_OFF))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    serve(Orders)
    with attached(Tracing(provider)):
        connect(context_data={"traceparent": f"00-{TRACE}-{PARENT}-01"}).orders.seen()

    assert {span.name for span in exporter.get_finished_spans()} == {"orders/seen"}
    assert {span.attributes.get("zmqservices.service") for span in exporter.get_finished_spans()} == {None, "orders"}


@pytest.mark.parametrize("junk", [7, [b"x"], "x" * 10_000, "0" * 10_000, "00-zz-1-01", {"a": 1}, {54: "0"}, ["0"] * 55])
def test_junk_for_a_trace_begins_a_new_one(junk, spans, serve, connect, caplog):
    serve(Orders)
    client = connect(context_data={"traceparent": junk, "baggage": 7, "tracestate": [1]})

    parent, _ = client.orders.seen()

    assert len(parent.split("-")[1]) == 32 and TRACE not in parent
    assert "ignored an error of" not in caplog.text


def test_an_error_of_tracing_is_logged_once_for_each_hook_and_never_felt(tracing, serve, connect, caplog, monkeypatch):
    def broken(*args):
        raise KeyError("broken")

    monkeypatch.setattr(tracing._calls, "_begin", broken)
    monkeypatch.setattr(tracing._workers, "started_in_full", broken)
    serve(Orders)
    orders = connect().orders

    for _ in range(3):
        orders.seen()

    assert caplog.text.count("ignored an error of") == 2


def test_names_of_spans_stay_few_whatever_is_called_and_dispatched(spans, serve, connect):
    serve(Orders)
    cluster = connect()
    for number in range(30):
        with pytest.raises(Exception, match="nothing_|MethodNotFound"):
            getattr(cluster.orders, f"nothing_{number}")()
        cluster.orders.place(number)

    client = {span.name for span in spans.all() if span.kind is SpanKind.CLIENT}
    assert client == {OTHER, "orders/place"}
    assert {span.name for span in spans.all() if span.kind is SpanKind.PRODUCER} == {"send orders"}
    assert all(len(str(value)) <= LONGEST_TEXT for span in spans.all() for value in span.attributes.values())


def test_calls_and_events_of_other_threads_have_the_trace_of_the_thread(tracing, spans, serve, cluster_config, connect):
    serve(Orders)
    serve(Products)
    client = connect()
    tracer = tracing.provider.get_tracer("program")

    def work():
        with tracer.start_as_current_span("job"):
            client.orders.seen()
            with event_dispatcher(cluster_config) as dispatch:
                dispatch("orders", "placed", {})

    aside(work)

    job = spans.one("job")
    assert Products.handled.wait(10)
    children = [span.name for span in spans.all() if parent_of(span) == job.context.span_id]
    assert sorted(children) == ["orders/seen", "send orders"]


def test_logs_name_the_trace_and_the_span(spans, serve, connect):
    seen = []

    class Logs:
        name = "logs"
        parent = TraceParent()

        @rpc
        def look(self):
            from zmqservices.hosting.workers import current_job

            seen.append(ids_of(current_job()))

    serve(Logs)
    connect().logs.look()

    served = next(span for span in spans.named("logs/look", 2) if span.kind is SpanKind.SERVER)
    assert seen[0]["trace_id"] == f"{served.context.trace_id:032x}"
    assert seen[0]["span_id"] == f"{served.context.span_id:016x}"


def test_a_worker_that_began_before_or_ends_after_is_no_trouble(serve, connect, caplog):
    entered, leave = Event(), Event()

    class Slow:
        name = "slow"

        @rpc
        def wait(self):
            entered.set()
            leave.wait()

    serve(Slow)
    client = connect()
    tracing = Tracing()
    spans = Spans(tracing)
    call = client.slow.wait.call_async()
    assert entered.wait(30)
    attach(tracing)
    leave.set()
    call.result()
    entered.clear(), leave.clear()
    call = client.slow.wait.call_async()
    assert entered.wait(30)
    detach(tracing)
    leave.set()
    call.result()
    tracing.close()

    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(spans.all()) <= 1
    assert trace.get_current_span() is trace.INVALID_SPAN
    gevent.sleep(0)


class Cards:
    name = "cards"

    @rpc(sensitive_arguments="card")
    def pay(self, card):
        raise ValueError(f"bad card {card}")

    @http("GET", "/cards/<card>", sensitive_arguments="card")
    def show(self, request, card):
        raise ValueError(f"bad card {card}")


def test_sensitive_arguments_are_recorded_nowhere_neither_in_texts_of_errors_nor_in_paths(spans, serve, connect):
    web = Web(serve(Cards, WEB_SERVER_ADDRESS="127.0.0.1:0"))

    with pytest.raises(RemoteError):
        connect().cards.pay("4111-1111")
    web.get("/cards/4111-1111")
    web.close()

    (request,), calls = spans.named("GET /cards/<card>"), spans.named("cards/pay", 2)
    for span in (request, *calls):
        assert "4111" not in span.to_json()
        assert span.attributes["error.type"] == "ValueError"
        assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "ValueError")


@pytest.mark.parametrize("share", ["0.0", "0.2", "1.0"])
def test_a_share_of_all_traces_is_sampled_and_whole(share, serve, connect, monkeypatch):
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", share)
    serve(Orders)
    serve(Products)
    web = Web(serve(Gateway, WEB_SERVER_ADDRESS="127.0.0.1:0"))
    tracing = Tracing()
    spans = Spans(tracing)
    with attached(tracing):
        orders = connect().orders
        for _ in range(200):
            orders.seen()
        for _ in range(50):
            assert web.ask("POST", "/orders/1").status == 200
    tracing.close()
    web.close()

    traces = {}
    for span in spans.all():
        traces.setdefault(span.context.trace_id, set()).add(span.name)
    calls = [names for names in traces.values() if "orders/seen" in names]
    requests = [names for names in traces.values() if "POST /orders/<int:number>" in names]
    # Of 0.2, the chance of being further off is less than one in a million.
    least, most = {"0.0": (0, 0), "0.2": (14, 75), "1.0": (200, 200)}[share]
    assert least <= len(calls) <= most
    assert len(requests) + len(calls) == len([names for names in traces.values() if names - {"process orders"}])
    assert all("orders/place" in names for names in requests)
    if share == "0.2":
        assert len(requests) < 50


class Halving(Sampler):
    """A sampler of an application's own: it samples every second trace, and follows no parent."""

    def __init__(self):
        self.asked = 0

    def should_sample(self, parent_context, trace_id, name, kind=None, attributes=None, links=None, trace_state=None):
        self.asked += 1
        decision = Decision.RECORD_AND_SAMPLE if self.asked % 2 else Decision.DROP
        return SamplingResult(decision, attributes)

    def get_description(self):
        return "Halving"


@pytest.mark.parametrize("follows", [False, True], ids=["alone", "by the parent"])
def test_any_sampler_is_asked_and_obeyed(follows, serve, connect):
    sampler = Halving()
    exporter, provider = InMemorySpanExporter(), TracerProvider(sampler=ParentBased(sampler) if follows else sampler)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    serve(Orders)
    with attached(Tracing(provider)):
        flags = [flag(connect().orders.seen()[0]) for _ in range(4)]
        until(lambda: len(exporter.get_finished_spans()) == 4, 10)

    if follows:
        assert (flags, sampler.asked) == ([1, 0, 1, 0], 4)
    else:  # At the client it samples, and at the service it does not.
        assert (flags, sampler.asked) == ([0, 0, 0, 0], 8)


class Seeing(Sampler):
    """A sampler of an application's own: it samples everything, and returns no attributes."""

    def __init__(self):
        self.seen = {}

    def should_sample(self, parent_context, trace_id, name, kind=None, attributes=None, links=None, trace_state=None):
        self.seen[name, kind] = dict(attributes or {}), list(links or ())
        return SamplingResult(Decision.RECORD_AND_SAMPLE)

    def get_description(self):
        return "Seeing"


def test_a_sampler_of_the_application_sees_the_attributes_and_the_links_of_each_span(serve, connect):
    sampler = Seeing()
    provider = TracerProvider(sampler=sampler)
    serve(Orders)
    serve(Products)
    tracing = Tracing(provider)
    spans = Spans(tracing)
    with attached(tracing):
        connect().orders.place(1)
        (handled,) = spans.named("process orders")

    for kind in (SpanKind.CLIENT, SpanKind.SERVER):
        assert sampler.seen["orders/place", kind][0]["rpc.method"] == "orders/place"
    assert sampler.seen["send orders", SpanKind.PRODUCER][0]["messaging.destination.name"] == "orders:placed"
    attributes, links = sampler.seen["process orders", SpanKind.CONSUMER]
    assert attributes["messaging.destination.name"] == "orders:placed"
    assert [link.context for link in links] == [link.context for link in handled.links] != []
    assert attributes.items() <= dict(handled.attributes).items()


class Shop:
    """Opens spans of its own, and calls others, as applications do."""

    name = "shop"
    orders = RpcProxy("orders")
    parent = TraceParent()

    @rpc
    def sell(self):
        outwards = [{}, {}]
        propagate.inject(outwards[0])
        with trace.get_tracer("shop").start_as_current_span("own"):
            propagate.inject(outwards[1])
        return self.parent, self.orders.seen()[0], [each["traceparent"] for each in outwards]

    @rpc
    def sell_aside(self):
        def aside():
            assert "trace_id=0x" in repr(trace.get_current_span())
            with trace.get_tracer("shop").start_as_current_span("aside") as span:
                return f"{span.get_span_context().trace_id:032x}", self.orders.seen()[0]

        return gevent.spawn(copy_context().run, aside).get()

    @rpc
    def mark(self):
        span = trace.get_current_span()
        span.set_attribute("shop.marked", "yes")
        span.add_event("marked", {"by": "hand"})
        return span.is_recording()


@pytest.fixture
def sampled(monkeypatch):
    """`sampled(share)`: Tracing as the environment makes it, with this share of the traces sampled; and its spans."""
    opened = []

    def make(share, **variables):
        chosen = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": str(share), **variables}
        for name, value in chosen.items():
            monkeypatch.setenv(name, value)
        tracing = Tracing()
        monkeypatch.setattr(trace, "get_tracer", lambda name: tracing.provider.get_tracer(name))
        attach(tracing)
        opened.append(tracing)
        return Spans(tracing)

    yield make
    for tracing in opened:
        detach(tracing)
        tracing.close()


def flag(header):
    return int(header[-2:], 16) & 1


def test_what_begins_inside_an_unsampled_trace_is_not_sampled_either(sampled, serve, connect):
    serve(Orders)
    serve(Shop)
    # Of those that the application began itself, all would be.
    spans = sampled(1.0)
    sent = f"00-{TRACE}-{PARENT}-00"

    here, at_orders, outwards = connect(context_data={"traceparent": sent}).shop.sell()

    assert spans.all() == ()
    assert here == at_orders == sent
    assert [flag(header) for header in outwards] == [0, 0]
    assert outwards[0] == sent and outwards[1].split("-")[1] == TRACE


def test_greenlets_with_a_copy_of_the_context_go_on_with_its_unsampled_trace(sampled, serve, connect):
    serve(Orders)
    serve(Shop)
    # Of those that the application began itself, all would be.
    spans = sampled(1.0)
    sent = f"00-{TRACE}-{PARENT}-00"

    aside, at_orders = connect(context_data={"traceparent": sent}).shop.sell_aside()

    assert (aside, at_orders.split("-")[1], flag(at_orders)) == (TRACE, TRACE, 0)
    assert spans.all() == ()


def test_an_unsampled_trace_has_one_id_in_all_services(sampled, serve, connect):
    serve(Orders)
    serve(Shop)
    spans = sampled(0.0)

    here, at_orders, outwards = connect().shop.sell()
    other, _, _ = connect().shop.sell()

    assert spans.all() == ()
    assert here == at_orders and here != other
    assert (flag(here), flag(outwards[0]), outwards[0].split("-")[1]) == (0, 0, here.split("-")[1])


def test_a_sampled_trace_from_outside_goes_on_where_no_trace_that_begins_is_sampled(sampled, serve, connect):
    serve(Orders)
    serve(Shop)
    spans = sampled(0.0)

    _, at_orders, outwards = connect(context_data={"traceparent": f"00-{TRACE}-{PARENT}-01"}).shop.sell()

    assert {span.name for span in spans.all()} == {"shop/sell", "orders/seen", "own"}
    assert {f"{span.context.trace_id:032x}" for span in spans.all()} == {TRACE}
    assert [flag(header) for header in (at_orders, *outwards)] == [1, 1, 1]


def test_baggage_travels_in_unsampled_traces_too(sampled, serve, connect):
    serve(Orders)
    spans = sampled(0.0)

    parent, customer = connect(context_data={"baggage": "customer=7"}).orders.seen()

    assert (flag(parent), customer, spans.all()) == (0, "7", ())


@pytest.mark.parametrize("limits", [{}, {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "2"}], ids=["light", "limited"])
def test_methods_add_to_the_span_of_their_call(limits, sampled, serve, connect):
    serve(Shop)
    spans = sampled(1.0, **limits)

    assert connect().shop.mark() is True

    (span,) = (span for span in spans.named("shop/mark", 2) if span.kind is SpanKind.SERVER)
    assert span.attributes["shop.marked"] == "yes"
    assert [(event.name, dict(event.attributes)) for event in span.events] == [("marked", {"by": "hand"})]
    assert span.end_time >= span.events[0].timestamp >= span.start_time
    assert len(span.attributes) == 2 if limits else span.attributes["rpc.method"] == "shop/mark"


def test_a_provider_with_a_share_samples_that_share(serve, connect):
    exporter, provider = InMemorySpanExporter(), TracerProvider(sampler=ParentBasedTraceIdRatio(0.2))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    serve(Orders)
    with attached(Tracing(provider)):
        orders = connect().orders
        for _ in range(200):
            orders.seen()

    traces = [span.context.trace_id for span in exporter.get_finished_spans()]
    # The chance of being further off is less than one in a million; each has its span at the client and at the service.
    assert 14 <= len(set(traces)) <= 75
    assert len(traces) == 2 * len(set(traces))
