"""The messages between registries and their clients.

The docstring of each says what it asks of its receiver, or tells it. `KIND` is its number in a frame.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from discovery.model import Note, Record
from discovery.record_blocks import RecordBlock


@dataclass(slots=True)
class Subscribe:
    """Please send a snapshot of `namespace` (None: of all namespaces), and from then on each change.

    `interest`: the keys of the records that are wanted (see `discovery.interest`); all records if it is None or missing. All
    notes are sent in any case. `takes_blocks`: the records of a snapshot may be sent in blocks (see `discovery.record_blocks`).
    """

    KIND: ClassVar[int] = 1
    namespace: str | None
    interest: list[str] | None = None
    takes_blocks: bool = False


@dataclass(slots=True)
class Register:
    """Please list this record for as long as its lease is renewed. It replaces a record of lower rank."""

    KIND: ClassVar[int] = 2
    request: int
    record: Record


@dataclass(slots=True)
class Renew:
    """Please renew these leases; each is [instance, incarnation, version]."""

    KIND: ClassVar[int] = 3
    leases: list[list[Any]]


@dataclass(slots=True)
class Withdraw:
    """Please remove this instance at once and tell all subscribers, even if you do not list it.

    `signed`: in a closed cluster, the withdrawal as the node signed it.
    """

    KIND: ClassVar[int] = 4
    request: int
    namespace: str
    instance: str
    incarnation: int
    version: int
    signed: bytes | None = None


@dataclass(slots=True)
class PutNotes:
    """Please store each of these notes unless you have one of higher rank under its key, and tell all subscribers."""

    KIND: ClassVar[int] = 5
    request: int
    notes: list[Note]


@dataclass(slots=True)
class Read:
    """Everything before the mark with this token has been read."""

    KIND: ClassVar[int] = 6
    token: int


@dataclass(slots=True)
class Extend:
    """Please send the records under these keys as well, as updates, and each change of them from now on.

    Acknowledged once all of them have been sent. Only for a registry whose snapshot was `limited`.
    """

    KIND: ClassVar[int] = 7
    request: int
    interest: list[str]


@dataclass(slots=True)
class Present:
    """I hold the key of this certificate, and make the later requests on this connection. Sent first in a closed cluster."""

    KIND: ClassVar[int] = 8
    certificate: bytes


@dataclass(slots=True)
class Revoked:
    """These are signed lists of revoked certificates, each from one authority, and signed certificates of registries.

    Either side sends those that it knows. A peer of an earlier release leaves `registries` out.
    """

    KIND: ClassVar[int] = 9
    lists: list[bytes]
    registries: list[bytes] = field(default_factory=list)

    @classmethod
    def apart(cls, lists: list[bytes], registries: list[bytes]) -> list[Revoked]:
        """The messages that have all of these. Each has one list: all lists may take more bytes than a frame may have."""
        return [cls(lists[:1], registries), *(cls([one]) for one in lists[1:])]


@dataclass(slots=True)
class Ack:
    """`request` was carried out."""

    KIND: ClassVar[int] = 16
    request: int


@dataclass(slots=True)
class Refused:
    """`request` was refused; `reason` is a sentence. `request` 0: a message without a number, or the connection."""

    KIND: ClassVar[int] = 17
    request: int
    reason: str


@dataclass(slots=True)
class Unknown:
    """These leases are unknown here; please register the records again."""

    KIND: ClassVar[int] = 18
    instances: list[str]


@dataclass(slots=True)
class Snapshot:
    """Part `part` of a snapshot; each entry is [record, age in seconds, suspect].

    `parts` is the number of parts in the last one, and 0 in those before. The parts together contain all notes as well.
    `limited`: the registry sends only the records of the subscriber's interest. A registry that does not know interests leaves
    the field out and sends all records. `blocks`: further records, for a subscriber that takes blocks.
    """

    KIND: ClassVar[int] = 19
    seq: int
    boot_id: str
    warming: bool
    part: int
    parts: int
    entries: list[Any]
    notes: list[Note]
    limited: bool = False
    blocks: list[RecordBlock] = field(default_factory=list)


@dataclass(slots=True)
class Update:
    """A record is new or has changed, or its `suspect` has changed."""

    KIND: ClassVar[int] = 20
    seq: int
    boot_id: str
    record: Record
    age: float
    suspect: bool


@dataclass(slots=True)
class Drop:
    """A record was removed: its holder withdrew it, or its lease expired. `signed`: the withdrawal as its holder signed it."""

    KIND: ClassVar[int] = 21
    seq: int
    boot_id: str
    instance: str
    incarnation: int
    version: int
    withdrawn: bool
    signed: bytes | None = None


@dataclass(slots=True)
class Heartbeat:
    """The registry is alive, and `seq` is the number of the last change that it sent you."""

    KIND: ClassVar[int] = 22
    seq: int
    boot_id: str
    warming: bool


@dataclass(slots=True)
class NotesChanged:
    """These notes are new, or they replace older notes under their keys."""

    KIND: ClassVar[int] = 23
    seq: int
    boot_id: str
    notes: list[Note]


@dataclass(slots=True)
class Mark:
    """Please answer with `Read` of this token once you have read so far. The token cannot be guessed."""

    KIND: ClassVar[int] = 24
    token: int


Message = (
    Subscribe
    | Register
    | Renew
    | Withdraw
    | PutNotes
    | Read
    | Extend
    | Present
    | Revoked
    | Ack
    | Refused
    | Unknown
    | Snapshot
    | Update
    | Drop
    | Heartbeat
    | NotesChanged
    | Mark
)


@dataclass(slots=True)
class SkippedUpdate:
    """An update whose record this client cannot use. Its `seq` counts nevertheless."""

    seq: int
    boot_id: str


KINDS: dict[int, type[Any]] = {kind.KIND: kind for kind in Message.__args__}
#: The names of the fields of each kind, in their order.
FIELDS: dict[int, tuple[str, ...]] = {kind: tuple(f.name for f in fields(cls)) for kind, cls in KINDS.items()}
