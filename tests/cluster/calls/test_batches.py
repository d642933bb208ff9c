"""Calls and answers that leave together in one BATCH."""

from contextlib import contextmanager

import gevent
import pytest
from gevent.event import Event

from tests.stage import linked, until
from zmqservices.cluster.calls import cork
from zmqservices.cluster.calls.peer import Peer
from zmqservices.cluster.calls.server import CallServer
from zmqservices.exceptions import MaybeExecuted
from zmqservices.membership import Membership
from zmqservices.rpc import rpc
from zmqservices.transport import DealerLink, RouterSocket, Sent
from zmqservices.wire import batches, envelope
from zmqservices.wire.messages import Batch, Bye, Call, Result


class Maths:
    name = "maths"

    @rpc
    def add(self, a, b):
        return a + b

    @rpc
    def fine(self):
        return "fine"


class Echo:
    name = "echo"

    @rpc
    def fine(self, value=""):
        return value


@pytest.fixture
def maths(serve):
    return serve(Maths)


@pytest.fixture
def letters(monkeypatch):
    """The messages that are handed to ZeroMQ, at both ends, in the order in which that happens.

    No job is slow, whatever else the machine has to do.
    """
    monkeypatch.setattr(cork, "SLOW", 1e6)
    sent = []

    def spy(cls):
        send = cls.send

        def noted(self, *args):
            sent.append(envelope.decode(args[-1]))
            return send(self, *args)

        monkeypatch.setattr(cls, "send", noted)

    spy(DealerLink)
    spy(RouterSocket)
    return sent


@contextmanager
def one_turn(caller):
    """A turn of the loop that holds what its callers send until it is over."""
    caller.cork.begin(1e9)
    yield
    caller.cork.end()


def held(*calls):
    """Greenlets that make these calls, which are held now: each the method and its arguments."""
    greenlets = [gevent.spawn(*call) for call in calls]
    gevent.sleep(0)
    return greenlets


def cut(peer):
    """The link to this node is lost, and stands again at once."""
    peer.on_disconnect()
    peer.on_connect()


def kinds_in(message):
    return [type(each) for each in messages_in(message)]


def messages_in(message):
    return [envelope.message_of(fields) for fields in message.messages] if isinstance(message, Batch) else [message]


def run_many(service, greenlets=24, calls=30):
    """Greenlets that call one after the other, each; what they got."""

    def work(number):
        return [service.add(number, turn) for turn in range(calls)]

    workers = [gevent.spawn(work, number) for number in range(greenlets)]
    gevent.joinall(workers, raise_error=True)
    return [worker.value for worker in workers]


def test_calls_and_answers_that_are_ready_together_leave_together(maths, letters, connect):
    service = linked(connect().maths)

    answers = run_many(service)

    assert answers == [[number + turn for turn in range(30)] for number in range(24)]
    assert max(kinds_in(message).count(Result) for message in letters) > 4
    assert max(kinds_in(message).count(Call) for message in letters) > 4
    assert len(letters) < 24 * 30


def test_a_lone_call_and_its_answer_are_no_batch(maths, letters, connect):
    service = linked(connect().maths)
    letters.clear()

    for number in range(5):
        service.add(number, 1)

    assert [type(message) for message in letters if isinstance(message, Call | Result | Batch)] == [Call, Result] * 5


def test_calls_that_begin_in_one_turn_leave_together(maths, letters, connect):
    service = linked(connect().maths)
    letters.clear()

    calls = [gevent.spawn(service.add, number, 1) for number in range(20)]
    gevent.joinall(calls, raise_error=True)

    assert [call.value for call in calls] == list(range(1, 21))
    assert [kinds_in(message).count(Call) for message in letters if Call in kinds_in(message)] == [1, 1, 18]


def test_answers_of_methods_that_wait_leave_together_when_they_end_together(serve, letters, connect):
    class Patient:
        name = "patient"
        gate = Event()
        waiting = []

        @rpc
        def wait(self, number):
            self.waiting.append(number)
            self.gate.wait()
            return number

        @rpc
        def fine(self):
            return "fine"

    serve(Patient, max_workers=20)
    service = linked(connect().patient)
    calls = [gevent.spawn(service.wait, number) for number in range(20)]
    until(lambda: len(Patient.waiting) == 20)
    letters.clear()

    Patient.gate.set()
    gevent.joinall(calls, raise_error=True)

    assert [call.value for call in calls] == list(range(20))
    assert [kinds_in(message) for message in letters] == [[Result], [Result] * 19]


def test_a_call_without_waiting_leaves_at_once(maths, letters, connect):
    service = linked(connect().maths)
    gone = []

    def work():
        for turn in range(30):
            call = service.add.call_async(turn, 1)
            gone.append(Call in kinds_in(letters[-1]))
            assert call.result() == turn + 1

    gevent.joinall([gevent.spawn(work) for _ in range(12)], raise_error=True)

    assert gone == [True] * 360


def test_calls_of_a_batch_that_could_not_be_sent_are_sent_later(maths, monkeypatch, connect):
    send = DealerLink.send
    refused = []

    def moody(self, frames):
        message = envelope.decode(frames)
        if isinstance(message, Batch) and len(refused) < 3:
            refused.append(len(message.messages))
            return False
        return send(self, frames)

    monkeypatch.setattr(DealerLink, "send", moody)
    answers = run_many(linked(connect().maths))

    assert refused
    assert answers == [[number + turn for turn in range(30)] for number in range(24)]


def test_a_call_that_is_given_up_while_it_is_held_is_not_sent(maths, letters, connect):
    cluster = connect()
    service = linked(cluster.maths)
    caller = cluster._client._cluster.caller()
    letters.clear()

    with one_turn(caller):
        [doomed] = held((service.add, 1, 2))
        doomed.kill()

    assert service.add(3, 4) == 7
    assert [message.args for message in letters if isinstance(message, Call)] == [[3, 4]]


@pytest.mark.parametrize("instances", [1, 2])
def test_calls_held_for_a_lost_link_are_sent_once_and_in_time(instances, letters, serve, connect):
    for _ in range(instances):
        serve(Maths, elsewhere=True)
    cluster = connect()
    service = linked(cluster.maths)
    caller = cluster._client._cluster.caller()
    until(lambda: len(caller.expect("maths").ready) == instances)
    letters.clear()

    with one_turn(caller):
        calls = held(*[(service.add, number, 1) for number in range(6)])
        cut(next(iter(caller._peer_pool.peers.values())))
    gevent.joinall(calls, raise_error=True)

    assert [call.value for call in calls] == list(range(1, 7))
    assert sum(kinds_in(message).count(Call) for message in letters) == 6


def test_a_lost_link_does_not_affect_calls_held_for_others(letters, serve, connect):
    serve(Maths, elsewhere=True)
    serve(Echo, elsewhere=True)
    cluster = connect()
    maths, echo = linked(cluster.maths), linked(cluster.echo)
    caller = cluster._client._cluster.caller()
    letters.clear()

    with one_turn(caller):
        calls = held((maths.add, 1, 2), (echo.fine, "x"), (maths.add, 3, 4))
        cut(next(peer for peer in caller._peer_pool.peers.values() if peer.instances[0].pool.service == "maths"))
    gevent.joinall(calls, raise_error=True)

    assert [call.value for call in calls] == [3, "x", 7]
    assert sum(kinds_in(message).count(Call) for message in letters) == 3


def test_calls_that_are_held_leave_before_the_answer_to_a_bye(maths, letters, connect):
    cluster = connect()
    service = linked(cluster.maths)
    caller = cluster._client._cluster.caller()
    letters.clear()

    with one_turn(caller):
        [call] = held((service.add, 1, 2))
        [peer] = caller._peer_pool.peers.values()
        peer._on_bye(Bye(["maths"], None))

    assert call.get() == 3
    assert [type(message) for message in letters][:2] == [Call, Bye]


def test_long_messages_are_not_held_and_keep_their_place(letters, connect, serve):
    serve(Echo)
    service = linked(connect().echo)
    texts = ["x" * (cork.LONGEST + 1 if number % 3 == 0 else 10) for number in range(24)]

    for _ in range(10):
        greenlets = [gevent.spawn(service.fine, text) for text in texts]
        gevent.joinall(greenlets, raise_error=True)
        assert [greenlet.value for greenlet in greenlets] == texts

    sizes = [len(envelope.encode(each)) for batch in letters if isinstance(batch, Batch) for each in messages_in(batch)]
    assert sizes and max(sizes) <= cork.LONGEST


@pytest.mark.parametrize("cls", [CallServer, Peer])
def test_only_a_few_large_messages_are_read_before_they_are_processed(cls, serve, connect, monkeypatch):
    turns = [0]
    on_message, on_batch_end = cls.on_message, cls.on_batch_end

    def counted(self, *args):
        turns[-1] += len(args[-1])
        return on_message(self, *args)

    def turned(self):
        turns.append(0)
        on_batch_end(self)

    monkeypatch.setattr(cls, "on_message", counted)
    monkeypatch.setattr(cls, "on_batch_end", turned)

    serve(Echo)
    service = linked(connect().echo)
    text = "x" * 100_000
    greenlets = [gevent.spawn(service.fine, text) for _ in range(40)]
    gevent.joinall(greenlets, raise_error=True)

    assert all(greenlet.value == text for greenlet in greenlets)
    assert sum(turns) > 40 * len(text)
    assert max(turns) < 256 * 1024 + 2 * len(text)


def test_a_node_that_the_server_disconnected_is_greeted_again_on_the_same_link(serve, connect):
    """As it happens to one that does not read its answers for too long."""

    class Slow:
        name = "slow"
        began = []

        @rpc
        def wait(self):
            self.began.append(1)
            gevent.sleep(30)

        @rpc(idempotent=True)
        def once_slow(self):
            self.began.append(1)
            if len(self.began) == 2:
                gevent.sleep(30)
            return "done"

        @rpc
        def fine(self):
            return "fine"

    container = serve(Slow)
    service = linked(connect().slow)
    waiting, repeated = service.wait.call_async(), service.once_slow.call_async()
    until(lambda: len(Slow.began) == 2)
    call_server = call_server_of(container)
    [client] = {served.client for served in _calls_of(container)}

    call_server.connections.remove(client)

    # The first call after that is refused, and finds out; all go on from there.
    assert service.fine() == "fine"
    assert repeated.result() == "done"
    with pytest.raises(MaybeExecuted):
        waiting.result()
    assert service.fine() == "fine"


def test_a_call_without_limit_ends_if_its_disconnected_node_never_calls_again(serve, connect):
    class Patient:
        name = "patient"

        @rpc
        def wait(self):
            gevent.sleep(30)

        @rpc
        def fine(self):
            return "fine"

    container = serve(Patient)
    service = linked(connect().patient)
    waiting = service.wait.with_timeout(None).call_async()
    until(lambda: _calls_of(container))
    call_server = call_server_of(container)
    [client] = {served.client for served in _calls_of(container)}

    call_server.connections.give_up(client)

    with gevent.Timeout(20), pytest.raises(MaybeExecuted):
        waiting.result()
    assert service.fine() == "fine"
    assert not call_server.connections.given_up


def call_server_of(container):
    return next(each for each in container.extensions if isinstance(each, Membership)).join().call_server


def _calls_of(container):
    return [call for client in call_server_of(container)._router.clients.values() for call in client.calls.values()]


def sizes_of(batch, call_server, monkeypatch):
    """What each call of a batch counts against the queue."""
    sizes = []
    monkeypatch.setattr(type(call_server), "_take", lambda self, client, call, size: sizes.append(size))
    client = call_server.on_connect(b"\0abcd", "")
    client.node = "somebody"
    call_server.on_message(client, batch)
    call_server.on_batch_end()
    return sizes


def test_the_calls_of_a_batch_count_as_much_as_it_takes_together(maths, monkeypatch):
    head = len(envelope.encode_call(1, "maths", "add", ("x" * 3000,), None, 1.0, {"a": 1})) - 3000
    longest = [
        envelope.encode_call(number, "maths", "add", ("x" * (cork.LONGEST - head),), None, 1.0, {"a": 1})
        for number in range(cork.MOST)
    ]

    sizes = sizes_of(batches.encode(longest), call_server_of(maths), monkeypatch)

    assert {len(body) for body in longest} == {cork.LONGEST}
    assert len(sizes) == cork.MOST
    assert cork.LONGEST * cork.MOST <= sum(sizes) <= cork.LONGEST * cork.MOST + 16


def test_each_call_of_an_oversized_batch_counts_as_the_whole_batch(maths, monkeypatch):
    """zmqservices sends no such batch. Another sender must not be able to hide a large call among small messages."""
    large = envelope.encode_call(1, "maths", "add", (bytes(40_000), bytes(40_000), "x" * 100_000))
    body = batches.encode([large] + [envelope.encode_call(number, "maths", "fine", ()) for number in (2, 3)])

    assert sizes_of(body, call_server_of(maths), monkeypatch) == [len(body)] * 3


def test_messages_to_a_forgotten_client_count_for_no_bound_and_no_other_client(maths, connect, monkeypatch):
    # Its connection stands, and by now it is known by the same routing id again.
    service, call_server = linked(connect().maths), call_server_of(maths)
    [client] = call_server._router.clients.values()
    call_server.connections.remove(client)
    other = call_server._router.clients[client.routing_id] = call_server.on_connect(client.routing_id, "")

    call_server.sender.send_now(client, envelope.encode_result(10**6, bytes(100_000), None))
    monkeypatch.setattr(call_server._router, "send", lambda routing_id, frames: Sent.FULL)
    call_server.sender.send_now(client, bytes(10))
    call_server.connections.remove(client)
    monkeypatch.undo()

    sender = call_server.sender
    assert (sender.in_flight.bytes, sender.in_flight.nodes, sender.queued.bytes) == (0, 0, 0)
    assert call_server._router.clients == {client.routing_id: other}
    assert service.add(1, 2) == 3
