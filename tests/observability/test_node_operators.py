"""What a node answers to operators: what runs there, what was counted, who calls whom, and what happened."""

from importlib import metadata

import gevent
import pytest
from gevent.event import Event

from zmqservices import probes
from zmqservices.events import BROADCAST, EventDispatcher, event_handler
from zmqservices.exceptions import RemoteError
from zmqservices.membership import Membership
from zmqservices.observability.described import LONGEST_DOC, LONGEST_SIGNATURE
from zmqservices.observability.histogram import Histogram
from zmqservices.observability.node_operators import NodeOperators
from zmqservices.observability.statistics import Statistics
from zmqservices.rpc import RpcProxy, rpc
from zmqservices.timer import timer
from zmqservices.wire import codec


class Products:
    name = "products"

    @rpc(idempotent=True)
    def price(self, number: int, currency: str = "EUR") -> float:
        """The price of a product."""
        return 1.5

    @rpc
    def fail(self):
        raise ValueError("no such product")


class Orders:
    """Takes orders."""

    name = "shop.orders"
    products = RpcProxy("products")
    dispatch = EventDispatcher()

    @rpc
    def place(self, number):
        self.dispatch("placed", self.products.price(number))

    @rpc
    def spoil(self):
        self.products.fail()


class Mails:
    name = "mails"
    handled = Event()

    @event_handler("shop.orders", "placed")
    def send(self, price):
        self.handled.set()


#: Seconds that anything here may take on a busy machine.
PATIENCE = 30.0


@pytest.fixture
def statistics():
    statistics = Statistics()
    with probes.attached(statistics):
        yield statistics


@pytest.fixture
def operators(statistics, serve):
    """Serve the classes, and what the node of the first one answers for all."""

    def operators(*classes, contracts=None):
        containers = [serve(cls) for cls in classes]
        return NodeOperators(containers[0].shared_extensions[Membership].join(), containers, contracts)

    return operators


def row(rows, **wanted):
    (found,) = [one for one in rows if wanted.items() <= one.items()]
    return found


def test_the_caller_of_a_call_is_known_with_count_errors_and_durations(operators, connect):
    node = operators(Orders, Products)
    cluster = connect()
    cluster["shop.orders"].place(1)
    cluster["shop.orders"].place(2)
    with pytest.raises(RemoteError):
        cluster["shop.orders"].spoil()

    stats = codec.unpack(codec.pack(node.stats()))

    called = row(stats["calls"], caller="shop.orders", service="products", method="price")
    assert (called["count"], called["errors"]) == (2, {})
    assert 0 < Histogram.from_dict(called["durations"]).quantile(0.99) < 10
    failed = row(stats["calls"], caller="shop.orders", service="products", method="fail")
    assert failed["errors"] == {"ValueError": 1}
    assert row(stats["calls"], caller="standalone_rpc_proxy", service="shop.orders", method="place")["count"] == 2
    (instance,) = row(stats["callees"], service="products")["instances"]
    assert instance["condition"] == "up" and "latency" in instance
    brief = row(node.stats(brief=True)["callees"], service="products")
    assert brief["instances"] == [{"instance": instance["instance"], "condition": "up"}]


def test_the_contract_of_each_service_is_told_or_why_there_is_none(operators):
    node = operators(Orders, Products, contracts=lambda cls: {"openapi": None, "asyncapi": {"id": cls.name}})
    told = codec.unpack(codec.pack(node.schema()))
    assert [(one["service"], one["openapi"], one["asyncapi"]["id"]) for one in told["instances"]] == [
        ("shop.orders", None, "shop.orders"), ("products", None, "products"),
    ]  # fmt: skip
    assert told["problem"] == ""

    def missing(cls):
        raise ImportError("pydantic is not installed")

    told = operators(Orders, contracts=missing).schema()
    assert (told["instances"], told["problem"]) == ([], "pydantic is not installed")


def test_a_call_that_hangs_is_named_while_it_runs(operators, connect):
    began, end = Event(), Event()

    class Hangs:
        name = "hangs"

        @rpc
        def wait(self):
            began.set()
            end.wait(PATIENCE)

    node = operators(Hangs)
    call = connect().hangs.wait.call_async()
    began.wait(PATIENCE)

    (instance,) = codec.unpack(codec.pack(node.stats(brief=True)))["instances"]
    (running,) = instance["longest"]
    measured = [one.value for one in probes.measures() if one.name == "workers_oldest_age" and one.labels["service"] == "hangs"]
    end.set()
    call.result()

    assert (running["method"], running["call_id"].partition(".wait.")[0]) == ("wait", "hangs")
    assert running["caller"].startswith("standalone_rpc_proxy.")
    assert 0 <= running["seconds"] <= measured[0]
    (instance,) = node.stats(brief=True)["instances"]
    assert instance["longest"] == []


def test_the_last_errors_have_tracebacks_unless_the_question_is_brief(operators, connect):
    node = operators(Products)
    with pytest.raises(RemoteError):
        connect().products.fail()

    stats, brief = node.stats(), node.stats(brief=True)

    (error,) = stats["errors"]
    assert (error["service"], error["method"]) == ("products", "fail")
    assert (error["type"], error["text"]) == ("ValueError", "no such product")
    assert error["call_id"].startswith("products.fail.")
    assert 'raise ValueError("no such product")' in error["traceback"]
    method = row(stats["instances"][0]["methods"], method="fail")
    assert method["last_error"] == error
    assert brief["errors"] == [{**error, "traceback": ""}]
    assert brief["measures"] == [] and stats["measures"]


def test_the_version_of_the_package_is_read_once_and_not_for_each_answer(operators, monkeypatch):
    node = operators(Products)
    told = node.stats()["version"]
    monkeypatch.setattr(metadata, "version", None)

    assert node.stats()["version"] == told != ""


def test_the_backlog_of_a_group_stands_beside_what_was_counted_of_it(operators, serve, connect):
    Mails.handled.clear()
    node = operators(Orders, Products)
    serve(Mails)
    connect()["shop.orders"].place(1)
    assert Mails.handled.wait(10)
    with gevent.Timeout(PATIENCE):
        # An ack is counted when it arrives; the event waits until the journal has it.
        while (group := row(node.stats()["groups"], source="shop.orders"))["acked"] < 1 or group["waiting"]:
            gevent.sleep(0.01)

    stats = codec.unpack(codec.pack(node.stats()))

    group = row(stats["groups"], source="shop.orders")
    assert [group[name] for name in ("waiting", "in_flight", "dead_letters", "members")] == [0, 0, 0, 1]
    assert [group[name] for name in ("delivered", "redelivered", "acked", "failed", "dead", "lost")] == [1, 0, 1, 0, 0, 0]
    assert row(stats["dispatched"], source="shop.orders", type="placed")["count"] == 1


def test_the_timeline_begins_after_the_number_that_is_asked_for(operators, connect):
    node = operators(Orders, Products)
    connect().products.price(1)

    whole = node.stats()["timeline"]
    started = row(whole, what="started", service="products")
    assert [one["number"] for one in whole] == sorted(one["number"] for one in whole)
    assert {one["what"] for one in whole} >= {"started", "listed", "link up"}
    assert node.stats(after=started["number"])["timeline"] == [one for one in whole if one["number"] > started["number"]]


def test_requests_are_counted_by_route(operators, statistics):
    node = operators(Products)
    statistics.http_answered("shop", "GET", "/price/<int:number>", 200, 0.01)

    (request,) = node.stats()["requests"]
    assert (request["route"], request["status"], request["count"]) == ("/price/<int:number>", 200, 1)


class Everything:
    """All kinds of entrypoints."""

    name = "everything"
    products = RpcProxy("products")

    @rpc
    def ask(self, number: "Number" = 1):  # noqa: F821
        pass

    @timer(3600)
    def hourly(self):
        """Runs each hour."""

    @timer(7200, cluster=True)
    def rarely(self):
        pass

    @event_handler("shop.orders", "placed")
    def placed(self, price):
        pass

    @event_handler("shop.orders", "gone", handler_type=BROADCAST, reliable_delivery=False)
    def gone(self, number):
        pass


def test_info_has_signatures_annotations_docstrings_and_next_ticks(operators):
    node = operators(Products, Everything)

    products, everything = codec.unpack(codec.pack(node.info()))["instances"]

    price = row(products["entrypoints"], method="price")
    assert (price["kind"], price["idempotent"]) == ("rpc", True)
    assert price["signature"] == "(number: int, currency: str = 'EUR') -> float"
    assert price["annotations"] == {"number": "int", "currency": "str", "return": "float"}
    assert price["doc"] == "The price of a product."
    assert everything["doc"] == "All kinds of entrypoints."
    assert everything["dependencies"] == {"products": "ServiceRpc"}
    assert row(everything["entrypoints"], method="ask")["annotations"] == {"number": "Number"}
    hourly, rarely = (row(everything["entrypoints"], method=name) for name in ("hourly", "rarely"))
    assert 3500 < hourly["next"] <= 3600
    assert (hourly["interval"], hourly["cluster"], hourly["doc"]) == (3600, False, "Runs each hour.")
    assert (rarely["cluster"], rarely["next"] > 7000) == (True, True)
    placed, gone = (row(everything["entrypoints"], method=name) for name in ("placed", "gone"))
    assert (placed["source"], placed["type"], placed["handler_type"]) == ("shop.orders", "placed", "service_pool")
    assert placed["reliable"] is True
    assert placed["group"]
    assert (gone["handler_type"], gone["reliable"]) == ("broadcast", False)


def test_long_docstrings_and_signatures_are_cut(operators):
    class Wordy:
        name = "wordy"

        @rpc
        def talk(self, word="x" * 1000):
            pass

        talk.__doc__ = "x" * 10_000

    (instance,) = operators(Wordy).info()["instances"]

    (talk,) = instance["entrypoints"]
    assert (len(talk["doc"]), len(talk["signature"])) == (LONGEST_DOC, LONGEST_SIGNATURE)
