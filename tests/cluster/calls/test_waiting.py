"""A server sends the number of waiting calls with its answers, and callers prefer instances with fewer."""

import pytest

from tests.cluster.calls.world import NAMESPACE, Calling, Serving
from zmqservices.wire.messages import MAJOR, MINOR, WAITING, Call, Hello, Result, Welcome
from zmqservices.wire.payloads import LARGE

# --- the server's half -------------------------------------------------------------------------------------


@pytest.fixture
def serving():
    return Serving()


@pytest.fixture
def queue(serving):
    """What waits for a worker of the service."""
    waiting = []
    serving.server.serve("maths", "one", serving.taken.append, lambda: None, lambda worker, why: None, (), waiting)
    return waiting


def greeted(serving, info):
    client = serving.connect(is_greeted=False)
    client.say(Hello(MAJOR, MINOR, "client", NAMESPACE, info))
    [welcome] = client.heard()
    return client, welcome


def answered(serving, client, id=1):
    client.say(Call(id, "maths", "add", []))
    serving.taken[-1].reply(5)
    [result] = client.heard()
    return result


def test_a_client_that_asked_gets_the_number_of_waiting_calls(serving, queue):
    client, welcome = greeted(serving, {WAITING: True})
    queue += ["another's"] * 7

    assert welcome.info[WAITING] is True
    assert answered(serving, client) == Result(1, 5, None, 7)


def test_a_client_that_did_not_ask_gets_answers_without_the_number(serving, queue):
    client, welcome = greeted(serving, None)
    queue += ["another's"] * 7

    assert WAITING not in welcome.info
    assert answered(serving, client) == Result(1, 5)


def test_the_number_is_left_out_if_only_the_clients_own_calls_wait(serving, queue):
    client, _ = greeted(serving, {WAITING: True})

    assert answered(serving, client) == Result(1, 5)
    client.say(Call(2, "maths", "add", []), Call(3, "maths", "add", []))
    queue += ["its own"] * 2
    assert answered(serving, client, 4) == Result(4, 5)
    queue += ["another's"] * 2
    assert answered(serving, client, 5).waiting == 4


def test_answers_with_a_serializer_or_a_payload_have_the_number_as_well(serving, queue):
    client, _ = greeted(serving, {WAITING: True})
    queue += ["another's"] * 7
    client.say(Call(1, "maths", "add", b"[[], {}]", serializer="json"))

    serving.taken[-1].reply(b"5", "json")

    assert client.heard() == [Result(1, b"5", "json", 7)]
    large = bytes(LARGE)
    client.say(Call(2, "maths", "add", []))
    serving.taken[-1].reply(large)
    [result] = [message for message in client.heard() if type(message) is Result]
    assert (result.value, result.waiting) == (large, 7)


@pytest.mark.parametrize("asked", [False, 1, "yes", None])
def test_only_true_asks(serving, queue, asked):
    _, welcome = greeted(serving, {WAITING: asked})

    assert WAITING not in welcome.info


# --- the caller's half -------------------------------------------------------------------------------------


@pytest.fixture
def calling():
    return Calling()


def add_instance(calling, name, tells=True):
    link = calling.add_instance(name, is_greeted=False)
    link.listener.on_connect()
    link.say(Welcome(MAJOR, MINOR, link.listener.node, NAMESPACE, {"services": {"maths": {}}, WAITING: tells}))
    return link


def calls_in_flight(calling):
    return list(calling.caller._pending.values())


def hear(calling, links, waiting):
    """Each instance answers one call, and says that so many wait."""
    calls = {}
    while len(calls) < len(links):
        call = calling.begin()
        calls[call.instance.record.instance] = call
    calling.reactor.wind(1.0)
    for name, call in calls.items():
        links[name].say(Result(call.id, None, None, waiting[name]))
    for call in calls_in_flight(calling):
        calling.caller.abandon(call)


def went(calling, count):
    return sorted(calling.begin().instance.record.instance for _ in range(count))


def queues(calling):
    [service] = calling.caller.call_state()
    return {each["instance"]: each["queued"] for each in service["instances"]}


def test_a_link_asks_for_the_number(calling):
    link = add_instance(calling, "one")

    assert link.said(Hello)[0].info == {WAITING: True}


def test_calls_go_where_fewer_calls_of_others_wait(calling):
    links = {name: add_instance(calling, name) for name in ("one", "two")}
    hear(calling, links, {"one": 9, "two": 2})

    assert queues(calling) == {"one": 9, "two": 2}
    assert went(calling, 6) == ["two"] * 6


def test_received_numbers_expire(calling):
    links = {name: add_instance(calling, name) for name in ("one", "two")}
    hear(calling, links, {"one": 9, "two": 2})
    calling.reactor.wind(1.0)

    assert queues(calling) == {"one": 0, "two": 0}
    assert went(calling, 6) == ["one"] * 3 + ["two"] * 3


def test_no_number_means_an_empty_queue_if_the_instance_supports_numbers(calling):
    links = {name: add_instance(calling, name) for name in ("one", "two")}
    hear(calling, links, {"one": 9, "two": None})
    hear(calling, links, {"one": 9, "two": None})

    assert went(calling, 6) == ["two"] * 6


def test_a_node_without_support_counts_as_average(calling):
    links = {"one": add_instance(calling, "one"), "old": add_instance(calling, "old", tells=False)}
    hear(calling, links, {"one": 9, "old": None})
    hear(calling, links, {"one": 9, "old": None})

    assert went(calling, 10) == ["old"] * 5 + ["one"] * 5
