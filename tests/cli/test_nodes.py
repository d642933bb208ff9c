"""`zmqservices ping`, `info` and `stats` ask the nodes of running services."""

import json
import signal
import time

import pytest

from tests.ports import free_port
from zmqservices.cli import nodes
from zmqservices.cli.nodes import NodeAnswer, summed
from zmqservices.observability.histogram import Histogram
from zmqservices.observability.node_address import NodeAddress

SHOP = """
    from zmqservices.events import EventDispatcher, event_handler
    from zmqservices.rpc import rpc


    class Orders:
        name = "orders"
        dispatch = EventDispatcher()

        @rpc
        def place(self, number):
            self.dispatch("placed", number)
            return number

        @rpc
        def fail(self):
            raise ValueError("no such order")


    class Mails:
        name = "mails"

        @event_handler("orders", "placed")
        def send(self, number):
            pass
"""


@pytest.mark.system
@pytest.mark.timeout(180)
def test_nodes_tell_what_they_run_and_have_done(start, zmqservices, write, tmp_path):
    write("shop.py", SHOP)
    cluster = ("--directory", f"local:{free_port()}")
    journals = ("-d", f"JOURNAL_FOLDER={tmp_path / 'journals'}")
    orders = start("run", "shop:Orders", *cluster, *journals, "-d", "STATISTICS=true")
    orders.until("Services started")
    # It handles events only, and answers all the same.
    mails = start("run", "shop:Mails", *cluster, *journals)
    mails.until("Services started")

    def ask(*arguments):
        result = zmqservices(*arguments, *cluster, "--json")
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    assert {one["service"] for one in ask("ping")} == {"orders", "mails"}
    assert zmqservices("call", "orders.place", "1", *cluster).stdout == "1\n"
    assert zmqservices("call", "orders.fail", *cluster).returncode == 1

    (found,) = ask("stats", "orders")
    fail, place = found["methods"]
    assert (fail["method"], fail["count"], fail["errors"]) == ("fail", 1, {"ValueError": 1})
    assert (fail["last_error"]["type"], fail["last_error"]["text"]) == ("ValueError", "no such order")
    assert (place["method"], place["count"], place["errors"]) == ("place", 1, {})
    assert 0 < place["p50"] == place["p99"] < 10

    (node,) = ask("info", "mails")
    (instance,) = node["instances"]
    (entrypoint,) = instance["entrypoints"]
    assert (entrypoint["method"], entrypoint["what"]) == ("send", "placed of orders")
    assert entrypoint["group"]
    assert node["pid"] == mails.popen.pid

    # The command line's folder has no module of this name; its documents come from the process that runs the service.
    contract = ask("schema", "orders", "--asyncapi")
    assert contract["asyncapi"].startswith("3.") and "place" in str(contract["operations"])
    nothing = zmqservices("schema", "mails", "--openapi", *cluster)
    assert nothing.returncode == 2
    assert nothing.stderr == "Error: mails has no @http methods, so there is no such document\n"
    unknown = zmqservices("schema", "order", *cluster)
    assert unknown.returncode == 2
    assert "there is no module 'order'" in unknown.stderr
    assert "nor does a service of this name run" in unknown.stderr and "did you mean 'orders'?" in unknown.stderr

    shown = zmqservices("stats", *cluster).stdout
    assert "orders x1" in shown and "ValueError: no such order" in shown
    shown = zmqservices("info", "orders", *cluster).stdout
    assert "rpc: place" in shown and "needs dispatch: EventDispatcher" in shown

    unknown = zmqservices("stats", "order", *cluster)
    assert unknown.returncode == 3
    assert "did you mean 'orders'?" in unknown.stderr
    for process in (orders, mails):
        process.signal(signal.SIGTERM)
        assert process.end() == 0


def node(service, instance, seconds, errors=None, last_error=None):
    durations = Histogram()
    for one in seconds:
        durations.observe(one)
    method = {
        "method": "place", "kind": "rpc", "event": "", "count": len(seconds), "errors": errors or {},
        "durations": durations.to_dict(), "queued": Histogram().to_dict(), "last_error": last_error,
    }  # fmt: skip
    told = {"service": service, "instance": instance, "running": 1, "queued": 2, "max_workers": 10, "methods": [method]}
    return NodeAnswer("tcp://127.0.0.1:1", [service], 0.001, {"since": time.time(), "instances": [told]}, "")


def test_the_instances_of_a_service_are_added_up():
    old = {"at": 1.0, "type": "KeyError", "text": "old"}
    new = {"at": 2.0, "type": "ValueError", "text": "new"}
    answers = [
        node("orders", "one", [0.01] * 98 + [1.0], {"KeyError": 1}, old),
        node("orders", "two", [1.0], {"KeyError": 2, "ValueError": 1}, new),
        node("mails", "three", [0.5]),
        NodeAnswer("tcp://127.0.0.1:2", ["orders"], 3.0, None, "RpcTimeout: too late"),
    ]

    (orders,) = summed(answers, "orders")
    (method,) = orders["methods"]

    assert (orders["instances"], orders["running"], orders["queued"]) == (2, 2, 4)
    assert (method["count"], method["errors"], method["last_error"]) == (100, {"KeyError": 3, "ValueError": 1}, new)
    assert method["p50"] == pytest.approx(0.01, rel=0.065)
    assert method["p99"] == pytest.approx(1.0, rel=0.065)
    assert method["queued_p99"] is None
    assert orders["calls"] == []


def test_of_a_process_that_has_ended_a_sentence_says_so(capsys):
    address = NodeAddress(f"tcp://127.0.0.1:{free_port()}", None)

    (answer,) = nodes.ask({}, {address: {"orders"}}, "info", 0.3)

    assert answer.problem == "nothing can be connected to there; the process has ended, or its host cannot be reached"


def test_the_last_error_is_shown_with_its_age(capsys):
    last = {"at": time.time() - 200.0, "type": "KeyError", "text": "old"}

    nodes._show_stats(summed([node("orders", "one", [0.01], {"KeyError": 1}, last)], None), [])

    assert "3 min ago: KeyError: old" in capsys.readouterr().out


def test_info_tells_a_method_from_what_it_runs_for(capsys):
    handler = {"kind": "event", "method": "send", "signature": "(order: dict) -> None", "what": "placed of orders"}
    entrypoints = [
        {**handler, "group": "mails.send:placed"},
        {"kind": "rpc", "method": "ping", "signature": "()", "what": ""},
        {"kind": "timer", "method": "tick", "signature": "()", "what": "every 60 s", "next": 3.21},
    ]
    instance = {"service": "mails", "instance": "m1", "class": "shop.Mails", "max_workers": 10, "dependencies": {}}
    answer = {"version": "1.0", "python": "3.11", "pid": 7, "host": "blue", "uptime": 1.0}

    nodes._show_info(answer, "tcp://127.0.0.1:1", [{**instance, "entrypoints": entrypoints}])

    assert capsys.readouterr().out.splitlines()[2:] == [
        "    event: send(order: dict) -> None  [placed of orders, group mails.send:placed]",
        "    rpc: ping()",
        "    timer: tick()  [every 60 s, next in 3.2 s]",
    ]


def test_the_calls_of_a_service_are_shown_with_the_service():
    durations = Histogram()
    durations.observe(0.01)
    names = {"caller": "orders", "service": "stock", "method": "take"}
    call = {**names, "count": 1, "errors": {"KeyError": 1}, "durations": durations.to_dict()}
    answers = [node("orders", "one", [0.1]), node("orders", "two", [0.1]), node("mails", "three", [0.1])]
    for one in answers:
        one.answer["calls"] = [call, {**call, "caller": "standalone_rpc_proxy"}]

    mails, orders = summed(answers, None)

    (made,) = orders["calls"]
    assert (made["service"], made["method"], made["count"], made["errors"]) == ("stock", "take", 3, {"KeyError": 3})
    assert made["p50"] == made["p95"] == made["p99"] == pytest.approx(0.01, rel=0.065)
    assert mails["calls"] == []
