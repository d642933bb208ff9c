"""The messages of the protocol: one slotted class per kind, with its fields in the order in which they travel.

Rule 1: the order of the fields is part of the protocol. A new field goes last and has a default.
Rule 2: KINDS has every message. The number of a kind never changes its meaning.

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
    """The base of all messages. They share its methods: generating methods for each class would double the import's time."""

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
    """Make a dataclass with slots, without the methods that `Spoken` has."""
    return dataclass(slots=True, repr=False, eq=False)(cls)


# --- links -------------------------------------------------------------------------------------------------


@message
class Hello(Spoken):
    """I am `node` of `namespace` and speak this version. Please answer WELCOME if we fit. The first message of a link."""

    KIND: ClassVar[int] = 1
    major: Count
    minor: Count
    node: str
    namespace: str
    info: Map | None = None


@message
class Welcome(Spoken):
    """I am `node`; you may call. The answer to a HELLO, which is sent again when `info` changes."""

    KIND: ClassVar[int] = 2
    major: Count
    minor: Count
    node: str
    namespace: str
    info: Map | None = None


@message
class Ping(Spoken):
    """Please answer PONG with this token."""

    KIND: ClassVar[int] = 10
    token: Count


@message
class Pong(Spoken):
    """The answer to the PING with this token."""

    KIND: ClassVar[int] = 11
    token: Count


@message
class Bye(Spoken):
    """Please send no more calls for `services` (None: for any service of this node). Running calls will be answered."""

    KIND: ClassVar[int] = 12
    services: list[str] | None = None
    reason: str | None = None


@message
class Batch(Spoken):
    """Several messages as arrays, in order. None of them has a payload frame, and none is a BATCH.

    Read each with `envelope.message_of`. A message that could not be decoded is replaced by its ProtocolError.
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

    `waiting`: the number of calls that waited for a worker of the instance when it sent this; None if it does not say.
    """

    KIND: ClassVar[int] = 4
    id: Count
    value: Any = None
    serializer: str | None = None
    waiting: Count | None = None


@message
class Error(Spoken):
    """The call `id` failed; if `id` is None, the link itself failed. `error` says how (see docs/protocol.rst)."""

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
    """The chunk number `seq` of the stream of the call `id`."""

    KIND: ClassVar[int] = 7
    id: Count
    seq: Count
    chunk: Any = None


@message
class Credit(Spoken):
    """You may send `amount` more chunks of the stream of the call `id`."""

    KIND: ClassVar[int] = 8
    id: Count
    amount: Count


@message
class End(Spoken):
    """The stream of the call `id` has ended."""

    KIND: ClassVar[int] = 9
    id: Count


# --- events ------------------------------------------------------------------------------------------------


@message
class Event(Spoken):
    """An event of `source`, number `seq` in its journal. The event before it for this group has the number `prev_seq`.

    `origin` names the opening of the journal in which the event was recorded; for best-effort events, the publisher's node.
    `attempt` counts deliveries to the group from 1. `group` is None if every subscriber gets a copy. With a `serializer`,
    `body` is the bytes of one document of that format. `at` is the time when the event was recorded (seconds since 1970). On a
    link, `subscription` is the id of the SUBSCRIBE that asked for the event.
    """

    KIND: ClassVar[int] = 16
    origin: str
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
    """The group has handled the event `seq` of the journal and the events numbered in `also`. Please do not send them again.

    `subscription` is the one of the EVENTs; None if the events came on an earlier link and this answer is a repetition.
    """

    KIND: ClassVar[int] = 17
    group: str
    origin: str
    seq: Count
    also: list[Count] | None = None
    subscription: Count | None = None


@message
class Nack(Spoken):
    """The event `seq` of the journal could not be handled: please send it again after `delay` seconds."""

    KIND: ClassVar[int] = 18
    group: str
    origin: str
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
    origin: str
    from_seq: Count
    to_seq: Count | None = None


@message
class Gap(Spoken):
    """The events from `from_seq` to `to_seq`, both included, are lost for the group; `reason` says why."""

    KIND: ClassVar[int] = 21
    group: str
    origin: str
    from_seq: Count
    to_seq: Count
    reason: str


@message
class Subscribe(Spoken):
    """Please send me (`member`) events of `source` whose type fits `pattern`, and answer SUBSCRIBED once that is in effect.

    `id` names the subscription on this link. `kind` is "service_pool", "singleton" or "broadcast". Each event goes to one member
    of the `group`. If `reliable`, events come on this link until they are ACKed, and `credit` of them may be sent before the
    first answer; otherwise they come once, over the publisher's XPUB. `options`: the group's wishes to its publisher.
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
    """The subscription `id` is in effect: events dispatched from now on reach it. `info` says how far its group is."""

    KIND: ClassVar[int] = 23
    id: Count
    info: Map | None = None


@message
class Unsubscribe(Spoken):
    """Please send no more events for the subscription `id`. Events already sent are still answered. The receiver echoes it."""

    KIND: ClassVar[int] = 24
    id: Count


Message: TypeAlias = (
    Hello | Welcome | Ping | Pong | Bye | Batch | Call | Result | Error | Cancel | Stream | Credit | End
    | Event | Ack | Nack | Grant | Replay | Gap | Subscribe | Subscribed | Unsubscribe
)  # fmt: skip

#: The class of each kind of message, by the number at the beginning of its body.
KINDS: dict[int, type[Message]] = {
    cls.KIND: cls
    for cls in (
        Hello, Welcome, Call, Result, Error, Cancel, Stream, Credit, End, Ping, Pong, Bye, Batch,
        Event, Ack, Nack, Grant, Replay, Gap, Subscribe, Subscribed, Unsubscribe,
    )
}  # fmt: skip
