"""Signed records, withdrawals and notes.

Internal.

    signed = msgpack [payload, certificate, signature]
    payload = msgpack {"at": seconds since 1970, "until": ..., "record": {...}}    or "withdrawal" or "note": [...]

`at` of a note is there only if its signer's certificate was issued later than the note was written.

Rule 1: only the signed bytes count. They are sent unchanged, beside the fields that registries need for routing. So the fields of
a newer release survive an older registry, which packs the other fields again.
Rule 2: the certificate is sent with the signature, so a reader needs only the authority's key.
Rule 3: an instance belongs to the key that its id begins with. No other key can replace, renew or withdraw it.
Rule 4: a signed record is valid for minutes, and its node signs it again in time. So an old record cannot be shown for long.
Records in a process's own cache are valid for a day.
Rule 5: a note may outlive its signer's certificate, which must have been valid when the note was signed. A node signs its notes
again when its certificate has changed, so that they stay valid when its former certificate's authority is not trusted any more.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import msgpack

from discovery.exceptions import DirectoryError, SecurityError
from discovery.model import Note, Record, is_name, is_number, quoted
from discovery.native import native_lock
from discovery.security import signing
from discovery.security.certificates import LONGEST_CERTIFICATE, Certificate, SignedCertificate, is_time
from discovery.security.keys import Keys
from discovery.security.permissions import may_register, may_write_note
from discovery.security.sealed import unpacked
from discovery.security.signing import SIGNATURE_LENGTH
from discovery.security.verdicts import SKEW, Refusal, Trust, check_time

RECORD, WITHDRAWAL, NOTE = "zmqservices record 1", "zmqservices withdrawal 1", "zmqservices note 1"
#: Seconds for which a signed record is valid, and after which its node signs it again. Each new signature is sent to all clients
#: of the record, so shorter times cost more.
LIFETIME, SIGN_AGAIN = 600.0, 120.0
#: Seconds for which a record from this process's own cache is valid. Nodes of an earlier release sign for this long.
LONGEST_LIFETIME = 86_400.0
#: Verified records and notes that are remembered, and their bytes, so that they need not be verified again. The oldest go first.
MOST_RECORDS, MOST_BYTES = 30_000, 64 * 1024 * 1024
#: Verified certificates that are remembered.
MOST_CERTIFICATES = 20_000
#: Hex digits of a key at the beginning of an instance's id.
OWNER_DIGITS = 16
_MEND = "its node has an earlier release, or no SECURITY"


class Envelope(NamedTuple):
    """Bytes that a node signed, and its certificate, which the authority signed. Neither is verified yet."""

    payload: bytes
    certificate: bytes
    signature: bytes

    def to_bytes(self) -> bytes:
        """The bytes that are sent."""
        packed: bytes = msgpack.packb(list(self))
        return packed

    @classmethod
    def from_bytes(cls, signed: bytes, what: str) -> Envelope:
        """The envelope that `to_bytes` packed. SecurityError, which calls it `what`, for anything else."""
        parts = unpacked(signed, what)
        if not (
            isinstance(parts, list)
            and len(parts) >= 3
            and all(isinstance(part, bytes) for part in parts[:3])
            and len(parts[1]) <= LONGEST_CERTIFICATE
            and len(parts[2]) == SIGNATURE_LENGTH
        ):
            raise SecurityError(f"{what} is needed, and these bytes are none")
        return cls(*parts[:3])


def owner_prefix(key: bytes) -> str:
    """The beginning of the ids of all instances whose node has this public key."""
    return f"{key.hex()[:OWNER_DIGITS]}-"


def own_id(keys: Keys | None, instance: str) -> str:
    """The id of an instance of the node that has these keys: `instance` after the node's prefix. Unchanged without keys."""
    prefix = "" if keys is None else owner_prefix(keys.pair.public)
    return instance if instance.startswith(prefix) else f"{prefix}{instance}"


class Signer:
    """Signs with the keys of this node. `clock` returns seconds since 1970."""

    def __init__(self, keys: Keys, clock: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._clock = clock

    @property
    def certificate(self) -> bytes:
        """The certificate of this node, in the form in which it is sent. Changes when it is renewed."""
        return self._keys.signed

    def record(self, record: Record) -> Record:
        """The record with a signature. DirectoryError for a record that no client would believe."""
        keys = self._keys
        if record.public_key != keys.pair.public.hex() or not record.instance.startswith(owner_prefix(keys.pair.public)):
            raise DirectoryError(
                f"the record of {record.service!r}, instance {quoted(record.instance)}, cannot be signed by "
                f"{keys.certificate.name!r}: its public_key has to be that of the node, and its instance has to begin with "
                f"{owner_prefix(keys.pair.public)!r}"
            )
        verdict = may_register(keys.certificate, record.service)
        if not verdict:
            raise DirectoryError(f"this process must not register {record.service!r}: {verdict.rule}")
        now = self._clock()
        fields = dataclasses.replace(record, signed=None).to_dict()
        return dataclasses.replace(record, signed=self._sign(RECORD, {"at": now, "until": now + LIFETIME, "record": fields}))

    def is_due(self, record: Record) -> bool:
        """Whether a record of this node must be signed again: its signature becomes old, or the certificate was renewed."""
        if record.signed is None:
            return True
        envelope = Envelope.from_bytes(record.signed, "a signed record")
        at = unpacked(envelope.payload, "a signed record")["at"]
        return envelope.certificate != self._keys.signed or not 0 <= self._clock() - at < SIGN_AGAIN

    def withdrawal(self, record: Record) -> bytes:
        """The signed withdrawal of this record."""
        fields = [record.namespace, record.instance, *record.rank]
        return self._sign(WITHDRAWAL, {"at": self._clock(), "withdrawal": fields})

    def note(self, note: Note) -> Note:
        """The note with a signature."""
        fields: dict[str, Any] = {"note": dataclasses.replace(note, signed=None).to_list()}
        starts = self._keys.certificate.starts
        if note.stamp < starts * 1e6:
            fields["at"] = starts
        return dataclasses.replace(note, signed=self._sign(NOTE, fields), signer=self._keys.pair.public)

    def is_own(self, note: Note) -> bool:
        """Whether a verified note was signed with this node's key: by this process, or by another one with the same folder."""
        return note.signer == self._keys.pair.public

    def note_again(self, note: Note) -> Note | None:
        """A verified note with a new signature, if this node signed it with an older certificate. None for any other note.

        Its rank is a little higher, so that it takes the other one's place. Processes with the same folder make the same note.
        """
        if not self.is_own(note) or note.signed is None:
            return None
        shown = Envelope.from_bytes(note.signed, "a signed note").certificate
        own = self._keys.certificate
        # Not for a newer one either: a process that has not read its folder again must not undo what another one has done.
        if shown == self._keys.signed or Certificate.unpack(SignedCertificate.from_bytes(shown).packed).starts >= own.starts:
            return None
        if not may_write_note(own, note.key, note.value):
            return None
        return self.note(dataclasses.replace(note, stamp=note.stamp + 1, signed=None))

    def check_note(self, note: Note) -> None:
        """Raise DirectoryError for a note that this node must not write."""
        verdict = may_write_note(self._keys.certificate, note.key, note.value)
        if not verdict:
            raise DirectoryError(f"the note {quoted(note.key)} must not be written by this process: {verdict.rule}")

    def _sign(self, purpose: str, fields: dict[str, Any]) -> bytes:
        try:
            payload = msgpack.packb(fields)
        except (TypeError, ValueError, OverflowError, RecursionError) as exc:
            raise DirectoryError(f"a record cannot be sent: {exc}") from exc
        return Envelope(payload, self._keys.signed, signing.sign(self._keys.signing, purpose, payload)).to_bytes()


class _Verified(NamedTuple):
    """A record or note that was verified, the trust at that time, and the time until which it is valid."""

    word: Record | Note
    until: float
    trust: Trust


class Verifier:
    """Verifies the signatures of nodes. Every method raises Refusal for an item that must not be believed, and nothing else."""

    def __init__(self, keys: Keys, clock: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._clock = clock
        #: Certificates that were verified, and the trust at that time.
        self._certificates: dict[bytes, tuple[Certificate, Trust]] = {}
        #: Records and notes by their signed bytes.
        self._known: dict[bytes, _Verified] = {}
        self._bytes = 0
        #: The newest of these bytes for each record, by namespace and instance, since a node signs it again and again.
        self._newest: dict[tuple[str, str], bytes] = {}
        #: Needed because the threads of engines verify as well.
        self._lock = native_lock()

    def record(self, record: Record, is_cached: bool = False) -> Record:
        """The record as its node signed it. `is_cached`: it comes from this process's own cache, and may be a day old."""
        if record.signed is None:
            raise Refusal("unsigned", f"it is not signed; {_MEND}")
        now = self._clock()
        there = self._kept(record.signed, now)
        if not isinstance(there, Record):  # Unknown, or the bytes of a note.
            there, until = self._verified(record.signed, now, is_cached)
            if not is_cached:
                self._keep(record.signed, there, until)
        if (there.instance, there.service, there.namespace, there.rank) != (
            record.instance, record.service, record.namespace, record.rank,
        ):  # fmt: skip
            raise Refusal("altered", f"the signed record is {_shown(there)}, and it was sent as {_shown(record)}")
        return there

    def withdrawal(self, signed: bytes | None, instance: str, rank: tuple[int, int]) -> str:
        """The namespace from which its node has withdrawn `instance` at this rank."""
        if signed is None:
            raise Refusal("unsigned", f"it is not signed; {_MEND}")
        certificate, payload = self._opened(signed, WITHDRAWAL, "a signed withdrawal", self._clock())
        fields = payload.get("withdrawal")
        if not (
            isinstance(fields, list) and len(fields) >= 4 and all(map(is_name, fields[:2])) and all(map(is_number, fields[2:4]))
        ):
            raise Refusal("junk", f"a signed withdrawal has {quoted(fields)}; namespace, instance and rank are needed")
        if (fields[1], *fields[2:4]) != (instance, *rank):
            raise Refusal("altered", f"the signed withdrawal is that of {quoted(fields[1])} at {fields[2:4]}")
        _check_owner(instance, certificate.key)
        namespace: str = fields[0]
        return namespace

    def note(self, note: Note) -> Note:
        """The note as its writer signed it, if that node may write it."""
        if note.signed is None:
            raise Refusal("unsigned", f"it is not signed; {_MEND}")
        known = self._kept(note.signed, self._clock())
        if isinstance(known, Note) and known == note:
            return known
        certificate, payload = self._opened(note.signed, NOTE, "a signed note", self._signed_at(note))
        if payload.get("note") != dataclasses.replace(note, signed=None).to_list():
            raise Refusal("altered", f"the signed note is another one than the note that was sent as {quoted(note.key)}")
        verdict = may_write_note(certificate, note.key, note.value)
        if not verdict:
            raise Refusal("forbidden", verdict.rule)
        verified = dataclasses.replace(note, signer=certificate.key)
        self._keep(note.signed, verified, math.inf)
        return verified

    def _signed_at(self, note: Note) -> float:
        """When a note was signed, at which time its signer's certificate must have been valid."""
        written = note.stamp / 1e6
        try:
            at = unpacked(Envelope.from_bytes(note.signed or b"", "a signed note").payload, "a signed note").get("at")
        except (SecurityError, AttributeError):
            return written  # It is refused for what it is.
        # Not before it was written: an ended certificate must not sign a new note. Nor later than now.
        return max(written, min(at, self._clock())) if is_time(at) else written

    def _verified(self, signed: bytes, now: float, is_cached: bool) -> tuple[Record, float]:
        certificate, payload = self._opened(signed, RECORD, "a signed record", now)
        fields: Any = payload.get("record")
        at: Any = payload.get("at")
        until: Any = payload.get("until")
        if not (is_time(at) and is_time(until)):
            raise Refusal("junk", f"a record is signed at {quoted(at)} until {quoted(until)}; seconds since 1970 are needed")
        if at > now + SKEW or until > at + LONGEST_LIFETIME:
            raise Refusal("early", f"it was signed {at - now:.0f} s from now, for {until - at:.0f} s; are the clocks right?")
        ends = at + LONGEST_LIFETIME if is_cached else until
        if now > ends + SKEW:
            why = "somebody shows an old record, or the clock of its host or of this one is wrong"
            raise Refusal("old", f"its signature ended {now - ends:.0f} s ago; {why}")
        try:
            record = Record.from_dict({**fields, "signed": signed} if isinstance(fields, dict) else fields)
        except DirectoryError as exc:
            raise Refusal("junk", str(exc)) from exc
        if record.public_key != certificate.key.hex():
            named = quoted(record.public_key, 16)
            raise Refusal("key", f"it names the key {named}, and the node {certificate.name!r}, which signed it, has another one")
        _check_owner(record.instance, certificate.key)
        verdict = may_register(certificate, record.service)
        if not verdict:
            raise Refusal("forbidden", verdict.rule)
        return record, min(until, certificate.ends)

    def _opened(self, signed: bytes, purpose: str, what: str, at: float) -> tuple[Certificate, dict[str, Any]]:
        """The signer's certificate, and the content that it signed for `purpose`."""
        try:
            envelope = Envelope.from_bytes(signed, what)
        except SecurityError as exc:
            raise Refusal("junk", str(exc)) from exc
        certificate = self._certificate(envelope.certificate, at)
        if not certificate.signing_key:
            why = f"the certificate of {certificate.name!r} names no key for signatures; `zmqservices keys renew` makes one"
            raise Refusal("signature", why)
        if not signing.is_signed(certificate.signing_key, purpose, envelope.payload, envelope.signature):
            raise Refusal("signature", f"its signature is not that of {certificate.name!r}, whose certificate it shows")
        try:
            payload = unpacked(envelope.payload, what)
        except SecurityError as exc:
            raise Refusal("junk", str(exc)) from exc
        if not isinstance(payload, dict):
            raise Refusal("junk", f"the content of {what} is {quoted(payload)}; a map is needed")
        return certificate, payload

    def _certificate(self, signed: bytes, at: float) -> Certificate:
        known = self._certificates.get(signed)
        trust = self._keys.trust
        if known is not None and known[1] is trust:
            check_time(known[0], at)
            return known[0]
        try:
            key = Certificate.unpack(SignedCertificate.from_bytes(signed).packed).key
        except SecurityError as exc:
            raise Refusal("junk", str(exc)) from exc
        certificate = trust.believed(signed, key, at)
        with self._lock:
            while len(self._certificates) >= MOST_CERTIFICATES:
                del self._certificates[next(iter(self._certificates))]
            self._certificates[signed] = (certificate, trust)
        return certificate

    def _kept(self, signed: bytes, now: float) -> Record | Note | None:
        """The result of an earlier verification of these bytes, while it is valid."""
        known = self._known.get(signed)
        return None if known is None or known.trust is not self._keys.trust or now > known.until + SKEW else known.word

    def _keep(self, signed: bytes, word: Record | Note, until: float) -> None:
        with self._lock:
            if self._known.pop(signed, None) is None:
                self._bytes += len(signed)
            self._known[signed] = _Verified(word, until, self._keys.trust)
            if isinstance(word, Record):
                former = self._newest.pop((word.namespace, word.instance), signed)
                self._newest[word.namespace, word.instance] = signed
                if former != signed:
                    self._drop(former)
            while len(self._known) > MOST_RECORDS or self._bytes > MOST_BYTES:
                self._drop(next(iter(self._known)))

    def _drop(self, signed: bytes) -> None:
        dropped = self._known.pop(signed, None)
        if dropped is None:
            return
        self._bytes -= len(signed)
        word = dropped.word
        if isinstance(word, Record) and self._newest.get((word.namespace, word.instance)) == signed:
            del self._newest[word.namespace, word.instance]


def _check_owner(instance: str, key: bytes) -> None:
    if not instance.startswith(owner_prefix(key)):
        raise Refusal(
            "owner", f"the instance {quoted(instance)} belongs to another node: its id does not begin with {owner_prefix(key)!r}"
        )


def _shown(record: Record) -> str:
    return f"{record.instance[:100]!r} of {record.service[:100]!r} in {record.namespace[:100]!r}, version {record.rank}"
