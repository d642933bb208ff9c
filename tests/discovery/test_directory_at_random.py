"""Random messages to registries and clients: their bounds hold, and the newer of two versions always wins."""

from unittest.mock import patch

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from discovery import DirectoryError, Note
from discovery.client.merge import Merge, MergedRecord
from discovery.notes import NoteStore
from discovery.server import table as table_module
from discovery.server.changes import Removed, Updated
from discovery.server.table import Table
from tests.at_random import examples
from tests.discovery.stage import record

INSTANCES = st.sampled_from(["one", "two", "three", "four", "five"])
HOLDERS = st.sampled_from([b"a", b"b", b"c"])
RANKS = st.tuples(st.integers(0, 2), st.integers(0, 3))
NAMESPACES = st.sampled_from(["prod", "test"])


class Registry(RuleBasedStateMachine):
    """A small table. A subscriber that hears every change knows at each moment what is held."""

    def __init__(self):
        super().__init__()
        self.patch = patch.multiple(table_module, MAX_TOMBSTONES=3)
        self.patch.start()
        self.now = 0.0
        self.table = Table(0.0, 10.0, max_leases=4, max_leases_of_holder=3, max_bytes=100, max_bytes_of_holder=60)
        self.told = {}

    def teardown(self):
        self.patch.stop()

    def hear(self, changes):
        for change in changes:
            if isinstance(change, Updated):
                self.told[change.record.instance] = (change.record, change.suspect)
            else:
                assert isinstance(change, Removed)
                self.told.pop(change.instance, None)

    @rule(instance=INSTANCES, rank=RANKS, holder=HOLDERS, size=st.integers(1, 50), namespace=NAMESPACES, ttl=st.floats(1, 10))
    def register(self, instance, rank, holder, size, namespace, ttl):
        new = record(instance, incarnation=rank[0], version=rank[1], namespace=namespace, ttl=ttl)
        before = self.told.get(instance)
        try:
            self.hear(self.table.register(new, self.now, size, holder))
        except DirectoryError:
            assert self.told.get(instance) == before
        after = self.told.get(instance)
        assert before is None or after is None or after[0].rank >= before[0].rank

    @rule(instance=INSTANCES, rank=RANKS)
    def renew(self, instance, rank):
        known, changes = self.table.renew(instance, rank, self.now)
        self.hear(changes)
        if known and instance in self.told:
            assert rank <= self.told[instance][0].rank

    @rule(instance=INSTANCES, rank=RANKS, namespace=NAMESPACES)
    def withdraw(self, instance, rank, namespace):
        self.hear(self.table.withdraw(namespace, instance, rank, self.now))
        assert instance not in self.told or self.told[instance][0].rank > rank

    @rule(seconds=st.floats(0, 20))
    def wait(self, seconds):
        self.now += seconds
        self.hear(self.table.expire(self.now))

    @invariant()
    def a_subscriber_knows_what_is_held(self):
        entries = self.table.snapshot(None, self.now)
        assert {entry[0].instance: (entry[0], entry[2]) for entry in entries} == self.told
        assert all(0 <= age <= self.now for _, age, _ in entries)

    @invariant()
    def bounds_hold(self):
        table = self.table
        # By one record more, where the lease that it replaces is the one that had to go.
        assert len(table) <= 4 and table._shares.bytes <= 100 + 50 and len(table.tombstones(None)) <= 3
        assert table._shares.bytes == sum(lease.size for lease in table._leases.values())
        held = {instance: name for name, holder in table._shares.holders.items() for instance in holder.instances}
        assert held == {instance: lease.holder for instance, lease in table._leases.items()}
        for holder in table._shares.holders.values():
            assert 1 <= len(holder.instances) <= 3 and holder.bytes <= 60
            assert holder.bytes == sum(table._leases[instance].size for instance in holder.instances)


class Remembered(RuleBasedStateMachine):
    """Notes of two namespaces from three writers, in two places that tell each other: they agree in the end."""

    def __init__(self):
        super().__init__()
        self.now = 1_000_000.0
        self.places = [NoteStore(60.0, 3, most=6, most_of_namespace=4), NoteStore(60.0, most=6, most_of_namespace=4)]

    @rule(
        place=st.integers(0, 1), writer=HOLDERS, ahead=st.floats(-500, 500), ttl=st.floats(1, 400), namespace=NAMESPACES,
        keys=st.lists(st.sampled_from("abcdefgh"), max_size=6), value=st.none() | st.just({"x": 1}),
    )  # fmt: skip
    def take(self, place, writer, ahead, ttl, namespace, keys, value):
        notes = self.places[place]
        before = {(note.namespace, note.key): note for note in notes}
        stamp = int((self.now + ahead) * 1e6)
        news = notes.take([Note(namespace, key, stamp, ttl, value) for key in keys], self.now, writer)
        for note in news:
            assert notes.get(note.namespace, note.key) is note
            assert note.age(self.now) >= -60.0 and note.age(self.now) <= note.ttl
            old = before.get((note.namespace, note.key))
            assert old is None or note.rank > old.rank

    @rule(seconds=st.floats(0, 200))
    def wait(self, seconds):
        self.now += seconds
        for notes in self.places:
            notes.expire(self.now)
            assert all(note.age(self.now) <= note.ttl for note in notes)

    @rule()
    def tell_each_other(self):
        one, other = self.places
        other.take(list(one), self.now, "one")
        known = {(note.namespace, note.key): note for note in other}
        for note in one:
            held = known.get((note.namespace, note.key))
            assert held is None or held.rank >= note.rank

    @invariant()
    def bounds_hold(self):
        for notes in self.places:
            assert len(notes) <= 6 and all(len(notes.of(name)) <= 4 for name in ("prod", "test"))
            assert sum(map(len, notes._written.values())) == len(notes) == len(notes._writers)
        assert all(len(places) <= 3 for places in self.places[0]._written.values())


class Client(RuleBasedStateMachine):
    """Two registries that tell what they like, in any order: a client's view has no older version than any that it lists."""

    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.merge = Merge()
        self.listed = {"x": None, "y": None}

    def entry(self, instance, rank, suspect=False):
        return MergedRecord(record(instance, incarnation=rank[0], version=rank[1], ttl=10.0), self.now, suspect)

    registries = st.sampled_from(["x", "y"])

    @rule(name=registries, held=st.dictionaries(INSTANCES, RANKS, max_size=4), warming=st.booleans())
    def snapshot(self, name, held, warming):
        self.merge.snapshot(name, [self.entry(*item) for item in held.items()], warming)
        self.listed[name] = dict(held)

    @rule(name=registries, instance=INSTANCES, rank=RANKS, suspect=st.booleans())
    def update(self, name, instance, rank, suspect):
        if self.listed[name] is not None:
            self.merge.update(name, self.entry(instance, rank, suspect))
            self.listed[name][instance] = rank

    @rule(name=registries, instance=INSTANCES, rank=RANKS, withdrawn=st.booleans())
    def drop(self, name, instance, rank, withdrawn):
        self.merge.drop(name, instance, rank, withdrawn)
        if self.listed[name] is not None:
            self.listed[name].pop(instance, None)

    @rule(name=registries, warming=st.booleans())
    def warmed(self, name, warming):
        self.merge.warmed(name, warming)

    @rule(name=registries, forget=st.booleans())
    def lost(self, name, forget):
        self.merge.lost(name, self.now)
        self.listed[name] = None
        if forget:
            self.merge.remove_registry(name)

    @rule(seconds=st.floats(0, 15))
    def wait(self, seconds):
        self.now += seconds

    @invariant()
    def what_is_changed_is_told(self):
        before = dict(self.merge.known)
        changed = self.merge.settle(self.now)
        after = self.merge.known
        told = {
            instance
            for instance in before.keys() | after.keys()
            if (instance in before) is not (instance in after)
            or before[instance].record != after[instance].record
            or before[instance].suspect is not after[instance].suspect
            or after[instance].is_listed and not before[instance].is_listed
        }
        assert changed == told
        for held in self.listed.values():
            for instance, rank in (held or {}).items():
                withdrawn = self.merge._withdrawn.get(instance, (-1, -1))
                assert rank <= withdrawn or after[instance].record.rank >= rank


for machine in (Registry, Remembered, Client):
    machine.TestCase.settings = settings(max_examples=examples(60), stateful_step_count=30, deadline=None)
TestRegistry, TestRemembered, TestClient = Registry.TestCase, Remembered.TestCase, Client.TestCase
