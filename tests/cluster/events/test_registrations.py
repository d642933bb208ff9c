"""The directory remembers groups: a new publisher keeps events for them even after all members and publishers are gone."""

import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

import discovery
from discovery import Note, View
from discovery.server.registry_server import RegistryServer
from tests.events.stage import Notes, Orders, until
from tests.events.test_deliveries import mails_that_note, source_of
from zmqservices.cluster.events.group_registrations import CHECK_INTERVAL, REFRESH_AFTER, GroupRegistrations, key_of, remembered
from zmqservices.cluster.events.subscription import Subscription
from zmqservices.exceptions import BadRequest

GROUP = "mails.send:order.*"
WANT = Subscription("orders", "order.*", GROUP)


@pytest.fixture
def new_host(serve, cluster_config, tmp_path):
    """`new_host(Orders)`: a container on a host that is new: nothing on its disk, no node that it shares."""
    count = iter(range(100))

    def start(service_cls, **settings):
        folder = tmp_path / f"host-{next(count)}"
        return serve(service_cls, JOURNAL_FOLDER=str(folder / "journals"), DIRECTORY_CACHE=str(folder / "cache"), **settings)

    return start


@pytest.fixture
def directory(cluster_config):
    """The directory as somebody sees it who does nothing."""
    found = discovery.open_directory(cluster_config["DIRECTORY"], namespace=cluster_config["NAMESPACE"])
    found.start()
    assert found.wait_ready(30)
    yield found
    found.stop()


def test_a_new_publisher_keeps_events_for_a_group_without_members(new_host, connect):
    notes = Notes()
    Mails = mails_that_note(notes)
    first, mails = new_host(Orders), new_host(Mails)
    connect().orders.tell("order.paid", 1)
    notes.wait_for(1)
    mails.stop()
    first.stop()

    new_host(Orders)
    connect().orders.tell_all("order.paid", 5)
    new_host(Mails)

    assert notes.wait_for(6)[1:] == list(range(5))


def test_a_new_publisher_keeps_events_for_a_group_that_stopped_before_any_publisher(new_host, connect):
    notes = Notes()
    Mails = mails_that_note(notes)
    new_host(Mails).stop()

    new_host(Orders)
    connect().orders.tell("order.paid", 1)
    new_host(Mails)

    assert notes.wait_for(1) == [1]


def test_best_effort_handlers_are_not_remembered(new_host, directory):
    new_host(mails_that_note(Notes(), reliable_delivery=False)).stop()
    new_host(mails_that_note(Notes())).stop()

    until(lambda: directory.view().notes)
    assert [note.key for note in directory.view().notes] == [key_of("orders", GROUP)]


def test_a_removed_group_does_not_come_back_from_the_directory(new_host, connect, directory):
    first, mails = new_host(Orders), new_host(mails_that_note(Notes()))
    mails.stop()
    cluster = connect()
    assert cluster["events:orders"].forget(GROUP) is True
    until(lambda: remembered(directory.view(), "orders") == {GROUP: None})
    first.stop()

    new_host(Orders)
    cluster = connect()
    cluster.orders.tell("order.paid", "for nobody")

    assert cluster["events:orders"].stats()["journals"][0]["groups"] == []
    with pytest.raises(BadRequest, match="no group"):
        cluster["events:orders"].rewind(GROUP, to_seq=0)


def test_a_removed_group_that_subscribes_again_is_remembered_again(new_host, connect, directory):
    notes = Notes()
    first = new_host(Orders)
    new_host(mails_that_note(notes)).stop()
    connect()["events:orders"].forget(GROUP)
    until(lambda: remembered(directory.view(), "orders") == {GROUP: None})

    new_host(mails_that_note(notes)).stop()
    until(lambda: remembered(directory.view(), "orders") == {GROUP: WANT})
    first.stop()

    new_host(Orders)
    connect().orders.tell("order.paid", 1)
    new_host(mails_that_note(notes))
    assert notes.wait_for(1) == [1]


def test_a_publisher_that_missed_a_removal_does_not_restore_the_group(new_host, connect, directory):
    new_host(mails_that_note(Notes())).stop()
    until(lambda: directory.view().notes)
    knows = new_host(Orders)
    directory.delete(key_of("orders", GROUP))
    until(lambda: remembered(directory.view(), "orders") == {GROUP: None})

    new_host(Orders, HEARTBEAT=2.5)

    clients = connect()
    until(lambda: len(directory.service("events:orders")) == 2)
    kept = [len(record.subscriptions) for record in (seen.record for seen in directory.service("events:orders"))]
    assert sorted(kept) == [0, 1]
    assert knows and clients.orders.tell("order.paid", 1) is None


def test_an_empty_registry_learns_of_a_group_from_a_journal(serve, connect, cluster_config, tmp_path):
    first = RegistryServer("tcp://127.0.0.1:0")
    first.start()
    first.wait_bound(30)
    url, settings = first.url, {"DIRECTORY": first.url, "DIRECTORY_CACHE": "none"}
    orders = serve(Orders, **settings)
    serve(mails_that_note(Notes()), **settings).stop()
    orders.stop()
    first.stop()
    second = RegistryServer("tcp://127.0.0.1:0")
    second.start()
    second.wait_bound(30)
    assert second.url != url

    serve(Orders, **{**settings, "DIRECTORY": second.url}).stop()

    with discovery.open_directory(second.url, namespace=cluster_config["NAMESPACE"]) as directory:
        assert directory.wait_ready(30)
        assert set(remembered(directory.view(), "orders")) == {GROUP}
    second.stop()


def test_on_one_machine_groups_outlive_the_last_process(serve, tmp_path, free_port, monkeypatch):
    monkeypatch.setenv("ZMQSERVICES_LOCAL_PORT", str(free_port))
    notes = Notes()
    machine = {"DIRECTORY": "local:", "DIRECTORY_CACHE": str(tmp_path / "cache"), "DIRECTORY_TTL": 1.0}
    first = serve(Orders, **machine, JOURNAL_FOLDER=str(tmp_path / "first"))
    serve(mails_that_note(notes), **machine).stop()
    first.stop()

    second = serve(Orders, **machine, JOURNAL_FOLDER=str(tmp_path / "second"))
    source_of(second).dispatch("order.paid", 1, None, None, None, True)
    serve(mails_that_note(notes), **machine)

    assert notes.wait_for(1) == [1]


# --- by hand-wound time --------------------------------------------------------------------------------------------------


class Book:
    """A directory that only writes down."""

    def __init__(self, *notes):
        self.notes = notes
        self.written = []

    def view(self):
        return View(notes=self.notes)

    def put(self, key, value, *, ttl, age=0.0):
        self.written.append((key, ttl, age))


class Clock:
    """A reactor that is told when time has passed."""

    def __init__(self):
        self.timers = []

    def call_later(self, seconds, callback):
        self.timers.append(SimpleNamespace(seconds=seconds, callback=callback, cancel=lambda: self.timers.clear()))
        return self.timers[-1]


def note(age=0.0, value=True):
    stamp = int((time.time() - age) * 1e6)
    return Note("default", key_of("orders", GROUP), stamp, 86_400.0, WANT.to_dict() if value else None)


def test_the_note_of_a_present_group_is_renewed_when_it_is_old_or_missing():
    for known, is_written in (([note()], False), ([note(REFRESH_AFTER + 1)], True), ([], True), ([note(value=False)], True)):
        book, clock = Book(*known), Clock()
        groups = GroupRegistrations(book, clock, 60.0)
        groups.hold("mails", [WANT])
        assert book.written == [(key_of("orders", GROUP), 60.0 + REFRESH_AFTER, 0.0)] * is_written
        book.written.clear()

        timer = clock.timers.pop()
        timer.callback()

        assert CHECK_INTERVAL / 2 <= timer.seconds <= CHECK_INTERVAL * 1.5
        assert book.written == [(key_of("orders", GROUP), 60.0 + REFRESH_AFTER, 0.0)] * is_written
        assert len(clock.timers) == 1


def test_after_a_change_of_the_certificate_the_note_of_another_node_is_replaced():
    own, other = bytes([1] * 32), bytes([2] * 32)
    for signer, is_written in ((own, False), (other, True)):
        book = Book(replace(note(), signer=signer))
        groups = GroupRegistrations(book, Clock(), 60.0)
        groups.hold("mails", [WANT])
        assert book.written == []

        groups.certificate_changed(own)

        assert book.written == [(key_of("orders", GROUP), 60.0 + REFRESH_AFTER, 0.0)] * is_written


def test_the_note_of_a_group_that_is_no_longer_handled_is_not_renewed():
    book, clock = Book(), Clock()
    groups = GroupRegistrations(book, clock, 60.0)
    groups.hold("mails", [WANT])
    groups.release("mails")
    book.written.clear()

    clock.timers.pop().callback()

    assert book.written == [] and clock.timers == []


def test_a_journal_only_adds_unknown_groups_with_their_age():
    want = {GROUP: (WANT, 1000.0)}
    for known, is_written in (([], True), ([note(3000.0)], False), ([note(value=False)], False)):
        book = Book(*known)

        GroupRegistrations(book, Clock(), 86_400.0).add(want)

        assert [age for _, _, age in book.written] == [1000.0] * is_written


def test_a_group_that_was_away_too_long_is_not_added():
    book = Book()

    GroupRegistrations(book, Clock(), 60.0).add({GROUP: (WANT, REFRESH_AFTER + 61.0)})

    assert book.written == []


def test_junk_in_a_note_is_no_group():
    junk = [Note("default", key_of("orders", group), 1, 1.0, {"source": "orders"}) for group in ("a", "b")]

    assert remembered(View(notes=(*junk, note(), Note("default", "else", 1, 1.0, {}))), "orders") == {
        "a": None, "b": None, GROUP: WANT,
    }  # fmt: skip
