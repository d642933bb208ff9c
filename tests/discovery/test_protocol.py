"""Each kind of message is encoded and decoded, and junk is refused."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery import DirectoryError, DirectoryProtocolError, Note, Record, protocol
from tests.discovery.stage import record

FULL = Record(
    service="maths",
    instance="i1",
    node="n1",
    incarnation=2**53,
    version=7,
    namespace="prod",
    endpoints={"rpc": "tcp://10.0.0.5:4321"},
    state="DRAINING",
    ttl=3.5,
    methods={"add": {"idempotent": True, "signature": "(a, b)", "doc": "Adds."}},
    subscriptions=[["pool", "words", "counted", "maths"]],
    public_key="k" * 40,
    zone="west",
    weight=0.5,
    tags={"colour": "blau", "ünicode": "✓"},
    host="h",
    pid=42,
)

NOTE = Note("prod", "events:orders mails.send", 2**52, 86400.5, {"group": "mails.send", "most": None})
FORGOTTEN = Note("prod", "events:orders old.send", 2**52, 86400, None)

ROWS = [
    protocol.Subscribe("default"),
    protocol.Subscribe(None, ["service:maths", "subscribers:orders"]),
    protocol.Extend(4, ["service:maths", "subscribers:orders"]),
    protocol.Register(1, FULL),
    protocol.Renew([["i1", 1, 2], ["i2", 3, 4]]),
    protocol.Withdraw(2, "default", "i1", 1, 2),
    protocol.Ack(2),
    protocol.Refused(2, "this registry is full"),
    protocol.Unknown(["i1"]),
    protocol.PutNotes(3, [NOTE, FORGOTTEN]),
    protocol.Snapshot(0, "boot", True, 0, 1, [[FULL, 1.5, False]], [NOTE], True),
    protocol.NotesChanged(7, "boot", [NOTE, FORGOTTEN]),
    protocol.Update(5, "boot", FULL, 0.0, True),
    protocol.Drop(6, "boot", "i1", 1, 2, True),
    protocol.Heartbeat(6, "boot", False),
    protocol.Mark(2**61),
    protocol.Present(b"certificate"),
    protocol.Revoked([b"list"]),
    protocol.Read(2**61),
]


@pytest.mark.parametrize("message", ROWS, ids=lambda message: type(message).__name__)
def test_a_message_survives_the_trip(message):
    assert protocol.decode(protocol.encode(message)) == message


@pytest.mark.parametrize("message", ROWS, ids=lambda message: type(message).__name__)
def test_fields_of_a_later_version_are_ignored(message):
    longer = [*msgpack.unpackb(protocol.encode(message)), "something new"]

    assert protocol.decode(msgpack.packb(longer)) == message


@pytest.mark.parametrize("message", ROWS, ids=lambda message: type(message).__name__)
def test_a_message_cut_short_is_refused(message):
    frame = protocol.encode(message)

    for length in range(len(frame)):
        with pytest.raises(DirectoryProtocolError):
            protocol.decode(frame[:length])
    may_be_missing = protocol.OPTIONAL.get(message.KIND, 0)
    with pytest.raises(DirectoryProtocolError, match="fields"):
        protocol.decode(msgpack.packb(msgpack.unpackb(frame)[: -1 - may_be_missing]))


def test_the_fields_of_a_later_release_may_be_missing():
    assert protocol.decode(msgpack.packb([protocol.VERSION, protocol.Subscribe.KIND, "default"])) == protocol.Subscribe("default")
    assert protocol.decode(
        msgpack.packb([protocol.VERSION, protocol.Snapshot.KIND, 0, "boot", True, 0, 1, [], []])
    ) == protocol.Snapshot(0, "boot", True, 0, 1, [], [])


@pytest.mark.parametrize("message", ROWS, ids=lambda message: type(message).__name__)
def test_a_field_of_another_type_is_refused(message):
    values = msgpack.unpackb(protocol.encode(message))

    for position in range(2, len(values)):
        with pytest.raises(DirectoryProtocolError):
            protocol.decode(msgpack.packb([*values[:position], {"a": 1.5}, *values[position + 1 :]]))


def test_every_kind_of_message_has_a_row():
    assert {type(message) for message in ROWS} == set(protocol.KINDS.values())


@pytest.mark.parametrize(
    "message",
    [row for row in ROWS if isinstance(row, protocol.Update | protocol.Drop | protocol.Heartbeat | protocol.NotesChanged)],
)
def test_a_push_is_the_message_with_the_number_of_its_subscriber(message):
    frame = protocol.Push(message).frame(2**40)
    message = protocol.decode(protocol.encode(message))
    message.seq = 2**40

    assert protocol.decode(frame) == message


def packed(entries):
    return (protocol.packed_entry(protocol.pack(record.to_dict()), *others) for record, *others in entries)


def test_a_large_snapshot_comes_in_parts_of_bounded_size():
    entries = [[record(f"i{number}", tags={"text": "x" * 100_000}), 0.0, False] for number in range(20)]

    notes = [Note("prod", f"n{number}", number, 60.0, {"text": "x" * 3000}) for number in range(400)]

    frames = list(protocol.snapshot_parts("boot", 3, False, packed(entries), notes))
    parts = [protocol.decode(frame) for frame in frames]

    assert len(frames) > 1
    assert max(map(len, frames)) < protocol.PART_SIZE + 1000
    assert [part.part for part in parts] == list(range(len(frames)))
    assert [part.parts for part in parts] == [0] * (len(frames) - 1) + [len(frames)]
    assert {(part.seq, part.boot_id) for part in parts} == {(3, "boot")}
    assert [entry for part in parts for entry in part.entries] == entries
    assert [note for part in parts for note in part.notes] == notes


def test_a_part_of_a_snapshot_is_made_when_it_is_asked_for():
    made = []
    entries = ([made.append(number) or record(f"i{number}", tags={"text": "x" * 100_000}), 0.0, False] for number in range(20))

    next(protocol.snapshot_parts("boot", 3, False, packed(entries), []))

    assert made == [0, 1, 2]


def of_no_use(fields):
    """Records and entries that a newer or broken registry might send."""
    return [{**fields, "endpoints": {"rpc": 7}}, {**fields, "state": "ASLEEP"}, {}, None, [fields]]


def test_only_the_bad_record_of_a_snapshot_is_ignored():
    good, note = record("good"), NOTE.to_list()
    entries = [[bad, 0.0, False] for bad in of_no_use(FULL.to_dict())] + [None, [], [FULL.to_dict(), -1.0, False]]
    bad_notes = [None, [], ["prod", "", 1, 60.0, None], [*note[:4], {"text": "x" * 5000}]]
    frame = msgpack.packb([1, 19, 0, "boot", False, 0, 1, [*entries, [good.to_dict(), 1.0, False]], [*bad_notes, note]])
    told = []

    message = protocol.decode_push(frame, told.append)

    assert message == protocol.Snapshot(0, "boot", False, 0, 1, [[good, 1.0, False]], [NOTE])
    assert len(told) == len(entries) + len(bad_notes)
    with pytest.raises(DirectoryProtocolError):
        protocol.decode(frame)


@pytest.mark.parametrize("bad", of_no_use(FULL.to_dict()))
def test_an_update_whose_record_is_bad_still_counts(bad):
    told = []

    message = protocol.decode_push(msgpack.packb([1, 20, 7, "boot", bad, 0.0, False]), told.append)

    assert message == protocol.SkippedUpdate(7, "boot")
    assert len(told) == 1


@pytest.mark.parametrize("message", ROWS, ids=lambda message: type(message).__name__)
def test_a_valid_push_is_read_alike_by_both_readers(message):
    assert protocol.decode_push(protocol.encode(message), pytest.fail) == message


def test_an_empty_snapshot_is_one_frame():
    (frame,) = protocol.snapshot_parts("boot", 0, True, [], [])

    assert protocol.decode(frame) == protocol.Snapshot(0, "boot", True, 0, 1, [], [])


def test_another_major_version_is_named():
    with pytest.raises(DirectoryProtocolError, match="version 9; this is version 1"):
        protocol.decode(msgpack.packb([9, 1, None]))


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\xc1",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\x91" * 2000,
        b"\x81" * 2000,
        msgpack.packb([1]),
        msgpack.packb({"a": 1}),
        msgpack.packb([1, 99]),
        msgpack.packb([1, [], None]),
        msgpack.packb([1, 1, None]) + b"\x00",
        msgpack.packb([1, 1, msgpack.ExtType(5, b"x")]),
        msgpack.packb([1, 1, msgpack.Timestamp(1)]),
        b"\x93\x01\x01\xa2\xff\xfe",
        b"\x93\x01\x01\x81\x90\x01",
        msgpack.packb([1, 2, 1, {"service": "a"}]),
        msgpack.packb([1, 2, 1, {"service": "a", "instance": "b", "ttl": float("nan")}]),
        msgpack.packb([1, 2, 1, {"service": "a", "instance": "b", "state": []}]),
        msgpack.packb([1, 2, 1, {"service": "a", "instance": "b", "state": "ASLEEP"}]),
        msgpack.packb([1, 2, -1, {"service": "a", "instance": "b"}]),
        msgpack.packb([1, 20, 1, "boot", {"service": "a", "instance": "b"}, float("nan"), False]),
        msgpack.packb([1, 3, [["i", 1, 1]] * 2001]),
        msgpack.packb([1, 5, 1, [["n", "k", 1, 60.0]]]),
        msgpack.packb([1, 5, 1, [["n", "", 1, 60.0, None]]]),
        msgpack.packb([1, 5, 1, [["n", "k", -1, 60.0, None]]]),
        msgpack.packb([1, 5, 1, [["n", "k", 1, float("nan"), None]]]),
        msgpack.packb([1, 5, 1, [["n", "k", 1, 60.0, "text"]]]),
        msgpack.packb([1, 5, 1, [["n", "k", 1, 60.0, {"text": "x" * 4096}]]]),
        msgpack.packb([1, 5, 1, {"n": 1}]),
        b"\x93\x01" + b"\x91" * 1000 + b"\xc0\xc0",
        b"\x94\x01\x02\x01" + b"\x91" * 1000 + b"\xc0",
        b"\x94\x01\x02\x01\x83\xa7service\xa1a\xa8instance\xa1b\xa4tags\x81\xa1t" + b"\x91" * 900 + b"\xc0",
        b"\x94\x01\x05\x01\x91\x95\xa1n\xa1k\x01\x3c\x81\xa1v" + b"\x91" * 900 + b"\xc0",
    ],
)
def test_junk_is_refused_with_the_protocol_error(frame):
    with pytest.raises(DirectoryProtocolError):
        protocol.decode(frame)


@given(st.binary(max_size=300))
def test_no_bytes_raise_another_error(frame):
    try:
        protocol.decode(frame)
    except DirectoryProtocolError:
        pass


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(st.sampled_from(sorted(protocol.KINDS)), st.lists(values, max_size=8))
def test_no_values_in_the_frame_of_a_kind_raise_another_error(kind, fields):
    for decode in (protocol.decode, lambda frame: protocol.decode_push(frame, str)):
        try:
            decode(msgpack.packb([protocol.VERSION, kind, *fields]))
        except DirectoryProtocolError:
            pass


@given(st.dictionaries(st.sampled_from(list(FULL.to_dict())), values))
def test_no_fields_of_a_record_raise_another_error(fields):
    try:
        Record.from_dict({**FULL.to_dict(), **fields})
    except DirectoryProtocolError:
        pass


def test_a_record_survives_as_a_dict_and_ignores_unknown_fields():
    assert Record.from_dict({**FULL.to_dict(), "colour_of_hat": "green"}) == FULL


@pytest.mark.parametrize("junk", [None, [], "record", {}, {"service": "", "instance": "x"}, {"service": "x"}])
def test_a_value_that_is_not_a_record_is_refused(junk):
    with pytest.raises(DirectoryProtocolError):
        Record.from_dict(junk)


@pytest.mark.parametrize("value", [object(), {1, 2}, 2**70])
def test_a_value_that_cannot_be_sent_is_refused_with_a_reason(value):
    with pytest.raises(DirectoryError, match="cannot be sent"):
        protocol.encode(protocol.Register(1, record(tags={"a": value})))


def test_a_changed_copy_has_the_next_version():
    changed = record(version=4).replace(state="DRAINING")

    assert changed.rank == (0, 5)
    assert changed.state == "DRAINING"
