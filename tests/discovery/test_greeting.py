"""A directory that only knows the address of a node sends HELLO, and reads records from the WELCOME."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discovery import greeting, protocol
from discovery.exceptions import DirectoryProtocolError
from tests.discovery.stage import record
from zmqservices.wire import batches, envelope
from zmqservices.wire.messages import Batch, Bye, Error, Hello, Ping, Pong, Result, Welcome


def read(message):
    skipped = []
    return greeting.read(envelope.encode(message), skipped.append), skipped


def welcome(info, node="n1", major=1):
    return Welcome(major, 0, node, "default", info)


def test_the_question_is_a_hello_of_the_protocol():
    assert envelope.decode(greeting.hello("me", "shop")) == Hello(1, 0, "me", "shop", {"records": True})
    assert envelope.decode(greeting.hello("me", None)) == Hello(1, 0, "me", "", {"records": "all"})


def test_a_node_lists_its_records():
    own = record("one", node="n1", methods={"add": {"idempotent": True}}, subscriptions=[{"source": "orders"}])

    words, skipped = read(welcome({"services": {}, "records": [own.to_dict()]}))

    assert words == [greeting.NodeRecords("n1", [own])]
    assert skipped == []


def test_one_bad_record_does_not_hide_the_others():
    own, foreign = record("one", node="n1"), record("two", node="n2")

    words, skipped = read(welcome({"records": [{"service": 7}, foreign.to_dict(), own.to_dict()]}))

    assert words == [greeting.NodeRecords("n1", [own])]
    assert skipped == ["service of a record is 7; a name is needed", "node 'n1' lists a record of node 'n2'"]


def test_a_node_of_the_release_before_tells_its_services():
    services = {
        "maths": {"idempotent": ["add"], "draining": False, "instances": ["a", "b"]},
        "words": {"idempotent": [], "draining": True, "instances": []},
    }

    (word,), _ = read(welcome({"services": services}))

    assert [(one.service, one.instance, one.node, one.state) for one in word.records] == [
        ("maths", "a", "n1", "UP"),
        ("maths", "b", "n1", "UP"),
        ("words", "n1-words", "n1", "DRAINING"),
    ]
    assert word.records[0].methods == {"add": {"idempotent": True}}


def test_a_node_that_has_nothing_to_say_has_no_records():
    assert read(welcome(None))[0] == [greeting.NodeRecords("n1", [])]


def test_another_major_version_is_refused_with_a_reason():
    (word,), _ = read(welcome(None, major=2))

    assert word == greeting.NodeRefusal("it speaks version 2 of the protocol, and this process 1")


def test_an_error_about_the_link_is_a_refusal_and_one_about_a_call_is_not():
    error = {"code": "protocol", "value": "this node is in namespace 'red', not 'blue'"}

    assert read(Error(None, error))[0] == [greeting.NodeRefusal("'protocol': \"this node is in namespace 'red', not 'blue'\"")]
    assert read(Error(0, error))[0] == []


def test_ping_and_bye_are_answered():
    (pong,), _ = read(Ping(7))
    (bye,), _ = read(Bye(["maths"], "shutting down"))

    assert envelope.decode(pong.frame) == Pong(7)
    assert envelope.decode(bye.frame) == Bye(["maths"], None)


def test_other_messages_are_ignored_and_batches_are_split():
    batch = batches.encode([envelope.encode(Pong(0)), envelope.encode(Result(3, 1)), envelope.encode(Ping(9))])

    (word,) = greeting.read(batch, print)

    assert type(envelope.decode(batch)) is Batch
    assert envelope.decode(word.frame) == Pong(9)


@pytest.mark.parametrize("body", [7, [], ["text"], [True, 1], [2, 1, 0, 7, "default"], [13, 7], [13, [7]]])
def test_junk_is_refused(body):
    with pytest.raises(DirectoryProtocolError):
        greeting.read(protocol.pack(body), print)


def test_more_records_than_a_node_can_have_are_refused():
    with pytest.raises(DirectoryProtocolError, match="1001 records"):
        read(welcome({"records": [{}] * 1001}))


plain = st.recursive(
    st.none() | st.booleans() | st.integers(0, 20) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@settings(max_examples=50, deadline=None)
@given(kind=st.sampled_from([1, 2, 5, 10, 12, 13]), fields=st.lists(plain, max_size=6), info=plain)
def test_any_bytes_of_a_node_are_read_or_refused(kind, fields, info):
    for body in ([kind, *fields], [2, 1, 0, "n1", "default", {"records": info, "services": info}]):
        try:
            greeting.read(protocol.pack(body), lambda reason: None)
        except DirectoryProtocolError:
            pass
