"""Limits of a registry that an operator may set. A request beyond a limit is refused with a reason."""

import time
from dataclasses import fields

import pytest
from click.testing import CliRunner

from discovery import Note, protocol, sockets
from discovery.cli import cli
from discovery.exceptions import DirectoryConfigurationError
from discovery.interest import MAX_INTEREST, service_key
from discovery.notes import NoteStore
from discovery.server.feed import ChangeFeed
from discovery.server.limits import NO_LIMIT, RegistryLimits, option_of
from discovery.server.table import Table
from tests.discovery.stage import RawClient, eventually, record, start_registry


def note(key, size=1):
    return Note("default", key, int(time.time() * 1e6), 60.0, {"is": "x" * size})


@pytest.mark.parametrize("one", fields(RegistryLimits), ids=lambda one: one.name)
def test_a_limit_takes_whole_numbers_within_its_range(one):
    least, most = one.metadata["least"], one.metadata["most"]

    assert getattr(RegistryLimits(**{one.name: least}), one.name) == least
    for wrong in (least - 1, "many", True, None, 1.5, *([] if most == NO_LIMIT else [most + 1])):
        with pytest.raises(DirectoryConfigurationError, match=f"{one.name} is {wrong!r}; a whole number from {least:,} "):
            RegistryLimits(**{one.name: wrong})


@pytest.mark.parametrize("one", fields(RegistryLimits), ids=lambda one: one.name)
def test_a_limit_is_an_option_of_the_command(one):
    wrong = one.metadata["least"] - 1

    done = CliRunner().invoke(cli, ["serve", option_of(one.name), str(wrong)])

    assert done.exit_code == 2
    assert f"Invalid value for '{option_of(one.name)}': {wrong} is not in the range" in done.output


@pytest.fixture(scope="module")
def small():
    """A registry with low limits."""
    server = start_registry(
        ttl=1.0, limits=RegistryLimits(max_record_size=2000, max_note_size=100, max_notes=2, max_notes_of_namespace=2)
    )
    yield server
    server.stop()


def test_a_record_that_is_too_large_is_refused(small):
    with RawClient(small.url) as client:
        answer = client.ask(protocol.Register(1, record("large", tags={"t": "x" * 4000})))

    assert isinstance(answer, protocol.Refused) and answer.request == 1
    assert "this registry's max_record_size is 2000" in answer.reason


def test_a_note_that_is_too_large_is_refused_and_others_of_its_message_are_stored(small):
    with RawClient(small.url) as client:
        answer = client.ask(protocol.PutNotes(1, [note("large", 500), note("small")]))

    assert answer == protocol.Refused(1, "1 note(s) of more bytes than this registry's max_note_size, which is 100")
    assert [one.key for one in small._notes] == ["small"]


def test_beyond_its_notes_a_registry_keeps_the_newest(small):
    with RawClient(small.url) as client:
        for key in ("a", "b", "c"):
            client.ask(protocol.PutNotes(1, [note(key)]))

    kept = [one.key for one in small._notes]
    assert len(kept) == 2 and "c" in kept and "a" not in kept


def test_a_client_that_sends_too_many_faulty_messages_is_told_so_and_then_not_read(monkeypatch, caplog):
    frames_read = []

    def receive(*args, **options):
        message = received(*args, **options)
        frames_read.extend([] if message is None else [len(message[1])])
        return message

    received = sockets.receive_message
    monkeypatch.setattr(sockets, "receive_message", receive)
    server = start_registry(ttl=1.0, limits=RegistryLimits(max_faults_per_second=2))
    try:
        with RawClient(server.url) as one, RawClient(server.url) as other:
            answers = [one.ask(b"\xc1") for _ in range(3)]
            for frames in [[b"\xc1"]] * 25 + [[b"\xc1", b"x"]] * 25:
                one.socket.send_multipart(frames)
            eventually(lambda: len(frames_read) == 53)

            assert frames_read == [2] * 3 + [1] * 50
            assert isinstance(other.ask(protocol.Subscribe("default")), protocol.Snapshot)
    finally:
        server.stop()
    assert all("max_faults_per_second" not in answer.reason for answer in answers[:2])
    why = "more than 2 faulty messages within a second (max_faults_per_second)"
    assert answers[2] == protocol.Refused(0, f"{why}; what you send is dropped for 10 s; connect again")
    assert f"blocked a client at 127.0.0.1: {why}; what it sends is dropped for 10 s" in caplog.text


def test_connections_beyond_the_limit_get_a_refusal():
    server = start_registry(ttl=1.0, limits=RegistryLimits(max_clients=1))
    try:
        with RawClient(server.url) as one, RawClient(server.url) as two, RawClient(server.url) as three:
            assert isinstance(one.ask(protocol.Subscribe("default")), protocol.Snapshot)
            assert two.ask(protocol.Subscribe("default")) == protocol.Refused(0, "this registry is full: it has 1 subscribers")
            full = "this registry is full: it answers 2 connections (max_clients is 1)"
            assert three.ask(protocol.Subscribe("default")) == protocol.Refused(0, full)
    finally:
        server.stop()


def test_names_beyond_the_limit_of_all_clients_are_refused():
    sent = []
    limits = RegistryLimits(max_watched_names=MAX_INTEREST)


    def send(peer, frame):
        sent.append(protocol.decode(frame))
        return True

    feed = ChangeFeed("boot", Table(0.0), NoteStore(), send, limits=limits)
    names = [service_key(f"s{number}") for number in range(MAX_INTEREST)]
    feed.subscribe(b"one", protocol.Subscribe("default", names), 0.0)
    assert sent == []

    feed.subscribe(b"two", protocol.Subscribe("default", ["service:other"]), 0.0)

    assert sent == [protocol.Refused(0, f"this registry is full: its subscribers ask for {MAX_INTEREST} names")]
