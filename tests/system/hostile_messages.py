"""Hostile messages of all kinds, from a seed: the same ones again with the same seed.

Rule 1: pure; no sockets here. A kind is a function of a `Maker` and yields what goes out together.
Rule 2: ROUTER, BY_HAND, BROADCAST, REGISTRY, HTTP and WEBSOCKET hold every kind that there is for each sort of socket.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import msgpack

from tests.zmtp import GREETING, frame, ready
from zmqservices.wire import batches, envelope
from zmqservices.wire.messages import (
    KINDS,
    Ack,
    Cancel,
    Credit,
    End,
    Error,
    Event,
    Gap,
    Grant,
    Hello,
    Nack,
    Ping,
    Pong,
    Replay,
    Result,
    Stream,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Welcome,
)

#: Routing ids of others: ZeroMQ's first ones, and what might be somebody's.
ROUTING_IDS = (b"\0abcd", b"\0\0\0\0\1", b"\1" * 17, b"\1" + bytes(16), b"")
#: Names that mean something to somebody who runs what is named.
NAMES = ("__init__", "__class__", "_private", "os.system", "builtins.eval", "../../etc/passwd", "\n2026 ERROR root: forged", "")
#: Ints of one hash in Python: multiples of its modulus.
MODULUS = 2**61 - 1
#: Group names of honest handlers, which a stranger may well know.
GROUPS = ("readers.read:order.paid", "orders:order.paid", "readers")


class Maker:
    """What all kinds draw from. `namespace` is that of the honest processes."""

    def __init__(self, seed: int, namespace: str) -> None:
        self.rng = random.Random(seed)
        self.namespace = namespace

    def bytes(self, most: int = 600) -> bytes:
        return self.rng.randbytes(self.rng.randrange(most))

    def id(self) -> int:
        """Small ones are those that honest clients use as well."""
        return self.rng.choice((self.rng.randrange(100), self.rng.getrandbits(63)))

    def text(self) -> str:
        """A name: nonsense, a dangerous one, or one that is much too long."""
        pick = self.rng.randrange(10)
        if pick == 0:
            return "x" * self.rng.choice((256, 5_000, 70_000))
        return self.rng.choice((*NAMES, "maths", "orders", f"name-{self.rng.getrandbits(40):x}"))

    def group(self) -> str:
        return self.rng.choice((*GROUPS, self.text()))

    def call(self, **fields: Any) -> bytes:
        wanted = {"service": "maths", "method": "add", "args": [2, 3], "time_left": 5.0, **fields}
        body = envelope.encode_call(self.id(), **wanted)
        return body if isinstance(body, bytes) else body[0]

    def value(self, depth: int = 3) -> Any:
        """Anything that msgpack has."""
        rng = self.rng
        simple = (None, True, -1, 2**64 - 1, 1.5, float("inf"), float("nan"), "text", b"bytes", "\ud7ff", 0)
        pick = rng.randrange(14)
        if depth and pick == 0:
            return [self.value(depth - 1) for _ in range(rng.randrange(6))]
        if depth and pick == 1:
            return {rng.choice((1, "a", "code", b"k", 2.5)): self.value(depth - 1) for _ in range(rng.randrange(6))}
        if pick == 2:
            return msgpack.ExtType(rng.randrange(0, 30), self.bytes(20))
        return rng.choice(simple)


Frames = list[bytes]
Kind = Callable[[Maker], Iterator[Frames]]


def encoded(message: Any) -> bytes:
    body = envelope.encode(message)
    return body if isinstance(body, bytes) else body[0]


# --- a node's router socket ----------------------------------------------------------------------------------------------


def noise(maker: Maker) -> Iterator[Frames]:
    yield [maker.bytes()]


def cut_off(maker: Maker) -> Iterator[Frames]:
    body = maker.call()
    yield [body[: maker.rng.randrange(len(body))]]


def changed_bytes(maker: Maker) -> Iterator[Frames]:
    body = bytearray(maker.call(headers={"call_id_stack": ["a", "b"]}))
    for _ in range(maker.rng.randrange(1, 4)):
        body[maker.rng.randrange(len(body))] = maker.rng.randrange(256)
    yield [bytes(body)]


def fields_of_any_type(maker: Maker) -> Iterator[Frames]:
    kind = maker.rng.choice((*KINDS, 0, 14, 25, 255, -1))
    yield [msgpack.packb([kind, *(maker.value() for _ in range(maker.rng.randrange(12)))], strict_types=False)]


def frames_too_many(maker: Maker) -> Iterator[Frames]:
    call = maker.call()
    yield maker.rng.choice(([call, call], [call, b""], [b"", call], [b""] * 20, [call, *[b"x"] * maker.rng.choice((3, 2_000))]))


def forged_routing_ids(maker: Maker) -> Iterator[Frames]:
    routing_id = maker.rng.choice(ROUTING_IDS)
    yield maker.rng.choice(
        ([maker.call(), routing_id, maker.call()], [routing_id, maker.call()], [routing_id, b"", maker.call()])
    )


def batches_of_all(maker: Maker) -> Iterator[Frames]:
    call = [3, maker.id(), "maths", maker.text()[:300], [1, 2]]
    members: list[Any] = maker.rng.choice(
        ([call] * maker.rng.choice((3, 200, 5_000)), [[13, [call]]] * 5, [maker.value() for _ in range(20)], [[]] * 9, [call, 7])
    )
    yield [msgpack.packb([13, members], strict_types=False)]
    yield [batches.encode([maker.bytes(50), maker.call()])]


def events_of_strangers(maker: Maker) -> Iterator[Frames]:
    rng, group, journal, seq = maker.rng, maker.group(), maker.text(), maker.id()
    yield [
        encoded(
            rng.choice(
                (
                    Ack(group, journal, seq, [seq] * rng.randrange(50)),
                    Nack(group, journal, seq, rng.choice((0.0, 1e17)), {"exc_type": maker.text(), "value": maker.text()}),
                    Grant(group, 1 << 63),
                    Replay(group, journal, 0, None),
                    Gap(group, journal, 1, 1 << 60, maker.text()),
                    Unsubscribe(seq),
                    Subscribed(seq, {"events": "tcp://127.0.0.1:1"}),
                    Event(journal, seq, 0, "orders", "order.paid", 1, group),
                )
            )
        )
    ]


def subscriptions_of_strangers(maker: Maker) -> Iterator[Frames]:
    rng = maker.rng
    source = rng.choice(("nobody", maker.text()))
    kind = rng.choice(("service_pool", "singleton", "broadcast", "nothing"))
    pattern = rng.choice(("#", "*.*", "order.paid", "a." * 500, "\0"))
    yield [encoded(Subscribe(maker.id(), source, pattern, kind, maker.text(), maker.group(), rng.random() < 0.5, 10))]


def answers_nobody_asked_for(maker: Maker) -> Iterator[Frames]:
    id = maker.id()
    message = maker.rng.choice(
        (
            Result(id, "forged"),
            Error(id, {"code": ["a", "list"]}),
            Error(None, {"code": "protocol", "value": maker.text()}),
            Cancel(id),
            Stream(id, 0, "chunk"),
            Credit(id, 1 << 60),
            End(id),
            Pong(id),
            Welcome(1, 0, maker.text()[:300], maker.namespace, {"services": {"maths": {}}}),
        )
    )
    yield [encoded(message)]


def nested_deeply(maker: Maker) -> Iterator[Frames]:
    depth = maker.rng.choice((100, 511, 600, 1_100, 20_000))
    opener = maker.rng.choice((b"\x91", b"\x81\xa1a", b"\x92\x01"))
    yield [maker.rng.choice((b"", b"\x95\x03\x07\xa5maths\xa4echo", b"\x93\x04\x07", b"\x93\x05\x07")) + opener * depth + b"\xc0"]


@cache
def _colliding_keys(count: int) -> Any:
    # Ints beyond 64 bits travel as an extension.
    return {msgpack.ExtType(10, (key * MODULUS).to_bytes(16, "big")): None for key in range(1, count)}


def keys_that_collide(maker: Maker) -> Iterator[Frames]:
    yield [msgpack.packb([3, maker.id(), "maths", "echo", [_colliding_keys(maker.rng.choice((50, 1_500)))], None, 5.0])]


def long_names(maker: Maker) -> Iterator[Frames]:
    long = "x" * maker.rng.choice((300, 10_000, 300_000))
    yield [maker.call(**{maker.rng.choice(("service", "method")): long})]


def greetings(maker: Maker) -> Iterator[Frames]:
    rng = maker.rng
    yield [
        encoded(Hello(rng.choice((0, 2, 99)), 0, maker.text(), rng.choice((maker.namespace, maker.text())), {1: maker.text()}))
    ]


def forbidden_calls(maker: Maker) -> Iterator[Frames]:
    rng = maker.rng
    fields: dict[str, Any] = {"service": rng.choice(("maths", maker.text()[:500])), "method": maker.text()[:500]}
    if rng.random() < 0.3:
        fields.update(serializer=rng.choice(("pickle", "yaml", "json", "msgpack")), args=maker.bytes())
    yield [maker.call(**fields, time_left=rng.choice((-1.0, 0.0, 1e17, None)), headers={"call_id_stack": ["x"] * 200})]


def large_announcements(maker: Maker) -> Iterator[Frames]:
    """Lengths that nothing follows, and a body of empty lists."""
    head = maker.rng.choice((b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdf\x7f\xff\xff\xff", b"\xdb\xff\xff\xff\xff"))
    yield [b"\x95\x03\x07\xa5maths\xa4echo" + head + maker.bytes(100)]
    if maker.rng.random() < 0.02:
        yield [b"\x92\x0d\xdd" + (500_000).to_bytes(4, "big") + b"\x90" * 500_000]


ROUTER: tuple[Kind, ...] = (
    noise,
    cut_off,
    changed_bytes,
    fields_of_any_type,
    frames_too_many,
    forged_routing_ids,
    batches_of_all,
    events_of_strangers,
    subscriptions_of_strangers,
    answers_nobody_asked_for,
    nested_deeply,
    keys_that_collide,
    long_names,
    greetings,
    forbidden_calls,
    large_announcements,
)


# --- ZMTP by hand: what goes out over one connection ---------------------------------------------------------------------


def half_a_greeting(maker: Maker) -> Iterator[Frames]:
    yield [(GREETING + ready(b"DEALER"))[: maker.rng.randrange(100)]]


def other_protocols(maker: Maker) -> Iterator[Frames]:
    rng = maker.rng
    plain = GREETING[:12] + b"PLAIN".ljust(20, b"\0") + bytes(32)
    yield [
        rng.choice((b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\0\x01", plain, rng.randbytes(2_000), bytes(500), b"\xff" * 64))
    ]


def lengths_that_lie(maker: Maker) -> Iterator[Frames]:
    length = maker.rng.choice((b"\xff" * 8, b"\x7f" + b"\xff" * 7, (1 << 31).to_bytes(8, "big"), (100 << 20).to_bytes(8, "big")))
    yield [GREETING + ready(b"DEALER"), maker.rng.choice((b"\2", b"\3", b"\6")) + length + maker.bytes(1_000)]


def a_message_without_an_end(maker: Maker) -> Iterator[Frames]:
    yield [GREETING + ready(b"DEALER"), frame(b"x", more=True) * 1_000]


def commands_by_hand(maker: Maker) -> Iterator[Frames]:
    rng = maker.rng
    body = rng.choice(
        (b"\4PING\0\0", b"\4PONG", b"\5ERROR\xffx", b"\5READY\xff\xff\xff\xff\xff", b"\x09SUBSCRIBE", b"\0", b"\xff", b"")
    )
    kind = rng.choice((b"DEALER", b"ROUTER", b"SUB", b"XSUB", b"REQ", b"NONSENSE", b"x" * 200))
    yield [GREETING + ready(kind), frame(body + maker.bytes(200), command=True) * 3]


BY_HAND: tuple[Kind, ...] = (half_a_greeting, other_protocols, lengths_that_lie, a_message_without_an_end, commands_by_hand)


def topic(maker: Maker) -> bytes:
    return maker.rng.choice((b"P\0", b"B\0orders\0")) + maker.rng.randbytes(maker.rng.choice((8, 300, 490, 5_000, 200_000)))


def long_topics(maker: Maker) -> Iterator[Frames]:
    """SUBSCRIBE as a frame (ZMTP 3.0) and as a command (3.1)."""
    yield [GREETING + ready(maker.rng.choice((b"SUB", b"XSUB"))), frame(b"\1" + topic(maker))]
    yield [GREETING + ready(b"SUB"), frame(b"\x09SUBSCRIBE" + topic(maker), command=True)]


def many_topics(maker: Maker) -> Iterator[Frames]:
    head = maker.rng.randbytes(8)
    yield [GREETING + ready(b"SUB"), *(frame(b"\1" + head + number.to_bytes(2, "big")) for number in range(200))]


def messages_to_a_publisher(maker: Maker) -> Iterator[Frames]:
    yield [GREETING + ready(b"XSUB"), *(frame(maker.rng.choice((b"\2", b"\0", b"")) + maker.bytes(300)) for _ in range(10))]


BROADCAST: tuple[Kind, ...] = (*BY_HAND, long_topics, many_topics, messages_to_a_publisher)


# --- a registry ----------------------------------------------------------------------------------------------------------


def registry_noise(maker: Maker) -> Iterator[Frames]:
    yield [maker.bytes()] * maker.rng.choice((1, 1, 1, 3))


def registry_fields(maker: Maker) -> Iterator[Frames]:
    kind = maker.rng.choice((*range(1, 6), *range(16, 24), 99, -1))
    yield [msgpack.packb([1, kind, *(maker.value() for _ in range(maker.rng.randrange(10)))], strict_types=False)]


def registry_nesting(maker: Maker) -> Iterator[Frames]:
    depth = maker.rng.choice((20, 400, 1_000, 5_000))
    head = maker.rng.choice((b"", b"\x92\x01", b"\x94\x01\x02\x07", b"\x94\x01\x05\x07\x91\x95"))
    yield [head + b"\x91" * depth + b"\xc0"]


def registry_records(maker: Maker) -> Iterator[Frames]:
    rng = maker.rng
    record = {
        "service": rng.choice((maker.text(), f"junk-{rng.randrange(50)}")),
        "instance": f"evil-{rng.randrange(300)}",
        "node": "evil",
        "namespace": maker.namespace,
        "endpoints": rng.choice(({"rpc": "quic://x"}, {"rpc": "tcp://127.0.0.1:1"}, {}, {"rpc": 3})),
        "incarnation": rng.choice((1, 2**63 - 1)),
        "version": rng.choice((0, 5, 2**64 - 1)),
        "ttl": rng.choice((2.0, 1e9, -1.0)),
        "tags": rng.choice(({}, {"a": "x" * 3_000}, {"a": maker.value()})),
        "methods": rng.choice(({}, {"m": 7}, {"m": {}})),
    }
    yield [msgpack.packb([1, 2, maker.id(), record], strict_types=False)]


def registry_notes(maker: Maker) -> Iterator[Frames]:
    rng = maker.rng
    at = rng.choice((0.0, 1.0, 1e12, 4e9))
    notes = [
        [maker.namespace, f"evil-{rng.randrange(2_000)}", at, rng.choice((60.0, 1e12)), maker.text()[:200]] for _ in range(5)
    ]
    yield [msgpack.packb([1, 5, maker.id(), rng.choice((notes, notes * 50, [maker.value()]))], strict_types=False)]


def registry_renewals(maker: Maker) -> Iterator[Frames]:
    first = maker.rng.getrandbits(40)
    leases = [[f"nobody-{first + number:x}", 1, 1] for number in range(maker.rng.choice((1, 100, 2_001)))]
    yield [msgpack.packb([1, 3, leases])]


def registry_withdrawals(maker: Maker) -> Iterator[Frames]:
    yield [msgpack.packb([1, 4, maker.id(), maker.namespace, f"nobody-{maker.rng.getrandbits(30):x}", 1, 2**63 - 1])]


REGISTRY: tuple[Kind, ...] = (
    registry_noise,
    registry_fields,
    registry_nesting,
    registry_records,
    registry_notes,
    registry_renewals,
    registry_withdrawals,
)


# --- HTTP and WebSocket: what goes out over one connection -----------------------------------------------------------------


def request_lines(maker: Maker) -> Iterator[Frames]:
    line = maker.rng.choice(
        (
            b"GET /pid HTTP/9.9",
            b"GET",
            b"\0\0\0",
            b"GET " + b"/x" * 50_000 + b" HTTP/1.1",
            b"G\x00T / HTTP/1.1",
            b"GET http://[ HTTP/1.1",
            b"POST /%zz%00%ff HTTP/1.1",
            b"\x16\x03\x01",
            b"TRACE /pid HTTP/1.1",
        )
    )
    yield [line + b"\r\nHost: x\r\n\r\n"]


def header_lines(maker: Maker) -> Iterator[Frames]:
    line = maker.rng.choice(
        (
            b"Transfer-Encoding:\x0bchunked",
            b"Transfer-Encoding: chunked\r\nContent-Length: 5",
            b"Content-Length: 5\r\nContent-Length: 6",
            b"Content-Length: -1",
            b"Content-Length: 99999999999999999999",
            b" folded",
            b"Host: y",
            b"X: " + b"y" * 100_000,
            b"N\0L: 1",
            b"\r".join([b"a: b"] * 3),
            b"Expect: 200-maybe",
            b"\n".join([b"a: b"] * 2_000),
            b"no colon",
        )
    )
    yield [b"POST /length HTTP/1.1\r\nHost: x\r\n" + line + b"\r\n\r\n" + maker.bytes(100)]


def chunks_that_lie(maker: Maker) -> Iterator[Frames]:
    chunk = maker.rng.choice(
        (b"zz\r\nxx", b"-5\r\nxx", b"ffffffffffffffff\r\nxx", b"5;" + b"x" * 20_000 + b"\r\nhello", b"5\r\nhelloo\r\n", b"5")
    )
    yield [b"POST /length HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk]


def half_a_request(maker: Maker) -> Iterator[Frames]:
    whole = b"POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n" + b"x" * 49
    yield [whole[: maker.rng.randrange(1, len(whole))]]


HTTP: tuple[Kind, ...] = (request_lines, header_lines, chunks_that_lie, half_a_request)

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def web_frame(body: bytes, opcode: int = 1, final: bool = True, masked: bool = True) -> bytes:
    """A frame of a client, the mask all zeros."""
    mask = 0x80 if masked else 0
    length = len(body)
    head = bytes([(0x80 if final else 0) | opcode])
    if length < 126:
        head += bytes([mask | length])
    elif length < 65_536:
        head += bytes([mask | 126]) + struct.pack("!H", length)
    else:
        head += bytes([mask | 127]) + struct.pack("!Q", length)
    return head + (bytes(4) if masked else b"") + body


def socket_texts(maker: Maker) -> Iterator[Frames]:
    rng = maker.rng
    bodies = [
        b'{"method": "add", "data": {}, "correlation_id": 1e999}',
        b'{"method": "add", "data": {"a": NaN, "b": -Infinity}, "correlation_id": ' + b"9" * 5_000 + b"}",
        b'{"method": "add", "data": ' + b"[" * rng.choice((150, 3_000, 90_000)),
        b'{"method": "add", "data": {"a": ' + b'{"a":' * 200 + b"1" + b"}" * 201 + b"}",
        json.dumps({"method": maker.text()[:5_000], "data": {"socket_id": "other"}, "correlation_id": maker.id()}).encode(),
        b'{"method": ["add"], "data": 7}',
        b"[]",
        b"",
        b"\xff\xfe",
        b'"\\ud800"',
        maker.bytes(),
    ]
    rng.shuffle(bodies)
    yield [UPGRADE, *(web_frame(body) for body in bodies)]


def socket_frames(maker: Maker) -> Iterator[Frames]:
    rng = maker.rng
    yield [
        UPGRADE,
        rng.choice(
            (
                web_frame(b"x", opcode=rng.randrange(3, 8)),
                web_frame(b"x" * 200, opcode=9),
                web_frame(b"x", masked=False),
                web_frame(b"", opcode=0),
                web_frame(b"\x03", opcode=8),
                web_frame(b"\0\1" + b"\xff" * 50, opcode=8),
                bytes([0x81, 0xFF]) + b"\xff" * 8 + bytes(100),
                bytes([0xF1, 0x81]) + bytes(5),
                web_frame(b"x" * 1_000, final=False) * 20,
                web_frame(b"", opcode=9) * 500,
                maker.bytes(),
            )
        ),
    ]


def upgrades_that_are_none(maker: Maker) -> Iterator[Frames]:
    rng = maker.rng
    old, new = rng.choice(
        ((b"13", b"99"), (b"dGhlIHNhbXBsZSBub25jZQ==", b"x" * 500), (b"websocket", b"h2c"), (b"GET", b"POST"), (b"1.1", b"1.0"))
    )
    yield [UPGRADE.replace(old, new) + maker.bytes(50)]


WEBSOCKET: tuple[Kind, ...] = (socket_texts, socket_frames, upgrades_that_are_none)

#: A PING with which an attacker finds out that all before it has been heard.
ARE_YOU_THERE = encoded(Ping(99))


def mixed(maker: Maker, kinds: tuple[Kind, ...]) -> Iterator[tuple[str, Frames]]:
    """Without end: the name of a kind, and what goes out together."""
    while True:
        kind = maker.rng.choice(kinds)
        for frames in kind(maker):
            yield kind.__name__, frames
