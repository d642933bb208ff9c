"""Events that promise nothing are dropped before they crowd out what a guest is owed."""

from types import SimpleNamespace

import pytest

from zmqservices.cluster.events import best_effort
from zmqservices.cluster.calls.send_queue import LONGEST_BACKLOG, Backlog
from zmqservices.cluster.events.best_effort import BestEffort


class Crew:
    """One member, who wants all there is."""

    pattern = SimpleNamespace(matches=lambda type: True)
    group = SimpleNamespace(name="mails.send:order.*")

    def __init__(self, backlog):
        self.member = SimpleNamespace(guest=SimpleNamespace(backlog=backlog), id=1)

    def next(self):
        return self.member


@pytest.fixture
def dispatch():
    """`dispatch(backlog, body)`: whether an event for a guest with this backlog is sent or dropped."""

    def run(backlog, body=b"x"):
        sent = []
        desk = SimpleNamespace(send=lambda guest, frames: sent.append(frames))
        source = BestEffort(SimpleNamespace(id="publisher", desk=desk), "orders")
        source.send_direct([Crew(backlog)], "order.paid", body, None, "msgpack", None)
        assert len(sent) + source.dropped == 1
        return "sent" if sent else "dropped"

    return run


def test_a_guest_that_reads_gets_them(dispatch):
    assert dispatch(Backlog()) == "sent"


@pytest.mark.parametrize(
    "waiting", [[b"small"] * (best_effort.LONG_BACKLOG + 1), [bytes(LONGEST_BACKLOG // 8)] * 3], ids=["many", "large"]
)
def test_a_guest_that_is_behind_does_not(dispatch, waiting):
    backlog = Backlog()
    for frames in waiting:
        backlog.add(frames)

    assert not backlog.is_too_long
    assert dispatch(backlog) == "dropped"
