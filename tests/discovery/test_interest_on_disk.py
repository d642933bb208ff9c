"""A client with a growing interest writes each name to its cache once, not all names each time."""

import pytest

from discovery import Record
from discovery.client.connection import UP
from discovery.client.state import ClientState
from discovery.client.view_saver import SAVE_INTERVAL
from discovery.interest import EVERYTHING, NOTHING, keys
from discovery.protocol import Heartbeat, Snapshot, Update

NAMES = 50


class CacheInMemory:
    """Tells what was written since this was last asked."""

    def __init__(self):
        self._written = []

    def load(self, interest):
        return []

    def save(self, entries, interest):
        self._written += sorted(interest)

    def written(self):
        written, self._written = self._written, []
        return written


class Registry:
    """A connection that stands. `answered`: what its registry was asked for and has told."""

    state = UP
    boot_id = "boot"
    failures = 0
    error = None
    is_warming = False

    def __init__(self, address, answered):
        self.address = address
        self.asked = self.answered = answered


class Asking:
    """A client that is connected to registries which answer at once."""

    def __init__(self, answered, registries=1):
        self.now = 1000.0
        self.cache = CacheInMemory()
        self.state = ClientState("tests", [], "tests", self.cache, 3.0, lambda command: None, self.now, NOTHING)
        self.registries = [Registry(f"tcp://registry{number}:1", answered) for number in range(registries)]
        for registry in self.registries:
            self.connect(registry)
        self.rest()

    def connect(self, registry):
        self.state.on_up(registry, [Snapshot(0, "boot", False, 0, 1, [], [])], self.now)

    def want(self, name):
        wanted = keys([name])
        self.state.want(wanted, self.now)
        for registry in self.registries:
            if registry.answered is not EVERYTHING:
                registry.asked = registry.answered = registry.answered | wanted
                self.state.on_extended(registry, self.now)
        self.rest()

    def rest(self):
        self.now += 2 * SAVE_INTERVAL
        self.state.work(self.now)


@pytest.mark.parametrize("answered, registries", [(NOTHING, 1), (NOTHING, 2), (EVERYTHING, 1)])
def test_a_new_name_is_written_alone(answered, registries):
    client = Asking(answered, registries)
    client.cache.written()

    for name in map("service{}".format, range(NAMES)):
        client.want(name)
        assert client.cache.written() == [f"service:{name}"]


def test_earlier_names_are_written_when_they_change_or_are_sent_again():
    client = Asking(NOTHING)
    for name in ("maths", "words"):
        client.want(name)
    client.cache.written()

    record = Record("maths", "one", "node", namespace="tests", endpoints={"rpc": "tcp://one:1"})
    client.state.on_message(client.registries[0], Update(0, "", record, 0.0, False), client.now)
    client.want("times")
    assert sorted(client.cache.written()) == ["service:maths", "service:times"]

    client.state.on_down(client.registries[0], client.now)
    client.connect(client.registries[0])
    client.rest()
    assert {"service:maths", "service:words", "service:times"} <= set(client.cache.written())


def test_a_name_from_a_registry_in_its_warm_up_is_written_after_the_warm_up():
    client = Asking(NOTHING)
    client.state.on_message(client.registries[0], Heartbeat(0, "boot", True), client.now)
    client.want("maths")
    assert client.cache.written() == []

    client.state.on_message(client.registries[0], Heartbeat(0, "boot", False), client.now)
    client.want("words")
    assert client.cache.written() == ["service:maths", "service:words"]
