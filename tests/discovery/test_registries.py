"""Registries that start, stop, restart and get junk, and their clients."""

import os
import re
import time

import pytest
import zmq

from discovery import DirectoryError, Note, protocol, sockets
from discovery.server import registry_server as server_module
from discovery.server.limits import RegistryLimits
from discovery.server.registry_server import RegistryServer
from tests.discovery.stage import (
    AT_LAST,
    House,
    RawClient,
    Watch,
    eventually,
    knows,
    record,
    silent_holder,
    start_registry,
)
from tests.ports import free_port

#: The ttl of a registry whose warm-up is to be over soon, in seconds.
SOON = 0.3


@pytest.fixture
def new_registry(stack):
    def start(bind="tcp://127.0.0.1:0", **options):
        server = start_registry(bind, **{"ttl": 1.0, **options})
        stack.callback(server.stop)
        return server

    return start


@pytest.fixture
def new_house(stack):
    def build(*urls, **options):
        house = House(",".join(urls), **options)
        stack.callback(house.close)
        return house

    return build


def is_fresh(view):
    return view.fresh


def open_files():
    return len(os.listdir("/proc/self/fd"))


def test_a_withdrawal_arrives_within_milliseconds(new_registry, new_house):
    house = new_house(new_registry().url)
    here, there = house.open(), house.open()
    seen = Watch(there)
    passed = []

    for number in range(10):
        here.announce(record(version=number))
        seen.wait_now(knows("one"))
        begin = time.perf_counter()
        here.withdraw("one")
        seen.wait_now(knows())
        passed.append(time.perf_counter() - begin)

    assert sorted(passed)[5] < 0.1


def test_a_registry_that_restarts_empty_gets_all_records_again_and_no_view_loses_one(new_registry, new_house):
    first = new_registry()
    house = new_house(first.url)
    here, there = house.open(), house.open()
    seen = Watch(there)
    # The next renewal comes after the end of this test, so only the new connection can bring the record back.
    here.announce(record(ttl=100.0))
    seen.wait(lambda view: view.fresh and knows("one")(view))
    told = len(seen.views)

    first.stop()
    seen.wait_now(lambda view: not view.fresh)
    second = new_registry(first.url)
    with RawClient(second.url) as late:
        late.ask(protocol.Subscribe("default"))
        while not isinstance(message := late.next(), protocol.Update):
            assert isinstance(message, protocol.Heartbeat | protocol.Snapshot)

    assert message.record == record(ttl=100.0)
    seen.wait_now(is_fresh)
    assert all("one" in view.records for view in seen.views[told:])


def test_a_holder_that_died_with_the_registry_leaves_after_the_warm_up(new_registry, new_house, stack):
    first = new_registry()
    there = new_house(first.url).open()
    seen = Watch(there)
    with silent_holder(first.url, record(ttl=60.0)):
        seen.wait(knows("one"))

    first.stop()
    eventually(lambda: there.view().registries[0]["state"] != "up")
    told = len(seen.views)
    new_registry(first.url, ttl=SOON)

    view = seen.wait_now(knows())
    assert view.fresh
    assert all("one" in view.records for view in seen.views[told:] if not view.fresh)


def test_with_every_registry_down_all_instances_stay_listed(new_registry, new_house):
    servers = [new_registry(ttl=SOON), new_registry(ttl=SOON)]
    house = new_house(*(server.url for server in servers))
    here, there = house.open(), house.open()
    seen = Watch(there)
    here.announce(record(ttl=0.3))
    seen.wait_now(lambda view: view.fresh and knows("one")(view))

    for server in servers:
        server.stop()

    view = seen.wait_now(lambda view: not view.fresh)
    assert knows("one")(view)
    assert re.search(r" has been stale for \d+ s \(", there.describe())
    assert {item["state"] for item in there.view().registries} != {"up"}
    assert there.view().records["one"].age < 5.0
    assert not there.flush(0.05)


def test_two_registries_that_know_nothing_of_each_other_are_one_view(new_registry, new_house):
    left, right = new_registry(), new_registry()
    on_left, on_right = new_house(left.url).open(), new_house(right.url).open()
    both = Watch(new_house(left.url, right.url).open())

    on_left.announce(record("one"))
    on_right.announce(record("two"))

    both.wait_now(knows("one", "two"))
    on_left.withdraw("one")
    both.wait_now(knows("two"))


def test_one_of_two_registries_is_enough(new_registry, new_house):
    left, right = new_registry(ttl=SOON), new_registry(ttl=SOON)
    house = new_house(left.url, right.url)
    here, there = house.open(), house.open()
    seen = Watch(there)
    # Both have warmed up: one that still warms up would leave the view stale for a moment.
    # The end of a warm-up changes no view, so nobody is told of it.
    eventually(lambda: is_fresh(there.view()) and not any(registry["warming"] for registry in there.view().registries))

    left.stop()
    here.announce(record())

    seen.wait_now(knows("one"))
    assert here.flush(AT_LAST)
    assert there.view().fresh
    here.withdraw("one")
    seen.wait_now(knows())


def test_a_registry_that_comes_back_learns_of_withdrawals_in_between(new_registry, new_house):
    left, right = new_registry(), new_registry()
    house = new_house(left.url, right.url)
    here = house.open()
    here.announce(record())
    assert here.flush(AT_LAST)
    only_left = Watch(new_house(left.url).open())
    only_left.wait_now(knows("one"))

    left.stop()
    here.withdraw("one")
    assert here.flush(AT_LAST)
    new_registry(left.url, ttl=60.0)

    view = only_left.wait_now(knows())
    assert not view.fresh, "the withdrawal itself was heard, and not the end of the warm-up waited for"


def test_a_later_subscriber_learns_of_a_withdrawal_while_the_registry_warms_up(new_registry):
    server = new_registry(ttl=60.0)
    with RawClient(server.url) as holder, RawClient(server.url) as late:
        assert holder.ask(protocol.Withdraw(1, "default", "one", 0, 0)) == protocol.Ack(1)

        snapshot = late.ask(protocol.Subscribe("default"))
        dropped = late.next_but_heartbeats()

    assert snapshot.warming and not snapshot.entries
    assert (dropped.instance, dropped.withdrawn, dropped.seq) == ("one", True, snapshot.seq + 1)


def test_clients_that_connect_and_close_quickly_do_not_stop_zeromqs_thread(new_registry, new_house):
    house = new_house(new_registry().url)
    before = open_files()
    # A connection that ends while it is told of to nobody would stop that thread, and with it every socket of the
    # process: about one in some hundreds did. In bursts, as the thread ends sockets later than we close them, and a
    # context has room for 1,023.
    for _ in range(10):
        for _ in range(100):
            socket = sockets.client_socket()
            monitor = sockets.monitor_of(socket)
            socket.connect(house.url)
            sockets.close_monitored(socket, monitor)
        eventually(lambda: open_files() <= before + 20)

    assert house.open().wait_ready(AT_LAST)


def test_the_same_registry_under_two_names_is_asked_once(new_registry, new_house):
    server = new_registry()
    port = server.url.rpartition(":")[2]
    here = new_house(f"tcp://127.0.0.1:{port}", f"tcp://localhost:{port}").open()
    seen = Watch(here)

    here.announce(record())

    assert here.flush(AT_LAST)
    seen.wait_now(lambda view: [item["state"] for item in view.registries].count("up") == 1)


def test_a_registry_is_found_by_name(new_registry, new_house):
    port = new_registry().url.rpartition(":")[2]
    here = new_house(f"tcp://localhost:{port}").open()

    assert here.wait_ready(AT_LAST)


def test_an_unknown_host_name_is_reported_and_tried_again(new_house, caplog):
    here = new_house("tcp://no-such-host.invalid:4190").open()

    assert not here.wait_ready(0.05)
    eventually(lambda: here.view().registries[0]["error"])
    assert "no-such-host.invalid was not found" in here.describe()
    assert caplog.text.count("cannot reach registry tcp://no-such-host.invalid:4190") == 1


def test_a_registry_that_does_not_answer_for_long_is_named_once_in_the_log(new_registry, new_house, monkeypatch, caplog):
    from discovery.client import state

    monkeypatch.setattr(state, "OUTAGE_TOLD", 0.1)
    url = f"tcp://127.0.0.1:{free_port()}"
    here = new_house(url).open()
    eventually(lambda: "has not answered" in caplog.text)
    connection = here._client_state._seed_connections.by_seed[0].connections[url]
    failures = connection.failures
    eventually(lambda: connection.failures > failures + 1)

    told = [one.getMessage() for one in caplog.records if "has not answered" in one.getMessage()]
    assert len(told) == 1 and url in told[0] and "nothing listens there" in told[0]


def test_another_program_at_the_port_is_no_registry(new_house, monkeypatch):
    from discovery.client import registry_connection as link

    monkeypatch.setattr(link, "ATTEMPT", 0.1)
    context = zmq.Context()
    try:
        with context.socket(zmq.ROUTER) as other:
            port = other.bind_to_random_port("tcp://127.0.0.1")
            here = new_house(f"tcp://127.0.0.1:{port}").open()
            eventually(lambda: here.view().registries[0]["error"])
            assert "does not answer as a registry does" in here.describe()
    finally:
        context.destroy(linger=0)


def test_a_registry_that_becomes_silent_is_given_up(new_registry, new_house, monkeypatch):
    from discovery.client import registry_connection as link

    monkeypatch.setattr(link, "SILENCE", 0.2)
    monkeypatch.setattr(server_module, "HEARTBEAT_INTERVAL", 1000.0)
    here = new_house(new_registry().url).open()

    eventually(lambda: "silent" in (here.view().registries[0]["error"] or ""))


def test_a_gap_in_the_numbers_brings_a_new_snapshot(new_registry, new_house, monkeypatch):
    monkeypatch.setattr(server_module, "HEARTBEAT_INTERVAL", 0.1)  # The next of these shows the gap.
    server = new_registry()
    house = new_house(server.url)
    here, there = house.open(), house.open()
    assert here.wait_ready(AT_LAST) and there.wait_ready(AT_LAST)
    seen = Watch(there)
    send, lost = server._feed._send_to, []

    def lose_updates(peer, frame):
        if not lost and len(frame) > 100 and isinstance(protocol.decode(frame), protocol.Update):
            lost.extend(server._feed.subscribers)
        if peer in lost and isinstance(protocol.decode(frame), protocol.Update):
            lost.remove(peer)
            return True
        return send(peer, frame)

    monkeypatch.setattr(server._feed, "_send_to", lose_updates)
    here.announce(record())

    seen.wait_now(knows("one"))
    assert not lost


def test_a_large_directory_arrives_whole(new_registry, new_house):
    house = new_house(new_registry().url)
    here = house.open()
    for number in range(40):
        here.announce(record(f"i{number}", tags={"text": "x" * 50_000}))
    assert here.flush(AT_LAST)

    there = house.open()

    assert there.wait_ready(AT_LAST)
    assert len(there.view().records) == 40


def test_a_lease_that_its_registry_lost_is_registered_again(new_registry, new_house):
    server = new_registry()
    here = new_house(server.url).open()
    here.announce(record(ttl=1.0))
    assert here.flush(AT_LAST)

    # As if renewals had been lost: the table forgets, and the holder's next renewal is of an unknown lease.
    del server._table._leases["one"]

    eventually(lambda: "one" in server._table._leases)


def test_too_many_silent_holders_become_suspect_and_recover(new_registry, new_house):
    server = new_registry(ttl=SOON)
    there = new_house(server.url).open()
    seen = Watch(there)
    names = [f"i{number}" for number in range(6)]
    with RawClient(server.url) as holder:
        for name in names:
            assert holder.ask(protocol.Register(1, record(name, ttl=1.0))) == protocol.Ack(1)
        # All at once, so that all run out at once: the first one alone might simply go.
        holder.ask(protocol.Renew([[name, 0, 0] for name in [*names, "nobody"]]))

        view = seen.wait_now(lambda view: view.fresh and all(item.suspect for item in view.records.values()))
        assert knows(*names)(view)

        holder.ask(protocol.Renew([[name, 0, 0] for name in [*names, "nobody"]]))
        seen.wait(lambda view: view.fresh and not any(item.suspect for item in view.records.values()))


JUNK = [
    [b""],
    [b"\xc1" * 10],
    [b"GET / HTTP/1.1\r\n\r\n"],
    [b"\x91" * 5000],
    [b"a", b"b", b"c"],
    [b"x"] * 500,
    [protocol.encode(protocol.Heartbeat(1, "boot", False))],
    [protocol.encode(protocol.Ack(1))],
    [protocol.encode(protocol.Subscribe("default")), b"more"],
    [b"\x93\x02\x01\xc0"],
    [b"\xdd\xff\xff\xff\xff"],
    [b"\x93\x01" + b"\x91" * 1000 + b"\xc0\xc0"],
    [b"\x94\x01\x02\x01" + b"\x91" * 1000 + b"\xc0"],
    [b"\x94\x01\x05\x01\x91\x95\xa1n\xa1k\x01\x3c\x81\xa1v" + b"\x91" * 900 + b"\xc0"],
]


def test_junk_at_a_registry_does_no_harm_and_the_log_names_the_host_it_came_from(new_registry, new_house, caplog):
    server = new_registry(limits=RegistryLimits(max_faults_per_second=1000))
    house = new_house(server.url)
    here, there = house.open(), house.open()
    here.announce(record())
    seen = Watch(there)
    seen.wait_now(knows("one"))

    with RawClient(server.url) as stranger:
        for frames in JUNK * 20:
            stranger.socket.send_multipart(frames)
        assert isinstance(stranger.next(), protocol.Refused)
        eventually(lambda: server.junk >= len(JUNK) * 20)
    told = [one.getMessage() for one in caplog.records if "refused" in one.getMessage()]
    assert len(told) == 1
    assert re.fullmatch(r"refused 1 message\(s\) so far; the last from 127\.0\.0\.1: .+", told[0], re.DOTALL)

    with RawClient(server.url) as stranger:
        snapshot = stranger.ask(protocol.Subscribe("default"))
        assert [entry[0] for entry in snapshot.entries] == [record()]
    here.announce(record("two"))
    seen.wait_now(knows("one", "two"))


def test_a_frame_that_is_too_large_costs_its_sender_the_connection(new_registry):
    server = new_registry()
    with RawClient(server.url) as stranger:
        events = stranger.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        stranger.socket.send(b"x" * (protocol.MAX_REQUEST + 1))
        assert events.poll(AT_LAST * 1000), "the connection was not closed"
        events.close()

        assert isinstance(stranger.ask(protocol.Subscribe("default")), protocol.Snapshot)
    assert server.is_serving


def _ahead(seconds):
    return int((time.time() + seconds) * 1e6)


@pytest.mark.parametrize(
    "ask, words",
    [
        (lambda: protocol.Register(7, record(tags={"t": "x" * 300_000})), "max_record_size is 262144"),
        (lambda: protocol.Register(7, record(incarnation=_ahead(2 * 86_400))), "a day from now"),
        (lambda: protocol.Register(7, record(version=2**62)), "a day from now"),
        (lambda: protocol.Withdraw(7, "default", "one", 2**62, 0), "a day from now"),
        (lambda: protocol.PutNotes(7, [Note("default", "k", _ahead(120), 1e6, {"is": 1})]), "ahead of this registry's clock"),
    ],
)
def test_values_from_the_far_future_and_oversized_records_are_refused_with_a_reason(ask, words, new_registry):
    with RawClient(new_registry().url) as stranger:
        answer = stranger.ask(ask())

        assert (answer.request, words in answer.reason) == (7, True), answer
        assert not stranger.ask(protocol.Subscribe("default")).notes


def test_a_client_leaves_a_registry_that_sends_an_endless_snapshot(new_house, caplog):
    context = zmq.Context()
    try:
        with context.socket(zmq.ROUTER) as other:
            port = other.bind_to_random_port("tcp://127.0.0.1")
            here = new_house(f"tcp://127.0.0.1:{port}").open()
            peer, _ = other.recv_multipart()
            other.send_multipart([peer, protocol.encode(protocol.Snapshot(0, "boot", False, 0, 2**40, [], []))])
            eventually(lambda: "parts" in (here.view().registries[0]["error"] or ""))
    finally:
        context.destroy(linger=0)


def test_a_client_of_another_version_is_told_so(new_registry):
    with RawClient(new_registry().url) as stranger:
        answer = stranger.ask(b"\x93\x07\x01\xc0")

    assert answer == protocol.Refused(0, "a frame of protocol version 7; this is version 1")


def test_a_registry_with_too_many_subscribers_refuses_further_ones_with_a_reason(new_registry, new_house):
    house = new_house(new_registry(limits=RegistryLimits(max_clients=1)).url)
    assert house.open().wait_ready(AT_LAST)

    second = house.open()

    eventually(lambda: "subscribers" in (second.view().registries[0]["error"] or ""))


def test_a_full_registry_refuses_records_with_a_reason_and_serves_on(new_registry, new_house, caplog):
    house = new_house(new_registry(limits=RegistryLimits(max_records=1)).url)
    here, there = house.open(), house.open()
    seen = Watch(there)
    here.announce(record("one"))
    seen.wait_now(knows("one"))

    here.announce(record("two"))

    assert not here.flush(0.2)
    assert "this registry is full" in caplog.text
    here.withdraw("one")
    seen.wait_now(knows())


def test_a_client_that_left_is_no_longer_served(new_registry, new_house):
    server = new_registry()
    house = new_house(server.url)
    here = house.open()
    assert here.wait_ready(AT_LAST)
    house.open().stop()

    here.announce(record())

    assert here.flush(AT_LAST)
    eventually(lambda: len(server._feed.subscribers) == 1)


def test_a_port_that_is_taken_is_an_error_for_a_registry(new_registry):
    taken = RegistryServer(new_registry().url)
    taken.start()

    with pytest.raises(DirectoryError, match="cannot listen at .* in use"):
        taken.wait_bound(AT_LAST)
    assert taken.stop()
    assert not taken.is_serving


# --- the last good view on disk ---


def test_a_process_that_starts_with_every_registry_down_has_the_last_good_view(
    new_registry, new_house, tmp_path
):
    server = new_registry(ttl=SOON)
    house = new_house(server.url, cache_dir=tmp_path)
    here, there = house.open(), house.open()
    here.announce(record(endpoints={"rpc": "tcp://10.0.0.5:4000"}))
    Watch(there).wait_now(lambda view: view.fresh and knows("one")(view))
    there.stop()
    server.stop()

    later = house.open()

    view = Watch(later).wait(knows("one"))
    assert view.records["one"].record.endpoints == {"rpc": "tcp://10.0.0.5:4000"}
    assert not view.fresh
    assert not later.wait_ready(0.05)


def test_the_view_on_disk_is_of_one_url_and_namespace(new_registry, new_house, tmp_path):
    server = new_registry(ttl=SOON)
    house = new_house(server.url, cache_dir=tmp_path)
    here, there = house.open(), house.open()
    here.announce(record())
    Watch(there).wait_now(lambda view: view.fresh and knows("one")(view))
    there.stop()
    here.stop()
    server.stop()

    assert Watch(house.open(namespace="other")).wait(lambda view: True).records == {}
    assert Watch(house.open(url=server.url + ",tcp://127.0.0.1:1")).wait(lambda view: True).records == {}


def test_a_record_from_disk_that_a_warm_registry_does_not_list_is_removed(new_registry, new_house, tmp_path):
    server = new_registry(f"tcp://127.0.0.1:{free_port()}", ttl=SOON)
    house = new_house(server.url, cache_dir=tmp_path)
    there = house.open()
    with silent_holder(server.url, record(ttl=60.0)):
        Watch(there).wait_now(lambda view: view.fresh and knows("one")(view))
        there.stop()
        server.stop()
    new_registry(server.url, ttl=SOON)

    seen = Watch(house.open())

    seen.wait(knows("one"))
    assert seen.wait_now(knows()).fresh


@pytest.mark.parametrize("junk", [b"", b"\xc1", b"\x80", b"\x81\xa6format\x01", b"x" * 1000])
def test_a_junk_file_is_ignored_with_a_warning(junk, tmp_path, new_house, caplog):
    from discovery.client.cache import DiskCache

    url = "tcp://127.0.0.1:1"
    DiskCache(tmp_path, url, "default").path.write_bytes(junk)

    assert Watch(new_house(url, cache_dir=tmp_path).open()).wait(lambda view: True).records == {}
    assert "ignored the directory cache" in caplog.text


def test_a_folder_that_cannot_be_written_is_one_warning(new_registry, new_house, tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    house = new_house(new_registry(ttl=SOON).url, cache_dir=tmp_path / "file")
    here = house.open()
    seen = Watch(here)
    here.announce(record("one"))
    seen.wait_now(is_fresh)
    here.announce(record("two"))
    assert here.flush(AT_LAST)

    here.stop()

    assert caplog.text.count("cannot be written") == 1


def test_the_file_is_replaced_atomically(tmp_path):
    from discovery.client.cache import DiskCache

    cache = DiskCache(tmp_path, "tcp://127.0.0.1:1", None)
    cache.save([(record("one"), 1.0)])
    cache.save([(record("two"), 2.0)])

    ((held, age),) = cache.load()
    assert held.unpacked() == record("two")
    assert 2.0 <= age < 60.0
    assert len(list(tmp_path.iterdir())) == 1


# --- notes ---


def notes(**values):
    """A claim: a view has exactly these notes."""
    return lambda view: {note.key: note.value and note.value["is"] for note in view.notes} == values


def held_by(server):
    """The notes that a registry has."""
    with RawClient(server.url) as client:
        return client.ask(protocol.Subscribe("default")).notes


def is_down(view):
    return view.registries[0]["state"] != "up"


def test_clients_send_their_notes_to_a_registry_that_restarts_empty(new_registry, new_house):
    first = new_registry()
    house = new_house(first.url)
    writer, knower = house.open(), house.open()
    writer.put("kept", {"is": 1})
    writer.put("gone", {"is": 1})
    writer.delete("gone")
    Watch(knower).wait_now(notes(kept=1, gone=None))
    writer.stop()

    first.stop()
    eventually(lambda: is_down(knower.view()))
    second = new_registry(first.url)

    eventually(lambda: sorted(note.key for note in held_by(second)) == ["gone", "kept"])
    late = house.open()
    assert late.wait_ready(AT_LAST)
    assert notes(kept=1, gone=None)(late.view())


def test_a_registry_that_comes_back_gets_the_notes_written_in_between(new_registry, new_house):
    one, two = new_registry(), new_registry()
    house = new_house(one.url, two.url)
    here = house.open()
    Watch(here).wait(is_fresh)
    two.stop()
    eventually(lambda: here.view().registries[1]["state"] != "up")

    here.put("kept", {"is": 1})

    again = new_registry(two.url)
    eventually(lambda: [note.key for note in held_by(again)] == ["kept"])


def test_a_client_of_two_registries_copies_notes_from_one_to_the_other(new_registry, new_house):
    one, two = new_registry(), new_registry()
    writer = new_house(one.url).open()
    writer.put("kept", {"is": 1})
    eventually(lambda: [note.key for note in held_by(one)] == ["kept"])

    new_house(one.url, two.url).open()

    eventually(lambda: [note.key for note in held_by(two)] == ["kept"])


def test_a_client_that_was_away_does_not_restore_a_deleted_note(new_registry, new_house):
    first = new_registry()
    absent = new_house(first.url).open()
    absent.put("gone", {"is": 1})
    eventually(lambda: held_by(first))
    first.stop()
    eventually(lambda: is_down(absent.view()))
    new_house(first.url).open().delete("gone")

    second = new_registry(first.url)

    Watch(absent).wait_now(notes(gone=None))
    assert [note.value for note in held_by(second)] == [None]


@pytest.mark.parametrize("kind", ["tcp", "local"])
def test_notes_on_disk_outlive_all_registries_and_processes(new_house, tmp_path, kind):
    house = new_house("tcp://127.0.0.1:1" if kind == "tcp" else f"local:{free_port()}", cache_dir=tmp_path)
    writer = house.open()
    writer.put("kept", {"is": 1})
    writer.announce(record())
    Watch(writer).wait(notes(kept=1))
    writer.stop()

    later = house.open()

    assert Watch(later).wait(notes(kept=1)).records == {}


def test_notes_that_another_process_wrote_to_disk_are_kept(new_house, tmp_path):
    house = new_house("tcp://127.0.0.1:1", cache_dir=tmp_path)
    here, there = house.open(), house.open()
    for name, directory in (("here", here), ("there", there)):
        directory.put(name, {"is": 1})
        Watch(directory).wait(notes(**{name: 1}))

    here.stop()
    there.stop()

    Watch(house.open()).wait(notes(here=1, there=1))


def test_junk_in_the_file_of_notes_is_ignored_with_a_warning(tmp_path, new_house, caplog):
    from discovery.client.cache import DiskCache

    url = "tcp://127.0.0.1:1"
    DiskCache(tmp_path, url, "default").notes_path.write_bytes(b"\x81\xa6format\x01")

    assert Watch(new_house(url, cache_dir=tmp_path).open()).wait(lambda view: True).notes == ()
    assert "ignored the notes" in caplog.text
