"""Large calls for a node that does not read: flow control bounds the bytes that are in flight to it."""

import threading
from time import monotonic

import gevent
import pytest

from tests.stage import Aside, linked, until
from zmqservices.cluster.calls import flow_control as window
from zmqservices.cluster.calls import sweep
from zmqservices.cluster.calls.call import DONE
from zmqservices.cluster.calls.peer import Peer
from zmqservices.exceptions import RemoteUnavailable
from zmqservices.rpc import rpc

BLOB = bytes(40_000)


class Sink:
    name = "sink"

    @rpc
    def fine(self):
        return True

    @rpc
    def size(self, *blobs):
        return sum(map(len, blobs))


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """400 kB, which are ten BLOBs."""
    monkeypatch.setattr(window, "WINDOW", 10 * len(BLOB))


def pool_of(service):
    return service._client._cluster.caller()._pools["sink"]


def test_calls_beyond_the_window_wait_for_a_node_that_stands_still(serve, connect):
    serve(Sink)
    has_begun, may_begin, has_sent, may_turn = (threading.Event() for _ in range(4))

    def send():
        sink = linked(connect(rpc_wait_for_service=0.2).sink)
        has_begun.set()
        may_begin.wait(10)
        calls = []
        try:
            for _ in range(100):
                calls.append(sink.size.call_async(BLOB))
        except RemoteUnavailable as exc:
            refusal = str(exc)
        finally:
            has_sent.set()
        may_turn.wait(10)
        # What was sent is answered, and so is what comes after it.
        return len(calls), refusal, {call.result() for call in calls}, [sink.size(BLOB) for _ in range(30)]

    sender = Aside(send)
    until(has_begun.is_set)
    # From here on this thread, and with it the service's hub, stands still until all is sent that can be.
    may_begin.set()
    assert has_sent.wait(10)
    may_turn.set()
    count, refusal, answers, later = sender.get()

    assert 9 <= count <= 11
    assert answers == {len(BLOB)} and later == 30 * [len(BLOB)]
    assert "sink.size was not sent: no instance of 'sink' can be asked" in refusal
    assert "is behind: 4" in refusal and "bytes were sent to it and not read" in refusal


def test_calls_that_wait_for_room_are_sent_as_soon_as_there_is_some(serve, connect, monkeypatch):
    # The sweep would send them, too, sooner or later.
    monkeypatch.setattr(sweep, "SWEEP_INTERVAL", 60.0)
    serve(Sink, max_workers=100)
    sink = linked(connect().sink)

    # Twenty windows.
    calls = [gevent.spawn(sink.size, BLOB, BLOB) for _ in range(100)]
    gevent.sleep(0)

    assert len(pool_of(sink).waiting) > 80
    assert [call.get() for call in calls] == 100 * [2 * len(BLOB)]


def test_a_full_window_sends_another_ping_if_a_pong_was_lost(serve, connect, monkeypatch):
    lost = []
    pong = Peer._on_pong

    def lose_some(self, message):
        if len(lost) < 6:
            lost.append(message)
        else:
            pong(self, message)

    monkeypatch.setitem(window.__dict__, "ASKS_AGAIN", 0.1)
    monkeypatch.setattr(Peer, "_on_pong", lose_some)
    serve(Sink, max_workers=100)
    sink = linked(connect().sink)
    calls = [gevent.spawn(sink.size, BLOB) for _ in range(40)]

    assert [call.get() for call in calls] == 40 * [len(BLOB)]
    assert len(lost) == 6


def fill(instance):
    """As if a window of large calls were on their way to it, unread."""
    for _ in range(11):
        instance.peer._window.sent(len(BLOB))
    instance.peer.is_full = True
    instance.peer._owner.peer_is_full(instance.peer)


def test_an_instance_with_a_full_window_gets_no_calls_while_another_has_room(serve, connect):
    for _ in range(3):
        serve(Sink, elsewhere=True, max_workers=100)
    sink = connect().sink
    until(lambda: linked(sink) and len(pool_of(sink).ready) == 3)
    free, *full = pool_of(sink).ready
    for instance in full:
        fill(instance)

    calls = [gevent.spawn(sink.size, BLOB[: number % 2 * 30_000]) for number in range(60)]
    gevent.sleep(0)

    assert [instance.load.in_flight for instance in full] == [0, 0]
    assert [call.get() for call in calls] == 30 * [0, 30_000]
    # A word from them, and they are asked again.
    until(lambda: sink.size(BLOB) and len(pool_of(sink).ready) == 3)


def test_with_all_windows_full_calls_wait_and_end_unsent(serve, connect, monkeypatch):
    monkeypatch.setattr(Peer, "ask_whether_read", lambda self, now: None)
    for _ in range(2):
        serve(Sink, elsewhere=True)
    sink = connect(rpc_wait_for_service=0.3).sink
    until(lambda: linked(sink) and len(pool_of(sink).ready) == 2)
    for instance in tuple(pool_of(sink).ready):
        fill(instance)
    began = monotonic()

    # Small ones, too, and those that are held to leave together.
    calls = [gevent.spawn(sink.size, BLOB[:300]) for _ in range(100)]
    gevent.joinall(calls)

    assert {type(call.exception) for call in calls} == {RemoteUnavailable}
    assert "440,000 bytes were sent to it and not read" in str(calls[0].exception)
    assert 0.3 <= monotonic() - began < 5
    assert not sink._client._cluster.caller()._pending


def test_calls_held_for_one_instance_are_sent_once_if_another_is_lost_meanwhile(serve, connect, monkeypatch):
    """All that is handed on while a link is lost is refused: what was held for the other one, too."""
    for _ in range(2):
        serve(Sink, elsewhere=True)
    sink = connect().sink
    until(lambda: linked(sink) and len(pool_of(sink).ready) == 2)
    own = sink._client._cluster.caller()
    lost, other = (instance.peer for instance in pool_of(sink).ready)
    begin = monotonic()

    own.cork.begin(begin)
    calls = [own.begin("sink", "size", (BLOB[:number],), None, None, 5.0) for number in range(20)]
    assert {call.instance.peer for call in calls} == {lost, other}
    send = other.send
    other.send = lambda frames: False
    lost.on_disconnect()
    own.cork.end()
    other.send = send
    lost.on_connect()

    for call in calls:
        own.reactor.park(call, DONE)
    assert [call.outcome() for call in calls] == list(range(20))


def test_many_small_calls_that_leave_together_count_as_well(serve, connect, monkeypatch):
    """Each of them is held; what they leave in is large."""
    seen = []
    sent = window.FlowControlWindow.sent

    def note(self, size):
        seen.append(size)
        sent(self, size)

    monkeypatch.setattr(window.FlowControlWindow, "sent", note)
    serve(Sink, max_workers=100)
    sink = linked(connect().sink)

    def ask():
        for _ in range(5):
            assert sink.size(BLOB[:3000]) == 3000

    gevent.joinall([gevent.spawn(ask) for _ in range(30)], raise_error=True)

    assert seen and max(seen) > 2 * 3000


def test_a_lost_link_clears_its_window(serve, connect):
    serve(Sink)
    sink = linked(connect().sink)
    (peer,) = sink._client._cluster.caller()._peer_pool.peers.values()
    fill(pool_of(sink).ready[0])
    assert not pool_of(sink).ready

    peer.on_disconnect()
    peer.on_connect()

    assert sink.size(BLOB) == len(BLOB)
    assert not peer.is_full
