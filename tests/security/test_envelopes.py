"""Signed records, withdrawals and notes: which ones a reader accepts, and why it refuses the others."""

from dataclasses import replace
from pathlib import Path

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discovery import Note, Record
from discovery.exceptions import DirectoryError, SecurityError
from discovery.security import envelopes, files
from discovery.security.authority import DAY, Authority
from discovery.security.certificates import Certificate, SignedCertificate, issue
from discovery.security.envelopes import LIFETIME, LONGEST_LIFETIME, SIGN_AGAIN, Envelope, Signer, Verifier, own_id
from discovery.security.keys import Keys
from discovery.security.signing import sign
from discovery.security.verdicts import SKEW, Refusal, Trust
from tests.at_random import examples

NOW = 1_800_000_000.0


class Clock:
    now = NOW

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority.create(tmp_path_factory.mktemp("keys") / "cluster", clock=lambda: NOW)


@pytest.fixture(scope="module")
def keys(authority):
    made = {}

    def keys(name="maths", days=30, **lists):
        if name not in made:
            lists.setdefault("registers", (name,))
            made[name] = Keys.read(authority.issue(name, lists, days), lambda: NOW)
        return made[name]

    return keys


@pytest.fixture
def verifier(keys, clock):
    return Verifier(keys("reader"), clock)


def record(keys, instance="one", service=None, **fields):
    fields.setdefault("public_key", keys.pair.public.hex())
    return Record(service or keys.certificate.name, own_id(keys, instance), incarnation=5, version=2, **fields)


def note(key="events:orders\0orders:paid", stamp=NOW, **value):
    return Note("default", key, int(stamp * 1e6), 3600.0, {"pattern": "paid", **value})


def refused(verify, *arguments):
    with pytest.raises(Refusal) as caught:
        verify(*arguments)
    return caught.value.reason


def resigned(keys, purpose, signed, change):
    """What the node itself would have signed after a change of the payload."""
    envelope = Envelope.from_bytes(signed, "it")
    payload = msgpack.unpackb(envelope.payload)
    change(payload)
    packed = msgpack.packb(payload)
    return Envelope(packed, envelope.certificate, sign(keys.signing, purpose, packed)).to_bytes()


def test_a_signed_record_is_believed_as_it_was_signed(keys, clock, verifier):
    maths = keys()
    own = record(maths, endpoints={"rpc": "tcp://10.0.0.5:4000"}, tags={"a": [1, {"b": None}]}, methods={"add": {}})

    travelled = Record.from_dict(msgpack.unpackb(msgpack.packb(Signer(maths, clock).record(own).to_dict())))

    assert verifier.record(travelled) == own
    assert verifier.record(travelled).signed == travelled.signed


def test_what_stands_beside_the_signed_bytes_does_not_count(keys, clock, verifier):
    own = record(keys(), endpoints={"rpc": "tcp://10.0.0.5:4000"})
    altered = replace(Signer(keys(), clock).record(own), endpoints={"rpc": "tcp://6.6.6.6:6"}, state="DRAINING", methods={})

    assert verifier.record(altered) == own


def test_fields_of_a_newer_release_survive_an_older_registry(keys, clock, verifier):
    signed = Signer(keys(), clock).record(record(keys()))
    newer = resigned(keys(), envelopes.RECORD, signed.signed, lambda payload: payload["record"].update(colour="blue"))

    # Decoded and packed again by a registry that knows no colours.
    forwarded = Record.from_dict(Record.from_dict({**signed.to_dict(), "signed": newer, "colour": "blue"}).to_dict())

    assert verifier.record(forwarded) == signed
    assert msgpack.unpackb(Envelope.from_bytes(forwarded.signed, "it").payload)["record"]["colour"] == "blue"


@pytest.mark.parametrize(
    ("field", "value"),
    [("service", "words"), ("instance", "x"), ("namespace", "other"), ("incarnation", 9), ("version", 9)],
)
def test_a_record_that_is_given_as_another_is_refused(keys, clock, verifier, field, value):
    assert refused(verifier.record, replace(Signer(keys(), clock).record(record(keys())), **{field: value})) == "altered"


def test_a_record_without_a_signature_is_refused(keys, verifier):
    assert refused(verifier.record, record(keys())) == "unsigned"


@given(data=st.data())
@settings(max_examples=examples(60), deadline=None)
def test_signed_bytes_that_were_altered_are_refused(keys, data):
    signed = Signer(keys(), Clock()).record(record(keys()))
    raw = bytearray(signed.signed)
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))

    reason = refused(Verifier(keys("reader"), Clock()).record, replace(signed, signed=bytes(raw)))

    assert reason in ("junk", "signature", "authority")


@given(st.binary(max_size=300))
@settings(max_examples=examples(60), deadline=None)
def test_junk_is_refused_and_nothing_else_is_raised(keys, junk):
    verifier = Verifier(keys("reader"), Clock())
    assert refused(verifier.record, replace(record(keys()), signed=junk)) == "junk"
    assert refused(verifier.withdrawal, junk, "x", (1, 1)) == "junk"
    assert refused(verifier.note, replace(note(), signed=junk)) == "junk"


@pytest.mark.parametrize(
    ("purpose", "payload", "reason"),
    [
        (envelopes.RECORD, [1], "junk"),
        (envelopes.RECORD, {}, "junk"),
        (envelopes.RECORD, {"at": NOW, "until": NOW + 9, "record": 7}, "junk"),
        (envelopes.RECORD, {"at": NOW, "until": NOW + 9, "record": {"service": 7}}, "junk"),
        (envelopes.RECORD, {"at": NOW, "until": float("nan"), "record": {}}, "junk"),
        (envelopes.RECORD, {"at": NOW, "until": NOW + LONGEST_LIFETIME + 1, "record": {}}, "early"),
        (envelopes.NOTE, {"at": NOW, "until": NOW + 9, "record": {}}, "signature"),
    ],
)
def test_junk_that_a_node_itself_signed_is_refused(keys, verifier, purpose, payload, reason):
    packed = msgpack.packb(payload)
    signed = Envelope(packed, keys().signed, sign(keys().signing, purpose, packed)).to_bytes()

    assert refused(verifier.record, replace(record(keys()), signed=signed)) == reason


def test_a_record_of_a_stranger_is_refused(keys, clock, verifier, tmp_path):
    stranger = Keys.read(Authority.create(tmp_path / "x", clock=clock).issue("maths", {"registers": ("*",)}), clock)

    assert refused(verifier.record, Signer(stranger, clock).record(record(stranger))) == "authority"


def test_a_record_shown_with_the_certificate_of_another_is_refused(keys, clock, verifier):
    thief = keys("thief")
    packed = Envelope.from_bytes(Signer(keys(), clock).record(record(keys())).signed, "it").payload
    signed = Envelope(packed, keys().signed, sign(thief.signing, envelopes.RECORD, packed)).to_bytes()

    assert refused(verifier.record, replace(record(keys()), signed=signed)) == "signature"


def test_a_record_with_the_key_or_the_id_of_another_is_refused(keys, clock, verifier):
    thief = keys("thief", registers=("*",))
    signed = Signer(thief, clock).record(record(thief)).signed

    def change(**fields):
        given = replace(record(thief), **fields)
        return replace(given, signed=resigned(thief, envelopes.RECORD, signed, lambda payload: payload["record"].update(fields)))

    assert refused(verifier.record, change(public_key=keys().pair.public.hex())) == "key"
    assert refused(verifier.record, change(instance=own_id(keys(), "one"))) == "owner"
    with pytest.raises(DirectoryError, match="its public_key has to be that of the node, and its instance has to begin with"):
        Signer(thief, clock).record(record(keys()))


def test_a_service_that_the_certificate_does_not_name_is_refused(keys, clock, verifier):
    signed = Signer(keys(), clock).record(record(keys())).signed
    forged = resigned(keys(), envelopes.RECORD, signed, lambda payload: payload["record"].update(service="words"))

    assert refused(verifier.record, replace(record(keys(), service="words"), signed=forged)) == "forbidden"
    with pytest.raises(DirectoryError, match="must not register 'words'"):
        Signer(keys(), clock).record(record(keys(), service="words"))


def test_an_old_record_is_refused_minutes_after_it_was_signed(keys, clock, verifier):
    signer = Signer(keys(), clock)
    signed = signer.record(record(keys()))

    clock.now += LIFETIME + SKEW - 1
    assert verifier.record(signed)
    clock.now += 2
    assert refused(verifier.record, signed) == "old"
    assert verifier.record(signer.record(signed))


def test_a_record_from_the_own_cache_is_of_use_for_a_day_and_for_nobody_else(keys, clock, verifier):
    signed = Signer(keys(), clock).record(record(keys()))

    clock.now += LONGEST_LIFETIME + SKEW - 1
    assert verifier.record(signed, is_cached=True)
    assert refused(verifier.record, signed) == "old"
    clock.now += 2
    assert refused(lambda one: verifier.record(one, is_cached=True), signed) == "old"


def test_a_node_of_the_former_release_signs_for_a_day(keys, clock, verifier, monkeypatch):
    monkeypatch.setattr(envelopes, "LIFETIME", LONGEST_LIFETIME)
    signed = Signer(keys(), clock).record(record(keys()))

    clock.now += LONGEST_LIFETIME / 2
    assert verifier.record(signed)


def test_what_is_signed_again_and_again_takes_no_more_room(keys, clock, verifier):
    signer = Signer(keys(), clock)
    for _ in range(5):
        clock.now += SIGN_AGAIN
        last = signer.record(record(keys()))
        verifier.record(last)

    assert list(verifier._known) == [last.signed] and verifier._bytes == len(last.signed)
    assert list(verifier._newest.values()) == [last.signed]


def test_a_record_of_the_future_is_refused_beyond_a_minute(keys, clock, verifier):
    ahead = Clock()
    ahead.now = NOW + SKEW - 1
    assert verifier.record(Signer(keys(), ahead).record(record(keys())))
    ahead.now += 2
    assert refused(verifier.record, Signer(keys(), ahead).record(record(keys()))) == "early"


def test_a_record_is_signed_anew_in_time_and_when_the_certificate_was_renewed(keys, clock, authority):
    signer = Signer(keys(), clock)
    signed = signer.record(record(keys()))

    assert signer.is_due(record(keys())) and not signer.is_due(signed)
    clock.now += SIGN_AGAIN
    assert signer.is_due(signed)
    assert not signer.is_due(signer.record(signed))
    renewed = replace(keys(), signed=b"another")
    assert Signer(renewed, Clock()).is_due(signed)


def test_a_record_does_not_outlive_its_certificate_even_where_it_is_known(keys, clock, verifier):
    brief = keys("brief", days=0.5)
    signed = Signer(brief, clock).record(record(brief))
    assert verifier.record(signed)

    clock.now += DAY / 2 + SKEW + 1

    assert refused(verifier.record, signed) == "expired"


def test_a_revoked_certificate_makes_its_records_void_at_once(keys, clock, authority):
    reader = keys("reader")
    verifier = Verifier(reader, clock)
    lost = keys("lost")
    signed = Signer(lost, clock).record(record(lost))
    assert verifier.record(signed)

    revoked = authority.revocations().with_serials({lost.certificate.serial}, authority._keys)
    reader.trust = Trust(reader.trust.authorities, {authority.public_key: revoked})
    try:
        assert refused(verifier.record, signed) == "revoked"
    finally:
        reader.trust = Trust(reader.trust.authorities)


def test_withdrawals(keys, clock, verifier):
    own, thief = record(keys()), keys("thief")
    signed = Signer(keys(), clock).withdrawal(own)

    assert verifier.withdrawal(signed, own.instance, own.rank) == "default"
    assert refused(verifier.withdrawal, None, own.instance, own.rank) == "unsigned"
    assert refused(verifier.withdrawal, signed, own.instance, (9, 9)) == "altered"
    assert refused(verifier.withdrawal, signed, "another", own.rank) == "altered"
    assert refused(verifier.withdrawal, Signer(thief, clock).withdrawal(own), own.instance, own.rank) == "owner"
    # A record is no withdrawal, although the same node signed it.
    assert refused(verifier.withdrawal, Signer(keys(), clock).record(own).signed, own.instance, own.rank) == "signature"


def test_notes(keys, clock, verifier):
    publisher, idle = keys("orders", publishes=("orders",)), keys("idle", registers=())
    signed = Signer(publisher, clock).note(note())
    travelled = Note.from_list(msgpack.unpackb(msgpack.packb(signed.to_list())))

    assert verifier.note(travelled) == note() and verifier.note(travelled).signer == publisher.pair.public
    assert travelled.signer == b""
    assert refused(verifier.note, note()) == "unsigned"
    assert refused(verifier.note, replace(signed, value={"pattern": "#"})) == "altered"
    assert refused(verifier.note, replace(signed, stamp=signed.stamp + 1)) == "altered"
    assert refused(verifier.note, Signer(idle, clock).note(note())) == "forbidden"
    with pytest.raises(DirectoryError, match="must not be written by this process"):
        Signer(idle, clock).check_note(note())
    Signer(publisher, clock).check_note(note())


def test_a_note_outlives_its_certificate_but_not_what_was_written_after_its_end(keys, clock, verifier):
    brief = keys("briefly", days=0.5, publishes=("orders",))
    signer = Signer(brief, clock)
    clock.now += DAY

    assert verifier.note(signer.note(note(stamp=NOW + 60)))
    assert refused(verifier.note, signer.note(note(stamp=clock.now))) == "expired"


def test_a_note_does_not_outlive_the_trust_in_its_authority(keys, clock, verifier, monkeypatch):
    signed = Signer(keys("orders", publishes=("orders",)), clock).note(note())
    assert verifier.note(signed)

    monkeypatch.setattr(keys("reader"), "trust", Trust(frozenset([bytes(32)])))

    assert refused(verifier.note, signed) == "authority"


def test_the_bytes_of_a_verified_note_are_no_record_and_those_of_a_record_no_note(keys, clock, verifier):
    orders = keys("orders", publishes=("orders",))
    signed_note, signed_record = Signer(orders, clock).note(note()), Signer(orders, clock).record(record(orders))
    assert verifier.note(signed_note) and verifier.record(signed_record)

    assert refused(verifier.record, replace(signed_record, signed=signed_note.signed)) == "signature"
    assert refused(verifier.note, replace(signed_note, signed=signed_record.signed)) == "signature"


@pytest.mark.parametrize("later", [3600, 0], ids=["later", "in-the-same-second"])
def test_a_note_is_signed_again_with_a_newer_certificate_and_then_needs_no_former_authority(
    keys, clock, verifier, tmp_path, later
):
    orders = keys("orders", publishes=("orders",))
    signer = Signer(orders, clock)
    first = verifier.note(signer.note(note(stamp=NOW + 5)))
    assert signer.note_again(first) is None

    clock.now += later
    former = Authority(Path(orders.folder).parent, clock=clock)
    successor = Authority.create(tmp_path / "next", clock=clock, former=former.folder)
    signed = SignedCertificate.from_bytes(files.read(successor.folder / "issued" / "orders", "certificate")[0])
    renewed = replace(orders, signed=signed.to_bytes(), certificate=Certificate.unpack(signed.packed))
    again = Signer(renewed, clock).note_again(first)

    assert (again.key, again.value, again.ttl) == (first.key, first.value, first.ttl)
    assert first.rank < again.rank and again.stamp - first.stamp == 1
    # Another process with this folder makes the very same, and one that has not read it again leaves it as it is.
    assert Signer(renewed, clock).note_again(first).signed == again.signed
    reader = Verifier(replace(keys("reader"), trust=Trust(frozenset([successor.public_key]))), clock)
    seen = reader.note(again)
    assert seen.signer == orders.pair.public
    assert Signer(renewed, clock).note_again(seen) is None and signer.note_again(seen) is None
    assert refused(reader.note, first) == "authority"


def test_a_note_is_not_signed_again_for_another_node_or_without_permission(keys, clock, verifier, authority):
    orders, other = keys("orders", publishes=("orders",)), keys("second", publishes=("orders",))
    first = verifier.note(Signer(orders, clock).note(note()))
    later = replace(other.certificate, starts=NOW + 60)

    assert Signer(replace(other, signed=b"newer", certificate=later), clock).note_again(first) is None
    may_not = replace(orders.certificate, starts=NOW + 60, publishes=(), handles=(), registers=())
    assert Signer(replace(orders, signed=b"newer", certificate=may_not), clock).note_again(first) is None


def test_a_note_that_is_older_than_its_signers_certificate_is_believed(keys, clock, verifier):
    # A publisher registers a group with the age that its journal knows.
    clock.now = NOW + 100
    publisher = keys("orders", publishes=("orders",))

    assert verifier.note(Signer(publisher, clock).note(note(stamp=NOW - DAY)))


def test_the_time_of_a_signature_makes_no_certificate_valid_that_is_not(keys, clock, verifier):
    brief = keys("briefly", days=0.5, publishes=("orders",))
    clock.now += DAY
    late = Signer(brief, clock).note(note(stamp=clock.now))
    backdated = resigned(brief, envelopes.NOTE, late.signed, lambda payload: payload.update(at=NOW + 60))
    assert refused(verifier.note, replace(late, signed=backdated)) == "expired"

    clock.now = NOW - DAY
    early = Signer(brief, clock).note(note(stamp=clock.now))
    assert refused(verifier.note, early) == "early"


def test_what_is_kept_is_bounded(keys, clock, verifier, monkeypatch):
    monkeypatch.setattr(envelopes, "MOST_RECORDS", 3)
    monkeypatch.setattr(envelopes, "MOST_CERTIFICATES", 2)
    for number in range(5):
        assert verifier.record(Signer(keys(), clock).record(record(keys(), str(number))))
    for name in ("a", "b", "c"):
        assert verifier.record(Signer(keys(name), clock).record(record(keys(name))))
    assert len(verifier._known) == 3 and len(verifier._certificates) == 2
    assert verifier._bytes == sum(map(len, verifier._known))

    monkeypatch.setattr(envelopes, "MOST_BYTES", 10)
    assert verifier.record(Signer(keys(), clock).record(record(keys())))
    assert verifier._bytes == 0 and not verifier._known


def test_an_old_folder_says_how_it_gets_a_key_for_signatures(authority):
    folder = authority.issue("old", {"registers": ("old",)})
    certificate = Certificate.unpack(SignedCertificate.from_bytes(Keys.read(folder, lambda: NOW).signed).packed)
    authority._publish(replace(certificate, signing_key=b""), issue(replace(certificate, signing_key=b""), authority._keys))
    (folder / "node.signing").unlink()
    with pytest.raises(SecurityError, match=r"names no key for signatures.*`zmqservices keys renew old` makes one"):
        Keys.read(folder, lambda: NOW)

    authority.renew("old")

    keys = Keys.read(folder, lambda: NOW)
    assert keys.certificate.signing_key == keys.signing.public and keys.certificate.registers == ("old",)
    assert (folder / "node.signing").stat().st_mode & 0o777 == 0o600


def test_a_key_for_signatures_that_is_open_or_anothers_is_refused(authority):
    folder, other = authority.issue("mine"), authority.issue("other")
    (folder / "node.signing").chmod(0o644)
    with pytest.raises(SecurityError, match=r"node.signing is a private key that other users can read"):
        Keys.read(folder, lambda: NOW)
    (folder / "node.signing").chmod(0o600)
    (folder / "node.signing").write_bytes((other / "node.signing").read_bytes())
    with pytest.raises(SecurityError, match="is not the key that node.certificate names for signatures"):
        Keys.read(folder, lambda: NOW)


def test_no_private_key_in_what_is_shown(keys):
    maths = keys()
    shown = repr(maths) + repr(Signer(maths).record(record(maths))) + repr(Verifier(maths)) + repr(Signer(maths))
    for secret in (maths.signing.private, maths.pair.private):
        assert repr(secret)[2:-1] not in shown and secret.hex() not in shown
