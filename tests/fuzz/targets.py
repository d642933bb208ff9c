"""Every decoder of bytes that come from a peer, a client or a disk: what it may raise, and what it is begun with.

Rule 1: for any bytes a target returns or raises one of its errors; anything else is a bug.
Rule 2: the text of such an error is short: a peer decides nothing about the length of a line in a log.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgpack

from discovery import protocol
from discovery.client.seeds import split_tcp
from discovery.exceptions import DirectoryConfigurationError, DirectoryError
from discovery.model import Note, Record
from zmqservices.cli.alive import address_of
from zmqservices.exceptions import (
    BadRequest,
    ConfigurationError,
    MalformedRequest,
    ProtocolError,
    UnserializableValueError,
    deserialize,
)
from zmqservices.journal import StoredEvent, blocks
from zmqservices.transport import addresses
from zmqservices.transport.sockets import UnusableEndpoint, refuse_unless_connectable
from zmqservices.utils.turns import Turn
from zmqservices.web import framing
from zmqservices.web.addresses import parse_address
from zmqservices.web.reading import ClientDisconnected, RequestBody, RequestTimeout, header_lines
from zmqservices.web.websocket import messages as websocket
from zmqservices.web.websocket.transport import WebSocketTransport
from zmqservices.wire import codec, envelope, topics
from zmqservices.wire.messages import Batch, Error
from zmqservices.wire.payloads import Payloads
from zmqservices.wire.quoting import LONGEST_QUOTE, quoted
from zmqservices.wire.serializers import JSON

#: Characters that the text of an error may have.
LONGEST_REFUSAL = 2000
VECTORS = Path(__file__).parents[2] / "docs" / "protocol-vectors.json"


@dataclass(frozen=True)
class Target:
    """One decoder. `run` takes the bytes; `errors` are those that it may raise."""

    run: Callable[[bytes], object]
    errors: tuple[type[BaseException], ...]
    seeds: Sequence[bytes]

    def hold(self, data: bytes) -> None:
        """Raises where these bytes are a bug."""
        try:
            self.run(data)
        except self.errors as exc:
            assert len(str(exc)) <= LONGEST_REFUSAL, f"the refusal has {len(str(exc))} characters"


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
    envelope.call_id_of(data)
    message = envelope.decode(data)
    if isinstance(message, Error):
        str(deserialize(message.error))
    if isinstance(message, Batch):
        for fields in message.messages:
            try:
                envelope.message_of(fields)
            except ProtocolError:
                pass
    assert len(quoted(message)) < 100 * LONGEST_QUOTE


def _read_body_and_payload(data: bytes) -> None:
    taken = [b"payload"]
    payloads = Payloads(lambda: taken.pop() if taken else None)
    try:
        message = envelope.decode(data, payloads=payloads)
        if payloads.fetched is not None:
            payloads.settle(message)
    except ProtocolError:
        pass
    # What a body that was refused left behind would be put into another.
    assert payloads.fetched is None and payloads._places == 0
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


def _read_event(data: bytes) -> None:
    for read in (blocks.unpack_events, blocks.unpack_event):
        try:
            read(data)
        except blocks.Damaged as exc:
            assert len(str(exc)) <= LONGEST_REFUSAL


def _read_call(data: bytes) -> None:
    """A call of a WebSocket, and each of the answers that there are to it."""
    try:
        call = websocket.read_call(data.decode("utf-8", "replace"))
    except BadRequest as exc:
        json.loads(websocket.refusal(exc, getattr(exc, "correlation_id", None)))
        raise
    json.loads(websocket.result(call.data, call.correlation_id))
    json.loads(websocket.error(ValueError(call.method), (), call.correlation_id))


def _read_frames(data: bytes) -> None:
    """What comes over a WebSocket after its handshake, until it is over."""
    socket = SimpleNamespace(sendall=lambda data: None, shutdown=lambda how: None)
    rfile = io.BufferedReader(io.BytesIO(data))  # type: ignore[arg-type]
    handler: Any = SimpleNamespace(rfile=rfile, socket=socket, turn=Turn())
    handler.upgrade = handler.used_again = lambda *args: None
    transport = WebSocketTransport(handler, HANDSHAKE, 1024, 4096)
    try:
        transport.open("{}")
        for _ in range(len(data) + 2):
            text = transport.receive()
            if text is None:
                return
            assert len(text) <= 1024
        raise AssertionError("there are more messages than bytes")
    finally:
        transport.end()


def _read_requests(data: bytes) -> None:
    """Requests one after the other, heads and bodies, as they come over one connection."""
    rfile = io.BufferedReader(io.BytesIO(data))  # type: ignore[arg-type]
    while (line := rfile.readline(framing.MAX_REQUEST_LINE + 3))[-1:] == b"\n":
        body = RequestBody(framing.read_head(line, header_lines(rfile)), rfile, lambda: None)
        for _ in range(len(data) + 1):
            if not body.readinto(bytearray(512)):
                break
        assert body.discard() or body.is_lost


def _read_addresses(data: bytes) -> None:
    """What peers announce and operators write."""
    text = data.decode("utf-8", "surrogateescape")
    addresses.is_of_one_link(text)
    address_of(text)
    for read in (refuse_unless_connectable, parse_address, split_tcp):
        try:
            read(text)
        except (UnusableEndpoint, ConfigurationError, DirectoryConfigurationError):
            # What an operator wrote is quoted whole.
            pass
    addresses.parse(text)


def _read_head(data: bytes) -> None:
    line, *lines = data.split(b"\n")
    framing.read_head(line + b"\n", [one + b"\n" for one in lines])


def _match_topic(data: bytes) -> None:
    pattern, _, subject = data.decode("utf-8", "replace").partition("\0")
    topics.compile(pattern).matches(subject)


RECORD = Record(service="maths", instance="a" * 12, endpoints={"rpc": "tcp://127.0.0.1:4321"}, methods={"add": {}})
NOTE = Note("default", "events:orders mails.send", 2**50, 60.0, {"group": "mails.send"})
HANDSHAKE = [
    (b"Host", b"h"), (b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"), (b"Sec-WebSocket-Version", b"13"),
    (b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="),
]  # fmt: skip
HOST = b" HTTP/1.1\r\nHost: shop.example:8000\r\n"
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
            protocol.encode(protocol.PutNotes(3, [NOTE])),
            protocol.encode(protocol.Snapshot(0, "boot", True, 0, 1, [[RECORD, 1.5, False]], [NOTE])),
            protocol.encode(protocol.Update(5, "boot", RECORD, 0.0, True)),
            protocol.encode(protocol.Drop(6, "boot", "i1", 1, 2, True)),
            protocol.encode(protocol.Refused(2, "full")),
        ],
    ),
    "journal": Target(
        _read_event,
        (),
        [
            blocks.pack_events([]),
            msgpack.packb([("order", b"x", None)]),
            blocks.pack_events([blocks.NewEvent("order", b"x", b"headers", "key")]),
            blocks.pack_event(StoredEvent(7, 5, 1.5, "order", b"x", None, "key", "origin")),
        ],
    ),
    "websocket": Target(
        _read_call,
        (MalformedRequest,),
        [b'{"method": "hi", "data": {"name": "Ada"}, "correlation_id": 7}', b'{"method": "hi", "correlation_id": 1e999}'],
    ),
    "websocket-frames": Target(
        _read_frames,
        (),
        [
            b"\x81\x85\0\0\0\0hello\x88\x82\0\0\0\0\x03\xe8",
            b"\x01\x82\0\0\0\0he\x89\x81\0\0\0\0!\x80\x83\0\0\0\0llo",
            b"\x82\xfe\x00\x80\0\0\0\0" + b"\xff" * 128 + b"\x8a\x80\0\0\0\0",
        ],
    ),
    "http": Target(_read_head, (framing.BadFraming,), [HEAD]),
    "http-body": Target(
        _read_requests,
        (framing.BadFraming, ConnectionError, ClientDisconnected, RequestTimeout),
        [
            b"POST /" + HOST + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\nabcGET /" + HOST + b"\r\n",
            b"PUT http://[::1]/x" + HOST + b"Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nA: b\r\n\r\n",
            b"OPTIONS * HTTP/1.1\r\nHost: xn--bcher-kva.example\r\nX: \xff\t\r\n\r\n",
        ],
    ),
    "topics": Target(_match_topic, (ConfigurationError, ValueError), [b"orders.*\0orders.placed", b"orders.#\0orders"]),
    "addresses": Target(
        _read_addresses,
        (ConfigurationError,),
        [b"tcp://127.0.0.1:4190", b"tcp://[fe80::1%eth0]:1", b"*:0", b"tcp://[", b"[::1]:8000", b"tcp://a:b@host:99999"],
    ),
}
