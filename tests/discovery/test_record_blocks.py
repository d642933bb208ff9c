"""Records in blocks are decoded when they are first read, and a bad record does not hide others."""

import time
import zlib

import msgpack
import pytest

from discovery import protocol
from discovery.client.cache import DiskCache
from discovery.client.merge import Merge, MergedRecord
from discovery.client.published import Published
from discovery.exceptions import DirectoryProtocolError
from discovery.interest import keys_of
from discovery.notes import NoteStore
from discovery.packing import pack, unpack
from discovery.record_blocks import BLOCK_SIZE, BlockPacker, RecordBlock, filled, unpacked
from discovery.server.block_store import KEPT, MOST_GONE, BlockStore
from discovery.server.feed import ChangeFeed
from discovery.server.table import Table
from tests.discovery.stage import record

PLACE = ("default", "service:maths")


def blocks(*records, since=0.0, age=1.0, **lies):
    """Blocks as they travel. `lies`: what the listing says of the first instance instead of the truth."""
    entries = [
        (keys_of(one), [lies.get(name, getattr(one, name)) for name in ("instance", "incarnation", "version")] + [age, False],
         pack(lies.get("packed", one.to_dict())))
        for one in records
    ]  # fmt: skip
    return [filled(block, since) for block in BlockPacker().pack(entries)]


def read(*packed):
    """The packed records of these blocks, and the list of what is told of bad ones."""
    told, found = [], []
    for block in map(RecordBlock.from_list, map(unpack, packed)):
        block.contents.on_bad = lambda instance, reason: told.append((instance, reason))
        found += block.entries
    return found, told


def test_records_come_out_as_they_went_in():
    records = [record(f"i{number}", version=number, tags={"n": number}) for number in range(100)]

    found, told = read(*blocks(*records, since=2.0))

    assert [one.instance for one, _, _ in found] == [one.instance for one in records]
    assert {age for _, age, _ in found} == {3.0}
    assert list(unpacked(one for one, _, _ in found)) == records
    assert [one.unpacked() for one, _, _ in found] == records
    assert not told


def test_blocks_are_of_one_set_of_keys_and_not_too_large():
    large = [record(f"i{number}", tags={"text": "x" * 50_000}) for number in range(6)]
    subscribed = [record(f"s{number}", subscriptions=[{"source": "orders"}]) for number in range(3)]

    made = [RecordBlock.from_list(unpack(block)) for block in blocks(*large, *subscribed)]

    assert [sorted(block.contents.keys) for block in made] == [["service:maths"]] * 3 + [["service:maths", "subscribers:orders"]]
    assert all(sum(size for _, size in block.sizes()) <= BLOCK_SIZE for block in made)


@pytest.mark.parametrize(
    ("lies", "reason"),
    [
        ({"instance": "other"}, "a record is listed as 'other' (0, 0), and says that it is 'one' (0, 0)"),
        ({"incarnation": 9}, "a record is listed as 'one' (9, 0), and says that it is 'one' (0, 0)"),
        ({"version": 9}, "a record is listed as 'one' (0, 9), and says that it is 'one' (0, 0)"),
        ({"packed": record("one", "words").to_dict()}, "a record of 'words' is listed under 'maths'"),
        ({"packed": {**record("one").to_dict(), "state": "ASLEEP"}}, "state of a record is 'ASLEEP'"),
        ({"packed": [1, 2]}, "a record is list; a mapping is needed"),
    ],
    ids=["instance", "incarnation", "version", "service", "state", "shape"],
)
def test_a_record_that_differs_from_its_listing_is_none_and_reported_once(lies, reason):
    ((one, _, _),), told = read(*blocks(record("one"), **lies))

    assert not one.is_bad
    assert one.unpacked() is None
    assert one.unpacked() is None
    assert one.is_bad
    assert len(told) == 1
    assert told[0][1].startswith(reason)


def test_a_block_whose_bytes_differ_from_its_listing_has_no_records():
    (packed,) = blocks(record("one"), record("two"))
    keys, since, listing, _ = unpack(packed)
    bomb = zlib.compress(b"\0" * 50_000_000)

    for wrong in (bomb, b"junk", zlib.compress(b"")):
        found, told = read(pack([keys, since, listing, wrong]))
        assert list(unpacked(one for one, _, _ in found)) == [None, None]
        assert [instance for instance, _ in told] == ["one", "two"]


@pytest.mark.parametrize(
    "fields",
    [
        None,
        [],
        [["service:maths"], 0.0, [], "text"],
        [["subscribers:orders"], 0.0, [], b""],
        [[], 0.0, [], b""],
        [["service:maths"], -1.0, [], b""],
        [["service:maths"], float("nan"), [], b""],
        [["service:maths"], 0.0, [["one", 0, 0, 0.0, False]], b""],
        [["service:maths"], 0.0, [["one", 0, 0, -1.0, False, 5]], b""],
        [["service:maths"], 0.0, [["", 0, 0, 0.0, False, 5]], b""],
        [["service:maths"], 0.0, [["one", 0, 2**63, 0.0, False, 5]], b""],
        [["service:maths"], 0.0, [["one", 0, 0, 0.0, False, 2**40]], b""],
        [["service:maths"], 0.0, [["one", 0, 0, 0.0, False, 400_000]] * 2, b""],
    ],
)
def test_junk_is_no_block(fields):
    with pytest.raises(DirectoryProtocolError):
        RecordBlock.from_list(fields)


def test_only_the_bad_block_of_a_snapshot_is_ignored():
    (good,) = blocks(record("one"))
    frame = msgpack.packb([1, 19, 0, "boot", False, 0, 1, [], [], True, [[], unpack(good)]])
    told = []

    message = protocol.decode_push(frame, told.append)

    assert [one.instance for block in message.blocks for one, _, _ in block.entries] == ["one"]
    assert len(told) == 1


def test_a_record_that_turns_out_bad_does_not_hide_the_one_of_another_registry():
    merge = Merge()
    ((bad, _, _),), _ = read(*blocks(record("one"), incarnation=99))
    merge.snapshot("a", [MergedRecord(bad, 0.0)], warming=False)
    merge.snapshot("b", [MergedRecord(record("one"), 0.0)], warming=False)
    merge.settle(0.0)
    assert merge.known["one"].record is bad

    assert bad.unpacked() is None
    merge.pass_over("one")

    assert merge.settle(0.0) == {"one"}
    assert merge.known["one"].record == record("one")


def test_a_record_that_turns_out_bad_is_removed_if_no_other_registry_has_it():
    merge = Merge()
    ((bad, _, _),), _ = read(*blocks(record("one"), incarnation=99))
    merge.snapshot("a", [MergedRecord(bad, 0.0)], warming=False)
    merge.settle(0.0)

    assert bad.unpacked() is None
    merge.pass_over("one")

    assert merge.settle(0.0) == {"one"}
    assert not merge.known


def test_a_view_counts_and_shows_good_records_only():
    merge = Merge()
    good, _ = read(*blocks(record("one"), record("two")))
    bad, _ = read(*blocks(record("three"), version=9))
    merge.snapshot("a", [MergedRecord(one, 0.0) for one, _, _ in good + bad], warming=False)
    merge.settle(0.0)
    published = Published(merge.known, (), True, 0.0, {})

    view = published.view(0.0)

    assert view.records["one"].record == record("one")
    assert "three" not in view.records
    assert len(view.records) == 2
    assert {seen.record.instance for seen in view.records.values()} == {"one", "two"}
    assert {seen.record.instance for seen in published.service("maths", 0.0)} == {"one", "two"}


def test_the_same_records_from_a_restarted_registry_are_no_change():
    merge = Merge()
    for number in range(2):
        found, _ = read(*blocks(record("one"), record("two"), age=number))
        merge.snapshot("a", [MergedRecord(one, 0.0) for one, _, _ in found], warming=False)
        changed = merge.settle(0.0)

    assert not changed


def test_a_block_has_what_the_table_holds_when_it_is_asked_for():
    table = Table(0.0)
    store = BlockStore(table)
    table.register(record("one"), 0.0)

    ((one, age, _),), _ = read(*store.of(PLACE, 0.5))
    assert (one.unpacked(), age) == (record("one"), 0.5)

    ((one, age, _),), _ = read(*store.of(PLACE, 0.75))
    assert (one.unpacked(), age) == (record("one"), 0.75)

    table.register(record("one", version=1), 0.8)
    table.register(record("two"), 0.8)
    found, _ = read(*store.of(PLACE, 0.8))
    assert [one.rank for one, _, _ in found] == [(0, 1), (0, 0)]

    table.renew("one", (0, 1), 5.0)
    found, _ = read(*store.of(PLACE, 5.0 + KEPT))
    assert {one.instance: age for one, age, _ in found} == {"one": KEPT, "two": pytest.approx(4.2 + KEPT)}

    table.withdraw("default", "one", (0, 1), 6.0)
    table.withdraw("default", "two", (0, 0), 6.0)
    assert store.of(PLACE, 6.0) == []


def test_blocks_of_services_that_have_gone_do_not_pile_up():
    table = Table(0.0)
    store = BlockStore(table)
    table.register(record("one"), 0.0)
    stays = store.of(PLACE, 0.0)
    for number in range(3 * MOST_GONE):
        name = f"passing-{number}"
        table.register(record(name, name), 0.0)
        assert store.of(("default", f"service:{name}"), 0.0)
        table.withdraw("default", name, (0, 0), 0.0)

    assert len(store._made) <= MOST_GONE + 1
    assert store.of(PLACE, 0.0) == stays


@pytest.mark.parametrize("takes_blocks", [True, False, None], ids=["takes_blocks", "takes_none", "of_an_earlier_release"])
def test_a_client_gets_blocks_if_it_can_read_them(takes_blocks):
    table, frames = Table(0.0), []
    table.register(record("one"), 0.0)
    table.register(record("two", "words", subscriptions=[{"source": "orders"}]), 0.0)
    feed = ChangeFeed("boot", table, NoteStore(), lambda peer, frame: frames.append(frame) or True, lambda: 0.0)
    fields = [1, 1, "default", ["service:maths", "subscribers:orders"], *([] if takes_blocks is None else [takes_blocks])]

    feed.subscribe(b"peer", protocol.decode(msgpack.packb(fields)), 0.0)
    feed.take_turns(10.0)

    snapshot = protocol.decode(frames[0])
    in_blocks = [one.unpacked().instance for block in snapshot.blocks for one, _, _ in block.entries]
    listed = [entry[0].instance for entry in snapshot.entries]
    # A record that is of interest for its subscription alone comes by itself.
    assert (in_blocks, sorted(listed)) == (["one"], ["two"]) if takes_blocks else ([], ["one", "two"])


def test_a_cache_keeps_a_record_that_was_never_read(tmp_path):
    cache = DiskCache(tmp_path, "tcp://127.0.0.1:1", None)
    found, told = read(*blocks(record("one"), record("two")))
    cache.save([(one, age) for one, age, _ in found])

    held = cache.load()

    assert [one.unpacked() for one, _ in held] == [record("one"), record("two")]
    assert not told


def test_a_cache_of_an_earlier_release_is_read(tmp_path):
    cache = DiskCache(tmp_path, "tcp://127.0.0.1:1", None)
    document = {"format": 1, "key": ["tcp://127.0.0.1:1", None], "of": None, "saved_at": time.time()}
    cache.path.write_bytes(pack({**document, "records": [[record("one").to_dict(), 1.0]]}))

    ((held, _),) = cache.load()

    assert held == record("one")


@pytest.mark.parametrize(
    "line",
    [
        ["x", 1, 1, float("nan"), False, 5], ["x", 1, 1, -1.0, False, 5], ["x", True, 1, 0.0, False, 5],
        ["x", 1, -1, 0.0, False, 5],
        ["", 1, 1, 0.0, False, 5], ["x" * 300, 1, 1, 0.0, False, 5], ["x", 1, 1, 0.0, 1, 5], ["x", 1, 1, 0.0, False, 0],
        ["x", 1, 1, 0.0, False], "abcdef", ["x", 1, 2**80, 0.0, False, 5], ["x", 1, 1, 0.0, False, 1 << 30],
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_bad_line_among_good_ones_is_reported(line, place):
    good = [["a", 1, 1, 0.5, False, 5], ["b", 1, 1, 1, True, 5]]

    with pytest.raises(DirectoryProtocolError, match="a record in a block is listed as"):
        RecordBlock.from_list([["service:maths"], 0.0, [*good[:place], line, *good[place:]], b""])
