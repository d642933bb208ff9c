"""What the map shows of what is known."""

import pytest

from tests.dashboard.stage import answer, at, cluster, group, happening, listed, method, row
from zmqservices.dashboard.details import details
from zmqservices.dashboard.picture import CLIENTS, Picture, picture_of

HANDLER = {"kind": "event", "method": "send", "what": "", "source": "orders", "type": "placed", "group": "mails.send:placed"}


def shop(calls=10, seconds=10.0):
    """Orders at port 1 and 2 are called by the gateway at port 3, and have events for mails at port 4."""
    state = cluster(
        listed("orders", "o1", "n1"), listed("orders", "o2", "n2", port=2), listed("gateway", "g1", "n3", port=3),
        listed("mails", "m1", "n4", port=4),
    )  # fmt: skip
    state.described(at(4), {"instances": [{"service": "mails", "entrypoints": [HANDLER]}]})
    for now, count in ((100.0, 0), (100.0 + seconds, calls)):
        for port, instance in ((1, "o1"), (2, "o2")):
            told = answer(
                now, [("orders", instance, [method([0.01] * count, {"KeyError": count // 10})])], f"n{port}",
                dispatched=[row([0.001] * count, source="orders", type="placed")],
                groups=[group(journal=f"j{port}", waiting=3, dead_letters=1, oldest_age=4.0, acked=count)],
            )  # fmt: skip
            state.answered(at(port), told, now)
        called = row([0.02] * (2 * count), {"RemoteError": count // 5}, caller="gateway", service="orders", method="place")
        requests = [row([0.03] * count, service="gateway", method="GET", route="/", status=status) for status in (200, 500)]
        state.answered(at(3), answer(now, [("gateway", "g1", [])], "n3", calls=[called], requests=requests), now)
        handled = [method([0.05] * count, method="send", kind="event", event="orders:placed", group="mails.send:placed")]
        state.answered(at(4), answer(now, [("mails", "m1", handled)], "n4"), now)
    return state


def service(picture, name):
    return next(one for one in picture["services"] if one["name"] == name)


def test_instances_are_added_up_to_their_service():
    orders = service(Picture(shop(calls=100)).to_dict(), "orders")

    assert (orders["rate"], orders["errors"], orders["dispatched"]) == (20.0, 2.0, 20.0)
    assert orders["p99"] == pytest.approx(0.01, rel=0.065)
    assert [(one["id"], one["rate"], one["queued"]) for one in orders["instances"]] == [("o1", 10.0, 2), ("o2", 10.0, 2)]


def test_who_calls_whom():
    calls = Picture(shop(calls=100)).to_dict()["calls"]

    web, rpc = calls
    assert (web["from"], web["to"], web["kind"], web["rate"], web["errors"]) == (CLIENTS, "gateway", "http", 20.0, 10.0)
    assert (rpc["from"], rpc["to"], rpc["kind"], rpc["rate"], rpc["errors"]) == ("gateway", "orders", "rpc", 20.0, 2.0)
    assert rpc["p99"] == pytest.approx(0.02, rel=0.065)


def test_events_and_what_waits_for_whom():
    (event,) = Picture(shop(calls=100)).to_dict()["events"]

    assert (event["source"], event["to"], event["types"]) == ("orders", "mails", ["placed"])
    assert (event["rate"], event["waiting"], event["dead_letters"], event["oldest_age"]) == (20.0, 6, 2, 4.0)
    assert event["p99"] == pytest.approx(0.05, rel=0.065)


def test_the_map_keeps_its_form_when_a_process_is_lost():
    state = shop(calls=100)
    before = Picture(state).to_dict()

    for port in (3, 4):
        state.lost(f"tcp://127.0.0.1:{port}", 111.0)
    state.listed([listed("orders", "o1", "n1"), listed("orders", "o2", "n2", port=2)], 120.0)
    after = Picture(state).to_dict()

    assert [one["name"] for one in after["services"]] == [one["name"] for one in before["services"]]
    edges = [[(one["from"], one["to"]) for one in picture["calls"]] for picture in (before, after)]
    assert edges[0] == edges[1]
    assert [one["rate"] for one in after["calls"]] == [0.0, 0.0]
    assert (after["events"][0]["to"], after["events"][0]["rate"]) == ("mails", 20.0)


def test_events_in_the_journal_of_a_lost_process_are_shown_until_another_takes_the_journal_over():
    def told(journal, **counts):
        return answer(100.0, [("orders", "o1", [])], f"node of {journal}", groups=[group(journal=journal, in_flight=1, **counts)])

    state = cluster(listed("orders", "o1", "n1"), listed("orders", "o2", "n2", port=2))
    state.answered(at(1), told("j1", waiting=3, dead_letters=2, oldest_age=4.0), 100.0)
    state.answered(at(2), told("j2", waiting=5), 100.0)

    def shown():
        (one,) = Picture(state).to_dict()["events"]
        return one["waiting"], one["dead_letters"], one["in_flight"], one["members"]

    assert shown() == (8, 2, 2, 1)
    state.lost("tcp://127.0.0.1:1", 101.0)
    assert shown() == (8, 2, 1, 1)

    both = {**told("j2", waiting=5), "groups": [group(journal="j2", waiting=5), group(journal="j1", waiting=1, dead_letters=2)]}
    state.answered(at(2), both, 102.0)
    assert shown() == (6, 2, 0, 1)


def test_what_is_gone_for_good_leaves_no_edge():
    state = shop(calls=100)
    Picture(state).to_dict()

    state.listed([listed("orders", "o1", "n1")], 120.0)
    state.expire(1000.0)
    picture = Picture(state).to_dict()

    assert [one["name"] for one in picture["services"] if one["kind"] == "service"] == ["orders"]
    assert picture["calls"] == []


def test_calls_that_nobody_in_the_cluster_made_come_from_clients():
    state = cluster(listed("orders", "o1"))
    for now, count in ((100.0, 0), (110.0, 100)):
        state.answered(at(1), answer(now, [("orders", "o1", [method([0.01] * count)])]), now)

    pictures = [Picture(state).to_dict()["calls"] for _ in range(5)]

    assert pictures[0] == [], "one picture may be wrong, since nodes are not asked in the same moment"
    (call,) = pictures[4]
    assert (call["from"], call["to"], call["rate"]) == (CLIENTS, "orders", 10.0)


def test_an_instance_that_others_have_ejected():
    state = shop()
    callees = [{"service": "orders", "instances": [{"instance": "o1", "condition": "ejected"}]}]
    state.answered(at(3), answer(111.0, [("gateway", "g1", [])], "n3", callees=callees), 111.0)

    one, other = service(Picture(state).to_dict(), "orders")["instances"]

    assert (one["state"], one["ejected_by"], other["state"]) == ("ejected", ["gateway"], "up")


def test_nodes_that_do_not_answer_are_named_with_the_reason():
    state = shop()
    state.failed(at(2), "Forbidden: administer node:operators is needed")

    picture = Picture(state).to_dict()

    assert picture["problems"] == [
        {"address": "tcp://127.0.0.1:2", "services": ["orders"], "problem": "Forbidden: administer node:operators is needed"}
    ]
    assert [one["state"] for one in service(picture, "orders")["instances"]] == ["up", "silent"]


def test_details_of_a_service_and_of_one_instance():
    state = shop(calls=100)
    errors = [
        {"at": at, "service": "orders", "instance": instance, "method": "place", "type": "KeyError", "traceback": "Traceback"}
        for at, instance in ((1.0, "o1"), (2.0, "o2"))
    ]
    answers = [answer(111.0, [("orders", "o1", []), ("orders", "o2", [])], node="n1", errors=errors)]
    for told, seconds in zip(answers[0]["instances"], (2.0, 7.0), strict=True):
        told["longest"] = [{"method": "place", "call_id": "c1", "caller": "", "seconds": seconds}]

    whole, one = details(state, "orders", None, answers), details(state, "orders", "o1", answers)

    assert [(found["method"], found["count"], found["failed"]) for found in whole["methods"]] == [
        ("place", 200, {"KeyError": 20})
    ]
    assert sum(count for _, count in whole["methods"][0]["histogram"]) == 200
    assert [found["caller"] for found in whole["calls"]] == ["gateway"]
    assert [found["at"] for found in whole["errors"]] == [2.0, 1.0]
    assert (one["methods"][0]["count"], [found["at"] for found in one["errors"]]) == (100, [1.0])
    assert [(found["instance"], found["seconds"]) for found in whole["running"]] == [("o2", 7.0), ("o1", 2.0)]
    assert [found["seconds"] for found in one["running"]] == [2.0]


@pytest.mark.parametrize(("part", "wrong"), [
    ("groups", [{name: count for name, count in group().items() if name != "waiting"}]),
    ("groups", [group(waiting="many")]),
    ("callees", [{"service": "mails"}]),
    ("instances", [{"service": "orders", "instance": "o1", "methods": [], "longest": [{}]}]),
    ("instances", [{"service": "orders", "instance": "o1", "methods": [], "running": None}]),
    ("instances", [{"service": "orders", "instance": "o1", "methods": [], "running": float("inf")}]),
    ("groups", [group(oldest_age="long")]),
])  # fmt: skip
def test_an_answer_of_another_form_is_a_problem_of_its_node_alone(part, wrong):
    state = cluster(listed("orders", "o1", "n1"), listed("mails", "m1", "n2", port=2))
    state.answered(at(1), {**answer(100.0), part: wrong}, 100.0)
    state.answered(at(2), answer(100.0, [("mails", "m1", [])], "n2", groups=[group(waiting=3, journal="j2")]), 100.0)

    picture = picture_of(state)

    (problem,) = picture["problems"]
    assert problem["services"] == ["orders"] and "the answer has an unknown form" in problem["problem"]
    states = {service["name"]: [one["state"] for one in service["instances"]] for service in picture["services"]}
    assert (states["orders"], states["mails"]) == (["silent"], ["up"])
    assert [one["waiting"] for one in picture["events"]] == [3]


def test_names_of_different_types_are_shown_together():
    state = cluster(listed("orders", "o1", "n1"), listed("mails", "m1", "n2", port=2))
    for now, count in ((100.0, 1), (101.0, 2)):
        for port, name in ((1, 7), (2, "mails")):
            rows = {
                "calls": [row([0.1] * count, caller="orders", service=name, method=name)],
                "requests": [row([0.1] * count, service="orders", method="GET", route=name, status=200)],
                "dispatched": [row([0.1] * count, source=name, type=name)],
                "groups": [group(source=name, acked=count, oldest_age=f"{port}" if port == 1 else None)],
            }
            told = [("orders", "o1", [method([0.1] * count, method=name, kind=name)])]
            state.answered(at(port), answer(now, told, f"n{port}", **rows), now)

    picture = picture_of(state)

    assert picture["problems"] == []
    assert [one["to"] for one in picture["calls"]] == ["orders", "7", "mails"]
    events = [(one["source"], one["rate"], one["oldest_age"]) for one in picture["events"]]
    assert events == [("7", 1.0, 1.0), ("mails", 1.0, None)]
    shown = details(state, "orders", None, [])
    assert [one["method"] for one in shown["methods"]] == ["7", "mails"]
    assert [one["route"] for one in shown["requests"]] == ["7", "mails"]


def test_a_description_of_another_form_is_a_problem_of_its_node_too():
    state = cluster(listed("orders", "o1", "n1"))
    state.answered(at(1), answer(100.0), 100.0)
    state.described(at(1), {"instances": [{"service": "orders"}]})

    assert "KeyError: 'entrypoints'" in picture_of(state)["problems"][0]["problem"]


@pytest.mark.parametrize("at_", [float("nan"), float("inf"), "noon"])
def test_a_time_that_json_cannot_have_is_not_taken(at_):
    state = cluster(listed("orders", "o1", "n1"))

    with pytest.raises(ValueError, match=r"not a finite|could not convert"):
        state.answered(at(1), answer(at_), 100.0)
    with pytest.raises(ValueError, match=r"not a finite|could not convert"):
        state.answered(at(1), answer(100.0, timeline=[happening(1, "link lost", at_)]), 100.0)


def test_a_clock_that_stands_still_has_no_rates():
    state = cluster(listed("orders", "o1", "n1"))
    for count in (1, 2):
        state.answered(at(1), answer(100.0, [("orders", "o1", [method([0.1] * count)])]), 100.0 + count)

    assert [one["rate"] for one in picture_of(state)["services"]] == [0.0]
