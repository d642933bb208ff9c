"""`zmqservices stats` shows what the nodes know of the services that they call."""

import time

from click.testing import CliRunner

from tests.cluster.calls.world import Calling
from zmqservices.cli import nodes
from zmqservices.cli.callees import callee_rows, callees_of, ejection_lines
from zmqservices.cli.nodes import NodeAnswer, summed


def call_state(ejects=""):
    """The state of a caller that has made one call to `maths`, and has ejected one of its two instances."""
    calling = Calling()
    for name in ("one", "two"):
        calling.add_instance(name, add={"idempotent": True})
    calling.begin()
    [pool] = calling.caller._pools.values()
    if ejects:
        instance = pool.instances[ejects]
        instance.health.eject("5 calls in a row failed", instance.load, 10.0, calling.reactor.now)
        calling.caller.refresh(pool)
    pool.hedged, pool.hedges_won = 3, 2
    return calling.caller.call_state()


def answer(node, callees):
    instance = {"service": "shop", "instance": f"shop-{node}", "running": 1, "queued": 2, "max_workers": 10, "methods": []}
    told = {"node": node, "since": time.time(), "instances": [instance, {**instance, "instance": "other"}], "callees": callees}
    return NodeAnswer("tcp://127.0.0.1:1", ["shop"], 0.001, told, "")


def test_callees_of_all_nodes_are_added_up():
    (shop,) = summed([answer("a", call_state("two")), answer("b", call_state())], None)
    (maths,) = shop["callees"]

    assert (maths["calls"], maths["in_flight"], maths["hedged"], maths["hedges_won"], maths["panic"]) == (2, 2, 6, 4, [])
    assert maths["retries"] > 100
    assert maths["instances"]["two"]["ejected"] == {"a": "5 calls in a row failed"}
    assert maths["instances"]["one"]["ejected"] == {}


def test_services_that_share_a_node_have_the_callees_that_they_call():
    one = answer("a", call_state())
    other = {**one.answer["instances"][0], "service": "bank", "instance": "bank-a"}
    calls = [{"caller": "bank", "service": "maths"}, {"caller": "shop", "service": "words"}]
    told = {**one.answer, "instances": [*one.answer["instances"], other], "calls": calls}

    assert [callee["service"] for callee in callees_of("bank", told)] == ["maths"]
    assert callees_of("shop", told) == []


def test_an_earlier_release_tells_nothing_of_hedging():
    [state] = call_state()
    old = {name: value for name, value in state.items() if name not in ("hedged", "hedges_won")}

    (shop,) = summed([answer("a", [old])], None)

    assert (shop["callees"][0]["calls"], shop["callees"][0]["hedged"]) == (1, 0)


def test_callees_are_shown_below_the_methods():
    told = summed([answer("a", call_state("two"))], None)

    head, row = callee_rows(told)
    shown = dict(zip(head, row, strict=True))
    assert (shown["CALLER"], shown["CALLEE"], shown["CALLS"]) == ("shop", "maths", "1")
    assert (shown["EJECTED"], shown["HEDGED"]) == ("1", "3 (2 won)")
    assert ejection_lines(told) == [
        "shop (node a) sends no calls to instance two of maths at tcp://two:1: 5 calls in a row failed"
    ]
    assert callee_rows(summed([answer("a", [])], None)) == []


def test_the_command_shows_methods_and_callees(monkeypatch):
    monkeypatch.setattr(nodes, "ask_nodes", lambda *args: [answer("a", call_state("two"))])

    shown = CliRunner().invoke(nodes.stats_command).output

    assert "RETRY BUDGET" in shown
    assert "sends no calls to instance two of maths" in shown


def test_callees_are_shown_for_the_service_that_calls_not_for_others_of_its_process():
    told = summed([answer("a", call_state("two"))], None)
    (shop,) = told
    beside = {**shop, "service": "mails", "calls": []}
    shop["calls"] = [{"service": "maths"}]

    assert [row[:2] for row in callee_rows([shop, beside])[1:]] == [("shop", "maths")]
