"""A directory in ZooKeeper: features that only ZooKeeper has, with real servers. tests/contracts has the others."""

import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import closing, contextmanager

import pytest

from discovery import protocol
from discovery.backends.zookeeper.results import NativeFlag, NativeResult, NoAnswerError
from discovery.exceptions import EngineError
from discovery.model import Note
from tests.discovery.engine_servers import ZooKeeperServer, certificate
from tests.discovery.engines import error_of, new_prefix, session_of, withdraws_after_a_cut
from tests.discovery.forwarder import Forwarder
from tests.discovery.stage import AT_LAST, Watch, eventually, knows, record, registries
from tests.ports import free_port


@pytest.fixture
def url(zookeeper):
    """A prefix of its own."""
    return f"{zookeeper.url}/{new_prefix()}"


@pytest.fixture
def raw(stack):
    """A plain client of ZooKeeper."""
    from kazoo.client import KazooClient

    def connect(server, **options):
        client = KazooClient(server.host, **options)
        client.start()
        stack.callback(client.close)
        stack.callback(client.stop)
        return client

    return connect


def path_of(url):
    return "/" + url.split("/", 3)[3]


# --- what a user is told ---


def test_a_host_without_an_address_is_named(new_house):
    assert "nowhere.invalid:2181 cannot be reached: " in error_of(new_house("zookeeper://nowhere.invalid").open())


def test_another_program_at_the_port_is_reported(new_house):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up():
            with listener.accept()[0] as connection:
                connection.recv(100)

        threading.Thread(target=hang_up).start()
        directory = new_house(f"zookeeper://127.0.0.1:{listener.getsockname()[1]}").open()

        assert r"closed it; has it a quorum, does it want TLS (?tls=yes), and is it ZooKeeper at all?" in error_of(directory)


def test_a_server_that_accepts_and_stays_silent_is_given_up_soon(new_house):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # The session would last for longer than anybody waits.
        session = session_of(f"zookeeper://127.0.0.1:{listener.getsockname()[1]}", ttl=600.0)
        began = time.monotonic()

        with pytest.raises(EngineError, match="did not answer within 3 s"):
            session.open(None)
        session.close()

    assert time.monotonic() - began < 30


def test_one_member_that_answers_is_enough(zookeeper, new_house):
    house = new_house(f"zookeeper://127.0.0.1:{free_port()},{zookeeper.host}/{new_prefix()}")

    assert house.open().wait_ready(AT_LAST)
    assert house.open().wait_ready(AT_LAST)


def test_users_and_passwords(zookeeper, new_house, raw):
    place = f"{zookeeper.host}/users/{new_prefix()}/shop"
    me = f"zookeeper://me:right%2F%40%3A@{place}"
    seen = Watch(new_house(me).open())
    writer = new_house(me).open()
    writer.announce(record())
    writer.put("group", {"is": 1})
    seen.wait(lambda view: knows("one")(view) and view.notes)

    wrong = new_house(f"zookeeper://me:wrong@{place}").open()
    assert "does not let user 'me' with this password" in error_of(wrong)
    assert "the password is needed with which it was made, or another ACL" in error_of(wrong)
    nobody = new_house(f"zookeeper://{place}").open()
    assert "without a password" in error_of(nobody)
    assert "zookeeper://USER:PASSWORD@HOST:PORT/PREFIX is needed" in error_of(nobody)


def test_readable_nodes_can_be_read_by_others_but_not_written(zookeeper, new_house, caplog):
    place = f"{zookeeper.host}/readable{new_prefix()}"
    writer = new_house(f"zookeeper://me:right@{place}?access=readable").open()
    writer.announce(record())
    assert writer.flush(AT_LAST)

    reader = new_house(f"zookeeper://{place}").open()

    Watch(reader).wait(knows("one"))
    reader.announce(record("two"))
    eventually(lambda: "does not let a client without a password" in caplog.text)
    assert reader.view().fresh


def test_a_prefix_that_may_not_be_made_is_told(zookeeper, new_house, raw):
    from kazoo.security import READ_ACL_UNSAFE

    place = f"/fixed{new_prefix()}"
    raw(zookeeper).create(place, acl=READ_ACL_UNSAFE)

    directory = new_house(f"{zookeeper.url}{place}/shop").open()

    assert f"does not let a client without a password make '{place}/shop'" in error_of(directory)


# --- TLS ---


def test_tls_on_both_sides(zookeeper, new_house, tmp_path):
    place, cert, key = new_prefix(), zookeeper.cert, zookeeper.key
    url = f"zookeeper://{zookeeper.secure_host}/tls/{place}"
    # Long sessions: one that runs out on a busy machine makes all its records anew, again and again.
    house = new_house(f"{url}?ca={cert}&cert={cert}&key={key}", ttl=30.0)
    here, there = house.open(), house.open()
    seen = Watch(there)
    # More than one record of TLS, and than one read.
    for number in range(40):
        here.announce(record(str(number), tags={"text": "x" * 8_000}))
    seen.wait(lambda view: len(view.records) == 40)
    newcomer = house.open()
    assert newcomer.wait_ready(AT_LAST)
    assert len(newcomer.view().records) == 40
    here.stop()
    seen.wait_now(knows())

    stranger, strangers_key = certificate(tmp_path)
    for options, words in [
        ("tls=yes", "agreed on no TLS: self-signed certificate; see ca=, cert= and key= in the URL"),
        (f"ca={cert}", "closed it; has it a quorum, and is it ZooKeeper at all?|bad certificate"),
        (f"ca={cert}&cert={stranger}&key={strangers_key}", "closed it; has it a quorum, and is it ZooKeeper|certificate unknown"),
    ]:
        assert re.search(words, error_of(new_house(f"{url}?{options}").open()))
    assert "does it want TLS (?tls=yes)" in error_of(new_house(url).open())
    with_tls_at_the_other_port = new_house(f"{zookeeper.url}/tls/{place}?ca={cert}").open()
    assert f"{zookeeper.host} agreed on no TLS: " in error_of(with_tls_at_the_other_port)


def test_a_certificate_is_for_the_host_of_the_url(zookeeper, new_house):
    url = f"zookeeper://localhost:{zookeeper.secure_host.rpartition(':')[2]}/tls"

    error = error_of(new_house(f"{url}?ca={zookeeper.cert}&cert={zookeeper.cert}&key={zookeeper.key}").open())

    assert re.search("localhost:.* agreed on no TLS: .*Hostname mismatch", error)


def test_a_server_that_never_answers_a_handshake_is_named(new_house, monkeypatch):
    monkeypatch.setattr("discovery.backends.zookeeper.connection.TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        directory = new_house(f"zookeeper://127.0.0.1:{listener.getsockname()[1]}?tls=yes").open()

        assert re.search("agreed on no TLS: nothing came within 0.3 s|did not answer within 0.3 s", error_of(directory))


# --- interest ---


def test_requests_of_a_client_grow_with_its_interest_not_with_the_directory(zookeeper, url):
    with closing(session_of(url, ttl=60.0)) as writer:
        writer.open(None)
        wanted = frozenset({"service:maths"})

        def cost(interest):
            before = [zookeeper.counted(word) for word in ("packets_received", "watch_count")]
            with closing(session_of(url, ttl=60.0)) as reader:
                found = len(reader.open(interest).records)
                watches = zookeeper.counted("watch_count") - before[1]
            # Closed before it is counted; nobody else asks this server anything now but the writer, whose pings are few.
            return found, zookeeper.counted("packets_received") - before[0], watches

        writer.put_record(record("one", ttl=60.0))
        small = cost(wanted)
        for number in range(60):
            writer.put_record(record(str(number), f"service-{number % 30}", ttl=60.0))

        same, everything = cost(wanted), cost(None)

    assert (small[0], same[0], everything[0]) == (1, 1, 61)
    assert same[2] == small[2] <= 3, "one watch for the notes, one for the service"
    assert everything[2] >= 30
    assert abs(same[1] - small[1]) <= 10 and everything[1] > same[1] + 60


# --- sessions ---


def session_that_holds(instance, url, client):
    """The id of the session that holds an instance's node."""
    folder = f"{path_of(url)}/default/records/maths"
    (name,) = [name for name in client.get_children(folder) if name.startswith(f"{instance};")]
    return client.exists(f"{folder}/{name}").ephemeralOwner


def the_session(directory):
    """Its id and its password, as only the process knows them."""
    (seed,) = directory._client_state._seed_connections.by_seed
    (connection,) = seed.connections.values()
    attempt = connection._attempt
    return None if attempt is None else attempt._session._resumable.client_id


def test_after_a_session_has_expired_all_records_are_made_again(zookeeper, new_house, url, raw):
    house = new_house(url, ttl=5.0)
    here, there = house.open(), house.open()
    seen = Watch(there)
    here.announce(record())
    here.announce(record("two"))
    seen.wait(knows("one", "two"))
    before = the_session(here)

    # A client with the same id and password takes the session over, and closes it: that is how it expires at once.
    raw(zookeeper, client_id=before).stop()

    eventually(lambda: the_session(here) not in (None, before))
    assert here.flush(AT_LAST)
    seen.wait_now(knows("one", "two"))
    assert session_that_holds("one", url, raw(zookeeper)) == the_session(here)[0]


def test_a_lost_connection_does_not_end_the_session(zookeeper, new_house, url, stack):
    forwarder = stack.enter_context(closing(Forwarder(zookeeper.port)))
    here = new_house(f"zookeeper://127.0.0.1:{forwarder.port}{path_of(url)}", ttl=5.0).open()
    there = new_house(url).open()
    seen = Watch(there)
    here.announce(record())
    seen.wait(knows("one"))
    start = len(seen.views)
    before = the_session(here)

    forwarder.cut()
    eventually(lambda: not here.view().fresh)
    assert knows("one")(here.view())
    eventually(lambda: here.view().fresh)

    assert the_session(here) == before
    here.announce(record("two"))
    seen.wait_now(knows("one", "two"))
    assert all("one" in view.records for view in seen.views[start:])


def test_a_process_that_was_paused_longer_than_its_session_comes_back(zookeeper, new_house, url):
    seen = Watch(new_house(url).open())
    with process_of(url, "time.sleep(60)") as process:
        seen.wait(knows("one"))

        process.send_signal(signal.SIGSTOP)
        seen.wait_now(knows())
        process.send_signal(signal.SIGCONT)

        seen.wait_now(knows("one"))
        process.kill()


@contextmanager
def process_of(url, then, head=""):
    program = f"""
        {head}
        import time
        from discovery import Record, open_directory
        directory = open_directory({url!r}, ttl=1.0)
        directory.start()
        directory.announce(Record(service="maths", instance="one", ttl=1.0))
        assert directory.flush(10) and directory.wait_ready(10)
        print("there", flush=True)
    """
    source = textwrap.dedent(program) + textwrap.dedent(then)
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "there\n"
            yield process
        finally:
            process.kill()


def test_in_a_patched_process_sessions_live_while_its_hub_is_busy_with_tls_too(zookeeper, new_house, url):
    cert = zookeeper.cert
    secure = f"zookeeper://{zookeeper.secure_host}{path_of(url)}?ca={cert}&cert={cert}&key={zookeeper.key}"
    then = """
        end = time.monotonic() + 3
        while time.monotonic() < end:
            pass
        assert "one" in directory.view().records
        print("done", flush=True)
        directory.stop(3.0)
    """
    seen = Watch(new_house(url).open())
    with process_of(secure, then, "from gevent import monkey; monkey.patch_all()") as process:
        seen.wait(knows("one"))
        start = len(seen.views)
        assert process.stdout.readline() == "done\n"
        assert all(knows("one")(view) for view in seen.views[start:])
        assert process.wait(AT_LAST) == 0
    seen.wait_now(knows())


# --- what may happen to a server, and to what it holds ---


@pytest.mark.timeout(120)
def test_a_server_that_freezes_dies_or_loses_its_data_removes_no_instance(zookeeper, url, new_house, monkeypatch):
    server = zookeeper
    monkeypatch.setattr("discovery.backends.zookeeper.connection.TIMEOUT", 1.0)
    # For longer than the server stands still here: one that does so for longer than a session lasts ends that session.
    house = new_house(url, ttl=30.0)
    here, there = house.open(), house.open()
    seen = Watch(there)
    here.announce(record())
    here.put("group", {"is": 1})
    seen.wait(lambda view: knows("one")(view) and view.notes)
    start = len(seen.views)

    server.freeze()
    eventually(lambda: not there.view().fresh)
    assert "did not answer" in error_of(there)
    server.thaw()
    eventually(lambda: there.view().fresh and here.view().fresh)
    seen.wait_now(lambda view: knows("one")(view) and view.fresh)

    server.kill()
    eventually(lambda: not there.view().fresh)
    assert knows("one")(there.view()), "the last view stays"
    here.announce(record("two"))
    server.start()

    seen.wait_now(lambda view: view.fresh and knows("one", "two")(view))
    assert all("one" in view.records for view in seen.views[start:])

    # And once more, with everything that it had on its disk lost.
    server.kill()
    eventually(lambda: not there.view().fresh and not here.view().fresh)
    server.forget()
    server.start()
    newcomer = Watch(house.open())
    newcomer.wait(lambda view: knows("one", "two")(view) and view.notes)
    eventually(lambda: there.view().registries[0]["state"] == "up", 30)
    assert all("one" in view.records for view in seen.views[start:])


def test_a_deleted_prefix_is_created_again(zookeeper, new_house, url, raw):
    house = new_house(url)
    here = house.open()
    seen = Watch(house.open())
    here.announce(record())
    seen.wait(knows("one"))

    raw(zookeeper).delete(path_of(url), recursive=True)

    Watch(house.open()).wait(knows("one"))
    eventually(lambda: here.view().registries[0]["state"] == "up")
    here.announce(record("two"))
    seen.wait_now(knows("one", "two"))


def test_a_deleted_record_is_written_again(zookeeper, new_house, url, raw):
    house = new_house(url)
    seen = Watch(house.open())
    house.open().announce(record("a/b é", ".."))
    seen.wait(knows("a/b é"))
    client = raw(zookeeper)
    folder = f"{path_of(url)}/default/records/%2E%2E"
    (name,) = client.get_children(folder)
    before = client.exists(f"{folder}/{name}").czxid

    client.delete(f"{folder}/{name}")

    eventually(lambda: (stat := client.exists(f"{folder}/{name}")) and stat.czxid > before)
    seen.wait_now(knows("a/b é"))


def test_junk_under_the_prefix_is_ignored(zookeeper, new_house, url, raw, caplog):
    client, root = raw(zookeeper), path_of(url)
    for path in ("x", "default/else/a/b", "default/notes/k", "default/records/maths/junk", "default/records/maths/a;0.0"):
        client.create(f"{root}/{path}", b"junk", makepath=True)
    stranger = record("stranger", "words")
    client.create(f"{root}/default/records/maths/stranger;0.0", protocol.pack(stranger.to_dict()))
    house = new_house(url)
    seen = Watch(house.open())

    house.open().announce(record())

    seen.wait_now(knows("one"))
    assert "passed over node" in caplog.text


def test_one_of_two_notes_written_at_once_is_left(zookeeper, url, raw):
    older, newer = Note("default", "k", 1, 1e6, {"is": 1}), Note("default", "k", 2_000_000_000_000_000, 1e6, {"is": 2})
    with closing(session_of(url)) as first, closing(session_of(url)) as second:
        first.open(None)
        second.open(None)

        # Neither has seen the other's; both watch.
        watches = [threading.Thread(target=drained, args=(one,), daemon=True) for one in (first, second)]
        second.put_note(newer)
        first.put_note(older)
        for watch in watches:
            watch.start()

        client = raw(zookeeper)
        folder = f"{path_of(url)}/default/notes"
        eventually(lambda: [name.split(".")[0] for name in client.get_children(folder)] == [f"k;{newer.stamp}"])


def drained(session):
    try:
        for changes in session.watch():
            list(changes)
    except Exception:
        pass


def test_a_directory_larger_than_a_pipeline_is_read_whole(url, monkeypatch):
    monkeypatch.setattr("discovery.backends.zookeeper.reading.PIPELINE", 3)
    with closing(session_of(url)) as writer, closing(session_of(url, None)) as reader:
        writer.open(None)
        for number in range(7):
            writer.put_record(record(str(number), ttl=60.0))

        assert sorted(found.instance for found in reader.open(None).records) == list("0123456")


def test_an_unanswered_withdrawal_is_repeated(zookeeper, url):
    withdraws_after_a_cut(url, zookeeper.port)


def test_a_record_that_is_withdrawn_while_the_connection_is_lost_does_not_stay(zookeeper, new_house, url, stack):
    forwarder = stack.enter_context(closing(Forwarder(zookeeper.port)))
    # It does not read its own service, so it must remember what it made there.
    here = new_house(f"zookeeper://127.0.0.1:{forwarder.port}{path_of(url)}", ttl=20.0).open(services=[])
    seen = Watch(new_house(url).open())
    orders = [{"source": "orders"}]
    here.announce(record(subscriptions=orders))
    here.announce(record("two", subscriptions=orders))
    seen.wait(knows("one", "two"))

    forwarder.cut()
    here.withdraw("one")
    here.announce(record("two", version=1))

    seen.wait_now(lambda view: knows("two")(view) and view.records["two"].record.version == 1)
    eventually(lambda: here.view().fresh)
    assert here.flush(AT_LAST)
    assert knows()(new_house(url).open(services=[]).view())
    subscribers = new_house(url).open(services=[])
    subscribers.add_interest(sources=["orders"])
    assert subscribers.wait_ready(AT_LAST)
    assert knows()(subscribers.view())


def test_an_interest_gets_services_that_are_created_later_and_no_others(zookeeper, new_house, url):
    there = new_house(url).open(services=["later"])
    assert there.wait_ready(AT_LAST)
    seen = Watch(there)
    here = new_house(url).open()

    here.announce(record("other", "other"))
    here.announce(record("one", "later"))
    here.announce(record("late subscriber", "else", subscriptions=[{"source": "orders"}]))

    seen.wait_now(knows("one"))
    there.add_interest(sources=["orders"])
    seen.wait_now(knows("one", "late subscriber"))
    here.withdraw("one")
    here.announce(record("late subscriber", "else", version=1))
    seen.wait_now(knows())
    assert all("other" not in view.records for view in seen.views)


def test_a_directory_of_all_namespaces_sees_namespaces_created_later(new_house, url):
    seen = Watch(new_house(url, namespace=None).open())
    seen.wait(lambda view: view.fresh)

    new_house(url, namespace="later").open().announce(record(namespace="later"))

    seen.wait_now(knows("one"))


@pytest.mark.timeout(120)
def test_the_loss_of_the_leader_has_no_effect(tmp_path, stack, new_house):
    ports = {number: (free_port(), free_port()) for number in (1, 2, 3)}
    servers = [stack.enter_context(closing(ZooKeeperServer(tmp_path, number, ports))) for number in ports]
    eventually(lambda: all(server.serves() for server in servers), 60)
    house = new_house("zookeeper://" + ",".join(server.host for server in servers), ttl=30.0)
    here, there = house.open(), house.open()
    seen = Watch(there)
    here.announce(record())
    here.put("group", {"is": 1})
    seen.wait(lambda view: knows("one")(view) and view.notes)
    start = len(seen.views)

    leader = eventually(lambda: next((server for server in servers if server.is_leader()), None))
    leader.kill()

    here.announce(record("two"))
    seen.wait_now(lambda view: view.fresh and knows("one", "two")(view))
    assert all("one" in view.records for view in seen.views[start:])


def test_a_cluster_moves_from_registries_to_zookeeper_without_a_stop(new_house, url):
    with registries(ttl=1.0) as (server,):
        old, moving, new = (new_house(one) for one in (server.url, f"{server.url},{url}", url))
        first, second, third = old.open(), moving.open(), new.open()
        first.announce(record("first"))
        first.put("group", {"is": 1})
        second.announce(record("second"))
        third.announce(record("third"))

        Watch(second).wait_now(knows("first", "second", "third"))
        Watch(third).wait_now(lambda view: knows("second", "third")(view) and view.notes)
        Watch(first).wait_now(knows("first", "second"))


# --- the parts that kazoo is given ---


def test_a_result_calls_back_once_however_early_it_comes():
    early, late, called = NativeResult(), NativeResult(), []
    early.set(1)
    early.rawlink(called.append)
    late.rawlink(called.append)
    late.set_exception(KeyError("no"))

    assert called == [early, late]
    assert early.successful() and late.ready() and not late.successful()
    assert early.get() == 1
    with pytest.raises(KeyError):
        late.get()
    with pytest.raises(NoAnswerError):
        NativeResult().get(timeout=0.01)


def test_a_flag_may_be_cleared():
    flag = NativeFlag()
    flag.set()
    assert flag.wait(0)

    flag.clear()

    assert not flag.is_set() and not flag.wait(0.01)
