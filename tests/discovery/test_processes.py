"""The local directory of real processes: which process hosts it, and what happens when the host is killed."""

import os
import signal
import subprocess
import sys

import pytest

from discovery.client import registry_connection as link
from tests.discovery.stage import AT_LAST, House, Watch, eventually, knows, record
from tests.ports import free_port

pytestmark = pytest.mark.system

#: Announces an instance on the local directory, says so, and lives until its input ends.
SERVICE = """
import sys, discovery
directory = discovery.open_directory(ttl={ttl})
directory.start()
directory.announce(discovery.Record("maths", sys.argv[1], ttl={ttl}))
print(directory.flush(15), directory._client_state._seed_connections.by_seed[0].seed.is_hosting, flush=True)
for line in sys.stdin:
    known = ",".join(sorted(directory.view().records))
    print(known, directory._client_state._seed_connections.by_seed[0].seed.is_hosting, flush=True)
"""


class Service:
    """A process that has announced itself."""

    def __init__(self, name, port, ttl=2.0):
        environment = {**os.environ, "ZMQSERVICES_LOCAL_PORT": str(port)}
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", SERVICE.format(ttl=ttl), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def announced(self):
        """(acknowledged, is the host)."""
        acknowledged, hosts = self.process.stdout.readline().split()
        assert acknowledged == "True"
        return hosts == "True"

    def ask(self):
        """(instances that it knows, whether it is the host)."""
        self.process.stdin.write("?\n")
        self.process.stdin.flush()
        known, hosts = self.process.stdout.readline().rstrip("\n").split(" ")
        return set(filter(None, known.split(","))), hosts == "True"

    def send(self, number):
        self.process.send_signal(number)

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait(AT_LAST)
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def port():
    return free_port()


@pytest.fixture
def new_service(port):
    services = []

    def start(name, **options):
        services.append(Service(name, port, **options))
        return services[-1]

    yield start
    for service in services:
        service.end()


@pytest.fixture
def onlooker(port):
    house = House(f"local:{port}", host=False)
    yield house.open()
    house.close()


def test_exactly_one_of_the_processes_that_start_at_once_hosts_and_no_record_is_lost(new_service, onlooker):
    seen = Watch(onlooker)
    services = [new_service(f"s{number}") for number in range(4)]

    hosts = [service.announced() for service in services]

    seen.wait_now(knows("s0", "s1", "s2", "s3"))
    eventually(lambda: sum(service.ask()[1] for service in services) == 1)
    assert sum(hosts) <= 1


def test_when_the_host_is_killed_another_process_takes_over_without_losing_records(new_service, onlooker):
    seen = Watch(onlooker)
    first = new_service("first")
    assert first.announced()
    others = [new_service("second"), new_service("third")]
    assert not any(service.announced() for service in others)
    seen.wait_now(knows("first", "second", "third"))
    told = len(seen.views)

    first.send(signal.SIGKILL)
    eventually(lambda: sum(service.ask()[1] for service in others) == 1)
    seen.wait_now(knows("second", "third"))

    assert all({"second", "third"} <= set(view.records) for view in seen.views[told:])
    eventually(lambda: all(service.ask()[0] == {"second", "third"} for service in others))


def test_when_the_host_stops_gracefully_its_record_is_removed_at_once(new_service, onlooker):
    seen = Watch(onlooker)
    first = new_service("first", ttl=30.0)
    assert first.announced()
    second = new_service("second", ttl=30.0)
    second.announced()
    seen.wait_now(knows("first", "second"))

    first.process.stdin.close()
    first.process.wait(AT_LAST)

    seen.wait_now(knows("second"), timeout=10.0)
    eventually(lambda: second.ask()[1])


def test_a_killed_service_leaves_after_its_ttl(new_service, onlooker):
    seen = Watch(onlooker)
    first, second = new_service("first", ttl=1.0), new_service("second", ttl=1.0)
    hosts = first.announced(), second.announced()
    eventually(lambda: onlooker.view().fresh)
    seen.wait_now(knows("first", "second"))
    victim = first if hosts[1] else second
    survivor = {"first", "second"} - {"first" if victim is first else "second"}

    victim.send(signal.SIGKILL)

    seen.wait_now(knows(*survivor))


def test_a_host_that_was_paused_and_continues_keeps_all_records(new_service, onlooker, monkeypatch):
    monkeypatch.setattr(link, "SILENCE", 1.5)  # For the onlooker; a registry is heard each second.
    seen = Watch(onlooker)
    first = new_service("first", ttl=1.0)
    assert first.announced()
    second = new_service("second", ttl=1.0)
    second.announced()
    seen.wait_now(lambda view: view.fresh and knows("first", "second")(view))
    told = len(seen.views)

    first.send(signal.SIGSTOP)
    eventually(lambda: not onlooker.view().fresh)
    first.send(signal.SIGCONT)

    seen.wait_now(lambda view: view.fresh)
    assert all(knows("first", "second")(view) for view in seen.views[told:])
    assert second.ask()[0] == {"first", "second"}


def test_a_process_that_only_reads_never_hosts(port):
    house = House(f"local:{port}", host=False)
    directory = house.open()

    assert not directory.wait_ready(0.3)
    assert "nothing listens there" in directory.describe()
    house.close()


def test_two_directories_of_one_process_share_its_registry(port):
    house = House(f"local:{port}")
    here, there = house.open(), house.open()
    seen = Watch(there)
    here.announce(record())
    seen.wait_now(knows("one"))

    here.stop()

    seen.wait_now(knows())
    eventually(lambda: there.view().registries[0]["state"] == "up")
    house.close()
