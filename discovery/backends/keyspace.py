"""The keys of a directory in an engine that stores keys and values.

Internal. Shared by etcd and Consul.

    ROOT NAMESPACE/records/SERVICE/INSTANCE
    ROOT NAMESPACE/subscribers/SOURCE/INSTANCE      the record once more, for each source of events that it subscribes to
    ROOT NAMESPACE/notes/KEY
    ROOT NAMESPACE/locks/NAME
    ROOT @revoked/AUTHORITY                         a list of revoked certificates, for all namespaces (none is named `@revoked`)

with every part percent-encoded and every value in msgpack. `ROOT` ends with a slash.

Rule 1: no sockets, no threads, no clock here.
Rule 2: an instance is listed as long as one of its keys of interest is there. A change may move it from one source to another,
and the store reports that in two answers, in any order. So when the key under a source is deleted, the other keys are looked up
before the instance counts as gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote, unquote

from discovery import protocol
from discovery.backend import Believes
from discovery.exceptions import DirectoryProtocolError
from discovery.interest import Interest, keys_in, service_key, sources_of, split, subscribers_key
from discovery.model import Note, Record, is_name, is_number
from discovery.native import Log
from discovery.packing import unpack_some
from discovery.record_blocks import Entry
from discovery.security.revocations import FoundList, Revocations

_log = Log(__name__)

Decoded = TypeVar("Decoded")

#: Takes the place of a namespace in the keys of lists of revoked certificates. In a namespace's name, `@` is percent-encoded.
REVOKED = "@revoked"
#: The fields of a record that are known of one that is not decoded.
_BESIDE = frozenset({"service", "instance", "namespace", "subscriptions", "incarnation", "version"})


class Replacement(NamedTuple):
    """Put `value` under `key`, unless the value that the store has there `stays`."""

    key: str
    value: bytes
    stays: Callable[[bytes], bool]


class Keyspace:
    """The keys of one client. `name`: the directory's URL, for the log. `namespace`: None is all of them.

    `has_dots`: False if no part of a key may be `.` or `..`, as in the path of a URL. `is_closed`: lists of revoked
    certificates are of interest.
    """

    def __init__(
        self, name: str, root: str, namespace: str | None, has_dots: bool = True, is_closed: bool = False
    ) -> None:
        self.root = root
        self.is_closed = is_closed
        self._has_dots = has_dots
        #: The beginning of all keys that this client reads.
        self.prefix = root if namespace is None else f"{root}{self._part(namespace)}/"
        self.interest: Interest = None
        self._name = name
        self._namespace = namespace
        #: The keys under which each record is listed, or was announced here.
        self.keys: dict[str, set[str]] = {}
        #: The key of each listed record under its service.
        self._homes: dict[str, str] = {}

    # --- from things to keys ---

    def _part(self, text: str) -> str:
        return "%2E" * len(text) if text in (".", "..") and not self._has_dots else quote(text, safe="")

    @property
    def notes(self) -> str:
        """The prefix of the notes of the namespace."""
        return f"{self.prefix}notes/"

    def prefixes(self, interest: Interest) -> list[str]:
        """The prefixes to read for an interest. A client of all namespaces reads everything."""
        if self._namespace is None:
            return [self.prefix]
        common = [self.notes, self.revoked] if self.is_closed else [self.notes]
        if interest is None:
            return [f"{self.prefix}records/", *common]
        return [*common, *map(self.prefix_of, sorted(interest))]

    @property
    def revoked(self) -> str:
        """The prefix of the lists of revoked certificates."""
        return f"{self.root}{REVOKED}/"

    def revoked_key(self, authority: bytes) -> str:
        """The key of an authority's list."""
        return f"{self.revoked}{authority.hex()}"

    def prefix_of(self, key: str) -> str:
        """The prefix of the records under one key of an interest."""
        is_service, name = split(key)
        return f"{self.prefix}{'records' if is_service else 'subscribers'}/{self._part(name)}/"

    def keys_of(self, record: Record) -> list[str]:
        """The keys of a record. The first one is under its service."""
        root = f"{self.root}{self._part(record.namespace)}/"
        instance = self._part(record.instance)
        sources = [f"{root}subscribers/{self._part(source)}/{instance}" for source in sorted(sources_of(record))]
        return [f"{root}records/{self._part(record.service)}/{instance}", *sources]

    def note_key(self, note: Note) -> str:
        """The key of a note."""
        return f"{self.root}{self._part(note.namespace)}/notes/{self._part(note.key)}"

    def lock_key(self, namespace: str, name: str) -> str:
        """The key of a lock."""
        return f"{self.root}{self._part(namespace)}/locks/{self._part(name)}"

    # --- values that may replace others ---

    def note_replacement(self, note: Note, believes: Believes) -> Replacement:
        """A note takes the place of one that has a lower rank or is not believed."""

        def stays(held: bytes) -> bool:
            there = self.note(held)
            return there is not None and there.rank >= note.rank and believes(there, self._name)

        return Replacement(self.note_key(note), protocol.pack(note.to_list()), stays)

    def revoked_replacement(self, revoked: Revocations) -> Replacement:
        """A list of revoked certificates takes the place of an older one of its authority."""
        return Replacement(self.revoked_key(revoked.authority), revoked.signed, revoked.gives_way_to)

    # --- from keys to things ---

    def _parts(self, key: str) -> list[str]:
        return key.removeprefix(self.root).split("/")

    def instance_of(self, key: str) -> str | None:
        """The instance whose record is under this key; None for other keys."""
        parts = self._parts(key)
        return unquote(parts[3]) if len(parts) == 4 and parts[1] in ("records", "subscribers") else None

    def is_lock(self, key: str) -> bool:
        """Whether this is the key of a lock."""
        parts = self._parts(key)
        return len(parts) == 3 and parts[1] == "locks"

    def is_revoked(self, key: str) -> bool:
        """Whether this is the key of a list of revoked certificates."""
        parts = self._parts(key)
        return self.is_closed and len(parts) == 2 and parts[0] == REVOKED

    def is_wanted(self, key: str) -> bool:
        """Whether the value of a key is of interest, by the key alone."""
        parts = self._parts(key)
        if self.is_revoked(key):
            return True
        if len(parts) < 4:
            return len(parts) == 3 and parts[1] in ("notes", "locks")
        name = unquote(parts[2])
        if parts[1] == "records":
            return self.interest is None or service_key(name) in self.interest
        return parts[1] == "subscribers" and self.interest is not None and subscribers_key(name) in self.interest

    def decoded(self, key: str, value: bytes) -> Record | Note | FoundList | None:
        """The decoded value of a key; None, and a line in the log, if it is unusable."""
        parts = self._parts(key)
        if self.is_revoked(key):
            return FoundList(value)
        if len(parts) == 3 and parts[1] == "notes":
            return self.note(value)
        if self.instance_of(key) is None:
            return None
        if parts[1] == "subscribers" and self.interest is None:
            return None  # All records are read, so this is a copy of one of them.
        record = self._unpacked(key, value, Record.from_dict)
        return record if record is not None and key in self.keys_of(record) else None

    def listed(self, key: str, value: bytes) -> Entry | Record | Note | FoundList | None:
        """Like `decoded`, but a record is not decoded, if that can wait: it is an entry of a block."""
        entry = self._entry(key, value)
        return self.decoded(key, value) if entry is None else entry

    def _entry(self, key: str, value: bytes) -> Entry | None:
        """The entry of a record whose fields fit to its key; None for everything else, about which `decoded` decides."""
        parts = self._parts(key)
        if len(parts) != 4 or "%" in key or (parts[1] != "records" and self.interest is None):
            return None
        try:
            fields = unpack_some(value, _BESIDE)
            service, instance, subscriptions = fields["service"], fields["instance"], fields["subscriptions"]
            incarnation, version = fields["incarnation"], fields["version"]
        except (DirectoryProtocolError, KeyError):
            return None
        if not (
            instance == parts[3] and fields.get("namespace") == parts[0] and is_name(instance)
            and type(service) is str and type(subscriptions) is list
            and is_number(incarnation) and is_number(version)
        ):  # fmt: skip
            return None
        keys = keys_in(service, subscriptions)
        if (service_key if parts[1] == "records" else subscribers_key)(parts[2]) not in keys:
            return None
        return keys, [instance, incarnation, version, 0.0, False], value

    def note(self, value: bytes) -> Note | None:
        """The note in a value; None, and a line in the log, if it is unusable."""
        return self._unpacked("of a note", value, Note.from_list)

    def _unpacked(self, key: str, value: bytes, decode: Callable[[Any], Decoded]) -> Decoded | None:
        try:
            return decode(protocol.unpack(value))
        except DirectoryProtocolError as exc:
            _log.warning("passed over key %.300s of directory %s: %s", key, self._name, exc)
            return None

    # --- what is listed ---

    def came(self, record: Record, key: str) -> None:
        """A record is listed under this key."""
        self.keys.setdefault(record.instance, set()).add(key)
        self._homes[record.instance] = self.keys_of(record)[0]

    def entry_came(self, entry: Entry, key: str) -> None:
        """The record of an entry is listed under this key."""
        instance = entry[1][0]
        self.keys.setdefault(instance, set()).add(key)
        namespace, kind, *_ = self._parts(key)
        if kind != "records":
            key = f"{self.root}{namespace}/records/{self._part(split(entry[0][0])[1])}/{instance}"
        self._homes[instance] = key

    def left(self, key: str, listed: Callable[[list[str]], Iterable[str]], is_own: Callable[[str], bool]) -> str | None:
        """This key is there no more. The instance that is gone with it; None where it stands elsewhere, or where none was.

        `listed` asks the store which of some keys are there by now: what has left there, too, is told later than this.
        """
        instance = self.instance_of(key)
        if instance is None:
            return None
        keys = self.keys.get(instance, set())
        keys.discard(key)
        # A copy: another thread may add to it.
        if any(map(self.is_wanted, list(keys))) or any(True for _ in listed(self._places(instance, key))):
            return None
        self._homes.pop(instance, None)
        if not is_own(instance):
            self.keys.pop(instance, None)
        return instance

    def _places(self, instance: str, key: str) -> list[str]:
        """Where it may stand by now, if there is more than one such place. It may be back at `key`, too."""
        if self.interest is None or self._parts(key)[1] != "subscribers":
            return []
        sources = [name for is_service, name in map(split, self.interest) if not is_service]
        places = [f"{self.prefix}subscribers/{self._part(name)}/{self._part(instance)}" for name in sorted(sources)]
        home = self._homes.get(instance)
        if home is not None and self.is_wanted(home):
            places.append(home)
        return places if len(places) > 1 else []
