"""A directory in etcd: features that only etcd has, with real servers. tests/contracts has the others."""

import base64
import http.server
import json
import queue
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import closing, contextmanager

import pytest

from discovery.client.engine_session import Gone, Vacant
from discovery.client.locks import EngineLock
from discovery.exceptions import EngineError, EngineRefusal
from discovery.model import Note
from tests.discovery.engine_servers import EtcdServer, certificate
from tests.discovery.engines import error_of, instances_of, new_prefix, records_of, seed_of, session_of, withdraws_after_a_cut
from tests.discovery.stage import AT_LAST, Watch, eventually, knows, record, registries
from tests.ports import free_port


@pytest.fixture
def url(etcd):
    """A prefix of its own."""
    return f"{etcd.url}/{new_prefix()}"


def code(text):
    return base64.b64encode(text.encode()).decode()


# --- what a user is told ---


def test_another_program_at_the_port_is_reported(new_house):
    class Elsewhere(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.send_error(404)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        threading.Thread(target=server.serve_forever).start()
        directory = new_house(f"etcd://127.0.0.1:{server.server_port}").open()

        assert "does not speak HTTP/2, as etcd's port for clients does" in error_of(directory)
        directory.stop()
        server.shutdown()


def test_one_member_that_answers_is_enough(etcd, new_house):
    house = new_house(f"etcd://127.0.0.1:{free_port()},{etcd.host}/{new_prefix()}")

    assert house.open().wait_ready(AT_LAST)
    assert house.open().wait_ready(AT_LAST)


@pytest.fixture(scope="module")
def with_users(tmp_path_factory):
    """A server that lets `me` read and write below /shop/, but for the notes from "not" on, and `guest` read there."""
    with closing(EtcdServer(tmp_path_factory.mktemp("users"))) as server:
        server.call("/v3/auth/user/add", '{"name": "root", "password": "top"}')
        server.call("/v3/auth/user/grant", '{"user": "root", "role": "root"}')
        for user, password, ranges in (
            ("me", "right/@:", [("READ", "/shop/", "/shop0"), ("READWRITE", "/shop/", "/shop/default/notes/not")]
             + [("READWRITE", "/shop/default/notes0", "/shop0")]),
            ("guest", "come", [("READ", "/shop/", "/shop0")]),
        ):  # fmt: skip
            server.call("/v3/auth/user/add", json.dumps({"name": user, "password": password}))
            server.call("/v3/auth/role/add", json.dumps({"name": user}))
            for kind, start, end in ranges:
                span = {"permType": kind, "key": code(start), "range_end": code(end)}
                server.call("/v3/auth/role/grant", json.dumps({"name": user, "perm": span}))
            server.call("/v3/auth/user/grant", json.dumps({"user": user, "role": user}))
        server.call("/v3/auth/enable", "{}")
        yield server


def test_what_etcd_forbids_is_refused_and_the_session_goes_on(with_users, new_house, caplog):
    house = new_house(f"etcd://me:right%2F%40%3A@{with_users.host}/shop")
    writer, seen = house.open(start=False), Watch(house.open())
    for key in ("not-me", "group"):
        writer.put(key, {"is": 1})
    writer.announce(record("here"))
    writer.start()

    view = seen.wait(lambda view: view.notes and knows("here")(view))
    assert [note.key for note in view.notes] == ["group"]
    eventually(lambda: "refused a record or note" in caplog.text)
    assert "does not let 'me' read and write under '/shop/default/'; grant a role" in caplog.text
    assert writer.flush(AT_LAST) and "failed" not in caplog.text

    note = Note("default", "other", 1, value={})
    with closing(session_of(f"etcd://guest:come@{with_users.host}/shop")) as session:
        assert instances_of(session.open(None)) == ["here"]
        lock = EngineLock("default", "a", lambda _: None)
        for forbidden in (
            lambda: session.put_record(record("guest")), lambda: session.delete_record("default", "here"),
            lambda: session.put_note(note), lambda: session.take_lock(lock, 60.0), lambda: session.release_lock(lock),
        ):  # fmt: skip
            with pytest.raises(EngineRefusal, match="does not let 'guest' read and write under '/shop/default/'"):
                forbidden()
        session.keep()


def test_users_and_passwords(with_users, new_house):
    server = with_users
    seen = Watch(new_house(f"etcd://me:right%2F%40%3A@{server.host}/shop").open())
    writer = new_house(f"etcd://me:right%2F%40%3A@{server.host}/shop").open()
    writer.announce(record())
    seen.wait(knows("one"))

    wrong = new_house(f"etcd://me:wrong@{server.host}/shop").open()
    assert "refused user 'me' or the password" in error_of(wrong)
    nobody = new_house(f"etcd://{server.host}/shop").open()
    assert "wants a user name and a password: etcd://USER:PASSWORD@" in error_of(nobody)
    elsewhere = new_house(f"etcd://me:right%2F%40%3A@{server.host}/other").open()
    assert "does not let 'me' read and write under '/other/default/'" in error_of(elsewhere)


def test_tls_on_both_sides(tmp_path, stack, new_house):
    cert, key = certificate(tmp_path)
    tls = ("--cert-file", cert, "--key-file", key, "--client-cert-auth", "--trusted-ca-file", cert)
    server = stack.enter_context(closing(EtcdServer(tmp_path, tls=map(str, tls))))

    house = new_house(f"etcd://{server.host}/shop?ca={cert}&cert={cert}&key={key}")
    seen = Watch(house.open())
    house.open().announce(record())
    seen.wait(knows("one"))

    assert "agreed on no TLS: " in error_of(new_house(f"etcd://{server.host}/shop?tls=yes").open())
    assert "is it TLS" in error_of(new_house(f"etcd://{server.host}/shop").open())


# --- what may happen to a server, and to what it holds ---


def test_a_killed_server_that_restarts_still_has_all_instances(tmp_path, stack, new_house):
    server = stack.enter_context(closing(EtcdServer(tmp_path)))
    house = new_house(server.url)
    here, there = house.open(), house.open()
    seen = Watch(there)
    here.announce(record(ttl=1.0))
    here.put("group", {"is": 1})
    seen.wait(lambda view: knows("one")(view) and view.notes)

    server.kill()
    eventually(lambda: not there.view().fresh)
    assert knows("one")(there.view()), "the last view stays"
    here.announce(record("two", ttl=1.0))
    server.start()

    seen.wait_now(lambda view: view.fresh and knows("one", "two")(view))
    after = len(seen.views)
    # The leases are renewed: longer than they last nobody leaves.
    eventually(lambda: here.view().fresh)
    assert not came(seen, after, 2.0, lambda view: not knows("one", "two")(view))
    assert Watch(house.open()).wait(lambda view: view.notes)


def came(watch, start, seconds, claim):
    """Whether a view of which the claim holds came within so many seconds."""
    try:
        watch.wait(lambda view: view in watch.views[start:] and claim(view), seconds)
    except AssertionError:
        return False
    return True


def test_a_server_that_lost_its_data_removes_no_instance(tmp_path, stack, new_house):
    server = stack.enter_context(closing(EtcdServer(tmp_path)))
    house = new_house(server.url)
    here, there = house.open(), house.open()
    seen = Watch(there)
    here.announce(record())
    seen.wait(knows("one"))
    start = len(seen.views)

    server.kill()
    server.forget()
    server.start()

    Watch(house.open()).wait(knows("one"))
    eventually(lambda: there.view().registries[0]["state"] == "up")
    assert all(knows("one")(view) for view in seen.views[start:])


def test_a_frozen_server_is_given_up(etcd, new_house, url, monkeypatch):
    monkeypatch.setattr("discovery.backends.etcd.member.TIMEOUT", 1.0)
    directory = new_house(url).open()
    assert directory.wait_ready(AT_LAST)

    etcd.freeze()
    try:
        eventually(lambda: not directory.view().fresh)
        assert "did not answer within" in error_of(directory)
    finally:
        etcd.thaw()

    eventually(lambda: directory.view().fresh)


def test_a_later_session_does_not_write_again_what_etcd_still_has(etcd, url):
    def changed_at(name):
        key = code(key_of_maths(url)[: -len("one")] + name)
        return int(json.loads(etcd.call("/v3/kv/range", json.dumps({"key": key})))["kvs"][0]["mod_revision"])

    seed = seed_of(url, ttl=60.0)
    with closing(seed.session("default")) as session:
        session.open(frozenset())
        for name in ("one", "two"):
            session.put_record(record(name, ttl=60.0))
    before = changed_at("one"), changed_at("two")

    with closing(seed.session("default")) as session:
        session.open(frozenset())
        session.put_record(record("one", ttl=60.0))
        session.put_record(record("two", ttl=60.0, version=1))
        assert changed_at("one") == before[0] and changed_at("two") > before[1]

        # A record that is announced again in the same session was deleted by another process.
        session.put_record(record("one", ttl=60.0))
        assert changed_at("one") > before[0]


def test_a_record_that_was_deleted_before_a_later_session_announces_it_is_lost(etcd, url):
    seed = seed_of(url, ttl=60.0)
    with closing(seed.session("default")) as session:
        session.open(frozenset())
        session.put_record(record(ttl=60.0))

    with closing(seed.session("default")) as session:
        session.open(None)
        etcd.call("/v3/kv/deleterange", json.dumps({"key": code(key_of_maths(url))}))
        session.put_record(record(ttl=60.0))
        assert session.keep() == ["one"]

        session.put_record(record(ttl=60.0))
        assert made_at(etcd, url) and session.keep() == []


@pytest.mark.parametrize("is_withdrawn", [False, True], ids=["changed", "withdrawn"])
def test_a_late_write_of_a_session_that_was_given_up_does_not_stay(url, stack, is_withdrawn):
    seed = seed_of(url, ttl=60.0)
    late = record(ttl=60.0, version=1, subscriptions=[{"source": "orders"}])
    newest = record(ttl=60.0, version=2)

    def next_session():
        session = stack.enter_context(closing(seed.session("default")))
        session.open(frozenset())
        return session

    def bring_up_to_date(session):
        return session.delete_record("default", "one") if is_withdrawn else session.put_record(newest)

    def write_late(operations):
        sessions.append(next_session())
        sessions[1].put_record(late)
        bring_up_to_date(sessions[1])
        write(operations)

    sessions = [next_session()]
    sessions[0].put_record(record(ttl=60.0))
    write, sessions[0]._do = sessions[0]._do, write_late
    sessions[0].put_record(late)

    assert sessions[1].keep() == ["one"]
    bring_up_to_date(sessions[1])
    for interest in (None, frozenset({"subscribers:orders"})):
        found = records_of(stack.enter_context(closing(session_of(url))).open(interest))
        assert found == ([newest] if interest is None and not is_withdrawn else [])


def test_a_record_whose_withdrawal_is_cut_off_is_withdrawn_by_the_next_session(etcd, url):
    withdraws_after_a_cut(url, int(etcd.host.rpartition(":")[2]))


def made_at(etcd, url):
    """The revision of etcd at which the record of maths was made that is there now; None where there is none."""
    found = json.loads(etcd.call("/v3/kv/range", json.dumps({"key": code(key_of_maths(url))})))
    return int(found["kvs"][0]["create_revision"]) if "kvs" in found else None


def key_of_maths(url):
    return "/" + url.split("/", 3)[3] + "/default/records/maths/one"


def test_a_deleted_record_is_written_again(etcd, new_house, url):
    house = new_house(url)
    seen = Watch(house.open())
    house.open().announce(record())
    seen.wait(knows("one"))
    former = made_at(etcd, url)

    assert json.loads(etcd.call("/v3/kv/deleterange", json.dumps({"key": code(key_of_maths(url))})))["deleted"] == "1"

    # A busy reader may hear of both at once, and then has no view without the record.
    eventually(lambda: (made_at(etcd, url) or former) > former)
    seen.wait_now(knows("one"))


def test_a_lost_lease_is_granted_again(etcd, new_house, url):
    house = new_house(url)
    seen = Watch(house.open())
    house.open().announce(record(ttl=2.0))
    seen.wait(knows("one"))
    former = made_at(etcd, url)

    leases = json.loads(etcd.call("/v3/lease/leases", "{}"))["leases"]
    for lease in leases:
        etcd.call("/v3/lease/revoke", json.dumps(lease))

    eventually(lambda: (made_at(etcd, url) or former) > former)
    seen.wait_now(knows("one"))


@contextmanager
def watched(session):
    """All changes that the session tells, as they come; its end is the last of them."""
    changes = queue.SimpleQueue()

    def watch():
        try:
            for some in session.watch():
                for change in some:
                    changes.put(change)
        except EngineError as exc:
            changes.put(exc)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield lambda: changes.get(timeout=AT_LAST)
    finally:
        session.close()
        thread.join()


def compact(etcd):
    revision = json.loads(etcd.call("/v3/kv/range", '{"key": "AA=="}'))["header"]["revision"]
    etcd.call("/v3/kv/compaction", json.dumps({"revision": revision}))


def test_only_the_range_whose_revision_was_compacted_is_read_again(etcd, url, caplog):
    caplog.set_level("INFO", "discovery.backends.etcd")
    with closing(session_of(url)) as session, closing(session_of(url)) as other:
        other.open(frozenset())
        other.put_record(record("gone"))
        session.open(frozenset({"service:maths"}))
        for number in range(3):
            other.put_record(record(version=number))
        other.delete_record("default", "gone")
        compact(etcd)
        session.extend(frozenset({"service:words"}))

        with watched(session) as change:
            found = [change(), change()]
            assert sorted(found, key=repr) == [Gone("gone"), record(version=2)]

            other.put_record(record(version=3))
            other.put_record(record("two", "words"))
            # Each range has its own watch, and nothing orders two watches.
            found = [change(), change()]
            assert sorted(found, key=repr) == sorted([record(version=3), record("two", "words")], key=repr)
    assert caplog.text.count("/records/maths/' meanwhile; it is read anew") == 1
    assert "/records/words/" not in caplog.text


def test_a_lock_is_read_again_if_the_revision_of_its_watch_was_compacted(etcd, url):
    with closing(session_of(url)) as session, closing(session_of(url)) as other:
        session.open(frozenset())
        other.open(frozenset())
        held, wanted = EngineLock("default", "a", lambda _: None), EngineLock("default", "a", lambda _: None)
        assert other.take_lock(held, 60.0) and session.take_lock(wanted, 60.0) is None
        other.put_record(record())
        other.put_record(record("two"))
        compact(etcd)

        with watched(session) as change:
            assert change() == Vacant()
            other.release_lock(held)
            assert change() == Vacant()
            assert session.take_lock(wanted, 60.0)


def test_a_record_that_moves_between_sources_of_interest_stays_listed(etcd, url):
    with closing(session_of(url)) as session, closing(session_of(url)) as other:
        other.open(frozenset())
        sources = [f"s{number}" for number in range(5)]
        moving = [record("one", "mails", subscriptions=[{"source": source}]) for source in sources * 6]
        other.put_record(moving[0])
        assert records_of(session.open(frozenset({f"subscribers:{source}" for source in sources}))) == [moving[0]]

        with watched(session) as change:
            for number, one in enumerate(moving[1:], 1):
                other.put_record(one.replace(version=number))
            # A watch that begins with changes of long ago tells them range by range, so their order is not that of the versions.
            while change().version < len(moving) - 1:
                pass
            other.delete_record("default", "one")
            while (last := change()) != Gone("one"):
                assert last.instance == "one"


def counted(etcd, name, *labels):
    """A number that etcd keeps of itself."""
    lines = etcd.call("/metrics", None).decode().splitlines()
    (line,) = [line for line in lines if line.startswith(name) and all(label in line for label in labels)]
    return float(line.rpartition(" ")[2])


def test_traffic_to_a_client_grows_with_its_interest_not_with_the_directory(etcd, url):
    def now():
        sent = counted(etcd, "grpc_server_msg_sent_total", 'grpc_method="Watch"', "bidi_stream")
        return sent, counted(etcd, "etcd_debugging_mvcc_watcher_total")

    with closing(session_of(url)) as session, closing(session_of(url)) as other:
        other.open(frozenset())
        session.open(frozenset({"service:maths"}))
        before = now()
        with watched(session) as change:
            other.put_record(record())
            assert change() == record()
            for number in range(100):
                other.put_record(record(str(number), f"service-{number % 50}"))
            other.put_record(record(version=1))
            assert change().version == 1
            # One answer for each range that is made: notes, and this service. One for each of its two changes.
            assert [after - former for after, former in zip(now(), before, strict=True)] == [4.0, 2.0]

            # It grows while it runs, on the same connection.
            assert [found.instance for found in session.extend(frozenset({"service:service-7"}))] == ["57", "7"]
            other.put_record(record("7", "service-7", version=1))
            assert change().instance == "7"
            assert [after - former for after, former in zip(now(), before, strict=True)] == [6.0, 3.0]


def test_more_ranges_than_the_server_takes_at_once_are_watched(etcd, url):
    names = [f"{'a-long-name-' * 8}{number}" for number in range(900)]
    with closing(session_of(url)) as session, closing(session_of(url)) as other:
        other.open(frozenset())
        session.open(frozenset(f"service:{name}" for name in names))
        with watched(session) as change:
            other.put_record(record("last", names[-1]))
            assert change().instance == "last"
            other.put_record(record("first", names[0]))
            assert change().instance == "first"


def test_junk_under_the_prefix_is_ignored(etcd, new_house, url, caplog):
    root = "/" + url.split("/", 3)[3]
    records = [f"default/records/{end}" for end in ("maths/junk", "maths", "a/b/c")]
    for key in ("x", "default/notes/k", "default/else/a/b", *records):
        etcd.call("/v3/kv/put", json.dumps({"key": code(f"{root}/{key}"), "value": code("junk")}))
    house = new_house(url)
    seen = Watch(house.open())

    house.open().announce(record("fine/é", "a b"))

    seen.wait_now(knows("fine/é"))
    assert "passed over key" in caplog.text


def test_a_directory_larger_than_a_page_is_read_whole(new_house, url):
    writer = session_of(url)
    writer.open(None)
    for number in range(7):
        writer.put_record(record(str(number), ttl=60.0))

    with closing(session_of(url)) as reader:
        from discovery.backends.etcd import reading

        page, reading.PAGE = reading.PAGE, 3
        try:
            assert instances_of(reader.open(None)) == list("0123456")
        finally:
            reading.PAGE = page
            writer.close()


def test_a_deleted_record_that_its_process_does_not_watch_is_announced_again(etcd, new_house, url, monkeypatch):
    from discovery.backends.etcd import session as backend

    monkeypatch.setattr(backend, "LOOK_EVERY", 0.2)
    house = new_house(url)
    here, seen = house.open(services=[]), Watch(house.open())
    here.announce(record("one", ttl=1.0))
    seen.wait_now(knows("one"))

    key = "/" + url.split("/", 3)[3] + "/default/records/maths/one"
    etcd.call("/v3/kv/deleterange", json.dumps({"key": code(key)}))

    seen.wait_now(knows())
    seen.wait_now(knows("one"))


def test_leases_are_renewed_while_many_records_are_written(new_house, url, monkeypatch):
    from discovery.backends.etcd.session import EtcdSession

    put, kept = EtcdSession.put_record, []
    keep = EtcdSession.keep
    monkeypatch.setattr(EtcdSession, "keep", lambda self: kept.append(len(self._leases.own)) or keep(self))
    monkeypatch.setattr(EtcdSession, "put_record", lambda self, one: (time.sleep(0.1), put(self, one))[1])
    here = new_house(url).open(services=[])

    for number in range(20):
        here.announce(record(f"i{number}", ttl=1.0))

    assert here.flush(AT_LAST)
    assert any(0 < count < 20 for count in kept)


def test_keys_of_sources_come_and_go_with_the_subscriptions(etcd, new_house, url):
    house = new_house(url)
    here, seen = house.open(), Watch(house.open(services=[]))
    handler = record("one", "mails", subscriptions=[{"source": source} for source in ("orders", "a/b")])
    root = "/" + url.split("/", 3)[3] + "/default/subscribers/"

    def keys():
        answer = json.loads(etcd.call("/v3/kv/range", json.dumps({"key": code(root), "range_end": code(root[:-1] + "0")})))
        return [base64.b64decode(item["key"]).decode().removeprefix(root) for item in answer.get("kvs", [])]

    here.announce(handler)
    eventually(lambda: keys() == ["a%2Fb/one", "orders/one"])
    here.announce(handler.replace(subscriptions=[{"source": "orders"}]))
    eventually(lambda: keys() == ["orders/one"])
    here.withdraw("one")

    eventually(lambda: keys() == [])
    assert not any(view.records for view in seen.views)


def test_the_loss_of_one_member_has_no_effect(tmp_path, stack, new_house):
    ports = {name: free_port() for name in ("one", "two", "three")}
    servers = [stack.enter_context(closing(EtcdServer(tmp_path, name, ports))) for name in ports]
    house = new_house("etcd://" + ",".join(server.host for server in servers))
    here, there = house.open(), house.open()
    seen = Watch(there)
    here.announce(record())
    seen.wait(knows("one"))
    start = len(seen.views)

    leader = eventually(lambda: next((server for server in servers if server.is_leader()), None))
    leader.kill()

    here.announce(record("two"))
    seen.wait_now(lambda view: view.fresh and knows("one", "two")(view))
    assert all("one" in view.records for view in seen.views[start:])


def test_in_a_patched_process_leases_live_while_its_hub_is_busy(etcd, new_house, url):
    program = f"""
        from gevent import monkey
        monkey.patch_all()
        import time, threading
        from discovery import Record, open_directory
        directory = open_directory({url!r}, ttl=1.0)
        directory.start()
        directory.announce(Record(service="maths", instance="one", ttl=2.0))
        assert directory.flush(10) and directory.wait_ready(10)
        print("there", flush=True)
        end = time.monotonic() + 3
        while time.monotonic() < end:
            pass
        assert "one" in directory.view().records
        print("done", flush=True)
        directory.stop(3.0)
    """
    seen = Watch(new_house(url).open())
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout.readline() == "there\n"
        seen.wait(knows("one"))
        start = len(seen.views)
        assert process.stdout.readline() == "done\n"
        assert all(knows("one")(view) for view in seen.views[start:])
        assert process.wait(AT_LAST) == 0
    seen.wait_now(knows())


def test_a_cluster_moves_from_registries_to_etcd_without_a_stop(new_house, url):
    with registries(ttl=1.0) as (server,):
        before, both, after = server.url, f"{server.url},{url}", url
        old, moving, new = (new_house(one) for one in (before, both, after))
        first = old.open()
        first.announce(record("first"))
        first.put("group", {"is": 1})
        seen = Watch(moving.open())
        seen.wait(lambda view: knows("first")(view) and view.notes)
        start = len(seen.views)

        # One after the other is started again with both, each found by all others throughout.
        second = moving.open()
        second.announce(record("second"))
        Watch(first).wait_now(knows("first", "second"))
        seen.wait_now(knows("first", "second"))
        first.stop()
        seen.wait_now(knows("second"))

        # Then with etcd alone; what the registry was told of outlives it.
        third = new.open()
        third.announce(record("third"))
        watch = Watch(third)
        watch.wait_now(lambda view: knows("second", "third")(view) and [note.value for note in view.notes] == [{"is": 1}])
        seen.wait_now(knows("second", "third"))

    eventually(lambda: [one["state"] for one in second.view().registries] == ["waiting", "up"])
    assert knows("second", "third")(second.view())
    assert second.view().fresh
    assert all(view.records for view in seen.views[start:])
