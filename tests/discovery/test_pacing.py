"""How a registry sends to clients that read slowly or never, and bounds of the data that it holds for one connection."""

import time

import pytest

from discovery import Note, protocol
from discovery.server import pacing
from discovery.server.changes import Removed
from discovery.server.limits import RegistryLimits
from discovery.server.pacing import SubscriberConnection, TrackedSubscriber
from tests.discovery.stage import AT_LAST, RawClient, eventually, record, start_registry

GONE = Removed("default", "one", (0, 0), withdrawn=True)


def sent(client, *sizes):
    """The token of the mark after each frame, or None."""
    tokens = []
    for size in sizes:
        token = client.new_token() if client.sent(size - pacing.FRAME_COST) else None
        if token is not None:
            client.marked(token)
        tokens.append(token)
    return tokens


def test_sent_bytes_are_unread_until_their_mark_is_answered():
    client = SubscriberConnection()

    none, token, _ = sent(client, 1000, protocol.MARK_INTERVAL, 500)

    assert none is None
    assert client.unread == protocol.MARK_INTERVAL + 1500
    assert client.read(token)
    assert client.unread == 500


def test_an_answer_to_a_mark_answers_all_earlier_marks():
    client = SubscriberConnection()
    first, _, last = sent(client, *[protocol.MARK_INTERVAL] * 3)

    assert client.read(last)
    assert client.unread == 0
    assert not client.read(first)


def test_an_answer_with_a_guessed_token_does_not_count():
    client = SubscriberConnection()
    (token,) = sent(client, protocol.MARK_INTERVAL)

    assert not client.read(token + 1)
    assert not client.read(0)
    assert client.unread == protocol.MARK_INTERVAL


def test_with_more_clients_each_may_leave_less_unread_but_always_one_part():
    assert pacing.share(0) == pacing.share(32) == pacing.MAX_UNREAD
    assert pacing.share(64) == pacing.MAX_ALL_UNREAD // 64
    assert pacing.share(100_000) == protocol.PART_SIZE


def test_a_subscriber_that_is_behind_is_owed_the_last_state_of_each_record_in_order():
    subscriber = TrackedSubscriber(SubscriberConnection(), None, None, iter(()), {})

    for news in ({"one": None}, {"two": None}, {"one": GONE}):
        assert subscriber.defer(news)

    assert list(subscriber.pending.items()) == [("two", None), ("one", GONE)]


def test_a_subscriber_with_too_many_waiting_changes_must_connect_again(monkeypatch):
    monkeypatch.setattr(pacing, "MAX_PENDING", 1)
    subscriber = TrackedSubscriber(SubscriberConnection(), None, None, iter(()), {})

    assert subscriber.defer({"one": None})
    assert not subscriber.defer({"two": None})


# --- a registry and clients that do not answer marks ---


@pytest.fixture
def server():
    server = start_registry(ttl=1.0)
    yield server
    server.stop()


@pytest.fixture
def start():
    """Registries with limits of their own."""
    servers = []

    def start(**limits):
        servers.append(start_registry(ttl=1.0, limits=RegistryLimits(**limits)))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def fill(server, count, size=100_000):
    """Registers records that are large, and takes the answers."""
    with RawClient(server.url) as holder:
        for number in range(count):
            holder.ask(protocol.Register(1, record(f"i{number}", ttl=60.0, tags={"text": "x" * size})))


def all_that_comes(client, until):
    """Messages, marks unanswered, until one is of that kind."""
    messages = []
    while not messages or not isinstance(messages[-1], until):
        messages.append(client.next())
    return messages


def answered(client, is_last):
    """Messages but marks, which are answered, until the last."""
    messages = []
    while not messages or not is_last(messages[-1]):
        message = client.next()
        if isinstance(message, protocol.Mark):
            client.socket.send(protocol.encode(protocol.Read(message.token)))
        else:
            messages.append(message)
    return messages


def test_a_snapshot_waits_for_a_client_without_answers_to_marks_and_is_whole_for_others(start):
    server = start(max_unread_bytes=protocol.PART_SIZE)
    fill(server, 20)

    with RawClient(server.url) as client, RawClient(server.url) as other:
        client.socket.send(protocol.encode(protocol.Subscribe("default")))
        first = all_that_comes(client, until=protocol.Heartbeat)
        assert [type(message) for message in first if not isinstance(message, protocol.Heartbeat)] == [
            protocol.Snapshot,
            protocol.Mark,
            protocol.Snapshot,
            protocol.Mark,
        ][: 2 * sum(isinstance(message, protocol.Snapshot) for message in first)]
        (unread,) = [subscriber.client.unread for subscriber in server._feed.subscribers.values()]
        assert unread <= 2 * protocol.PART_SIZE

        # What happens meanwhile comes after it, as it is by then, and once.
        for version in range(1, 4):
            other.ask(protocol.Register(1, record("i0", ttl=60.0, version=version)))
        other.ask(protocol.Withdraw(1, "default", "i19", 0, 0))
        noted = Note("default", "k", int(time.time() * 1e6), 60.0, {"is": 1})
        assert other.ask(protocol.PutNotes(1, [noted])) == protocol.Ack(1)
        client.socket.send(protocol.encode(protocol.Read(first[1].token)))
        rest = answered(client, lambda message: isinstance(message, protocol.NotesChanged))

    parts = [message for message in first + rest if isinstance(message, protocol.Snapshot)]
    listed = {entry[0].instance for part in parts for entry in part.entries}
    assert [part.part for part in parts] == list(range(len(parts)))
    assert [part.parts for part in parts] == [0] * (len(parts) - 1) + [len(parts)]
    assert listed == {f"i{number}" for number in range(19)}
    assert [m.record.version for m in rest if isinstance(m, protocol.Update)] == [3]
    assert [m.instance for m in rest if isinstance(m, protocol.Drop)] == ["i19"]


def test_changes_wait_for_a_subscriber_that_does_not_answer_marks(start):
    server = start(max_unread_bytes=protocol.PART_SIZE)
    with RawClient(server.url) as client, RawClient(server.url) as holder:
        client.ask(protocol.Subscribe("default"))
        for version in range(20):
            holder.ask(protocol.Register(1, record(version=version, tags={"text": "x" * 100_000})))
        holder.ask(protocol.Register(1, record(version=20)))

        (subscriber,) = server._feed.subscribers.values()
        assert subscriber.client.unread <= 2 * protocol.PART_SIZE
        assert list(subscriber.pending) == ["one"]
        messages = answered(client, lambda m: isinstance(m, protocol.Update) and m.record.version == 20)

    updates = [message for message in messages if isinstance(message, protocol.Update)]
    assert [message.seq for message in updates] == list(range(1, len(updates) + 1))
    assert len(updates) < 10


def test_a_client_that_never_reads_answers_is_given_up_with_a_message(start, monkeypatch):
    server = start(max_unread_bytes=protocol.PART_SIZE)
    monkeypatch.setattr(pacing, "ANSWER_ROOM", 0)
    renew = protocol.encode(protocol.Renew([["x" * 250, 0, 0]] * 500))

    with RawClient(server.url) as client:
        for _ in range(20):
            client.socket.send(renew)
        answers = all_that_comes(client, until=protocol.Refused)

        assert "unread; connect again" in answers[-1].reason
        assert answers[-1].request == 0
        assert len(answers) < 10


def test_removed_clients_are_forgotten_even_if_they_never_subscribed(monkeypatch):
    from discovery.server import registry_server as server_module

    monkeypatch.setattr(server_module, "CHECK_CLIENTS_INTERVAL", 0.1)
    server = start_registry(ttl=1.0)
    try:
        fill(server, 1)
        eventually(lambda: not server._feed.clients)
    finally:
        server.stop()


# --- what one connection may make a registry hold ---


def test_leases_of_one_connection_are_bounded_and_those_of_others_are_not(start):
    server = start(max_records_of_connection=2)
    with RawClient(server.url) as flood, RawClient(server.url) as other:
        answers = [flood.ask(protocol.Register(number, record(f"i{number}"))) for number in range(1, 4)]

        assert answers[:2] == [protocol.Ack(1), protocol.Ack(2)]
        assert answers[2] == protocol.Refused(3, "one connection may hold 2 leases; this would be one more")
        assert flood.ask(protocol.Register(4, record("i1", version=1))) == protocol.Ack(4)
        assert other.ask(protocol.Register(1, record("i3"))) == protocol.Ack(1)


def test_notes_of_one_connection_are_bounded_and_those_of_others_are_not(start):
    server = start(max_notes_of_connection=2)

    def note(key, later=0):
        return Note("default", key, int(time.time() * 1e6) + later, 60.0, {"is": 1})

    with RawClient(server.url) as flood, RawClient(server.url) as other:
        answer = flood.ask(protocol.PutNotes(1, [note("a"), note("b"), note("c"), note("d")]))

        assert answer == protocol.Refused(1, "2 note(s) beyond the 2 that one connection may have written")
        assert flood.ask(protocol.PutNotes(2, [note("b", later=1)])) == protocol.Ack(2)
        assert other.ask(protocol.PutNotes(1, [note("c")])) == protocol.Ack(1)
        assert {held.key for held in other.ask(protocol.Subscribe("default")).notes} == {"a", "b", "c"}


def test_a_client_of_a_large_registry_answers_marks(start):
    from tests.discovery.stage import House

    server = start(max_unread_bytes=protocol.PART_SIZE)
    fill(server, 30)
    house = House(server.url)
    try:
        there = house.open()
        assert there.wait_ready(AT_LAST)
        assert len(there.view().records) == 30
        eventually(lambda: all(s.client.unread < protocol.MARK_INTERVAL for s in server._feed.subscribers.values()))
    finally:
        house.close()
