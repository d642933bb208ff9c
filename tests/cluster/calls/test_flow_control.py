"""The flow-control window: how many bytes may be in flight to a node."""

import pytest

from zmqservices.cluster.calls import flow_control as window
from zmqservices.cluster.calls.flow_control import FlowControlWindow


@pytest.fixture
def hundred(monkeypatch):
    monkeypatch.setattr(window, "WINDOW", 100)
    return FlowControlWindow()


def test_a_window_is_full_of_sent_and_unread_bytes(hundred):
    assert not hundred.is_full
    hundred.sent(99)
    assert not hundred.is_full
    hundred.sent(1)
    assert hundred.is_full


def test_a_window_sends_a_ping_after_each_quarter(hundred):
    asks = []
    for step in range(10):
        hundred.sent(10)
        asks.append(hundred.wants_to_ask(0.0))
        if asks[-1]:
            hundred.asked(step, 0.0)

    assert asks == [False, False, True] * 3 + [False]


def test_an_answered_ping_shows_that_all_earlier_messages_were_read(hundred):
    hundred.sent(60)
    hundred.asked(1, 0.0)
    hundred.sent(60)
    hundred.asked(2, 0.0)
    assert hundred.is_full

    hundred.answered(1)
    assert not hundred.is_full
    hundred.sent(40)
    assert hundred.is_full
    hundred.answered(2)
    assert not hundred.is_full


def test_pongs_in_another_order_and_unknown_pongs_do_not_matter(hundred):
    hundred.sent(60)
    hundred.asked(1, 0.0)
    hundred.sent(60)
    hundred.asked(2, 0.0)

    assert not hundred.answered(0)
    assert not hundred.answered(77)
    assert hundred.is_full
    assert hundred.answered(2)
    assert not hundred.answered(1)  # It is not waited for any more: the one behind it was answered.
    hundred.sent(99)
    assert not hundred.is_full


def test_a_full_window_that_could_not_send_a_ping_tries_again(hundred):
    hundred.sent(150)
    assert hundred.wants_to_ask(0.0)
    hundred.asked(1, 0.0)
    assert not hundred.wants_to_ask(0.0)
    hundred.answered(1)
    hundred.sent(10)
    assert not hundred.wants_to_ask(0.0)


def test_a_full_window_sends_another_ping_if_no_pong_comes(hundred):
    """A PONG is lost where the queue of the one who sends it is full."""
    hundred.sent(100)
    hundred.asked(1, 5.0)

    assert [hundred.wants_to_ask(now) for now in (5.0, 5.9, 6.0)] == [False, False, True]
    hundred.asked(2, 6.0)
    assert not hundred.wants_to_ask(6.5)
    assert hundred.answered(2)
    assert not hundred.wants_to_ask(100.0)


def test_a_message_larger_than_the_window_passes_if_the_window_is_empty(hundred):
    hundred.sent(1000)
    hundred.asked(1, 0.0)
    hundred.answered(1)

    assert not hundred.is_full
