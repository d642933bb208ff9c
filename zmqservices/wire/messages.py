"""The messages of the protocol: one slotted class per kind, fields in the order in which they travel.

Rule 1: the order of the fields is the protocol; a new field goes last and has a default.
Rule 2: KINDS holds every message there is; a number, once given, never means anything else.

`Count` is a whole number from 0 to 2**64 - 1, `Seconds` a span of time, `Map` a map with keys of any type.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias, TypeVar, dataclass_transform

#: The version that this package speaks. Peers of different majors do not understand each other; minors may differ.
MAJOR, MINOR = 1, 0

#: The key of `info` by which a HELLO asks for `waiting` in each RESULT, and a WELCOME says that it will be there.
WAITING = "waiting"

Count: TypeAlias = int
Seconds: TypeAlias = float
Map: TypeAlias = dict[Any, Any]

_Class = TypeVar("_Class")


class Spoken:
    """Base of all messages. Its methods are shared: generating them for each class would double the time of the import."""

    __slots__ = ()
    __match_args__: ClassVar[tuple[str, ...]] = ()

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__match_args__)

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__match_args__)
        return f"{type(self).__name__}({fields})"


@dataclass_transform()
def message(cls: type[_Class]) -> type[_Class]:
    """A dataclass with slots, without the methods that `Spoken` has."""
    return dataclass(slots=True, repr=False, eq=False)(cls)


# --- links -------------------------------------------------------------------------------------------------


@message
class Hello(Spoken):
    """I speak this version; I am `node`, of `namespace`. Let us talk, if you do and are. The first word of a link."""

    KIND: ClassVar[int] = 1
    major: Count
    minor: Count
    node: str
    namespace: str
    info: Map | None = None


@message
class Welcome(Spoken):
    """The answer to a HELLO, and said again when `info` changes: I am `node`; you may call."""

    KIND: ClassVar[int] = 2
    major: Count
    minor: Count
    node: str
    namespace: str
    info: Map | None = None


@message
class Ping(Spoken):
    """Are you there? Please say PONG with this token."""

    KIND: ClassVar[int] = 10
    token: Count


@message
class Pong(Spoken):
    """I am here: the answer to the PING with this token."""

    KIND: ClassVar[int] = 11
    token: Count


@message
class Bye(Spoken):
    """Please send no more calls for `services` (None: for the whole node); the running ones will be answered."""

    KIND: ClassVar[int] = 12
    services: list[str] | None = None
    reason: str | None = None


@message
class Batch(Spoken):
    """Several messages as arrays, in their order, none of which has a payload frame or is a BATCH itself.

    Read each with `envelope.message_of`. In place of a message that could not be decoded stands its ProtocolError.
    """

    KIND: ClassVar[int] = 13
    messages: list[Any]


# --- calls -------------------------------------------------------------------------------------------------


@message
class Call(Spoken):
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


@message
class Result(Spoken):
    """What the call `id` returned. With a `serializer`, `value` is the bytes of a document of that format.

    `waiting`: calls that waited for a worker of the instance when it sent this; None where it did not say.
    """

    KIND: ClassVar[int] = 4
    id: Count
    value: Any = None
    serializer: str | None = None
    waiting: Count | None = None


@message
class Error(Spoken):
    """The call `id` failed; with the id None, the link itself did. `error` says how (see docs/protocol.rst)."""

    KIND: ClassVar[int] = 5
    id: Count | None
    error: Map


@message
class Cancel(Spoken):
    """I no longer wait for the call `id`: please stop it."""

    KIND: ClassVar[int] = 6
    id: Count


# --- streams -----------------------------------------------------------------------------------------------


@message
class Stream(Spoken):
    """The chunk number `seq` of what the call `id` streams."""

    KIND: ClassVar[int] = 7
    id: Count
    seq: Count
    chunk: Any = None


@message
class Credit(Spoken):
    """You may send `amount` more chunks of the call `id`."""

    KIND: ClassVar[int] = 8
    id: Count
    amount: Count


@message
class End(Spoken):
    """No more chunks of the call `id` will come."""

    KIND: ClassVar[int] = 9
    id: Count


# --- events ------------------------------------------------------------------------------------------------


@message
class Event(Spoken):
    """Something happened at `source`: number `seq` of the journal; the one before it for this group is `prev_seq`.

    `attempt` counts deliveries to the group from 1. `group` is None where every subscriber gets a copy. With a
    `serializer`, `body` is the bytes of one document of that format. `at` is when it was recorded (seconds since 1970).
    On a link, `subscription` is the id of the SUBSCRIBE that it comes for.
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
    subscription: Count | None = None


@message
class Ack(Spoken):
    """The group is done with the event `seq` of the journal, and with those numbered in `also`: do not send them again.

    `subscription` is that of the EVENTs; None for those that came on another link, whose answer is told once more.
    """

    KIND: ClassVar[int] = 17
    group: str
    journal: str
    seq: Count
    also: list[Count] | None = None
    subscription: Count | None = None


@message
class Nack(Spoken):
    """The event `seq` of the journal could not be handled: please send it again after `delay` seconds."""

    KIND: ClassVar[int] = 18
    group: str
    journal: str
    seq: Count
    delay: Seconds
    error: Map | None = None
    subscription: Count | None = None


@message
class Grant(Spoken):
    """You may send `amount` more events for this `subscription` to the group."""

    KIND: ClassVar[int] = 19
    group: str
    amount: Count
    subscription: Count | None = None


@message
class Replay(Spoken):
    """Please send the events of the journal from `from_seq` to `to_seq`, both included (None: and all that follow)."""

    KIND: ClassVar[int] = 20
    group: str
    journal: str
    from_seq: Count
    to_seq: Count | None = None


@message
class Gap(Spoken):
    """The events from `from_seq` to `to_seq`, both included, are lost for the group; `reason` says why."""

    KIND: ClassVar[int] = 21
    group: str
    journal: str
    from_seq: Count
    to_seq: Count
    reason: str


@message
class Subscribe(Spoken):
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


@message
class Subscribed(Spoken):
    """The subscription `id` is in effect: what is dispatched from here on reaches it. `info` says where it stands."""

    KIND: ClassVar[int] = 23
    id: Count
    info: Map | None = None


@message
class Unsubscribe(Spoken):
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
