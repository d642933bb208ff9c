"""The send queue of a node that does not read."""

import pytest

from zmqservices.cluster.calls import send_queue as send_queue
from zmqservices.cluster.calls.send_queue import OVERHEAD, SendQueue
from zmqservices.transport import Sent


@pytest.fixture
def kept():
    kept = SendQueue()
    for frames in (b"one", (b"two", bytes(1000)), b"three"):
        kept.add(frames)
    return kept


class Reader:
    """Has room for so many messages."""

    def __init__(self, room, otherwise=Sent.FULL):
        self.room = room
        self.otherwise = otherwise
        self.got = []

    def __call__(self, frames):
        if len(self.got) == self.room:
            return self.otherwise
        self.got.append(frames)
        return Sent.TAKEN


def test_all_frames_and_their_overhead_count(kept):
    assert (len(kept), kept.bytes) == (3, 1011 + 3 * OVERHEAD)


def test_waiting_messages_are_sent_in_order_as_there_is_room(kept):
    slow, quick = Reader(1), Reader(5)

    assert kept.hand_on(slow) is Sent.FULL
    assert (slow.got, len(kept)) == ([b"one"], 2)
    assert kept.hand_on(quick) is Sent.TAKEN
    assert quick.got == [(b"two", bytes(1000)), b"three"]
    assert (len(kept), kept.bytes) == (0, 0)


def test_messages_are_kept_if_the_client_is_gone(kept):
    assert kept.hand_on(Reader(0, Sent.GONE)) is Sent.GONE
    assert len(kept) == 3

    kept.clear()
    assert (len(kept), kept.bytes) == (0, 0)


def test_the_bound_counts_bytes_not_messages(monkeypatch):
    kept = SendQueue()
    for _ in range(20_000):
        kept.add(b"x" * 30)
    assert not kept.is_too_long

    monkeypatch.setattr(send_queue, "LONGEST_SEND_QUEUE", kept.bytes)
    kept.add(b"x")
    assert kept.is_too_long
