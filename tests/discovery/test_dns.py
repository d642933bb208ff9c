"""Directories of dns: and dns+srv:, with real DNS servers and real nodes at the addresses that they name."""

import subprocess
import sys
import textwrap
import threading
import time
from contextlib import closing

import dns.rcode
import dns.resolver
import pytest

from discovery import Capabilities, DirectoryConfigurationError, open_directory
from discovery.backends.dns import seed as backend
from discovery.backends.dns.lookup import Lookup, NoAddress, NoAnswer
from discovery.backends.dns.seed import DnsSeed
from discovery.backends.dns.url import DnsUrl
from discovery.client import socket_connection
from tests.discovery.dns_server import DnsServer
from tests.discovery.engine_servers import needed
from tests.discovery.nodes import AnsweringNode
from tests.discovery.stage import AT_LAST, Watch, eventually, knows, record, registries
from tests.ports import free_port
from zmqservices.wire.messages import Bye, Result


@pytest.fixture
def server(stack):
    return stack.enter_context(closing(DnsServer()))


@pytest.fixture
def node(stack):
    """Makes a node with one instance of `maths`, named like it."""
    return lambda name, **options: stack.enter_context(AnsweringNode(name, own(name), **options))


def own(name, **fields):
    """A record of the node of this name. It has no address, since a node behind DNS does not know how others reach it."""
    return record(name, node=name, endpoints={"rpc": "tcp://0.0.0.0:1", "events": "tcp://10.9.9.9:2"}, ttl=1.0, **fields)


def lookup(server, name, port=4000):
    return Lookup(DnsUrl("dns://test", name, port, (("127.0.0.1", server.port),)))


# --- what DNS says ---


def test_all_addresses_of_both_kinds_are_found(server):
    server.set("shop.test", "A", "10.0.0.5", "10.0.0.6", ttl=20)
    server.set("shop.test", "AAAA", "fd00::5", ttl=10)

    assert lookup(server, "shop.test").addresses() == (
        ["tcp://10.0.0.5:4000", "tcp://10.0.0.6:4000", "tcp://[fd00::5]:4000"],
        10.0,
    )


def test_srv_records_name_hosts_and_ports(server):
    server.set("_calls._tcp.shop.test", "SRV", "0 0 4000 a.shop.test.", "0 0 4001 b.shop.test.", "0 0 4002 b.shop.test.", ttl=20)
    server.set("a.shop.test", "A", "10.0.0.5", ttl=20)
    server.set("b.shop.test", "A", "10.0.0.6", ttl=5)

    found = lookup(server, "_calls._tcp.shop.test", port=0).addresses()

    assert found == (["tcp://10.0.0.5:4000", "tcp://10.0.0.6:4001", "tcp://10.0.0.6:4002"], 5.0)


def test_an_alias_is_followed(server):
    server.set("alias.test", "CNAME", "shop.test.")
    server.set("shop.test", "A", "10.0.0.5")

    assert lookup(server, "alias.test").addresses()[0] == ["tcp://10.0.0.5:4000"]


@pytest.mark.parametrize(("ttl", "valid"), [(0, 1.0), (5, 5.0), (3600, 30.0)])
def test_an_answer_is_valid_for_its_ttl_within_bounds(server, ttl, valid):
    server.set("shop.test", "A", "10.0.0.5", ttl=ttl)

    assert lookup(server, "shop.test").addresses()[1] == valid


def test_an_answer_that_is_too_long_for_udp_comes_over_tcp(server):
    server.set("shop.test", "A", *(f"10.0.1.{number}" for number in range(200)))
    server.is_truncating = True

    assert len(lookup(server, "shop.test").addresses()[0]) == 200
    assert ("shop.test", "A", "tcp") in server.questions


@pytest.mark.parametrize("name", ["nobody.test", "empty.test"])
def test_a_name_without_addresses_is_distinguished_from_a_failure(server, name):
    server.set("empty.test", "A")

    with pytest.raises(NoAddress, match=f"DNS has no address of {name}; the name may be wrong, or no node"):
        lookup(server, name).addresses()


def test_srv_records_that_lead_nowhere(server):
    server.set("_a._tcp.test", "SRV", "0 0 1 .")
    server.set("_b._tcp.test", "SRV", "0 0 1 nobody.test.")

    for name, text in [("_a", "name no host"), ("_b", "no address of nobody"), ("_c", "no SRV record of _c._tcp.test")]:
        with pytest.raises(NoAddress, match=text):
            lookup(server, f"{name}._tcp.test", port=0).addresses()


def test_a_server_that_fails_has_not_answered(server):
    server.rcode = dns.rcode.SERVFAIL

    with pytest.raises(NoAnswer, match="A records of shop.test could not be looked up: .*SERVFAIL"):
        lookup(server, "shop.test").addresses()


@pytest.mark.parametrize("name, port", [("shop.test", 4000), ("_calls._tcp.shop.test", 0)])
def test_known_addresses_are_kept_if_there_is_no_answer(server, monkeypatch, name, port):
    server.set("_calls._tcp.shop.test", "SRV", "0 0 4000 shop.test.", "0 0 4000 other.test.")
    server.set("shop.test", "A", "10.0.0.5")
    server.set("shop.test", "AAAA", "fd00::5")
    server.set("other.test", "A", "10.0.0.6")
    asked = lookup(server, name, port=port)
    asked.addresses()
    ask = asked._ask

    def answers_half(name, kind, search):
        if (name.rstrip("."), kind) == ("shop.test", "A"):
            raise NoAnswer("too busy")
        return ask(name, kind, search)

    monkeypatch.setattr(asked, "_ask", answers_half)

    with pytest.raises(NoAnswer, match="too busy"):
        asked.addresses()


def test_an_absent_server_has_not_answered():
    url = DnsUrl("dns://test", "shop.test", 4000, (("127.0.0.1", free_port()),))

    with pytest.raises(NoAnswer, match=r"could not be looked up: .*[Cc]onnection refused; a server of DNS.*\?server=IP:PORT"):
        Lookup(url).addresses()


def test_the_wait_for_a_silent_server_is_bounded(server, monkeypatch):
    monkeypatch.setattr("discovery.backends.dns.lookup.LOOK_UP_TIMEOUT", 0.5)
    server.is_silent = True

    with pytest.raises(NoAnswer, match="could not be looked up: .*timed out"):
        lookup(server, "shop.test").addresses()


def test_the_second_server_is_asked_if_the_first_is_absent(server):
    server.set("shop.test", "A", "10.0.0.5")
    servers = (("127.0.0.1", free_port()), ("127.0.0.1", server.port))

    assert Lookup(DnsUrl("dns://test", "shop.test", 4000, servers)).addresses()[0] == ["tcp://10.0.0.5:4000"]


def test_the_servers_and_the_search_list_are_those_of_resolv_conf(server, monkeypatch, tmp_path):
    (tmp_path / "resolv.conf").write_text("search nowhere.test default.svc.test\nnameserver 127.0.0.1\n")
    server.set("shop.default.svc.test", "A", "10.0.0.5")
    real = dns.resolver.Resolver

    def configured(configure):
        resolver = real(filename=str(tmp_path / "resolv.conf"), configure=configure)
        resolver.port = server.port
        return resolver

    monkeypatch.setattr(dns.resolver, "Resolver", configured)

    assert Lookup(DnsUrl("dns://test", "shop", 4000, ())).addresses()[0] == ["tcp://10.0.0.5:4000"]


def test_a_server_of_debian_gives_the_same_answers(stack, tmp_path):
    port = free_port()
    names = ["--host-record=shop.test,10.0.0.5,fd00::5", "--srv-host=_calls._tcp.shop.test,shop.test,4001"]
    names += [f"--host-record=many.test,10.0.2.{number}" for number in range(1, 200)]
    command = [needed("dnsmasq", "dnsmasq-base", "/usr/sbin"), "--keep-in-foreground", "--no-resolv", "--no-hosts"]
    command += [f"--port={port}", "--listen-address=127.0.0.1", "--bind-interfaces", "--local=/test/", "--conf-file=/dev/null"]
    command += ["--user=", "--group=", f"--pid-file={tmp_path}/pid", "--local-ttl=7", "--edns-packet-max=512", *names]
    process = stack.enter_context(closing_process(subprocess.Popen(command, stderr=subprocess.PIPE)))

    def ask(name, port_of_nodes=4000):
        return Lookup(DnsUrl("dns://test", name, port_of_nodes, (("127.0.0.1", port),))).addresses()

    def answers():
        assert process.poll() is None, process.stderr.read()
        try:
            return ask("shop.test")
        except NoAnswer:
            return None

    # While the server starts, one of two questions may find nobody.
    assert eventually(lambda: answers() == (["tcp://10.0.0.5:4000", "tcp://[fd00::5]:4000"], 7.0))
    assert ask("_calls._tcp.shop.test", 0)[0] == ["tcp://10.0.0.5:4001", "tcp://[fd00::5]:4001"]
    assert len(ask("many.test")[0]) == 199
    with pytest.raises(NoAddress):
        ask("nobody.test")


class closing_process:  # noqa: N801
    """Ends a process with the block."""

    def __init__(self, process):
        self._process = process

    def __enter__(self):
        return self._process

    def __exit__(self, *exc_info):
        self._process.terminate()
        self._process.communicate()


# --- how long an answer is believed: without sockets or time ---


class Answers:
    """In place of DNS: gives or raises one of these after the other; the last one for ever."""

    def __init__(self, *answers):
        self._answers = list(answers)

    def addresses(self):
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer, 5.0

    def cancel(self):
        pass


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def prepared(seed):
    """What the seed says."""
    said, is_over = [], threading.Event()
    seed.prepare(lambda *outcome: (said.append(outcome), is_over.set()))
    assert is_over.wait(AT_LAST)
    return said[0]


def test_a_failure_leaves_the_last_good_answer_for_ever(caplog):
    clock = Clock()
    seed = DnsSeed("dns://shop.test:4000", Answers(["a"], NoAnswer("SERVFAIL")), clock)
    assert prepared(seed) == (["a"], None)
    assert seed.valid_for == 5.0

    clock.now += 1e6

    assert prepared(seed) == (["a"], None)
    assert seed.valid_for == backend.FAILED_PAUSE
    assert prepared(seed) == (["a"], None)
    assert caplog.text.count("directory dns://shop.test:4000: SERVFAIL; the last good answer stands") == 1


def test_an_empty_answer_counts_after_a_minute():
    clock = Clock()
    seed = DnsSeed("dns://shop.test:4000", Answers(["a"], NoAddress("no address")), clock)
    prepared(seed)

    clock.now += 59.0
    assert prepared(seed) == (["a"], None)
    clock.now += 2.0
    assert prepared(seed) == ([], None)
    assert prepared(seed) == ([], "no address")


def test_a_name_that_was_never_found_is_an_error():
    assert prepared(DnsSeed("dns://shop.test:4000", Answers(NoAddress("no address")))) == ([], "no address")


def test_a_name_is_not_looked_up_twice_within_a_second():
    clock = Clock()
    seed = DnsSeed("dns://shop.test:4000", Answers(["a"], ["b"]), clock)

    assert prepared(seed) == prepared(seed) == (["a"], None)
    clock.now += 1.0
    assert prepared(seed) == (["b"], None)


def test_addresses_beyond_the_connections_of_a_process_are_left_out(caplog, monkeypatch):
    monkeypatch.setattr(backend.resource, "getrlimit", lambda kind: (1024, 1024))
    clock = Clock()
    one, other = (DnsSeed("dns://shop.test:4000", Answers([str(number) for number in range(600)]), clock) for _ in range(2))

    used = prepared(one)[0]

    assert len(used) == len(set(used)) == 85
    assert "has 600 addresses, of which 85 are used; see `ulimit -n`" in caplog.text
    clock.now += 10.0
    assert prepared(one)[0] == used != prepared(other)[0]


@pytest.mark.parametrize(("limit", "most"), [(1024, 85), (65536, 512), (-1, 512)])
def test_how_many_addresses_are_used_depends_on_the_descriptors(monkeypatch, limit, most):
    monkeypatch.setattr(backend.resource, "getrlimit", lambda kind: (limit, limit))

    assert backend.most_addresses() == most


# --- the directory ---


def test_each_node_is_asked_for_its_records_and_reached_where_it_answered(server, node, new_house):
    one = node("one")
    two = node("two", host="127.0.0.2", port=one.port)
    server.set("shop.test", "A", "127.0.0.1", "127.0.0.2")

    directory = new_house(f"dns://shop.test:{one.port}?server={server.address}").open()

    # Ready when all have answered: `zmqservices ls` must not show half of them.
    assert directory.wait_ready(AT_LAST)
    view = directory.view()
    assert knows("one", "two")(view) and view.fresh
    assert view.records["two"].record.endpoints == {"rpc": two.endpoint, "events": "tcp://10.9.9.9:2"}
    assert sorted(seen.record.instance for seen in directory.service("maths")) == ["one", "two"]


def test_an_address_without_a_listener_does_not_delay_the_others(server, node, new_house):
    one = node("one")
    server.set("shop.test", "A", "127.0.0.1", "127.0.0.3")

    directory = new_house(f"dns://shop.test:{one.port}?server={server.address}").open()

    assert directory.wait_ready(AT_LAST)
    assert knows("one")(directory.view())


def test_ports_of_srv_records_are_used(server, node, new_house):
    one, two = node("one"), node("two")
    server.set("_calls._tcp.shop.test", "SRV", f"0 0 {one.port} a.test.", f"0 0 {two.port} a.test.")
    server.set("a.test", "A", "127.0.0.1")

    directory = new_house(f"dns+srv://_calls._tcp.shop.test?server={server.address}").open()

    Watch(directory).wait(knows("one", "two"))


def test_a_service_of_later_interest_is_complete_when_it_is_ready(server, node, new_house):
    one = node("one")
    server.set("shop.test", "A", "127.0.0.1")
    directory = new_house(f"dns://shop.test:{one.port}?server={server.address}", services=()).open()
    assert directory.wait_ready(AT_LAST)
    assert knows()(directory.view())

    # The node told it before; it only becomes of interest.
    assert directory.wait_ready(AT_LAST, "maths")

    assert [seen.record.instance for seen in directory.service("maths")] == ["one"]


def test_a_node_tells_its_changes_at_once(server, node, new_house):
    one = node("one")
    server.set("shop.test", "A", "127.0.0.1", ttl=30)
    seen = Watch(new_house(f"dns://shop.test:{one.port}?server={server.address}").open())
    seen.wait(knows("one"))

    one.list(own("one", version=1, state="DRAINING"), own("other").replace(node="one"))
    view = seen.wait_now(knows("one", "other"))
    assert view.records["one"].record.state == "DRAINING"
    one.list()

    seen.wait_now(knows())


def test_new_addresses_are_found_and_dropped_ones_are_used_while_they_answer(server, node, new_house):
    one = node("one")
    two = node("two", host="127.0.0.2", port=one.port)
    server.set("shop.test", "A", "127.0.0.1")
    seen = Watch(new_house(f"dns://shop.test:{one.port}?server={server.address}").open())
    seen.wait(knows("one"))

    server.set("shop.test", "A", "127.0.0.2")
    seen.wait_now(knows("one", "two"))
    one.close()

    seen.wait_now(knows("two"))
    assert two.hellos


def test_a_node_that_comes_back_with_another_address_is_found(server, node, new_house):
    one = node("one")
    server.set("shop.test", "A", "127.0.0.1", ttl=30)
    seen = Watch(new_house(f"dns://shop.test:{one.port}?server={server.address}").open())
    seen.wait(knows("one"))

    one.close()
    node("again", host="127.0.0.2", port=one.port)
    server.set("shop.test", "A", "127.0.0.2", ttl=30)

    # The end of a connection is reason enough to look the name up, whatever its TTL.
    seen.wait_now(knows("again"))


def test_a_failing_dns_server_removes_no_instance(server, node, new_house):
    one = node("one")
    server.set("shop.test", "A", "127.0.0.1")
    seen = Watch(new_house(f"dns://shop.test:{one.port}?server={server.address}").open())
    seen.wait(knows("one"))

    server.rcode = dns.rcode.SERVFAIL
    asked = len(server.questions)
    one.close()
    eventually(lambda: len(server.questions) > asked)
    node("again", port=one.port)

    seen.wait_now(knows("again"))


def test_a_name_that_vanishes_removes_no_connected_node(server, node, new_house, monkeypatch):
    monkeypatch.setattr(backend, "FAILED_PAUSE", 0.05)
    one = node("one")
    server.set("shop.test", "A", "127.0.0.1")
    seen = Watch(new_house(f"dns://shop.test:{one.port}?server={server.address}").open())
    seen.wait(knows("one"))

    server.remove("shop.test")
    asked = len(server.questions)
    eventually(lambda: len(server.questions) > asked + 2)

    assert knows("one")(seen.views[-1])


def test_without_addresses_the_directory_gives_the_reason(server, new_house):
    directory = new_house(f"dns://nobody.test:4000?server={server.address}").open()

    eventually(lambda: "DNS has no address of nobody.test" in directory.describe())
    assert directory.describe().startswith(f"directory dns://nobody.test:4000?server={server.address} has been stale")


def test_a_node_of_another_namespace_is_not_listed(server, node, new_house, caplog):
    red = node("red", namespace="red")
    server.set("shop.test", "A", "127.0.0.1")
    url = f"dns://shop.test:{red.port}?server={server.address}"

    directory = new_house(url).open()

    eventually(lambda: "this node is in 'red'" in directory.describe())
    assert f"node at {red.endpoint} is not used: 'protocol': \"this node is in 'red'\"" in caplog.text


def test_a_directory_of_all_namespaces_lists_all_of_them(server, node, new_house):
    red = node("red", namespace="red")
    red.list(own("red", namespace="red"))
    server.set("shop.test", "A", "127.0.0.1")

    directory = new_house(f"dns://shop.test:{red.port}?server={server.address}", namespace=None).open()

    Watch(directory).wait(knows("red"))


def test_an_address_that_is_not_a_node_is_left_alone(server, new_house, monkeypatch):
    monkeypatch.setattr(socket_connection, "ATTEMPT", 0.5)
    with registries() as (registry,):
        server.set("shop.test", "A", "127.0.0.1")
        port = registry.url.rpartition(":")[2]

        directory = new_house(f"dns://shop.test:{port}?server={server.address}").open()

        eventually(lambda: "does not answer as a node does" in directory.describe())


def test_a_node_that_sends_junk_is_not_listed(server, node, new_house, caplog):
    one = node("one")
    two = node("two", host="127.0.0.2", port=one.port)
    server.set("shop.test", "A", "127.0.0.1", "127.0.0.2")
    directory = new_house(f"dns://shop.test:{one.port}?server={server.address}").open()
    Watch(directory).wait(knows("one", "two"))

    one.tell(Result(1, {1: 2}))

    eventually(lambda: len(one.hellos) == 2)
    assert len(two.hellos) == 1
    assert f"left {one.endpoint} alone, which sent no message of the protocol" in caplog.text


def test_a_node_that_drains_gets_its_bye_answered(server, node, new_house):
    one = node("one")
    server.set("shop.test", "A", "127.0.0.1")
    Watch(new_house(f"dns://shop.test:{one.port}?server={server.address}").open()).wait(knows("one"))

    one.tell(Bye(["maths"], "shutting down"))

    eventually(lambda: one.byes == [Bye(["maths"], None)])


def test_a_silent_connected_node_stays_listed(server, node, new_house, monkeypatch):
    monkeypatch.setattr("discovery.client.node_connection.LOOK_INTERVAL", 0.05)
    one = node("one")
    server.set("shop.test", "A", "127.0.0.1")
    directory = new_house(f"dns://shop.test:{one.port}?server={server.address}").open()
    Watch(directory).wait(knows("one"))
    since = time.monotonic()

    eventually(lambda: directory.view().registries[0]["last_contact"] < time.monotonic() - since - 0.1)

    assert directory.view().records["one"].age < 1.0
    # It was asked nothing more.
    assert (len(one.hellos), one.pings) == (1, 0)


def test_records_and_notes_are_not_written_to_dns(server, node, new_house):
    one = node("one")
    server.set("shop.test", "A", "127.0.0.1")
    house = new_house(f"dns://shop.test:{one.port}?server={server.address}")
    here, there = house.open(), house.open()
    seen = Watch(there)
    seen.wait(knows("one"))

    here.announce(record("mine"))
    here.put("group", {"is": 1})

    assert here.flush(AT_LAST)
    # It knows its own instance, which it can call.
    Watch(here).wait(knows("one", "mine"))
    assert here.view().notes == ()
    assert knows("one")(seen.views[-1])


def test_a_list_with_a_registry_is_merged(server, node, new_house):
    one = node("one")
    server.set("shop.test", "A", "127.0.0.1")
    with registries(ttl=1.0) as (registry,):
        both = new_house(f"dns://shop.test:{one.port}?server={server.address},{registry.url}")
        here, there = both.open(), new_house(registry.url).open()
        assert here.capabilities.can_announce and here.capabilities.stores_notes
        assert not here.capabilities.needs_fixed_port

        here.announce(record("announced"))
        here.put("group", {"is": 1})

        assert here.flush(AT_LAST)
        Watch(here).wait(knows("one", "announced"))
        Watch(there).wait(lambda view: knows("announced")(view) and view.notes)
        here.stop()


def test_a_lookup_does_not_keep_a_directory_from_stopping(server, new_house):
    server.is_silent = True
    directory = new_house(f"dns://shop.test:4000?server={server.address}").open()
    eventually(lambda: server.questions)

    before = time.monotonic()
    directory.stop()

    assert time.monotonic() - before < 4.0


def test_in_a_patched_process_names_are_looked_up_while_its_hub_is_busy(server, node):
    one = node("one")
    server.set("shop.test", "A", "127.0.0.1")
    program = f"""
        from gevent import monkey
        monkey.patch_all()
        import time
        from discovery import open_directory
        directory = open_directory("dns://shop.test:{one.port}?server={server.address}", ttl=1.0)
        directory.start()
        end = time.monotonic() + {AT_LAST}
        while "one" not in directory.view().records:
            assert time.monotonic() < end
        directory.stop()
    """

    process = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60)

    assert (process.returncode, process.stderr) == (0, "")


# --- URLs ---


def test_its_capabilities():
    can = open_directory("dns://shop.test:4000?server=10.0.0.53,[fd00::53]:5353").capabilities

    servers = (("10.0.0.53", 53), ("fd00::53", 5353))
    assert can == Capabilities(
        can_announce=False, stores_notes=False, needs_fixed_port=True, takes_keys=True, carries_revocations=True, servers=servers
    )


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("dns://shop", "dns://NAME:PORT is needed, such as"),
        ("dns://shop:0", "dns://NAME:PORT is needed"),
        ("dns://a:4000,b:4000", "dns://NAME:PORT is needed"),
        ("dns://shop/prefix", "dns://NAME:PORT is needed"),
        ("dns://[fd00::5]:4000", "'fd00::5' is no name of DNS"),
        ("dns://shop..test:4000", "'shop..test' is no name of DNS"),
        (f"dns://{'x' * 64}.test:4000", "is no name of DNS"),
        ("dns+srv://shop.test", "dns+srv://_SERVICE._PROTO.NAME is needed"),
        ("dns+srv://_calls._tcp.shop.test:4000", "dns+srv://_SERVICE._PROTO.NAME is needed"),
        ("dns://shop:4000?server=ns.test", "and ?server=IP:PORT where another server"),
        ("dns://shop:4000?server=10.0.0.53:x", "and ?server=IP:PORT where another server"),
        ("dns://shop:4000?servers=10.0.0.53", "has the option 'servers'; server is known"),
    ],
)
def test_a_url_that_makes_no_sense_is_quoted_with_the_mend(url, text):
    with pytest.raises(DirectoryConfigurationError) as caught:
        open_directory(url)

    assert repr(url) in str(caught.value)
    assert text in str(caught.value)


def test_without_dnspython_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "dns.resolver", None)

    with pytest.raises(DirectoryConfigurationError, match=r"'dns://shop:4000', and dnspython.*`pip install zmqservices\[dns\]`"):
        open_directory("dns://shop:4000")


def test_without_a_server_in_resolv_conf_the_error_asks_for_one(monkeypatch):
    def unconfigured(configure):
        raise dns.resolver.NoResolverConfiguration("no nameservers")

    monkeypatch.setattr(dns.resolver, "Resolver", unconfigured)

    with pytest.raises(DirectoryConfigurationError, match=r"names no server of DNS.*\?server=IP:PORT names one"):
        open_directory("dns://shop:4000")
