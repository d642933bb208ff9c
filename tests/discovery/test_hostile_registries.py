"""Clients of a good registry and of a second one that is broken, hostile, or not a registry at all."""

import http.server
import socket
import threading
import time

import msgpack
import pytest
import zmq

from discovery import Note, protocol
from discovery.client import note_exchange, socket_connection
from discovery.client import registry_connection as link
from tests.discovery.stage import AT_LAST, House, Watch, eventually, knows, record, start_registry


class FakeRegistry:
    """A ROUTER that sends any message to its first client."""

    def __init__(self, context):
        self._socket = context.socket(zmq.ROUTER)
        self.url = f"tcp://127.0.0.1:{self._socket.bind_to_random_port('tcp://127.0.0.1')}"
        self._seq = 0

    def wait(self):
        """Returns once it has a client."""
        assert self._socket.poll(AT_LAST * 1000), "no client came"
        self._peer, _ = self._socket.recv_multipart()

    def send(self, *fields):
        frame = fields[0] if isinstance(fields[0], bytes) else msgpack.packb([1, *fields])
        self._socket.send_multipart([self._peer, frame])

    def snapshot(self, entries=(), notes=(), part=0, parts=1):
        self._seq = 0
        self.send(19, 0, "boot", False, part, parts, list(entries), list(notes))

    def update(self, fields):
        self._seq += 1
        self.send(20, self._seq, "boot", fields, 0.0, False)

    def noted(self, notes):
        self._seq += 1
        self.send(23, self._seq, "boot", [note.to_list() for note in notes])


@pytest.fixture
def fake(stack):
    context = zmq.Context()
    stack.callback(context.destroy, linger=0)
    return FakeRegistry(context)


@pytest.fixture
def good(stack):
    server = start_registry(ttl=1.0)
    stack.callback(server.stop)
    return server


@pytest.fixture
def directory(stack, fake, good):
    """One that knows a good registry beside the other; the good one lists `honest`."""
    house = House(f"{fake.url},{good.url}")
    stack.callback(house.close)
    writer = house.open(url=good.url)
    writer.announce(record("honest"))
    assert writer.flush(AT_LAST)
    directory = house.open()
    fake.wait()
    return directory


def state_of(directory, registry):
    return next(item for item in directory.view().registries if item["address"] == registry.url)


def entry(instance, **fields):
    return [record(instance, **fields).to_dict(), 0.0, False]


def endless_parts(fake):
    for part in range(protocol.MAX_PARTS + 1):
        fake.snapshot(part=part, parts=0)


def endless_records(fake):
    for part in range(protocol.MAX_ENTRIES // 10 + 1):
        fake.snapshot([entry("one")] * 10, part=part, parts=0)


def endless_notes(fake):
    note = Note("default", "k", 1, 60.0, None).to_list()
    for part in range(protocol.MAX_ENTRIES // 10 + 1):
        fake.snapshot(notes=[note] * 10, part=part, parts=0)


def endless_bytes(fake):
    for part in range(protocol.MAX_HELD // 10_000 + 1):
        fake.snapshot([entry(f"i{part}", tags={"text": "x" * 10_000})], part=part, parts=0)


def endless_updates(fake):
    fake.snapshot()
    for number in range(protocol.MAX_ENTRIES + 1):
        fake.update(record(f"i{number}").to_dict())


def endless_bytes_of_updates(fake):
    fake.snapshot([entry("first", tags={"text": "x" * 10_000})])
    for number in range(protocol.MAX_HELD // 10_000 + 1):
        fake.update(record(f"i{number}", tags={"text": "x" * 10_000}).to_dict())


@pytest.mark.parametrize(
    "flood",
    [endless_parts, endless_records, endless_notes, endless_bytes, endless_updates, endless_bytes_of_updates],
    ids=lambda flood: flood.__name__,
)
def test_a_registry_that_sends_more_than_any_holds_is_left_alone_with_a_warning(
    flood, fake, directory, monkeypatch, caplog
):
    monkeypatch.setattr(protocol, "MAX_PARTS", 100)
    monkeypatch.setattr(protocol, "MAX_ENTRIES", 50)
    monkeypatch.setattr(protocol, "MAX_HELD", 100_000)

    flood(fake)

    eventually(lambda: "it sent too much" in (state_of(directory, fake)["error"] or ""))
    assert caplog.text.count(f"left registry {fake.url} alone for 60 s") == 1
    (link_to_it,) = [one for one in directory._client_state._seed_connections.connections() if one.address == fake.url]
    assert link_to_it.retry_at > time.monotonic() + link.OVERLOAD_PAUSE / 2
    Watch(directory).wait_now(lambda view: view.fresh and "honest" in view.records)


def test_changed_and_removed_records_are_counted_by_their_current_size(fake, directory, monkeypatch):
    monkeypatch.setattr(protocol, "MAX_ENTRIES", 5)
    monkeypatch.setattr(protocol, "MAX_HELD", 100_000)
    fake.snapshot([entry("first", tags={"text": "x" * 50_000})])

    for version in range(20):
        fake.update(record("first", version=version, tags={"text": "x" * 50_000}).to_dict())
    for number in range(20):
        fake.update(record(f"i{number}", tags={"text": "x" * 10_000}).to_dict())
        fake._seq += 1
        fake.send(21, fake._seq, "boot", f"i{number}", 0, 0, False)
    fake.update(record("last").to_dict())

    Watch(directory).wait_now(knows("honest", "first", "last"))
    assert state_of(directory, fake)["error"] is None


def test_one_bad_record_hides_no_other_and_is_told_once(fake, directory, caplog):
    bad = {**record("bad").to_dict(), "endpoints": {"rpc": 7}}
    note = Note("default", "k", int(time.time() * 1e6), 60.0, {"is": 1})

    for _ in range(2):
        fake.snapshot([[bad, 0.0, False], entry("one"), None], [None, note.to_list()])
    for fields in (bad, None, record("two").to_dict(), {**record("two", version=1).to_dict(), "state": "ASLEEP"}):
        fake.update(fields)
    fake.update(record("three").to_dict())

    view = Watch(directory).wait_now(knows("honest", "one", "two", "three"))
    assert [held.key for held in view.notes] == ["k"]
    assert state_of(directory, fake)["state"] == "up"
    assert caplog.text.count(f"skipped a record or note of registry {fake.url}: endpoints of a record") == 1


def test_dropped_notes_are_not_remembered_as_sent(fake, directory, monkeypatch):
    monkeypatch.setattr(note_exchange, "MAX_ALL_NOTES", 10)
    now = int(time.time() * 1e6)
    fake.snapshot()

    fake.noted([Note("default", f"old{number}", 1, 60.0, {"is": 1}) for number in range(100)])
    for number in range(100):
        fake.noted([Note("default", f"short{number}", now, 1e-6 + number, {"is": 1})])
    fake.update(record("last").to_dict())

    Watch(directory).wait_now(knows("honest", "last"))
    (told,) = [told for one, told in directory._client_state._notes._ranks.items() if one.address == fake.url]
    assert not any(key.startswith("old") for _, key in told)


# --- something else has the port ---


class Answer(http.server.BaseHTTPRequestHandler):
    """Refuses what is no request."""

    def log_message(self, *args):
        pass


@pytest.fixture(params=["http", "silent", "closes"])
def taken_port(request, stack, monkeypatch):
    """The port of a server that waits for a line, of one that says nothing, and of one that closes at once."""
    for module in (link, socket_connection):
        monkeypatch.setattr(module, "ATTEMPT", 0.3)
    if request.param == "http":
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        server.daemon_threads, server.block_on_close = True, False
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        stack.callback(server.server_close)
        stack.callback(server.shutdown)
        return server.server_address[1]
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    if request.param == "closes":
        ended = threading.Event()
        listener.settimeout(0.1)

        def close_all():
            while not ended.is_set():
                try:
                    listener.accept()[0].close()
                except OSError:
                    pass

        thread = threading.Thread(target=close_all)
        thread.start()
        stack.callback(thread.join)
        stack.callback(ended.set)
    return listener.getsockname()[1]


def test_a_local_port_of_another_program_gives_one_warning_with_advice(taken_port, stack, caplog):
    house = House(f"local:{taken_port}")
    stack.callback(house.close)
    directory = house.open()

    eventually(lambda: "does not answer as a registry does" in (directory.view().registries[0]["error"] or ""))
    first = directory._client_state._seed_connections.by_seed[0].connections[f"tcp://127.0.0.1:{taken_port}"]
    eventually(lambda: first.failures >= 3)

    (warning,) = [one.getMessage() for one in caplog.records if "no registry at" in one.getMessage()]
    assert f"if port {taken_port} of this machine belongs to another program, set ZMQSERVICES_LOCAL_PORT" in warning
