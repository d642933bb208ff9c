"""A directory in Consul: features that only Consul has, with the stand-in for its API. tests/contracts has the others."""

import http.server
import itertools
import json
import socket
import subprocess
import sys
import textwrap
import threading
from contextlib import closing, contextmanager

import pytest

from discovery import Capabilities, DirectoryConfigurationError, open_directory
from discovery.backends.consul.agent import ConsulAgent
from discovery.client.engine_session import Gone
from discovery.exceptions import EngineError, EngineRefusal
from tests.discovery.engine_servers import ConsulServer, certificate
from tests.discovery.engines import error_of, new_prefix, records_of, seed_of, session_of, withdraws_after_a_cut
from tests.discovery.stage import AT_LAST, Watch, eventually, knows, record
from tests.ports import free_port

#: What is offered to a user whose server was not reached.
MEND = "is it running, and are the URL's host and port right?"


@pytest.fixture
def url(consul):
    """A prefix of its own."""
    return f"{consul.url}/{new_prefix()}"


@contextmanager
def watched(session):
    """Each change that the session tells, as it comes, for the thread that asks for it."""
    with closing(session):
        yield (change for changes in session.watch() for change in changes).__next__


# --- URLs and what is missing ---


def test_its_capabilities_name_the_servers():
    can = open_directory("consul://10.0.0.5,[fd00::5]:8501/shop").capabilities

    servers = (("10.0.0.5", 8500), ("fd00::5", 8501))
    assert can == Capabilities(locks=True, takes_keys=True, carries_revocations=True, servers=servers)


@pytest.mark.parametrize("token", ["secret", ":secret", "a:secret"])
def test_the_token_is_not_shown(token):
    assert open_directory(f"consul://{token}@10.0.0.5:8500/shop").describe().startswith("directory consul://10.0.0.5:8500/shop ")
    for rest in ("h,redis://x", "h:port", "h/x?y=1", "h/a//x"):
        with pytest.raises(DirectoryConfigurationError) as refusal:
            open_directory(f"consul://{token}@{rest}")
        assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("consul://", r"no server; consul://\[TOKEN@\]HOST:PORT.*is needed"),
        ("consul://host/shop?tlss=yes", "option 'tlss'; tls, ca, cert, key are known"),
        ("consul://host/shop?ca=/no/such/file", "cannot be read.*in PEM"),
    ],
)
def test_an_invalid_url_is_reported(url, words):
    with pytest.raises(DirectoryConfigurationError, match=words):
        open_directory(url)


def test_without_its_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "h11", None)

    with pytest.raises(DirectoryConfigurationError, match=r"consul://h/shop', and h11.*install zmqservices\[consul\]` brings"):
        open_directory("consul://secret@h/shop")


# --- what a user is told ---


def test_a_server_that_is_absent_is_named(new_house, caplog):
    port = free_port()
    directory = new_house(f"consul://secret@127.0.0.1:{port}").open()

    assert error_of(directory) == f"127.0.0.1:{port} cannot be reached: Connection refused; {MEND}"
    assert caplog.text.count(f"cannot use directory consul://127.0.0.1:{port}/zmqservices: ") == 1
    assert "secret" not in caplog.text + directory.describe()


@contextmanager
def elsewhere(status, body, **headers):
    """A server that is not an agent of Consul."""

    class Elsewhere(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"consul://127.0.0.1:{server.server_port}/shop"
        server.shutdown()
        thread.join()


STRANGE = "does not answer as Consul does"
FOUND = b'[{"Key": "shop/cluster", "ModifyIndex": 1, "Value": "eA=="}]'


@pytest.mark.parametrize(
    ("status", "body", "headers", "words"),
    [
        (404, b"no page", {}, rf"{STRANGE} \(HTTP status 404\)"),
        (200, b"<html>", {}, rf"{STRANGE} \(HTTP status 200\)"),
        (200, b"[7]", {}, STRANGE),
        (200, FOUND, {"X_Consul_Index": "-3"}, STRANGE),
        (200, FOUND, {}, STRANGE),
        (500, b"No cluster leader\n", {}, r"answered: No cluster leader \(HTTP status 500\)"),
        (400, b"Client sent an HTTP request to an HTTPS server.\n", {}, r"wants TLS; consul://.*\?tls=yes, or ca="),
        (429, b"Your IP is issuing too many concurrent connections", {}, "answered: Your IP is issuing too many"),
    ],
)
def test_answers_that_are_not_consuls_are_reported(status, body, headers, words):
    with elsewhere(status, body, **headers) as url, closing(session_of(url, ttl=60.0)) as session:
        with pytest.raises(EngineError, match=f"127.0.0.1:.* {words}"):
            session.open(frozenset())


def test_another_program_at_the_port_is_reported():
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def talk():
            with listener.accept()[0] as connection:
                connection.recv(100)
                connection.sendall(b"SSH-2.0\r\n\r\n")
                connection.recv(100)

        thread = threading.Thread(target=talk)
        thread.start()
        with closing(session_of(f"consul://127.0.0.1:{listener.getsockname()[1]}", ttl=60.0)) as session:
            with pytest.raises(EngineError, match="does not speak HTTP: .*; is it TLS that it wants"):
                session.open(None)
        thread.join()


def test_one_agent_that_answers_is_enough(consul, new_house):
    house = new_house(f"consul://127.0.0.1:{free_port()},{consul.host}/{new_prefix()}")

    assert house.open().wait_ready(AT_LAST)
    assert house.open().wait_ready(AT_LAST)


def test_tokens_and_tls_on_both_sides(tmp_path, stack, new_house, caplog):
    cert, key = certificate(tmp_path)
    options = ("--token", "right/@:=shop/", "--cert", str(cert), "--key", str(key))
    server = stack.enter_context(closing(ConsulServer(tmp_path, *options, shortest_ttl=10.0)))
    tls = f"?ca={cert}&cert={cert}&key={key}"
    house = new_house(f"consul://right%2F%40%3A@{server.host}/shop{tls}")
    seen = Watch(house.open())
    here = house.open()
    # Servers whose shortest TTL of a session is longer than ours.
    here.announce(record(tags={"text": "x" * 100_000}))
    here.put("group", {"is": 1})
    seen.wait(lambda view: knows("one")(view) and view.notes)
    here.stop()
    seen.wait_now(knows())

    wrong = error_of(new_house(f"consul://wrong@{server.host}/shop{tls}").open())
    assert "does not know the token of the URL (ACL not found); its SecretID is needed, and its policy needs key_prefix" in wrong
    nobody = error_of(new_house(f"consul://{server.host}/shop{tls}").open())
    assert "forbids that to a client without a token (Permission denied: anonymous token lacks permission 'key:read'" in nobody
    assert "; consul://TOKEN@HOST:PORT/PREFIX is needed, and" in nobody
    other = error_of(new_house(f"consul://right%2F%40%3A@{server.host}/other{tls}").open())
    assert "forbids that to the token of the URL (Permission denied: " in other
    assert 'its policy needs key_prefix "other/" {policy = "write"} and session_prefix "" {policy = "write"}' in other

    assert "agreed on no TLS: self-signed certificate; see ca=" in error_of(new_house(f"consul://{server.host}/shop?tls=yes").open())
    plain = error_of(new_house(f"consul://{server.host}/shop").open())
    assert plain.endswith(("closed the connection", "is it TLS that it wants?"))
    assert "right/@:" not in caplog.text


# --- sessions ---


def test_a_process_writes_its_records_again_after_its_session_has_ended(consul, new_house, url):
    house = new_house(url)
    here, seen = house.open(services=[]), Watch(house.open())
    here.announce(record("one", subscriptions=[{"source": "orders"}]))
    here.announce(record("two"))
    seen.wait(knows("one", "two"))
    key = f"/v1/kv/{url.split('/', 3)[3]}/default/records/maths/one"
    before = json.loads(consul.call("GET", key))[0]["Session"]

    consul.call("PUT", f"/v1/session/destroy/{before}")

    def made_anew():
        try:
            return json.loads(consul.call("GET", key))[0]["Session"] != before
        except OSError:
            return False

    eventually(made_anew)
    seen.wait_now(knows("one", "two"))


def test_a_record_of_a_session_that_is_not_over_yet_is_taken_over(url):
    with closing(session_of(url, ttl=60.0)) as former, closing(session_of(url, ttl=60.0)) as later:
        former.open(None)
        former.put_record(record())
        assert records_of(later.open(None)) == [record()]

        later.put_record(record(version=1))
        later.put_record(record(version=2))

        assert former._agent.get(former._space.keys_of(record())[0]).session == later._own.id


@pytest.mark.parametrize("is_withdrawn", [False, True], ids=["changed", "withdrawn"])
def test_a_late_write_of_an_attempt_that_was_given_up_does_not_stay(url, stack, is_withdrawn):
    seed = seed_of(url, ttl=60.0)
    late = record(version=1, subscriptions=[{"source": "orders"}])
    newest = record(version=2)

    def next_session():
        session = stack.enter_context(closing(seed.session("default")))
        session.open(frozenset())
        return session

    def bring_up_to_date(session):
        return session.delete_record("default", "one") if is_withdrawn else session.put_record(newest)

    def write_late(*request):
        if len(sessions) == 1:
            sessions.append(next_session())
            sessions[1].put_record(late)
            bring_up_to_date(sessions[1])
        return write(*request)

    sessions = [next_session()]
    sessions[0].put_record(record())
    write, sessions[0]._agent.put = sessions[0]._agent.put, write_late
    sessions[0].put_record(late)

    assert sessions[1].keep() == ["one"]
    bring_up_to_date(sessions[1])
    for interest in (None, frozenset({"subscribers:orders"})):
        found = records_of(stack.enter_context(closing(session_of(url))).open(interest))
        assert found == ([newest] if interest is None and not is_withdrawn else [])
    assert sessions[1].keep() == []


def test_a_session_that_ended_for_an_attempt_that_was_given_up_is_not_the_present_one(consul, url, stack):
    seed = seed_of(url, ttl=60.0)
    former = stack.enter_context(closing(seed.session("default")))
    former.open(None)
    former.put_record(record())
    session, request = former._own.id, former._agent.request

    def renew_late(*args):
        consul.call("PUT", f"/v1/session/destroy/{session}")
        present = stack.enter_context(closing(seed.session("default")))
        present.open(None)
        with pytest.raises(EngineError, match="has ended the session"):
            present.keep()
        present.put_record(record("two"))
        return request(*args)

    former._agent.request = renew_late
    with pytest.raises(EngineError, match="has ended the session"):
        former.keep()

    assert former._own.id not in (None, session)
    assert former._own.own.keys() == {"two"}, "the present attempt works with the same object"


def test_an_unanswered_withdrawal_is_repeated(consul, url):
    withdraws_after_a_cut(url, consul.port)


def test_a_process_waits_for_the_lock_delay_of_a_session_that_just_ended(consul, url):
    with closing(session_of(url, ttl=60.0)) as former, closing(session_of(url, ttl=60.0)) as later:
        former.open(None)
        former.put_record(record())
        later.open(None)

        consul.call("PUT", f"/v1/session/destroy/{former._own.id}")
        later.put_record(record(version=1))

        with pytest.raises(EngineError, match="has ended the session of this process; a new one begins"):
            former.put_record(record("two"))
        with pytest.raises(EngineRefusal, match="held by another session all the time"):
            later._agent.put = lambda *_: False
            later.put_record(record("three"))


def test_an_agent_that_lost_its_data_removes_no_instance(tmp_path, stack, new_house):
    server = stack.enter_context(closing(ConsulServer(tmp_path)))
    house = new_house(server.url)
    here, there = house.open(), house.open()
    seen = Watch(there)
    here.announce(record())
    here.put("group", {"is": 1})
    seen.wait(lambda view: knows("one")(view) and view.notes)
    start = len(seen.views)

    server.kill()
    eventually(lambda: not there.view().fresh)
    server.start()

    Watch(house.open()).wait(lambda view: knows("one")(view) and view.notes)
    eventually(lambda: there.view().registries[0]["state"] == "up")
    assert all(knows("one")(view) for view in seen.views[start:])


def test_a_deleted_record_that_its_process_does_not_watch_is_announced_again(consul, new_house, url, monkeypatch):
    monkeypatch.setattr("discovery.backends.consul.session.LOOK_EVERY", 0.2)
    house = new_house(url)
    here, seen = house.open(services=[]), Watch(house.open())
    here.announce(record())
    seen.wait_now(knows("one"))

    consul.call("DELETE", f"/v1/kv/{url.split('/', 3)[3]}/default/records/maths/one")

    seen.wait_now(knows())
    seen.wait_now(knows("one"))


def test_in_a_patched_process_sessions_live_while_its_hub_is_busy(new_house, url):
    program = f"""
        from gevent import monkey
        monkey.patch_all()
        import time
        from discovery import Record, open_directory
        directory = open_directory({url!r}, ttl=0.5)
        directory.start()
        directory.announce(Record(service="maths", instance="one", ttl=0.5))
        assert directory.flush(10) and directory.wait_ready(10)
        print("there", flush=True)
        end = time.monotonic() + 1.3
        while time.monotonic() < end:
            pass
        print("done", flush=True)
        directory.stop(3.0)
    """
    seen = Watch(new_house(url).open())
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "there\n"
        seen.wait(knows("one"))
        start = len(seen.views)
        assert process.stdout.readline() == "done\n"
        assert all(knows("one")(view) for view in seen.views[start:])
        assert process.wait(AT_LAST) == 0
    seen.wait_now(knows())


# --- blocking queries ---


def test_names_may_be_of_any_characters(new_house, url):
    house = new_house(url, namespace="..")
    here, seen = house.open(), Watch(new_house(url, namespace="..").open(services=[".."]))
    here.announce(record("a/b é%2F", "..", namespace="..", subscriptions=[{"source": "."}]))
    here.put("a/./b?c#d", {"is": 1})

    seen.wait(lambda view: knows("a/b é%2F")(view) and [note.key for note in view.notes] == ["a/./b?c#d"])
    here.withdraw("a/b é%2F")
    seen.wait_now(knows())


def test_traffic_to_a_client_grows_with_its_interest_not_with_the_directory(consul, url):
    def served():
        return json.loads(consul.call("GET", "/stand-in/served"))

    with closing(session_of(url, ttl=60.0)) as other, closing(session_of(url, ttl=60.0)) as session:
        other.open(frozenset())
        other.put_record(record("one"))
        for number in range(60):
            other.put_record(record(str(number), f"service-{number % 30}"))
        before = served()
        assert len(records_of(session.open(frozenset({"service:maths"})))) == 1
        # The cluster's number, the notes, the service.
        assert [after - former for after, former in zip(served(), before, strict=True)] == [3, 2]

        with watched(session) as change:
            other.put_record(record("one", version=1))
            assert change().version == 1
            before = served()
            for number in range(60):
                other.put_record(record(str(number), f"service-{number % 30}", version=1))
            other.put_record(record("one", version=2))
            assert change().version == 2
            answers, keys = (after - former for after, former in zip(served(), before, strict=True))
            # A prefix under which there has never been a key, that of notes here, may be answered for any change in the store.
            assert keys == 1

            assert {found.instance for found in session.extend(frozenset({"service:service-7"}))} == {"7", "37"}
            other.put_record(record("7", "service-7", version=2))
            assert change().instance == "7"


def test_an_index_that_goes_back_restarts_the_query(consul, url):
    with closing(session_of(url, ttl=60.0)) as other, closing(session_of(url, ttl=60.0)) as session:
        other.open(frozenset())
        for number in range(9):
            other.put_record(record(version=number))
        session.open(frozenset({"service:maths"}))
        with watched(session) as change:
            other.put_record(record(version=10))
            assert change().version == 10

            consul.call("PUT", "/stand-in/restore")
            other.delete_record("default", "one")
            other.put_record(record("two"))

            found = [change()]
            while Gone("one") not in found or record("two") not in found:
                found.append(change())
            other.put_record(record("two", version=1))
            while change() != record("two", version=1):
                pass


def test_a_client_of_many_services_asks_for_all_records_with_two_queries(url, monkeypatch):
    monkeypatch.setattr("discovery.backends.consul.queries.MAX_QUERIES", 3)
    with closing(session_of(url, ttl=60.0)) as other, closing(session_of(url, ttl=60.0)) as session:
        other.open(frozenset())
        other.put_record(record("a", "s0"))
        session.open(frozenset({"service:s0", "service:s1"}))
        with watched(session) as change:
            other.put_record(record("b", "s1"))
            assert change().instance == "b"
            other.put_record(record("c", "s3", subscriptions=[{"source": "orders"}]))
            other.put_record(record("d", "s9"))

            found = session.extend(frozenset({"service:s2", "service:s3", "subscribers:orders"}))
            assert [one.instance for one in found] == ["c"]
            assert len(session._queries) == 3, "notes, records, subscribers"

            other.delete_record("default", "a")
            assert change() == Gone("a")
            other.delete_record("default", "c")
            assert change() == Gone("c")
            assert [one.instance for one in session.extend(frozenset({"service:s9"}))] == ["d"]
            assert len(session._queries) == 3
            other.delete_record("default", "d")
            assert change() == Gone("d")


def test_a_record_that_moves_between_sources_of_interest_stays_listed(url):
    with closing(session_of(url, ttl=60.0)) as other, closing(session_of(url, ttl=60.0)) as session:
        other.open(frozenset())
        sources = [f"s{number}" for number in range(4)]
        moving = [record("one", "mails", subscriptions=[{"source": source}]) for source in sources * 5]
        other.put_record(moving[0])
        session.open(frozenset(f"subscribers:{source}" for source in sources))
        with watched(session) as change:
            # One move after the other: Consul has no answer about several keys as of one moment.
            for number, one in enumerate(moving[1:], 1):
                other.put_record(one.replace(version=number))
                while change().version < number:
                    pass
            other.delete_record("default", "one")
            while (last := change()) != Gone("one"):
                assert last.instance == "one"


def test_a_query_that_is_never_answered_ends_the_session(consul, url, monkeypatch):
    with closing(session_of(url, ttl=60.0)) as session:
        session.open(frozenset())
        monkeypatch.setattr("discovery.backends.consul.queries.WAIT", 0.2)
        session._patience.seconds = 0.2
        consul.freeze()
        try:
            with pytest.raises(EngineError, match="did not answer a blocking query within"):
                list(session.watch())
        finally:
            consul.thaw()


def test_a_record_that_moves_twice_during_a_read_stays_listed(url, monkeypatch):
    ask = ConsulAgent.request
    with closing(session_of(url, ttl=60.0)) as other, closing(session_of(url, ttl=60.0)) as session:
        other.open(frozenset())
        moves = itertools.count(1)

        def move(source):
            other.put_record(record("one", "mails", subscriptions=[{"source": source}]).replace(version=next(moves)))

        def moves_meanwhile(agent, *words):
            answer = ask(agent, *words)
            if agent is not other._agent and "s0/one" not in words[1]:
                move("s1")  # The watch has just looked there.
            return answer

        move("s0")
        session.open(frozenset(f"subscribers:s{number}" for number in range(4)))
        monkeypatch.setattr(ConsulAgent, "request", moves_meanwhile)
        with watched(session) as change:
            move("s3")
            found = [change()]
            last = record("one", "mails", version=99, subscriptions=[{"source": "s2"}])
            other.put_record(last)
            while found[-1] != last:
                found.append(change())

    assert Gone("one") not in found
