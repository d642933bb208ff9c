"""Large calls for a node that does not read: so many bytes may be on their way to it, and no more."""

import threading

import gevent
import pytest

from tests.rpc.stage import Aside, linked, until
from zmqservices.cluster import window
from zmqservices.cluster.caller import Caller
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


def test_more_than_a_window_waits_for_a_node_that_stands_still(serve, connect):
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
    assert "is behind: 4" in refusal and "bytes are on their way to it and not read" in refusal


def test_calls_that_wait_for_room_go_on_as_soon_as_it_is_there(serve, connect, monkeypatch):
    times = []
    has_room = Caller.has_room

    def count(self, peer):
        times.append(peer)
        has_room(self, peer)

    monkeypatch.setattr(Caller, "has_room", count)
    serve(Sink, max_workers=100)
    sink = linked(connect().sink)
    calls = [gevent.spawn(sink.size, BLOB, BLOB) for _ in range(100)]

    # Twenty windows, each asked for four times.
    assert [call.get() for call in calls] == 100 * [2 * len(BLOB)]
    assert len(times) >= 19


def test_many_small_calls_that_leave_together_count_as_well(serve, connect, monkeypatch):
    """Each of them is held; what they leave in is large."""
    seen = []
    sent = window.Window.sent

    def note(self, size):
        seen.append(size)
        sent(self, size)

    monkeypatch.setattr(window.Window, "sent", note)
    serve(Sink, max_workers=100)
    sink = linked(connect().sink)

    def ask():
        for _ in range(5):
            assert sink.size(BLOB[:3000]) == 3000

    gevent.joinall([gevent.spawn(ask) for _ in range(30)], raise_error=True)

    assert seen and max(seen) > 2 * 3000


def test_a_link_that_is_lost_takes_what_was_on_its_way_with_it(serve, connect):
    serve(Sink)
    sink = linked(connect().sink)
    (peer,) = sink._client._cluster.caller()._roster.peers.values()
    peer._window.sent(10 * len(BLOB))
    assert peer._window.is_full

    peer.lost()

    assert not peer._window.is_full
