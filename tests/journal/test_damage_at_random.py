"""Whatever becomes of a journal's file: it opens, says so, and each event comes or is counted as lost. Nothing is invented."""

import json
import shutil
import sqlite3
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.at_random import examples
from tests.journal.conftest import Asked
from zmqservices.exceptions import JournalError
from zmqservices.journal import Group, Journal, LostRange
from zmqservices.journal.store import ALL_SEALED

#: Events of the journal that is damaged, by their bodies.
BODIES = [b"%d " % n + b"x" * 400 for n in range(1, 61)]
ERROR = {"exc_type": "ValueError", "value": "no"}
GROUP, OTHER = "reports.handle", "mails.send"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A closed journal with 60 events, two groups, dead letters and a gap that was not told yet."""
    folder = tmp_path_factory.mktemp("original")
    journal = Asked(Journal.open(folder, "orders", on_notice=lambda notice: None), [])
    journal.ensure(GROUP)
    journal.ensure(OTHER, "order.*")
    for body in BODIES:
        journal.append(body=body)
    journal.acknowledge(1, 2, 5)
    for event in journal.fetch().items[:3]:
        journal.ask("bury", GROUP, event, ERROR, 3)
    journal.ask("requeue", GROUP, [4])
    journal.close()
    with sqlite3.connect(journal.path) as file:
        file.execute("INSERT INTO gaps VALUES (?, 8, 9, 2, 'missing')", (OTHER,))
    file.close()
    return folder


def opened(folder, notices):
    return Asked(Journal.open(folder, "orders", on_notice=notices.append), notices)


def asked_twice(journal, *question, **options):
    """The answer, if need be after the repair that the first question brings about."""
    try:
        return journal.ask(*question, **options)
    except JournalError:
        return journal.ask(*question, **options)


def check(folder):
    """Opens the damaged journal, reads it, writes to it, and opens it again."""
    notices = []
    try:
        journal = opened(folder, notices)
    except JournalError as exc:
        # A file that says that it is of another release is left alone.
        assert "layout" in str(exc)
        return
    try:
        for name in (GROUP, OTHER):
            known = {group.name: group for group in journal.groups()}
            cursor = asked_twice(journal, "ensure_group", known.get(name) or Group(name, "#", start="earliest"))
            seen, lost = {}, set()
            while True:
                page = asked_twice(journal, "fetch", name, cursor, 1000)
                for item in page.items:
                    if isinstance(item, LostRange):
                        assert 1 <= item.events <= item.to_seq - item.from_seq + 1
                        lost.update(range(item.from_seq, item.to_seq + 1))
                    else:
                        seen[item.seq] = item
                cursor = page.to_seq
                if page.is_last:
                    break
            assert all(seen[seq].body == BODIES[seq - 1] for seq in seen if seq <= len(BODIES))
            missing = set(range(11, len(BODIES) + 1)) - seen.keys() - lost
            # Those that the group had not handled come, or are counted, unless how it stood is lost as well.
            assert not missing or notices, missing
        for letter in asked_twice(journal, "dead_letters", None, 100):
            assert letter[1].event.body == BODIES[letter[1].event.seq - 1] and (notices or letter[1].error == ERROR)
        asked_twice(journal, "requeued", GROUP)
        seq = journal.append(body=b"new")
        assert seq not in seen
    finally:
        journal.close()
    again = opened(folder, [])
    try:
        assert again.append(body=b"newer") > seq
    finally:
        again.close()


@contextmanager
def copied(original):
    with tempfile.TemporaryDirectory() as folder:
        yield shutil.copytree(original, Path(folder) / "journals")


TABLES = {
    "meta": ["value"],
    "blocks": ["first", "at", "size", "types", "before", "crc", "packed"],
    "openings": ["origin", "first"],
    "groups": ["name", "declared", "cursor", "ranges", "seen_at", "expired", "lost"],
    "gaps": ["name", "last", "events", "reason"],
    "letters": ["name", "packed", "size", "attempts", "error", "buried_at", "requeued"],
}
columns = st.sampled_from([(table, column) for table in TABLES for column in TABLES[table]])
#: Of another type than what was written: a number in place of another is nothing that SQLite, or we, could tell.
cells = (
    st.none()
    | st.binary(max_size=6)
    | st.sampled_from(["", "[]", "{}", "null", "[[1]]", "[[1, 2, 3]]", '[["a", "b"]]', '{"pattern": 5}', "[" * 2000])
    | st.sampled_from(['{"pattern": "#", "max_deliveries": "x"}', '{"order.created": "x"}', '{"order.created": 1}', b"\xc1"])
    | st.sampled_from([b"\x90", b"\x91\x05", b"\x91\x94\x01\x02\x03\x04", b"\x91\x80"])
)


@settings(max_examples=examples(60))
@given(changes=st.lists(st.tuples(columns, cells, st.integers(0, 60)), min_size=1, max_size=3))
def test_a_field_that_is_something_else(original, changes):
    with copied(original) as folder:
        with sqlite3.connect(folder / "orders.0.journal") as file:
            for (table, column), cell, row in changes:
                key = "last" if table == "blocks" else "name" if table in ("meta", "groups") else column
                found = file.execute(f"SELECT {key} FROM {table} LIMIT 1 OFFSET ?", (row % 4,)).fetchone()
                if found is not None:
                    try:
                        file.execute(f"UPDATE {table} SET {column} = ? WHERE {key} IS ?", (cell, found[0]))
                    except sqlite3.IntegrityError:
                        pass
        file.close()

        check(folder)


@settings(max_examples=examples(60))
@given(
    damages=st.lists(
        st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=40) | st.integers(1, 9000)), min_size=1, max_size=4
    ),
    end=st.none() | st.floats(0, 1),
)
def test_bytes_that_are_others(original, damages, end):
    with copied(original) as folder:
        path = folder / "orders.0.journal"
        content = bytearray(path.read_bytes())
        for where, change in damages:
            at = int(where * (len(content) - 1))
            new = change if isinstance(change, bytes) else bytes(change)
            content[at : at + len(new)] = new[: len(content) - at]
        path.write_bytes(content if end is None else content[: int(end * len(content))])

        check(folder)


@pytest.mark.parametrize("value", [0, 5, 255])
@pytest.mark.parametrize("at", [*range(16, 24), 28, 31, 47, 55, 59, 67, 71, 95, 99])
def test_a_damaged_byte_of_the_header_is_repaired(original, at, value):
    with copied(original) as folder:
        path = folder / "orders.0.journal"
        content = bytearray(path.read_bytes())
        content[at] = value
        path.write_bytes(content)

        check(folder)


@pytest.mark.parametrize("column", ["requeued", "error", "packed", "cursor", "last"])
def test_a_column_of_another_name_costs_nothing(original, column):
    with copied(original) as folder:
        path = folder / "orders.0.journal"
        content = path.read_bytes()
        damaged = content.replace(column.encode(), b"X" + column.encode()[1:])
        assert damaged != content
        path.write_bytes(damaged)

        check(folder)
        journal = opened(folder, [])
        try:
            assert {item.body for item in asked_twice(journal, "fetch", GROUP, 10, 1000).items} >= set(BODIES[10:])
        finally:
            journal.close()


@settings(max_examples=examples(40))
@given(st.binary(max_size=130) | st.from_regex(rb"[0-9a-f]{0,40} [0-9]{1,30} [0-9]{1,30}", fullmatch=True))
def test_a_mark_that_is_another(original, mark):
    with copied(original) as folder:
        (folder / "orders.0.lock").write_bytes(mark)

        check(folder)


@pytest.mark.parametrize("group", [GROUP, OTHER])
def test_one_line_of_a_group_that_is_lost_costs_no_event(original, group):
    with copied(original) as folder:
        with sqlite3.connect(folder / "orders.0.journal") as file:
            file.execute("UPDATE groups SET declared = '' WHERE name = ?", (group,))
        file.close()
        notices = []

        journal = opened(folder, notices)

        assert [(notice.reason, notice.lost) for notice in notices] == [("damaged", 0)]
        assert journal.stats().events == len(BODIES)
        journal.close()


@pytest.mark.parametrize("change", ["first = NULL", "first = 1000", "origin = x'c1'"])
def test_events_are_delivered_though_it_is_not_known_who_appended_them(original, change):
    with copied(original) as folder:
        with sqlite3.connect(folder / "orders.0.journal") as file:
            file.execute(f"UPDATE openings SET {change}")
        file.close()

        journal = opened(folder, [])

        assert [item.body for item in journal.items(after=10)] == BODIES[10:]
        journal.close()


@settings(max_examples=examples(30))
@given(column=st.sampled_from(["packed", "attempts", "error", "buried_at", "name"]), at=st.floats(0, 1), bit=st.integers(0, 7))
def test_a_bit_of_a_dead_letter_that_is_another_is_noticed(original, column, at, bit):
    with copied(original) as folder:
        with sqlite3.connect(folder / "orders.0.journal") as file:
            seq, value = file.execute(f"SELECT seq, {column} FROM letters WHERE NOT requeued ORDER BY seq").fetchone()
            others = file.execute("SELECT seq FROM letters WHERE NOT requeued AND seq > ?", (seq,)).fetchall()
            file.execute(f"UPDATE letters SET {column} = ? WHERE seq = ?", (other_than(value, at, bit), seq))
        file.close()
        notices = []
        journal = opened(folder, notices)

        left = asked_twice(journal, "dead_letters", None, 100)

        assert [(letter.event.seq,) for _, letter in left] == others
        assert [notice.reason for notice in notices] == ["damaged"]
        journal.close()


def other_than(value, at, bit):
    """The value with one bit changed; a text stays one."""
    if not isinstance(value, (str, bytes)):
        return value + 2**bit
    data = bytearray(value.encode() if isinstance(value, str) else value)
    data[int(at * (len(data) - 1))] ^= 2 ** (bit % 7)
    return data.decode() if isinstance(value, str) else bytes(data)


@pytest.mark.parametrize("is_damaged", [False, True])
def test_dead_letters_of_older_releases_have_no_checksum_and_are_read(original, is_damaged):
    with copied(original) as folder:
        with sqlite3.connect(folder / "orders.0.journal") as file:
            file.execute("UPDATE letters SET error = ?", (json.dumps(ERROR),))
            file.execute("DELETE FROM meta WHERE name = ?", (ALL_SEALED,))
            if is_damaged:
                file.execute("UPDATE openings SET first = NULL")
        file.close()
        notices = []

        journal = opened(folder, notices)

        assert [letter.error for _, letter in journal.ask("dead_letters", None, 100)] == [ERROR, ERROR]
        assert [event.body for event in journal.ask("requeued", GROUP)] == [BODIES[3]]
        assert len(notices) == is_damaged
        journal.close()


def test_an_error_with_any_keys_is_kept(tmp_path):
    journal = Asked(Journal.open(tmp_path, "orders", on_notice=lambda notice: None), [])
    journal.ensure(GROUP)
    journal.append(body=b"x")
    (event,) = journal.fetch().items

    journal.ask("bury", GROUP, event, {1: "a", "1": "b", "checksum": 5, "at": float("nan"), "surrogate": "\ud800"}, 3)

    ((_, letter),) = journal.ask("dead_letters", None, 10)
    assert letter.error["1"] == "b" and "checksum" not in letter.error
    journal.close()


def test_a_dead_letter_that_cannot_be_read_hides_no_other(original):
    with copied(original) as folder:
        with sqlite3.connect(folder / "orders.0.journal") as file:
            file.execute("UPDATE letters SET packed = x'9105' WHERE seq = (SELECT min(seq) FROM letters WHERE NOT requeued)")
            left = file.execute("SELECT count(*) FROM letters WHERE NOT requeued").fetchone()[0] - 1
        file.close()
        notices = []
        journal = opened(folder, notices)

        with pytest.raises(JournalError, match="dead letter"):
            journal.ask("dead_letters", None, 100)

        assert len(journal.ask("dead_letters", None, 100)) == left >= 1
        assert [notice.reason for notice in notices] == ["damaged"]
        journal.close()
