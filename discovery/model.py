"""The data of a directory: the record of one service instance, the note, and the view over all of them.

Rule 1: no sockets, no threads, no clock here.
Rule 2: a record has exactly one writer, its instance; of two versions the one with the higher `rank` wins.
Rule 3: a note may have many writers; of two notes under one key the one with the higher `rank` wins.
"""

from __future__ import annotations

import dataclasses
import marshal
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, TypeGuard

from discovery.exceptions import DirectoryProtocolError

__all__ = ["Note", "Record", "Seen", "View"]

#: The states of an instance. Only UP gets new calls: STARTING is not ready yet, DRAINING is about to stop.
STATES = ("STARTING", "UP", "DRAINING")
DEFAULT_NAMESPACE = "default"
#: Seconds that a lease lives without renewal.
DEFAULT_TTL = 10.0
#: Bounds of a lease in seconds. A shorter lease would expire whenever a busy machine delays its holder.
SHORTEST_TTL, LONGEST_TTL = 0.1, 3600.0
#: Characters of a service, instance, node or namespace name.
LONGEST_NAME = 255
#: Characters of a note's key.
LONGEST_KEY = 1024
#: Seconds that a note lives unless its writer says otherwise, and the most that a writer may ask for.
DEFAULT_NOTE_TTL, LONGEST_NOTE_TTL = 30 * 86_400.0, 366 * 86_400.0
#: Levels of lists and maps within a field. Comparing or formatting deeper ones could exhaust the stack.
NESTING = 16
#: The largest value of an integer field; msgpack carries no more.
LARGEST_NUMBER = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Record:
    """Please list this instance of `service` until it has been silent for `ttl` seconds.

    `instance` is fresh per start; several records (services of one process) may share a `node`. `incarnation`
    distinguishes starts, `version` grows with each change of the record. `endpoints` maps a kind ("rpc",
    "events") to an IP address and port; `methods` maps a method's name to its description. `signed`: all of it, as the node
    signed it, in a closed cluster (see `discovery.security.envelopes`); of two equal records it may differ.
    """

    service: str
    instance: str
    node: str = ""
    incarnation: int = 0
    version: int = 0
    namespace: str = DEFAULT_NAMESPACE
    endpoints: dict[str, str] = field(default_factory=dict)
    state: str = "UP"
    ttl: float = DEFAULT_TTL
    methods: dict[str, dict[str, Any]] = field(default_factory=dict)
    subscriptions: list[Any] = field(default_factory=list)
    public_key: str | None = None
    zone: str | None = None
    weight: float = 1.0
    tags: dict[str, Any] = field(default_factory=dict)
    host: str = ""
    pid: int = 0
    signed: bytes | None = field(default=None, repr=False, compare=False)

    @property
    def rank(self) -> tuple[int, int]:
        """(incarnation, version): of two records of an instance the higher rank wins."""
        return (self.incarnation, self.version)

    def __hash__(self) -> int:
        return hash((self.namespace, self.instance, self.incarnation, self.version))

    def replace(self, **changes: Any) -> Record:
        """A copy with these fields changed and, unless given, the version one higher."""
        changes.setdefault("version", self.version + 1)
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values, shared with the record, not copied."""
        fields = {name: getattr(self, name) for name in FIELDS}
        if self.signed is not None:
            fields["signed"] = self.signed
        return fields

    @classmethod
    def from_dict(cls, fields: object) -> Record:
        """The record that `to_dict` gave. Unknown keys are ignored; junk raises DirectoryProtocolError.

        Equal `methods`, `subscriptions` and `tags` of different records are one object, so they must not be changed in place.
        """
        if not isinstance(fields, Mapping):
            raise DirectoryProtocolError(f"a record is {type(fields).__name__}; a mapping is needed")
        if type(fields) is dict and _is_usual(fields):
            values = _in_order(fields)
            if "signed" in fields:
                values = (*values, fields["signed"])
            return cls(*values)
        known: dict[str, Any] = {}
        for name, (is_right, wanted) in FIELDS.items():
            if name in fields:
                value = fields[name]
                if not is_right(value):
                    raise DirectoryProtocolError(f"{name} of a record is {quoted(value)}; {wanted} is needed")
                known[name] = value
            elif name in ("service", "instance"):
                raise DirectoryProtocolError(f"a record without {name}")
        signed = fields.get("signed")
        if not _is_signed(signed):
            raise DirectoryProtocolError(f"signed of a record is {quoted(signed)}; bytes are needed")
        return cls(**known, signed=signed)


#: Of Record, in their order.
_in_order: Callable[[dict[str, Any]], tuple[Any, ...]] = itemgetter(
    "service", "instance", "node", "incarnation", "version", "namespace", "endpoints", "state", "ttl", "methods", "subscriptions",
    "public_key", "zone", "weight", "tags", "host", "pid",
)  # fmt: skip


def quoted(value: object, most: int = 80) -> str:
    """A peer's value, shortened for an error text. Lists and maps are described by their length only."""
    if isinstance(value, str | bytes):
        return repr(value[:most]) + ("..." if len(value) > most else "")
    if isinstance(value, list | tuple | dict):
        return f"a {'map' if isinstance(value, dict) else 'list'} of {len(value)}"
    return repr(value)[:most]


#: A user and a password in a URL, or in each of a list.
_PASSWORD = re.compile(r"(?<=://)([^:@/?]*):[^/?]*@")
#: What precedes the @ in a URL of Consul's, with or without a colon.
_TOKEN = re.compile(r"(?<=consul://)[^/?]*@")


def shown_url(url: str) -> str:
    """A directory's URL for an error text or a log: without passwords and tokens."""
    return _PASSWORD.sub(r"\1@", _TOKEN.sub("", url))


def is_shallow(value: object, levels: int = NESTING) -> bool:
    """Whether lists and maps in `value` are nested no deeper than `levels`."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return levels >= 0 and all(is_shallow(item, levels - 1) for item in inner if isinstance(item, dict | list | tuple))


def is_name(value: object) -> bool:
    """Whether this is a text that may name a service, an instance or a namespace."""
    return isinstance(value, str) and 0 < len(value) <= LONGEST_NAME


def is_number(value: object) -> bool:
    """Whether this is a whole number that fits the protocol."""
    return type(value) is int and 0 <= value <= LARGEST_NUMBER


def _is_short(value: object) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_NAME


def _is_optional_text(value: object) -> bool:
    return value is None or isinstance(value, str)


def is_ttl(value: object) -> bool:
    """Whether a lease may last this many seconds; False for nan."""
    return (type(value) is int or type(value) is float) and SHORTEST_TTL <= value <= LONGEST_TTL


def _is_signed(value: object) -> bool:
    return value is None or isinstance(value, bytes)


def _is_weight(value: object) -> bool:
    return (type(value) is int or type(value) is float) and math.isfinite(value) and value >= 0


def _is_text_map(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    for key, text in value.items():
        if not (isinstance(key, str) and isinstance(text, str)):
            return False
    return True


def _is_map(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


def _is_map_of_maps(value: object) -> bool:
    return _is_map(value) and all(_is_map(item) for item in value.values()) and is_shallow(value)


#: For each field a test of its value, and the expected value in words.
FIELDS: dict[str, tuple[Callable[[object], bool], str]] = {
    "service": (is_name, "a name"),
    "instance": (is_name, "a name"),
    "node": (_is_short, "a name"),
    "incarnation": (is_number, "a whole number"),
    "version": (is_number, "a whole number"),
    "namespace": (is_name, "a name"),
    "endpoints": (_is_text_map, "a map of texts to texts"),
    "state": (lambda value: isinstance(value, str) and value in STATES, "one of " + ", ".join(STATES)),
    "ttl": (is_ttl, f"a number of seconds between {SHORTEST_TTL} and {LONGEST_TTL}"),
    "methods": (_is_map_of_maps, "a map of names to maps"),
    "subscriptions": (lambda value: isinstance(value, list) and is_shallow(value), f"a list of {NESTING} levels at most"),
    "public_key": (_is_optional_text, "a text or nothing"),
    "zone": (_is_optional_text, "a text or nothing"),
    "weight": (_is_weight, "a number"),
    "tags": (lambda value: _is_map(value) and is_shallow(value), f"a map of texts, of {NESTING} levels at most"),
    "host": (_is_short, "a text"),
    "pid": (is_number, "a whole number"),
}


#: Equal for all instances of a service, as a rule, and dear to check.
_SHARED = ("methods", "subscriptions", "tags")
_EMPTY = {"methods": dict, "subscriptions": list, "tags": dict}
#: Checked values of these fields by their bytes, and the bytes of all. It is cleared when there are too many.
_checked: dict[bytes, Any] = {}
_checked_bytes = 0
MAX_CHECKED, MAX_CHECKED_BYTES, LARGEST_CHECKED = 2000, 4 * 1024 * 1024, 64 * 1024


def _is_usual(fields: dict[str, Any]) -> bool:
    """Whether this is a right record with every field; then its shared fields are replaced. False proves nothing.

    A client that starts is sent thousands of records, and the instances of a service differ in a few short fields only.
    """
    # Written out, since a loop over the tests in FIELDS costs three times as much.
    try:
        for name in _SHARED:
            value = fields[name]
            if value:
                fields[name] = _shared(name, value)
            elif type(value) is not _EMPTY[name]:
                return False
        for name in ("service", "instance", "namespace"):
            value = fields[name]
            if type(value) is not str or not 0 < len(value) <= LONGEST_NAME:
                return False
        for name in ("node", "host"):
            value = fields[name]
            if type(value) is not str or len(value) > LONGEST_NAME:
                return False
        for name in ("incarnation", "version", "pid"):
            value = fields[name]
            if type(value) is not int or not 0 <= value <= LARGEST_NUMBER:
                return False
        return (
            fields["state"] in STATES
            and (fields["public_key"] is None or type(fields["public_key"]) is str)
            and ("signed" not in fields or type(fields["signed"]) is bytes)
            and _is_optional_text(fields["zone"])
            and _is_weight(fields["weight"])
            and is_ttl(fields["ttl"])
            and _is_text_map(fields["endpoints"])
        )
    except (KeyError, TypeError, ValueError):
        return False


def _shared(name: str, value: Any) -> Any:
    global _checked_bytes
    # Version 2 of the format: equal values have equal bytes.
    key = name.encode() + marshal.dumps(value, 2)
    known = _checked.get(key)
    if known is not None:
        return known
    if not FIELDS[name][0](value):
        raise ValueError(name)
    if len(key) <= LARGEST_CHECKED:
        if len(_checked) >= MAX_CHECKED or _checked_bytes >= MAX_CHECKED_BYTES:
            _checked.clear()
            _checked_bytes = 0
        _checked[key] = value
        _checked_bytes += len(key)
    return value


@dataclass(frozen=True, slots=True)
class Note:
    """Please store `value` under `key`, beyond all leases, until `ttl` seconds after `stamp`.

    `stamp` is the time of writing, in microseconds since 1970. A note without a value is a tombstone: the key was deleted.
    `signed`: all of it, as its writer signed it, in a closed cluster; `signer`: the writer's key once that was checked.
    """

    namespace: str
    key: str
    stamp: int
    ttl: float = DEFAULT_NOTE_TTL
    value: dict[str, Any] | None = None
    signed: bytes | None = field(default=None, repr=False, compare=False)
    signer: bytes = field(default=b"", repr=False, compare=False)

    @property
    def rank(self) -> tuple[int, bool, str]:
        """Of two notes under one key the higher rank wins, at every registry and client."""
        return (self.stamp, self.value is None, repr(self.value))

    def age(self, now: float) -> float:
        """Seconds since the note was written."""
        return now - self.stamp / 1e6

    def to_list(self) -> list[Any]:
        """The fields as plain values."""
        fields = [self.namespace, self.key, self.stamp, self.ttl, self.value]
        return fields if self.signed is None else [*fields, self.signed]

    @classmethod
    def from_list(cls, fields: object) -> Note:
        """The note that `to_list` gave. Fields after those known are ignored; junk raises DirectoryProtocolError."""
        if not isinstance(fields, list) or len(fields) < len(NOTE_FIELDS):
            raise DirectoryProtocolError(f"a note is {quoted(fields)}; a list of its fields is needed")
        for (name, is_right), value in zip(NOTE_FIELDS.items(), fields, strict=False):
            if not is_right(value):
                raise DirectoryProtocolError(f"{name} of a note is {quoted(value)}")
        signed = fields[len(NOTE_FIELDS)] if len(fields) > len(NOTE_FIELDS) else None
        if not _is_signed(signed):
            raise DirectoryProtocolError(f"signed of a note is {quoted(signed)}")
        namespace, key, stamp, ttl, value = fields[: len(NOTE_FIELDS)]
        return cls(namespace, key, stamp, ttl, value, signed)


def is_key(value: object) -> bool:
    """Whether this is a text that may be the key of a note."""
    return isinstance(value, str) and 0 < len(value) <= LONGEST_KEY


def is_note_ttl(value: object) -> bool:
    """Whether a note may live for this many seconds; False for nan."""
    return (type(value) is int or type(value) is float) and 0 < value <= LONGEST_NOTE_TTL


#: A test for each field of a note.
NOTE_FIELDS: dict[str, Callable[[object], bool]] = {
    "namespace": is_name,
    "key": is_key,
    "stamp": is_number,
    "ttl": is_note_ttl,
    "value": lambda value: value is None or (_is_map(value) and is_shallow(value)),
}


@dataclass(frozen=True, slots=True)
class Seen:
    """A record as a client sees it.

    `age`: seconds since the last known contact with the record's holder. While a registry is connected, the ages of its
    records stay low; once it is unreachable, they grow. `suspect`: the lease ran out together with too many others at
    once; the registry keeps such records, since the fault is probably its own. `is_listed`: a directory that is connected
    lists this version; False for what only this process knows yet, such as its own announcements, and for what was kept.
    """

    record: Record
    age: float = 0.0
    suspect: bool = False
    is_listed: bool = True


@dataclass(frozen=True, slots=True)
class View:
    """All records that a client knows, and how far they can be trusted.

    `fresh`: some registry is connected and past its warm-up. `stale_for`: seconds since the view was last fresh.
    `registries`: for each one a mapping with url, address, state, boot_id, warming, records, error.
    `notes`: all notes of the namespace, tombstones included.
    """

    records: Mapping[str, Seen] = field(default_factory=dict)
    fresh: bool = False
    stale_for: float = 0.0
    registries: list[dict[str, Any]] = field(default_factory=list)
    notes: tuple[Note, ...] = ()

    def service(self, name: str) -> list[Seen]:
        """The instances of one service."""
        return [seen for seen in self.records.values() if seen.record.service == name]
