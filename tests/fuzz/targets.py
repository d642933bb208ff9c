"""Every decoder of bytes that come from a peer, a client or a disk: what it may raise, and what it is begun with.

Rule: for any bytes a target returns or raises one of its errors; anything else is a bug.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgpack

from discovery import protocol
from discovery.exceptions import DirectoryError
from discovery.model import Record
from zmqservices.exceptions import ConfigurationError, MalformedRequest, ProtocolError, UnserializableValueError
from zmqservices.journal import blocks
from zmqservices.transport import addresses
from zmqservices.web import framing
from zmqservices.web.websocket import messages as websocket
from zmqservices.wire import codec, envelope, topics
from zmqservices.wire.messages import Batch
from zmqservices.wire.quoting import LONGEST_QUOTE, quoted
from zmqservices.wire.serializers import JSON

VECTORS = Path(__file__).parents[2] / "docs" / "protocol-vectors.json"


@dataclass(frozen=True)
class Target:
    """One decoder. `run` takes the bytes; `errors` are those that it may raise."""

    run: Callable[[bytes], object]
    errors: tuple[type[BaseException], ...]
    seeds: Sequence[bytes]


def _vectors() -> list[bytes]:
    """The bodies of the protocol's test vectors, well-formed and refused ones."""
    found: list[bytes] = []

    def collect(value: object) -> None:
        if isinstance(value, dict):
            body = value.get("body")
            if isinstance(body, str):
                found.append(bytes.fromhex(body))
            for item in value.values():
                collect(item)
        elif isinstance(value, list):
            for item in value:
                collect(item)

    collect(json.loads(VECTORS.read_text("utf-8")))
    return found


def _read_body(data: bytes) -> None:
    message = envelope.decode(data)
    if isinstance(message, Batch):
        for fields in message.messages:
            try:
                envelope.message_of(fields)
            except ProtocolError:
                pass
    assert len(quoted(message)) < 100 * LONGEST_QUOTE


def _read_body_and_payload(data: bytes) -> None:
    envelope.decode(data, b"payload")


def _read_value(data: bytes) -> None:
    value = codec.unpack(data)
    try:
        again = codec.pack(value)
    except UnserializableValueError:
        return  # What is nested to the very limit of the reader has no room for the writer.
    codec.unpack(again)


def _read_directory(data: bytes) -> None:
    protocol.decode(data)
    protocol.decode_push(data, lambda reason: None)


def _read_head(data: bytes) -> None:
    line, *lines = data.split(b"\n")
    framing.read_head(line + b"\n", [one + b"\n" for one in lines])


def _match_topic(data: bytes) -> None:
    pattern, _, subject = data.decode("utf-8", "replace").partition("\0")
    topics.compile(pattern).matches(subject)


RECORD = Record(service="maths", instance="a" * 12, endpoints={"rpc": "tcp://127.0.0.1:4321"}, methods={"add": {}})
HEAD = b"POST /orders?x=1 HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 3\r\nAccept: application/json\r\n\r\n"

TARGETS = {
    "wire": Target(_read_body, (ProtocolError,), _vectors()),
    "wire-payload": Target(_read_body_and_payload, (ProtocolError,), _vectors()),
    "codec": Target(_read_value, (ProtocolError,), [codec.pack(value) for value in ([1, {"a": (1, {2})}], {1: 2.5}, b"x")]),
    "json": Target(JSON.loads, (ProtocolError,), [b'{"a": [1, {"__type__": "date", "__value__": "2024-02-29"}]}', b"[1e999]"]),
    "directory": Target(
        _read_directory,
        (DirectoryError,),
        [
            protocol.encode(protocol.Subscribe("default")),
            protocol.encode(protocol.Register(7, RECORD)),
            protocol.encode(protocol.Renew([["a" * 12, 1, 1]])),
        ],
    ),
    "journal": Target(
        blocks.unpack_events, (ValueError, TypeError), [blocks.pack_events([]), msgpack.packb([("order", b"x", None)])]
    ),
    "websocket": Target(
        lambda data: websocket.read_call(data.decode("utf-8", "replace")),
        (MalformedRequest,),
        [b'{"method": "hi", "data": {"name": "Ada"}, "correlation_id": 7}', b'{"method": "hi", "correlation_id": 1e999}'],
    ),
    "http": Target(_read_head, (framing.BadFraming,), [HEAD]),
    "topics": Target(_match_topic, (ConfigurationError, ValueError), [b"orders.*\0orders.placed", b"orders.#\0orders"]),
    "addresses": Target(
        lambda data: addresses.parse(data.decode("utf-8", "replace")),
        (ConfigurationError,),
        [b"tcp://127.0.0.1:4190", b"tcp://[fe80::1%eth0]:1", b"*:0"],
    ),
}
