"""The messages of the protocol: one slotted class per kind, fields in the order in which they travel.

Rule 1: the order of the fields is the protocol; a new field goes last and has a default.
Rule 2: KINDS holds every message there is; a number, once given, never means anything else.

`Count` is a whole number from 0 to 2**64 - 1, `Seconds` a span of time, `Map` a map with keys of any type.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

#: The version that this package speaks. Peers of different majors do not understand each other; minors may differ.
MAJOR, MINOR = 1, 0

Count: TypeAlias = int
Seconds: TypeAlias = float
Map: TypeAlias = dict[Any, Any]


# --- links -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Hello:
    """I speak this version; I am `node`, of `namespace`. Let us talk, if you do and are. The first word of a link."""

    KIND: ClassVar[int] = 1
    major: Count
    minor: Count
    node: str
    namespace: str
    info: Map | None = None


@dataclass(slots=True)
class Welcome:
    """The answer to a HELLO, and said again when `info` changes: I am `node`; you may call."""

    KIND: ClassVar[int] = 2
    major: Count
    minor: Count
    node: str
    namespace: str
    info: Map | None = None


@dataclass(slots=True)
class Ping:
    """Are you there? Please say PONG with this token."""

    KIND: ClassVar[int] = 10
    token: Count


@dataclass(slots=True)
class Pong:
    """I am here: the answer to the PING with this token."""

    KIND: ClassVar[int] = 11
    token: Count


@dataclass(slots=True)
class Bye:
    """Please send no more calls for `services` (None: for the whole node); the running ones will be answered."""

    KIND: ClassVar[int] = 12
    services: list[str] | None = None
    reason: str | None = None


@dataclass(slots=True)
class Batch:
    """The bodies of several messages, in their order, none of which has a payload frame or is a BATCH itself."""

    KIND: ClassVar[int] = 13
    bodies: list[bytes]


# --- calls -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Call:
    """Please run `method` of `service`, and answer before `time_left` seconds have run out.

    With a `serializer`, `args` are the bytes of one document of that format, `[args, kwargs]`, and `kwargs` is None.
    """

    KIND: ClassVar[int] = 3
    id: Count
    service: str
    method: str
    args: Any
    kwargs: Map | None = None
    time_left: Seconds | None = None
    headers: Map | None = None
    serializer: str | None = None


@dataclass(slots=True)
class Result:
    """What the call `id` returned. With a `serializer`, `value` is the bytes of a document of that format."""

    KIND: ClassVar[int] = 4
    id: Count
    value: Any = None
    serializer: str | None = None


@dataclass(slots=True)
class Error:
    """The call `id` failed; with the id None, the link itself did. `error` says how (see docs/protocol.rst)."""

    KIND: ClassVar[int] = 5
    id: Count | None
    error: Map


@dataclass(slots=True)
class Cancel:
    """I no longer wait for the call `id`: please stop it."""

    KIND: ClassVar[int] = 6
    id: Count


# --- streams -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Stream:
    """The chunk number `seq` of what the call `id` streams."""

    KIND: ClassVar[int] = 7
    id: Count
    seq: Count
    chunk: Any = None


@dataclass(slots=True)
class Credit:
    """You may send `amount` more chunks of the call `id`."""

    KIND: ClassVar[int] = 8
    id: Count
    amount: Count


@dataclass(slots=True)
class End:
    """No more chunks of the call `id` will come."""

    KIND: ClassVar[int] = 9
    id: Count


# --- events ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Event:
    """Something happened at `source`: number `seq` of the journal; the one before it for this group is `prev_seq`.

    `attempt` counts deliveries to the group from 1. `group` is None where every subscriber gets a copy. With a
    `serializer`, `body` is the bytes of one document of that format. `at` is when it was recorded (seconds since 1970).
    """

    KIND: ClassVar[int] = 16
    journal: str
    seq: Count
    prev_seq: Count
    source: str
    type: str
    body: Any = None
    group: str | None = None
    attempt: Count = 1
    headers: Map | None = None
    key: str | None = None
    serializer: str | None = None
    at: Seconds | None = None


@dataclass(slots=True)
class Ack:
    """The group is done with the event `seq` of the journal, and with those numbered in `also`: do not send them again."""

    KIND: ClassVar[int] = 17
    group: str
    journal: str
    seq: Count
    also: list[Count] | None = None


@dataclass(slots=True)
class Nack:
    """The event `seq` of the journal could not be handled: please send it again after `delay` seconds."""

    KIND: ClassVar[int] = 18
    group: str
    journal: str
    seq: Count
    delay: Seconds
    error: Map | None = None


@dataclass(slots=True)
class Grant:
    """You may send `amount` more events to this member of the group."""

    KIND: ClassVar[int] = 19
    group: str
    amount: Count


@dataclass(slots=True)
class Replay:
    """Please send the events of the journal from `from_seq` to `to_seq`, both included (None: and all that follow)."""

    KIND: ClassVar[int] = 20
    group: str
    journal: str
    from_seq: Count
    to_seq: Count | None = None


@dataclass(slots=True)
class Gap:
    """The events from `from_seq` to `to_seq`, both included, are lost for the group; `reason` says why."""

    KIND: ClassVar[int] = 21
    group: str
    journal: str
    from_seq: Count
    to_seq: Count
    reason: str


@dataclass(slots=True)
class Subscribe:
    """Please send me (`member`) events of `source` whose type fits `pattern`, and answer SUBSCRIBED once that is in effect.

    `id` names the subscription on this link. `kind` is "service_pool", "singleton" or "broadcast"; of a `group` one member
    gets each event. `reliable`: on this link, until it is ACKed, and `credit` events may be sent before the first answer;
    else over the publisher's XPUB, once. `options`: what the group wants of its publisher.
    """

    KIND: ClassVar[int] = 22
    id: Count
    source: str
    pattern: str
    kind: str
    member: str
    group: str
    reliable: bool = True
    credit: Count = 0
    options: Map | None = None


@dataclass(slots=True)
class Subscribed:
    """The subscription `id` is in effect: what is dispatched from here on reaches it. `info` says where it stands."""

    KIND: ClassVar[int] = 23
    id: Count
    info: Map | None = None


@dataclass(slots=True)
class Unsubscribe:
    """No more events for the subscription `id`, please; those that were sent are still answered. Is echoed."""

    KIND: ClassVar[int] = 24
    id: Count


Message: TypeAlias = (
    Hello | Welcome | Ping | Pong | Bye | Batch | Call | Result | Error | Cancel | Stream | Credit | End
    | Event | Ack | Nack | Grant | Replay | Gap | Subscribe | Subscribed | Unsubscribe
)  # fmt: skip

#: Every message, by the number that opens its body.
KINDS: dict[int, type[Message]] = {
    cls.KIND: cls
    for cls in (
        Hello, Welcome, Call, Result, Error, Cancel, Stream, Credit, End, Ping, Pong, Bye, Batch,
        Event, Ack, Nack, Grant, Replay, Gap, Subscribe, Subscribed, Unsubscribe,
    )
}  # fmt: skip
