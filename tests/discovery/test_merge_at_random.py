"""The merge has a short way for records that only one registry lists. It must come to what the long way comes to."""

from random import Random

import pytest

from discovery import protocol
from discovery.client.merge import OWN, Known, Merge, MergedRecord
from discovery.interest import keys_of
from discovery.record_blocks import blocks_of
from tests.discovery.stage import record


class Thorough(Merge):
    """A merge that decides about every record by itself."""

    def _not_plain(self, dirty, changed):
        return dirty


NAMES = [f"i{number}" for number in range(6)]


def snapshot(random, registry, now):
    """What a registry lists: none or some instances in some version, packed as in a block, or decoded."""
    part = random.choice((0.0, 0.8, 0.8, 0.8))
    records = [
        record(name, random.choice(("maths", "words")), incarnation=1, version=random.randrange(2))
        for name in NAMES
        if random.random() < part
    ]
    age = random.choice((0.0, 1.0))
    if random.random() < 0.2:
        return [MergedRecord(one, now - age, random.random() < 0.2) for one in records]
    entries = [
        (keys_of(one), [one.instance, 1, one.version, age, random.random() < 0.2], protocol.pack(one.to_dict()))
        for one in records
    ]
    return [
        Known(packed, now - age, suspect, (registry,), True)
        for block in blocks_of(entries)
        for packed, age, suspect in block.entries
    ]


def step(random, now):
    """A random event, as a function that has it happen to a merge."""
    registry = random.choice(("a", "a", "a", "b"))
    name, rank = random.choice(NAMES), (1, random.randrange(2))
    entries, warming = snapshot(random, registry, now), random.random() < 0.2
    own = MergedRecord(record(name, "maths", incarnation=2), now)
    events = {
        "snapshot": lambda merge: merge.snapshot(registry, entries, warming),
        "lost": lambda merge: merge.lost(registry, now),
        "drop": lambda merge: merge.drop(registry, name, rank, withdrawn=warming),
        "warmed": lambda merge: merge.warmed(registry, warming),
        "own": lambda merge: merge.update(OWN, own),
        "restored": lambda merge: merge.restore(entries),
        "removed": lambda merge: merge.remove_registry(registry),
    }
    (kind,) = random.choices(list(events), weights=(8, 8, 2, 2, 1, 1, 1))
    return events[kind]


def told(merge, now):
    """All that a caller sees of a merge after an event."""
    changed = merge.settle(now)
    keys, merge.changed_keys = merge.changed_keys, set()
    known = {
        name: (item.record.rank, item.record.service, item.last_contact, item.suspect, item.listed_by, item.is_listed)
        for name, item in merge.known.items()
    }
    return changed, keys, known, merge.is_waiting


@pytest.mark.parametrize("interest", [None, frozenset({"service:maths"})], ids=["everything", "maths"])
def test_the_short_way_comes_to_what_the_long_way_comes_to(interest):
    for seed in range(60):
        random, merges = Random(seed), (Merge(interest), Thorough(interest))
        for merge in merges:
            merge.snapshot(OWN, [], warming=True)
        for turn in range(12):
            now = 100.0 + 3.0 * turn
            for _ in range(random.randint(1, 3)):
                event = step(random, now)
                for merge in merges:
                    event(merge)

            short, long = (told(merge, now) for merge in merges)
            assert short == long, (seed, turn)
