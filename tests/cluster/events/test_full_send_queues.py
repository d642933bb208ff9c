"""Best-effort events are dropped before they take the room of answers in a client's send queue."""

from types import SimpleNamespace

import pytest

from zmqservices.cluster.calls.send_queue import LONGEST_SEND_QUEUE, SendQueue
from zmqservices.cluster.events import best_effort
from zmqservices.cluster.events.best_effort import BestEffort
from zmqservices.probes import UNWATCHED


class ConsumerGroup:
    """One member, who wants all there is."""

    pattern = SimpleNamespace(matches=lambda type: True)
    group = SimpleNamespace(name="mails.send:order.*")

    def __init__(self, send_queue):
        self.member = SimpleNamespace(client=SimpleNamespace(send_queue=send_queue), id=1, group=self.group.name)

    def receivers(self):
        return [self.member]


@pytest.fixture
def dispatch():
    """`dispatch(send_queue, body)`: whether an event for a client with this send queue is sent or dropped."""

    def run(send_queue, body=b"x"):
        sent = []
        call_server = SimpleNamespace(send=lambda client, frames: sent.append(frames))
        source = BestEffort(SimpleNamespace(id="publisher", call_server=call_server, watched=UNWATCHED), "orders")
        source.send_direct([ConsumerGroup(send_queue)], "order.paid", body, None, "msgpack", None)
        assert len(sent) + source.dropped == 1
        return "sent" if sent else "dropped"

    return run


def test_a_client_that_reads_gets_best_effort_events(dispatch):
    assert dispatch(SendQueue()) == "sent"


@pytest.mark.parametrize(
    "waiting", [[b"small"] * (best_effort.LONG_SEND_QUEUE + 1), [bytes(LONGEST_SEND_QUEUE // 8)] * 3], ids=["many", "large"]
)
def test_a_client_that_is_behind_gets_no_best_effort_events(dispatch, waiting):
    send_queue = SendQueue()
    for frames in waiting:
        send_queue.add(frames)

    assert not send_queue.is_too_long
    assert dispatch(send_queue) == "dropped"
