"""The watch of etcd: one connection that watches several ranges of keys, to which more are added while it runs.

It is the call `etcdserverpb.Watch/Watch` of gRPC: one HTTP/2 stream that both sides keep open. etcd's JSON gateway reads only
one request per connection, so more ranges could not be added there. h2 keeps the state of HTTP/2. Sources of the rules: "gRPC
over HTTP2" in the documents of gRPC; "etcd API: Watch API" at etcd.io/docs/v3.4.

Rule 1: one thread reads, in `answers`; any thread may `ask`.
Rule 2: etcd tells the changes of one range in their order. It tells the changes of all ranges in their order, too, unless this
process reads so slowly that etcd holds some back.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote

from discovery.backends.etcd.messages import Answer, Range, decode_answer, encode_create
from discovery.backends.stream import EngineStream
from discovery.exceptions import EngineError
from discovery.native import native_lock

#: The protocol that is offered to the server if the connection has TLS.
ALPN = "h2"
_PATH = "/etcdserverpb.Watch/Watch"
#: The first bytes of a server: a frame of less than 64 KiB, of kind SETTINGS. None is any byte.
_SETTINGS = (0, None, None, 4)


class WatchConnection:
    """An open connection to one member.

    `seconds`: the time for the server's first answer. `longest`: the most bytes of one answer. `opened` is called with the
    stream before the connection is made, so that another thread can cut it.
    """

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
            # A member that has no leader then ends the watch, and the next attempt goes to another member.
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
        """Watches these keys from this revision on. `watch` is the number of the range in the answers: unique, and not 0."""
        message = encode_create(watch, span, revision)
        with self._guard:
            self._unsent += b"\0" + len(message).to_bytes(4, "big") + message
            try:
                self._send()
            except self._errors.H2Error as exc:
                raise EngineError(f"{self._stream.name} ended the watch: {exc!s:.200}") from exc

    def answers(self) -> Iterator[Answer]:
        """Yields the answers until the connection ends or is cut. EngineError says why it ended."""
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
                # h2 would take an answer in HTTP/1.1 for the beginning of a frame, and wait for the rest.
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
        """Closes the connection. Called by the thread that reads."""
        self._stream.close()

    def _send(self) -> None:
        """Sends as much as HTTP/2's flow control allows, and everything that h2 itself wants to send."""
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
        """The answers that have arrived completely."""
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
