"""The topics of best-effort events: alike for alike, apart for others, and never too long for the publisher's socket."""

import pytest

from zmqservices.cluster.events.subscription import LONGEST_NAME, LONGEST_TOPIC, broadcast_topic, member_topic
from zmqservices.transport.sockets import LONGEST_SUBSCRIPTION

#: What ZeroMQ puts before a topic: a byte of flags, up to nine of a length, and the name of a command.
AROUND = 1 + 9 + len(b"\x09SUBSCRIBE")


def test_a_topic_names_what_it_stands_for():
    assert broadcast_topic("orders", "order.*") == b"B\0orders\0order.*\0"
    assert member_topic("readers", "one") == b"P\0readers\0one\0"


@pytest.mark.parametrize("make", [broadcast_topic, member_topic])
@pytest.mark.parametrize("name", ["x" * LONGEST_NAME, "x" * 200, "\N{SNOWMAN}" * LONGEST_NAME], ids=len)
def test_a_topic_fits_the_publishers_socket_whatever_the_names(make, name):
    topics = {make(name, name), make(name, name[:-1]), make(name[:-1], name), make(name[:-1] + "y", name)}

    assert len(topics) == 4
    for topic in topics:
        assert len(topic) <= LONGEST_TOPIC
        assert len(topic) + AROUND <= LONGEST_SUBSCRIPTION
        assert topic.count(b"\0") == 3
        assert topic.endswith(b"\0")
