"""What every kind of directory promises, whoever keeps it."""

import itertools
import subprocess
import sys
import textwrap
import threading
from contextlib import ExitStack, closing, contextmanager

import pytest

from discovery import DirectoryError, Options
from discovery.backend import factory_for
from tests.discovery.dns_server import DnsServer
from tests.discovery.engine_servers import CONSULS
from tests.discovery.nodes import AnsweringNode
from tests.discovery.stage import (
    AT_LAST,
    House,
    Watch,
    eventually,
    knows,
    record,
    registries,
)
from tests.ports import free_port


@pytest.fixture
def local_house():
    return House(f"local:{free_port()}", ttl=1.0)


@pytest.fixture
def tcp_house():
    with registries(ttl=1.0) as (server,):
        yield House(server.url)


@pytest.fixture
def two_house():
    with registries(2, ttl=1.0) as servers:
        yield House(",".join(server.url for server in servers))


@pytest.fixture
def static_house():
    return House("static:maths=tcp://10.0.0.5:4000,tcp://10.0.0.6:4000;words=tcp://10.0.0.5:4000")


@pytest.fixture
def dns_house():
    with ExitStack() as stack:
        server = stack.enter_context(closing(DnsServer()))
        node = stack.enter_context(AnsweringNode("node", record("there", node="node", endpoints={"rpc": "tcp://0.0.0.0:1"})))
        server.set("shop.test", "A", "127.0.0.1")
        yield House(f"dns://shop.test:{node.port}?server={server.address}", ttl=1.0)


class EngineHouse(House):
    """Directories kept by an engine, each house under a prefix of its own."""

    numbers = itertools.count()

    def __init__(self, server):
        super().__init__(f"{server.url}/test/{next(self.numbers)}", ttl=1.0)

    @contextmanager
    def silent_holder(self, address, held):
        """Registers a record and renews no lease."""
        (seed,) = factory_for(self.url)(self.url, Options("default", None, 1.0)).seeds
        session = seed.session("default")
        session.open(None)
        session.put_record(held)
        yield
        session.close()


@pytest.fixture
def etcd_house(etcd):
    return EngineHouse(etcd)


@pytest.fixture
def consul_house(consul):
    return EngineHouse(consul)


@pytest.fixture
def real_consul_house(real_consul):
    return EngineHouse(real_consul)


class ZooKeeperHouse(EngineHouse):
    """kazoo renews leases by itself, so a holder that falls silent is a process that is killed."""

    @contextmanager
    def silent_holder(self, address, held):
        program = f"""
            import time
            from discovery import Record, open_directory
            directory = open_directory({self.url!r}, ttl=1.0)
            directory.start()
            directory.announce(Record.from_dict({held.to_dict()!r}))
            assert directory.flush(10)
            print("there", flush=True)
            time.sleep(60)
        """
        with subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "there\n"
            process.kill()
            yield


@pytest.fixture
def zookeeper_house(zookeeper):
    return ZooKeeperHouse(zookeeper)


@pytest.fixture(params=["local", "tcp", "two", "etcd", "zookeeper", *CONSULS])
def house(request):
    """A directory that can be written to, of each kind."""
    house = request.getfixturevalue(f"{request.param}_house")
    yield house
    house.close()


@pytest.fixture(params=["local", "tcp", "two", "static", "etcd", "zookeeper", *CONSULS, "dns"])
def any_house(request):
    """A directory of each kind."""
    house = request.getfixturevalue(f"{request.param}_house")
    yield house
    house.close()


def test_consul_itself_keeps_these_promises_too():
    """Which the others of this file show, where there is a consul."""
    if "real_consul" not in CONSULS:
        pytest.skip("consul is not installed, so its directory was tested against a stand-in for its documented HTTP API only")


# --- promised by all, those included that nobody can write to ---


def test_it_becomes_ready(any_house):
    directory = any_house.open()

    assert directory.wait_ready(AT_LAST)


def test_announcing_is_accepted_and_acknowledged(any_house):
    directory = any_house.open()

    directory.announce(record())

    assert directory.flush(AT_LAST)


def test_withdrawing_what_was_never_announced_is_passed_over(any_house):
    directory = any_house.open()

    directory.withdraw("nobody")

    assert directory.flush(AT_LAST)


def test_a_subscriber_is_called_soon_and_from_another_thread(any_house):
    directory = any_house.open()
    called = threading.Event()
    threads = set()

    directory.subscribe(lambda view: (threads.add(threading.get_ident()), called.set()))

    assert called.wait(AT_LAST)
    assert threading.get_ident() not in threads


def test_a_subscriber_from_before_the_start_is_called_too(any_house):
    directory = any_house.open(start=False)
    called = threading.Event()
    directory.subscribe(lambda view: called.set())

    directory.start()

    assert called.wait(AT_LAST)


def test_a_subscriber_that_fails_hurts_nobody(any_house, caplog):
    directory = any_house.open()

    def fail(view):
        raise RuntimeError("the subscriber's own fault")

    directory.subscribe(fail)
    eventually(lambda: "the subscriber's own fault" in caplog.text)

    assert directory.flush(AT_LAST)
    Watch(directory).wait(lambda view: True)


def test_it_describes_itself(any_house):
    directory = any_house.open()

    assert directory.describe().startswith("directory ")
    assert any_house.url.partition(":")[0] in directory.describe()


def test_it_may_be_started_and_stopped_twice(any_house):
    directory = any_house.open()
    directory.start()

    directory.stop()
    directory.stop()


def test_it_may_be_stopped_without_a_start(any_house):
    any_house.open(start=False).stop()


def test_a_service_that_nobody_has_has_no_instances(any_house):
    assert any_house.open().service("nobody") == []


# --- promised where records can be announced ---


def test_an_announced_record_is_seen_by_others(house):
    here, there = house.open(), house.open()
    seen = Watch(there)

    here.announce(record(endpoints={"rpc": "tcp://127.0.0.1:1"}, methods={"add": {"idempotent": True}}))

    view = seen.wait(knows("one"))
    assert view.records["one"].record == record(
        endpoints={"rpc": "tcp://127.0.0.1:1"}, methods={"add": {"idempotent": True}}
    )
    assert not view.records["one"].suspect
    assert [item.record.instance for item in there.service("maths")] == ["one"]
    assert there.service("words") == []


def test_who_comes_later_sees_what_was_announced_before(house):
    here = house.open()
    here.announce(record())
    assert here.flush(AT_LAST)

    there = house.open()

    assert there.wait_ready(AT_LAST)
    assert knows("one")(there.view())
    assert there.view().records["one"].age < 5.0


def test_a_record_announced_before_the_start_is_not_lost(house):
    here, there = house.open(start=False), house.open()
    seen = Watch(there)
    here.announce(record())

    here.start()

    seen.wait(knows("one"))


def test_one_sees_what_one_announced_oneself(house):
    here = house.open()
    seen = Watch(here)

    here.announce(record())

    seen.wait(knows("one"))


def test_a_higher_version_replaces_the_record_everywhere(house):
    here, there = house.open(), house.open()
    seen = Watch(there)
    here.announce(record(state="STARTING"))
    seen.wait(knows("one"))

    here.announce(record(state="UP", version=1))

    seen.wait(lambda view: view.records["one"].record.state == "UP" if "one" in view.records else False)


def test_a_withdrawn_record_is_gone_everywhere(house):
    here, there = house.open(), house.open()
    seen = Watch(there)
    here.announce(record("one"))
    here.announce(record("two"))
    seen.wait(knows("one", "two"))

    here.withdraw("one")

    assert here.flush(AT_LAST)
    seen.wait_now(knows("two"))
    assert knows("two")(here.view())


def test_a_withdrawn_instance_may_come_back_with_a_higher_version(house):
    here, there = house.open(), house.open()
    seen = Watch(there)
    here.announce(record())
    seen.wait(knows("one"))
    here.withdraw("one")
    seen.wait_now(knows())

    here.announce(record(version=1))

    seen.wait_now(knows("one"))


def test_stopping_withdraws(house):
    here, there = house.open(), house.open()
    seen = Watch(there)
    here.announce(record())
    seen.wait(knows("one"))

    here.stop()

    seen.wait_now(knows())


def test_namespaces_do_not_see_each_other(house):
    blue, red, both = house.open(namespace="blue"), house.open(namespace="red"), house.open(namespace=None)
    seen = Watch(both)

    blue.announce(record("one", namespace="blue"))
    red.announce(record("two", namespace="red"))

    seen.wait(knows("one", "two"))
    assert blue.flush(AT_LAST) and red.flush(AT_LAST)
    assert knows("one")(blue.view())
    assert knows("two")(red.view())


def test_a_record_of_another_namespace_is_refused(house):
    with pytest.raises(DirectoryError, match="namespace 'red'; this directory was opened for 'default'"):
        house.open().announce(record(namespace="red"))


def test_a_record_too_large_to_travel_is_refused(house):
    with pytest.raises(DirectoryError, match="bytes"):
        house.open().announce(record(tags={"text": "x" * 300_000}))


def test_a_change_without_a_higher_version_is_refused(house):
    directory = house.open()
    directory.announce(record(version=2))

    with pytest.raises(DirectoryError, match="higher"):
        directory.announce(record(version=1))


def test_a_lease_is_kept_alive_beyond_its_ttl(house):
    here, there = house.open(), house.open()
    seen = Watch(there)
    here.announce(record("short", ttl=0.3))
    here.announce(record("clock", ttl=60.0))
    seen.wait(knows("short", "clock"))
    before = len(seen.views)

    # The clock is another lease, three times as long, that nobody renews.
    address = next(item["address"] for item in there.view().registries if item["state"] == "up")
    with house.silent_holder(address, record("silent", ttl=0.9)):
        seen.wait(lambda view: "silent" in view.records)
        seen.wait_now(lambda view: "silent" not in view.records)

    assert all("short" in view.records for view in seen.views[before:])


def test_many_records_of_many_directories_meet(house):
    directories = [house.open() for _ in range(4)]
    seen = [Watch(directory) for directory in directories]

    for number, directory in enumerate(directories):
        for part in range(25):
            directory.announce(record(f"{number}-{part}"))

    for watch in seen:
        watch.wait_now(lambda view: len(view.records) == 100)


def test_an_ended_subscription_is_called_no_more(house):
    directory = house.open()
    watch = Watch(directory)
    watch.wait(lambda view: True)

    watch.end()
    directory.announce(record())
    Watch(directory).wait(knows("one"))

    assert not any("one" in view.records for view in watch.views)


# --- notes: what outlives those who wrote it ---


def remembers(**values):
    """A claim: a view has exactly these notes, each {"is": value}, or None for one that is forgotten."""
    wanted = {key: None if value is None else {"is": value} for key, value in values.items()}
    return lambda view: {note.key: note.value for note in view.notes} == wanted


def test_noting_and_forgetting_are_accepted(any_house):
    directory = any_house.open()

    directory.put("group", {"is": 1})
    directory.delete("group")

    assert directory.flush(AT_LAST)


def test_a_note_outlives_its_writer(house):
    keeps = Watch(house.open())
    writer = house.open()
    writer.announce(record())
    writer.put("group", {"is": [1, None, "text"]})
    keeps.wait(remembers(group=[1, None, "text"]))

    writer.stop()

    keeps.wait_now(knows())
    Watch(house.open()).wait(remembers(group=[1, None, "text"]))


def test_one_reads_what_one_noted_oneself(house):
    here = house.open()
    seen = Watch(here)

    here.put("group", {"is": 1})

    seen.wait(remembers(group=1))


def test_of_two_notes_the_later_one_counts_and_one_of_the_past_does_not(house):
    here, there = house.open(), house.open()
    seen = Watch(there)

    here.put("group", {"is": 1})
    seen.wait(remembers(group=1))
    there.put("group", {"is": 2})
    there.put("group", {"is": 3}, age=60.0)
    there.put("other", {"is": 4}, age=60.0)

    Watch(here).wait(remembers(group=2, other=4))


def test_what_is_forgotten_is_forgotten_by_all(house):
    here, there = house.open(), house.open()
    seen = Watch(there)
    here.put("group", {"is": 1})
    seen.wait(remembers(group=1))

    there.delete("group")

    Watch(here).wait_now(remembers(group=None))
    here.put("group", {"is": 2})
    seen.wait_now(remembers(group=2))


def test_a_note_that_is_flushed_is_known_to_all_registries(house):
    keeps = Watch(house.open())
    keeps.wait(lambda view: view.registries and all(one["state"] == "up" for one in view.registries))
    for number in range(10):
        writer = house.open()
        writer.put(f"k{number}", {"is": number})
        assert writer.flush(AT_LAST)
        writer.stop()

    keeps.wait_now(remembers(**{f"k{number}": number for number in range(10)}))


def test_notes_of_namespaces_are_apart(house):
    blue, red = house.open(namespace="blue"), house.open(namespace="red")
    both = house.open(namespace=None)
    seen = Watch(both)

    blue.put("group", {"is": 1})
    seen.wait(remembers(group=1))
    red.put("group", {"is": 2})

    seen.wait(lambda view: {(note.namespace, note.value["is"]) for note in view.notes} == {("blue", 1), ("red", 2)})
    assert remembers(group=1)(blue.view())
    with pytest.raises(DirectoryError, match="one namespace"):
        both.put("group", {"is": 1})
    with pytest.raises(DirectoryError, match="one namespace"):
        both.delete("group")


@pytest.mark.parametrize(
    ("key", "value"), [("", {}), ("k" * 1025, {}), ("k", []), ("k", {"x": "x" * 5000}), ("k", {"x": object()})]
)
def test_a_note_that_cannot_be_kept_is_refused(house, key, value):
    with pytest.raises(DirectoryError):
        house.open().put(key, value)


# --- interest ---


def test_a_directory_shows_the_services_that_were_asked_for(house):
    here, there = house.open(), house.open(services=["maths"])
    here.announce(record("one", "maths"))
    here.announce(record("two", "words"))
    assert here.flush(AT_LAST)

    seen = Watch(there)
    seen.wait_now(knows("one"))
    here.announce(record("three", "words"))
    here.announce(record("four", "maths"))

    seen.wait_now(knows("one", "four"))
    assert not any({"two", "three"} & set(view.records) for view in seen.views)
    assert there.service("words") == []


def test_a_service_that_is_asked_for_later_is_whole_when_it_is_ready(house):
    here, there = house.open(), house.open(services=[])
    for number in range(20):
        here.announce(record(f"w{number}", "words"))
    here.announce(record("one", "maths"))
    assert here.flush(AT_LAST) and there.wait_ready(AT_LAST)
    assert not there.view().records

    assert there.wait_ready(AT_LAST, "words")
    assert len(there.service("words")) == 20

    there.add_interest(["maths"])
    Watch(there).wait_now(lambda view: len(view.records) == 21)


def test_records_are_found_by_the_sources_that_they_subscribe_to(house):
    here, there = house.open(), house.open(services=[])
    handler = record("one", "mails", subscriptions=[{"source": "orders", "group": "g"}])
    here.announce(handler)
    here.announce(record("two", "mails"))
    there.add_interest(sources=["orders"])
    seen = Watch(there)
    seen.wait_now(knows("one"))

    here.announce(handler.replace(subscriptions=[]))

    seen.wait_now(knows())
    here.announce(handler.replace(version=5))
    seen.wait_now(knows("one"))
    here.withdraw("one")
    seen.wait_now(knows())


def test_a_change_while_the_interest_grows_is_not_lost(house):
    here, there = house.open(), house.open(services=[])
    services = [f"service-{number}" for number in range(15)]
    records = {name: record(f"{name}-one", name) for name in services}
    for one in records.values():
        here.announce(one)
    assert there.wait_ready(AT_LAST)

    for name in services:
        there.add_interest([name])
        records[name] = records[name].replace(state="DRAINING")
        here.announce(records[name])

    Watch(there).wait_now(lambda view: {s.record for s in view.records.values()} == set(records.values()))


def test_own_records_are_shown_whatever_is_asked_for(any_house):
    directory = any_house.open(services=[])

    directory.announce(record())

    if directory.capabilities.can_announce:
        Watch(directory).wait_now(knows("one"))
    assert directory.wait_ready(AT_LAST)


def test_a_fixed_list_shows_the_services_that_were_asked_for(static_house):
    directory = static_house.open(services=["maths"])
    seen = Watch(directory)
    assert {one.record.service for one in directory.view().records.values()} == {"maths"}

    directory.add_interest(["words"])

    seen.wait_now(lambda view: {one.record.service for one in view.records.values()} == {"maths", "words"})


def test_all_notes_are_seen_whatever_is_asked_for(house):
    here, there = house.open(), house.open(services=[])

    here.put("colour", {"is": "blue"})

    Watch(there).wait_now(lambda view: [note.key for note in view.notes] == ["colour"])
