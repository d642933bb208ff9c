"""The watch of etcd: several ranges of keys on one connection, to which more are added while it runs.

Internal.

It is the call `etcdserverpb.Watch/Watch` of gRPC, that is one stream of HTTP/2 whose both halves stay open. The JSON gateway
reads one question for each connection, so a watch there could not grow. h2 keeps the state of HTTP/2; the few messages are
written out here. Sources of the rules: "gRPC over HTTP2" in the documents of gRPC; "etcd API: Watch API" at etcd.io/docs/v3.4,
and its `rpc.proto` and `kv.proto`; "Encoding" at protobuf.dev.

Rule 1: one thread reads, in `answers`; any thread may `ask`.
Rule 2: etcd tells the changes of one range in their order. It tells those of all ranges in their order, too, unless this process
reads so slowly that etcd keeps some back.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from discovery.backends.stream import EngineStream
from discovery.exceptions import EngineError
from discovery.native import native_lock

#: What the server is offered when the connection has TLS.
ALPN = "h2"
_PATH = "/etcdserverpb.Watch/Watch"
#: The kinds of fields in protobuf that etcd uses.
_VARINT, _BYTES = 0, 2
#: How a server begins: with a frame of less than 64 KiB, of kind SETTINGS.
_SETTINGS = (0, None, None, 4)
#: Bytes of a number.
_LONGEST_VARINT = 10


@dataclass(frozen=True, slots=True)
class Range:
    """The keys from `start` on and before `end`, or `start` alone where `end` is empty."""

    start: bytes
    end: bytes = b""


@dataclass(frozen=True, slots=True)
class Event:
    """A key was put or deleted by the transaction `revision`."""

    key: bytes
    value: bytes
    revision: int
    is_deletion: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What etcd says of one range. `compacted`: what came before this revision is gone, and with it the range; 0 otherwise."""

    watch: int
    events: list[Event]
    is_over: bool = False
    compacted: int = 0
    reason: str = ""


class WatchConnection:
    """An open connection to one member. `opened` gets the stream first, so that another thread can cut it."""

    def __init__(
        self,
        server: tuple[str, int],
        context: ssl.SSLContext | None,
        token: str | None,
        seconds: float,
        longest: int,
        opened: Callable[[EngineStream], object],
    ) -> None:
        import h2.config
        import h2.connection
        import h2.events
        import h2.exceptions

        self._events: Any = h2.events
        self._errors: Any = h2.exceptions
        self._longest = longest
        self._seconds = seconds
        if context is not None:
            context.set_alpn_protocols([ALPN])
        self._stream = EngineStream(server, context, seconds, opened)
        self._guard = native_lock()
        self._http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self._unsent = bytearray()
        self._received = bytearray()
        headers = [
            (":method", "POST"),
            (":scheme", "http" if context is None else "https"),
            (":authority", self._stream.name),
            (":path", _PATH),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            # A member without a leader ends the watch, and is left.
            ("hasleader", "true"),
        ]
        if token is not None:
            headers.append(("token", token))
        try:
            with self._guard:
                self._http.initiate_connection()
                self._id = self._http.get_next_available_stream_id()
                self._http.send_headers(self._id, headers)
                self._send()
        except BaseException:
            self._stream.close()
            raise

    def ask(self, watch: int, span: Range, revision: int) -> None:
        """Watches these keys from this revision on. `watch` is a number of its own, not 0; it stands in the answers."""
        create = _field(1, span.start) + _field(2, span.end) + _field(3, revision) + _field(7, watch)
        message = _field(1, create)
        with self._guard:
            self._unsent += b"\0" + len(message).to_bytes(4, "big") + message
            try:
                self._send()
            except self._errors.H2Error as exc:
                raise EngineError(f"{self._stream.name} ended the watch: {exc!s:.200}") from exc

    def answers(self) -> Iterator[Answer]:
        """What etcd says, until the connection is cut or ends. EngineError says why it ended."""
        seconds: float | None = self._seconds
        head = b""
        while True:
            try:
                data = self._stream.recv(seconds)
            except TimeoutError as exc:
                raise EngineError(f"{self._stream.name} did not answer within {self._seconds:g} s") from exc
            if not data:
                raise EngineError(f"{self._stream.name} closed the connection")
            if len(head) < len(_SETTINGS):
                # h2 would take the words of HTTP/1.1 for a frame that is to come whole, and wait for it.
                head += data[: len(_SETTINGS)]
                if not all(expected in (None, byte) for expected, byte in zip(_SETTINGS, head, strict=False)):
                    raise EngineError(f"{self._stream.name} does not speak HTTP/2, as etcd's port for clients does")
            seconds = None
            with self._guard:
                try:
                    events = self._http.receive_data(data)
                    for event in events:
                        self._take(event)
                except (self._errors.H2Error, ValueError) as exc:
                    raise EngineError(f"{self._stream.name} does not speak gRPC as etcd does: {exc!s:.200}") from exc
                self._send()
            yield from self._whole()

    def close(self) -> None:
        """Lets go of it; for the thread that reads."""
        self._stream.close()

    def _send(self) -> None:
        """Sends as much as the server is ready to take, and all that h2 itself has to say."""
        while self._unsent:
            size = min(self._http.local_flow_control_window(self._id), self._http.max_outbound_frame_size, len(self._unsent))
            if size <= 0:
                break
            self._http.send_data(self._id, bytes(self._unsent[:size]))
            del self._unsent[:size]
        self._stream.send(self._http.data_to_send())

    def _take(self, event: object) -> None:
        events = self._events
        match event:
            case events.DataReceived():
                self._received += event.data
                self._http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case events.ResponseReceived() | events.TrailersReceived():
                self._check(dict(event.headers))
            case events.StreamEnded():
                raise EngineError(f"{self._stream.name} ended the watch")
            case events.StreamReset() | events.ConnectionTerminated():
                raise EngineError(f"{self._stream.name} ended the watch with error {event.error_code!s:.100} of HTTP/2")

    def _check(self, headers: dict[str, str]) -> None:
        status = headers.get(":status", "200")
        if status != "200":
            raise EngineError(f"{self._stream.name} does not speak gRPC as etcd does (HTTP status {status:.20})")
        if "grpc-status" in headers:
            text = unquote(headers.get("grpc-message", "")).removeprefix("etcdserver: ")
            raise EngineError(f"{self._stream.name} ended the watch: {text[:200] or 'it said no more'}")

    def _whole(self) -> Iterator[Answer]:
        """The messages that are complete."""
        while len(self._received) >= 5:
            length = int.from_bytes(self._received[1:5], "big")
            if self._received[0] or length > self._longest:
                raise EngineError(f"{self._stream.name} sent a message of {length} bytes; {self._longest} are taken")
            if len(self._received) < 5 + length:
                return
            message = bytes(self._received[5 : 5 + length])
            del self._received[: 5 + length]
            try:
                yield decode_answer(message)
            except ValueError as exc:
                raise EngineError(f"{self._stream.name} sent no answer of a watch: {exc}") from exc


def decode_answer(message: bytes) -> Answer:
    """A WatchResponse of etcd's. ValueError for what is none."""
    fields = list(_fields(message))
    known = {number: value for number, value in fields if number != 11}
    return Answer(
        _signed(known.get(2, 0)),
        [_event(_raw(value)) for number, value in fields if number == 11],
        bool(known.get(4, 0)),
        _signed(known.get(5, 0)),
        _raw(known.get(6, b"")).decode(errors="replace")[:200],
    )


def _event(message: bytes) -> Event:
    event = dict(_fields(message))
    item = dict(_fields(_raw(event.get(2, b""))))
    return Event(_raw(item.get(1, b"")), _raw(item.get(5, b"")), _signed(item.get(3, 0)), event.get(1, 0) == 1)


# --- protobuf ---


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def _field(number: int, value: bytes | int) -> bytes:
    """One field; nothing for the default, as protobuf leaves that out."""
    if not value:
        return b""
    if isinstance(value, int):
        return _varint(number << 3 | _VARINT) + _varint(value)
    return _varint(number << 3 | _BYTES) + _varint(len(value)) + value


def _fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Number and value of each field. ValueError for what is cut short, and for kinds that etcd does not use."""
    place = 0
    while place < len(message):
        tag, place = _number(message, place)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, place = _number(message, place)
            yield number, value
        elif kind == _BYTES:
            length, place = _number(message, place)
            if place + length > len(message):
                raise ValueError("a field is cut short")
            yield number, message[place : place + length]
            place += length
        else:
            raise ValueError(f"a field is of kind {kind}")


def _number(message: bytes, place: int) -> tuple[int, int]:
    number = 0
    for shift in range(_LONGEST_VARINT):
        if place >= len(message):
            raise ValueError("a number is cut short")
        byte = message[place]
        place += 1
        number |= (byte & 127) << (7 * shift)
        if byte < 128:
            return number, place
    raise ValueError(f"a number has more than {_LONGEST_VARINT} bytes")


def _signed(value: bytes | int) -> int:
    if not isinstance(value, int):
        raise ValueError("a number is needed")
    return value - (1 << 64) if value >= 1 << 63 else value


def _raw(value: bytes | int) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("bytes are needed")
    return value
