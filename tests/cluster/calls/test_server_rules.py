"""The rules of a call server: which calls it accepts, refuses and answers, and how services and clients leave."""

import gevent
import pytest

from discovery.faults import BLOCK_TIME
from tests.cluster.calls.world import NAMESPACE, Serving
from zmqservices.cluster.calls import flow_control, send_queue
from zmqservices.cluster.calls.drain import BYE_TIMEOUT, READ_TIMEOUT
from zmqservices.cluster.limit_settings import LimitSettings
from zmqservices.constants import DEFAULT_MAX_FAULTS_PER_SECOND
from zmqservices.exceptions import MessageTooLarge
from zmqservices.transport.reactor import COUNTED_REFUSAL, DRAIN_QUOTA
from zmqservices.wire import batches
from zmqservices.wire.envelope import encode_call, encode_result
from zmqservices.wire.headers import HeaderLimits
from zmqservices.wire.messages import MAJOR, MINOR, Ack, Bye, Cancel, Error, Hello, Ping, Pong, Result, Welcome


@pytest.fixture
def serving():
    return Serving()


def call(id=1, service="maths", method="add", args=(2, 3), time_left=10.0):
    return encode_call(id, service, method, args, None, time_left)


def codes(messages):
    """The codes of refusals, by the id of the call that each is about."""
    return {message.id: message.error["code"] for message in messages if type(message) is Error}


def kinds(messages):
    return [type(message) for message in messages]


# --- the greeting ------------------------------------------------------------------------------------------


def test_a_hello_is_answered_with_the_services_of_the_node(serving):
    serving.serve("maths", "one", idempotent=["add"])
    client = serving.connect(is_greeted=False).greet()

    [welcome] = client.heard()

    services = {"maths": {"idempotent": ["add"], "draining": False, "instances": ["one"]}}
    assert welcome == Welcome(MAJOR, MINOR, "server", NAMESPACE, {"services": services})


def test_a_call_before_the_hello_is_refused_and_not_run(serving):
    serving.serve()
    client = serving.connect(is_greeted=False)

    client.say(call(7))
    client.say(batches.encode([call(8), call(9)]))

    assert codes(client.heard()) == {7: "protocol", 8: "protocol", 9: "protocol"}
    assert serving.taken == []


def test_a_node_of_another_version_or_namespace_is_refused(serving):
    other_version, other_namespace = (serving.connect(is_greeted=False) for _ in range(2))

    other_version.greet(major=MAJOR + 1)
    other_namespace.greet(namespace="production")

    assert codes(other_version.heard()) == {None: "version"}
    assert codes(other_namespace.heard()) == {None: "protocol"}


def test_all_connected_nodes_learn_of_a_new_service(serving):
    client = serving.connect()

    serving.serve("words", "w")

    [welcome] = client.heard()
    assert list(welcome.info["services"]) == ["words"]


# --- taking and answering ----------------------------------------------------------------------------------


def test_a_call_is_accepted_with_its_deadline_and_answered(serving):
    serving.serve()
    client = serving.connect()

    client.say(call(7, time_left=2.0))
    [taken] = serving.taken
    taken.reply(5)

    assert taken.args == [2, 3]
    assert taken.deadline == serving.reactor.now + 2.0
    assert client.heard() == [Result(7, 5)]
    assert serving.flushes == 1


def test_all_calls_of_a_batch_are_accepted_before_the_service_is_flushed(serving):
    serving.serve()
    client = serving.connect()

    client.say(batches.encode([call(1), call(2)]), call(3))

    assert [taken.id for taken in serving.taken] == [1, 2, 3]
    assert serving.flushes == 1


def test_answers_given_in_one_turn_leave_together(serving):
    flushed = []
    served = serving.serve(take=flushed.append)
    served.flush = lambda: [taken.reply(taken.id) for taken in flushed]
    client = serving.connect()

    client.say(call(1), call(2), call(3))

    assert client.heard() == [Result(1, 1), Result(2, 2), Result(3, 3)]


def test_a_call_is_answered_once(serving):
    serving.serve()
    client = serving.connect()
    client.say(call())
    [taken] = serving.taken

    taken.reply(5)
    taken.reply(6)
    taken.fail({"exc_type": "E", "exc_path": "", "exc_args": [], "value": ""})

    assert client.heard() == [Result(1, 5)]


def test_a_result_that_is_too_large_leaves_the_call_open(serving):
    serving.serve()
    client = serving.connect()
    client.say(call())
    [taken] = serving.taken

    with pytest.raises(MessageTooLarge, match="max_message_size"):
        taken.reply("x" * serving.server.sender.max_message_size)
    taken.reply("shorter")

    assert client.heard() == [Result(1, "shorter")]


def test_a_service_that_cannot_accept_a_call_answers_with_the_error(serving, caplog):
    def fail(taken):
        raise OSError("no more files")

    serving.serve(take=fail)
    client = serving.connect()

    client.say(call())

    [error] = client.heard()
    assert (error.id, error.error["exc_type"], error.error["value"]) == (1, "OSError", "no more files")


# --- refusals ----------------------------------------------------------------------------------------------


def test_a_call_that_expired_on_the_way_is_refused(serving):
    serving.serve()
    client = serving.connect()

    client.say(call(time_left=0.0))

    assert codes(client.heard()) == {1: "expired"}
    assert serving.taken == []


def test_a_call_of_an_unknown_service_is_refused(serving):
    client = serving.connect()

    client.say(call(service="words"))

    assert codes(client.heard()) == {1: "unknown-service"}


def test_an_overloaded_service_refuses_with_a_code(serving):
    serving.serve(take=lambda taken: taken.refuse("overloaded", "the queue is full"))
    client = serving.connect()

    client.say(call())

    [error] = client.heard()
    assert (error.error["code"], error.error["value"]) == ("overloaded", "the queue is full")


def test_an_id_that_is_in_use_is_refused_and_the_first_call_goes_on(serving):
    serving.serve()
    client = serving.connect()
    client.say(call(7))
    [taken] = serving.taken

    client.say(call(7))
    taken.reply(5)

    refusal, result = client.heard()
    assert (refusal.id, refusal.error["code"]) == (None, "protocol")
    assert result == Result(7, 5)


def test_one_id_from_two_clients_means_two_calls(serving):
    serving.serve()
    one, other = serving.connect(), serving.connect()

    one.say(call(7))
    other.say(call(7))
    serving.taken[1].reply("other")
    serving.taken[0].reply("one")

    assert (one.heard(), other.heard()) == ([Result(7, "one")], [Result(7, "other")])


def test_a_malformed_item_of_a_batch_does_not_affect_the_others(serving, caplog):
    serving.serve()
    client = serving.connect()

    client.say(batches.encode([call(1), b"\x91\xcc\xc8", batches.encode([call(2), call(3)]), call(4)]))

    assert [taken.id for taken in serving.taken] == [1, 4]
    assert [message.error["code"] for message in client.heard()] == ["protocol"] * 2


# --- cancelling --------------------------------------------------------------------------------------------


def test_a_cancelled_call_is_stopped_and_not_answered(serving):
    serving.serve()
    client = serving.connect()
    client.say(call(7))
    [taken] = serving.taken
    taken.worker = "worker"

    client.say(Cancel(7))
    taken.reply(5)

    assert serving.cancelled == [("worker", "its caller gave it up")]
    assert client.heard() == []


def test_a_cancel_of_a_call_that_was_answered_is_ignored(serving):
    serving.serve()
    client = serving.connect()
    client.say(call(7))
    serving.taken[0].reply(5)

    client.say(Cancel(7))

    assert serving.cancelled == []


# --- several instances of a service ------------------------------------------------------------------------


def test_instances_of_one_service_share_its_calls(serving):
    one, other = [], []
    serving.serve("maths", "one", one.append)
    serving.serve("maths", "other", other.append)
    client = serving.connect()

    client.say(*[call(number) for number in range(6)])

    assert (len(one), len(other)) == (3, 3)


def test_an_instance_that_drains_leaves_the_calls_to_the_other(serving):
    one, other = [], []
    leaving = serving.serve("maths", "one", one.append)
    serving.serve("maths", "other", other.append)
    client = serving.connect()

    serving.server.draining.drop(leaving)
    client.say(*[call(number) for number in range(4)])

    assert (len(one), len(other)) == (0, 4)
    assert Bye not in kinds(client.heard())


# --- draining ----------------------------------------------------------------------------------------------


class HandWoundEvent:
    """An event whose waits pass at once: each lets so much time pass, and then the next of `steps` happens."""

    def __init__(self, reactor, *steps):
        self._reactor, self._steps, self.is_set = reactor, list(steps), False

    def set(self):
        self.is_set = True

    def clear(self):
        self.is_set = False

    def wait(self, timeout=None):
        assert timeout is not None or self._steps, "this wait would never end"
        if self._steps:
            self._steps.pop(0)()
        else:
            self._reactor.wind(timeout)


def by_hand(serving, served=None, changes=(), idle=()):
    """Wind the waits of a drain by hand: what happens while it waits for clients, and for the calls under way."""
    serving.server.draining._changed = HandWoundEvent(serving.reactor, *changes)
    if served is not None:
        served.idle = HandWoundEvent(serving.reactor, *idle)
    return serving.server.draining


def test_a_draining_service_sends_bye_and_ends_after_all_clients_and_calls(serving):
    served = serving.serve()
    client = serving.connect()
    client.say(call(7))
    steps = [lambda: client.say(Bye(["maths"], None))], [lambda: serving.taken[0].reply(5)]

    assert by_hand(serving, served, *steps).drain(served, None)

    assert client.heard() == [Bye(["maths"], "shutting down"), Result(7, 5)]


def test_a_call_after_the_bye_is_refused_so_that_it_moves(serving):
    served = serving.serve()
    client = serving.connect()
    draining = by_hand(serving, served, [lambda: client.say(call(8)), lambda: client.say(Bye(None, None))])

    assert draining.drain(served, None)

    assert codes(client.heard()) == {8: "draining"}


def test_the_wait_for_a_client_without_an_answer_to_bye_is_bounded(serving):
    served = serving.serve()
    serving.connect()
    began = serving.reactor.now

    assert by_hand(serving, served).drain(served, None)

    assert serving.reactor.now - began == pytest.approx(BYE_TIMEOUT)


def test_calls_that_do_not_end_in_time_are_cancelled_with_an_error(serving):
    served = serving.serve()
    client = serving.connect()
    client.say(call(7))
    serving.taken[0].worker = "worker"

    assert not by_hand(serving, served, [lambda: client.say(Bye(None, None))]).drain(served, 3.0)

    assert codes(client.heard()) == {7: "cancelled"}
    assert serving.cancelled == [("worker", "'maths' is shutting down; its calls had 3 s to end")]


def test_before_the_end_clients_confirm_that_they_have_read_late_answers(serving):
    served = serving.serve()
    late, early = serving.connect(), serving.connect()
    late.say(call(7))
    serving.server.draining.drop(served)
    late.heard(), early.heard()

    def read():
        [ping] = late.heard()
        assert type(ping) is Ping
        late.say(Pong(ping.token))

    began = serving.reactor.now
    by_hand(serving, None, [read]).wait_until_read()

    assert serving.reactor.now == began
    assert early.heard() == []


def test_the_wait_for_a_client_that_reads_nothing_is_bounded(serving):
    served = serving.serve()
    client = serving.connect()
    client.say(call(7))
    serving.server.draining.drop(served)
    began = serving.reactor.now

    by_hand(serving).wait_until_read()

    assert serving.reactor.now - began == pytest.approx(READ_TIMEOUT)


def test_a_real_drain_waits_in_its_greenlet(serving):
    served = serving.serve()
    client = serving.connect()
    client.say(call(7))
    draining = gevent.spawn(serving.server.draining.drain, served, None)

    gevent.sleep(0)
    client.say(Bye(["maths"], None))
    gevent.sleep(0)
    assert not draining.ready()
    serving.taken[0].reply(5)

    assert draining.get(timeout=1)


# --- clients that do not read ------------------------------------------------------------------------------


def test_an_answer_for_a_full_queue_is_sent_when_there_is_room(serving):
    serving.serve()
    client = serving.connect()
    client.is_behind()
    client.say(call(1), call(2))
    for taken in serving.taken:
        taken.reply(taken.id)
    assert client.heard() == []

    client.is_behind(False)
    serving.wind(0.02)

    assert client.heard() == [Result(1, 1), Result(2, 2)]


def test_a_client_that_does_not_read_is_disconnected_and_told_to_greet_again(serving, monkeypatch, caplog):
    monkeypatch.setattr(send_queue, "LONGEST_SEND_QUEUE", 1000)
    serving.serve()
    client = serving.connect()
    client.say(call(1), call(2))
    serving.taken[1].worker = "worker"
    client.is_behind()

    serving.taken[0].reply("x" * 2000)
    serving.reactor.turn()
    client.is_behind(False)
    serving.wind(1.0)

    assert serving.cancelled == [("worker", "its caller is gone")]
    assert codes(client.heard()) == {0: "protocol"}
    assert "does not read its answers" in caplog.text


def test_the_client_that_is_furthest_behind_is_disconnected(serving, monkeypatch, caplog):
    monkeypatch.setattr(send_queue, "ALL_SEND_QUEUES", 5000)
    serving.serve()
    clients = [serving.connect() for _ in range(2)]
    for client, size in zip(clients, (1000, 4500), strict=True):
        client.say(call(1))
        client.is_behind()
        serving.taken[-1].reply("x" * size)
        serving.reactor.turn()

    for client in clients:
        client.is_behind(False)
    serving.wind(1.0)

    assert [kinds(client.heard()) for client in clients] == [[Result], [Error]]


def test_large_answers_wait_until_the_client_has_read_earlier_ones(serving, monkeypatch):
    monkeypatch.setattr(flow_control, "WINDOW", 100_000)
    serving.serve()
    client = serving.connect()
    client.say(*[call(number) for number in range(1, 4)])
    for taken in serving.taken:
        taken.reply("x" * 60_000)
    heard = client.heard()
    assert [message.id for message in heard if type(message) is Result] == [1, 2]

    client.say(*[Pong(message.token) for message in heard if type(message) is Ping])

    assert [message.id for message in client.heard() if type(message) is Result] == [3]


# --- clients that leave ------------------------------------------------------------------------------------


def test_the_calls_of_a_disconnected_client_are_cancelled(serving):
    serving.serve()
    client, other = serving.connect(), serving.connect()
    client.say(call(1))
    other.say(call(1))
    serving.taken[0].worker = "worker"

    client.is_gone()
    serving.wind(5.0)

    assert serving.cancelled == [("worker", "its caller is gone")]
    assert list(serving.socket.clients) == [other.routing_id]


def test_a_client_that_sends_hello_again_starts_afresh(serving):
    serving.serve()
    client = serving.connect()
    client.say(call(7))
    [first] = serving.taken
    client.greet().heard()

    client.say(call(7))
    first.reply("late")
    serving.taken[1].reply("new")

    assert client.heard() == [Result(7, "new")]


def test_a_connection_shows_a_client_from_its_hello_until_the_client_is_given_up(serving):
    client = serving.connect(is_greeted=False)
    client.say(Ping(1), call(7), b"junk", Hello(MAJOR, MINOR, "client", "another namespace", None))
    assert not serving.socket.shown

    client.greet()
    assert serving.socket.shown == {client.routing_id}

    client.say(*[b"junk"] * (ALLOWED + 1))
    assert not serving.socket.shown


def test_a_ping_before_the_hello_is_a_sign_of_life_and_other_messages_are_none(serving):
    client = serving.connect(is_greeted=False)

    client.say(call(7), b"junk", Ack("readers", "journal", 1))
    assert serving.socket.heard_of == []

    client.say(Ping(1))
    assert serving.socket.heard_of == [client.routing_id]


def test_a_client_that_sends_hello_again_is_asked_over_which_connection_it_came(serving):
    client = serving.connect()

    client.greet()

    assert serving.socket.moved == {client.routing_id}
    assert [type(message) for message in client.heard()] == [Welcome, Ping]


def test_closing_a_server_twice_has_no_effect(serving):
    serving.server.close()
    serving.server.close()

    assert serving.socket.is_closed


def test_a_kind_of_message_for_callers_is_refused(serving):
    client = serving.connect()

    client.say(Result(1, 5))

    [refusal] = client.heard()
    assert "Result is not understood here" in refusal.error["value"]


def test_a_ping_is_answered(serving):
    client = serving.connect()

    client.say(Ping(9))

    assert client.heard() == [Pong(9)]


# --- turns -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_greeted", [True, False])
@pytest.mark.parametrize(
    "junk", [b"\xc1", batches.encode([b"\x91\x63"]), encode_call(1, "maths", "add", (), None, 1.0)[:20]], ids=repr
)
def test_other_clients_have_their_turn_after_a_few_refused_messages(serving, junk, is_greeted):
    client = serving.connect(is_greeted)

    turns = client.say(*[junk] * 100)

    assert max(turns) <= DRAIN_QUOTA // COUNTED_REFUSAL


#: As many faulty messages as one client may send in a second.
ALLOWED = DEFAULT_MAX_FAULTS_PER_SECOND
JUNK = {
    "bytes": b"\xc1",
    "members of a batch": batches.encode([b"\x91\x63"] * 200),
    "a kind for callers": Result(1, 5),
    "many of them": batches.encode([encode_result(1, 5)] * 200),
    "an id in use": encode_call(7, "maths", "add", (), None, 1.0),
    "another namespace": Hello(1, 0, "client", "elsewhere", None),
}


@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK)
def test_a_client_is_blocked_for_a_while_after_too_many_faulty_messages(serving, junk, caplog):
    serving.serve()
    client = serving.connect()
    other = serving.connect()
    client.say(call(7))

    client.say(*[junk] * 200)

    *refusals, last = client.heard()
    assert len(refusals) == ALLOWED + 1
    said = f"more than {ALLOWED} faulty messages within a second (max_faults_per_second); what you send is dropped for 10 s"
    assert last.error["value"] == said
    assert serving.taken[0].is_open is False
    assert "node client at 10.0.0.2 sent what cannot be handled (1 such messages): more than 20 faulty messages" in caplog.text
    client.say(junk, Ping(1))
    assert client.heard() == []
    other.say(Ping(2))
    assert other.heard() == [Pong(2)]
    serving.wind(BLOCK_TIME)
    client.say(Ping(3))
    assert client.heard() == [Pong(3)]


@pytest.mark.parametrize(
    "junk",
    [call(7), encode_result(1, 5), b"\x91\x63", encode_call(9, "x" * 256, "add", (), None, 1.0)],
    ids=["an id in use", "a kind for callers", "bytes", "a long name"],
)
def test_the_rest_of_the_batch_for_which_a_client_is_blocked_is_dropped(serving, junk):
    serving.serve()
    client = serving.connect()
    client.say(call(7))

    padded = encode_call(8, "maths", "add", ("x" * 10_000,), None, 1.0)
    client.say(batches.encode([*[junk] * (ALLOWED + 1), padded, call(10)]))

    assert [taken.id for taken in serving.taken] == [7]
    assert len(client.heard()) == ALLOWED + 2


def test_a_peer_whose_routing_id_zeromq_chose_is_told_so_once(serving):
    server, socket = serving.server, serving.socket

    server.refuse_routing_id(b"\0abcd", "10.0.0.2")
    assert socket.blocked == {b"\0abcd"}
    serving.wind(BLOCK_TIME)
    assert not socket.blocked

    socket.gone.add(b"\0efgh")
    server.refuse_routing_id(b"\0efgh", "10.0.0.2")
    assert not socket.blocked


def test_faulty_messages_count_within_a_second(serving):
    client = serving.connect()

    for _ in range(5):
        client.say(*[b"\xc1"] * ALLOWED)
        serving.wind(1.0)

    assert len(client.heard()) == 5 * ALLOWED


def test_messages_in_flight_of_a_disconnected_client_are_not_faults(serving):
    client = serving.connect(is_greeted=False)

    client.say(*[Ack("readers", "journal", 1)] * 200, *[call(number) for number in range(1, 201)])

    assert len(client.heard()) == 400
    assert not serving.socket.blocked


def test_clients_with_the_most_unread_bytes_are_disconnected_to_keep_the_total_bounded():
    serving = Serving(limits=LimitSettings(max_unread_bytes=10_000))
    serving.serve()
    clients = [serving.connect() for _ in range(6)]
    for client in clients:
        client.is_behind()
        client.say(*[call(id) for id in range(1, 8)])

    for taken in serving.taken:
        if taken.is_open:
            taken.reply("x" * 1_000)
    serving.reactor.turn()

    assert sum(client.send_queue.bytes for client in serving.socket.clients.values()) <= 20_000
    assert 1 <= len(serving.socket.clients) < 6


MANY = {f"name-{number}": "" for number in range(11)}
LARGE = {"name": "x" * 2_000}


def headed(id, headers, service="maths", args=(2, 3)):
    return encode_call(id, service, "add", args, None, 10.0, headers)


@pytest.mark.parametrize("padding", ["", "x" * 5_000], ids=["short", "long"])
@pytest.mark.parametrize("together", [False, True], ids=["alone", "in a batch"])
@pytest.mark.parametrize(
    ("headers", "text"),
    [
        (MANY, "the call maths.add has 11 headers; max_headers is 10"),
        (LARGE, "the headers (context data) of the call maths.add take 2,009 bytes; max_headers_size is 1,500"),
    ],
    ids=["many", "large"],
)
def test_a_call_with_too_many_headers_is_refused_and_others_are_not(headers, text, together, padding, caplog):
    serving = Serving(limits=LimitSettings(max_headers=10, max_headers_size=1500))
    serving.serve()
    client = serving.connect()
    few = dict(list(headers.items())[:10]) if headers is MANY else {"name": "x" * 1_400}
    calls = [headed(1, headers, args=(padding,)), headed(2, few, args=(padding,)), headed(3, None, args=(padding,))]

    client.say(*([batches.encode(calls)] if together else calls))

    [refusal] = client.heard()
    assert (refusal.id, refusal.error["exc_type"], refusal.error["value"]) == (1, "MessageTooLarge", text)
    assert [taken.id for taken in serving.taken] == [2, 3]
    assert f"node client at 10.0.0.2 sent what cannot be handled (1 such messages): {text}" in caplog.text


def test_with_default_limits_messages_of_8_kib_are_not_checked():
    assert HeaderLimits().unchecked == 8 * 1024
    assert HeaderLimits(10, 5).unchecked == 5


def test_headers_that_cannot_be_too_large_are_not_packed(serving, monkeypatch):
    serving.serve()
    client = serving.connect()
    calls = [headed(number, {"name": "value"}, args=("x" * 2_000,)) for number in range(20)]
    batch = batches.encode(calls)
    assert HeaderLimits().unchecked < len(batch) < HeaderLimits().size
    monkeypatch.setattr("zmqservices.wire.headers.codec.pack", None)

    client.say(batch)

    assert len(serving.taken) == 20


def test_the_names_in_a_long_call_are_checked(serving):
    client = serving.connect()

    client.say(*[headed(number, None, service="x" * 10_000) for number in range(1, 100)])

    *refusals, last = client.heard()
    assert len(refusals) == ALLOWED + 1
    assert refusals[0].error["value"] == "a name of 10,000 characters; 255 at most are those of anything"
    assert refusals[0].id == 1
    assert last.id is None


def test_long_messages_that_are_refused_end_a_turn_sooner(serving):
    client = serving.connect()

    assert client.say(*[b"\xc1" * 128 * 1024] * 6) == [2, 2, 2]


def test_a_turn_reads_all_valid_calls(serving):
    serving.serve()
    client = serving.connect()

    assert client.say(*[call(number) for number in range(1, 201)]) == [200]
