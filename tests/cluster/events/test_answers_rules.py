"""Which answers are kept in case a publisher did not read them, and when they are sent. The tests move the time themselves."""

from types import SimpleNamespace

import pytest

from tests.cluster.events.rules import Reactor
from zmqservices.cluster.events.answers import DOUBT, Answers
from zmqservices.cluster.events.publisher_link import PublisherLink
from zmqservices.wire import envelope
from zmqservices.wire.messages import Ack, Nack


class Peer(SimpleNamespace):
    """A publisher's node at the other end of a link."""

    __hash__ = object.__hash__

    def send(self, frames):
        self.sent.append(envelope.decode(frames))
        return True


@pytest.fixture
def reactor():
    return Reactor()


@pytest.fixture
def answers(reactor):
    return Answers(reactor, reactor.clock)


@pytest.fixture
def link():
    return PublisherLink(Peer(node="one", is_up=True, sent=[]), "here")


def test_acks_of_one_turn_leave_in_one_message(answers, reactor, link):
    for seq in (1, 2, 5):
        answers.send(link, Ack("g", "j", seq, None, 7))
    assert link.peer.sent == []

    reactor.turn()

    assert link.peer.sent == [Ack("g", "j", 1, [2, 5], 7)]


def test_a_nack_leaves_at_once_and_is_not_kept(answers, link):
    nack = Nack("g", "j", 1, 0.0, None, 7)

    answers.send(link, nack)
    answers.repeat(link.peer, "g")

    assert link.peer.sent == [nack]


def test_acks_of_a_publisher_that_is_away_are_sent_to_the_next_one(answers, reactor, link):
    link.peer.is_up = False
    answers.send(link, Ack("g", "j", 1, None, 7))
    reactor.turn()
    following = Peer(node="two", is_up=True, sent=[])

    answers.repeat(following, "g")
    answers.repeat(following, "another group")

    assert link.peer.sent == []
    assert following.sent == [Ack("g", "j", 1)]


def test_only_acks_of_a_named_sender_are_sent(answers, reactor, link):
    answers.send(link, Ack("g", "j", 1, None, 7))
    other = Peer(node="two", is_up=True, sent=[])

    answers.repeat(other, "g", sender=other)
    assert other.sent == []
    answers.repeat(other, "g", sender=link.peer)

    assert other.sent == [Ack("g", "j", 1)]


def test_acks_are_kept_until_a_publisher_of_that_host_has_been_there_for_a_while(answers, reactor, link):
    answers.send(link, Ack("g", "j", 1, None, 7))
    reactor.turn()

    reactor.wind(DOUBT + 1)
    answers.expire({"elsewhere"})
    assert answers._kept
    answers.expire({"here"})

    assert not answers._kept


def test_nothing_is_kept_of_a_group_that_is_no_longer_handled(answers, reactor, link):
    for group in ("g", "h"):
        answers.send(link, Ack(group, "j", 1, None, 7))
    reactor.turn()

    answers.drop_group("g")

    assert list(answers._kept) == [("h", "j")]
