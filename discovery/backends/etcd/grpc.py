"""Calls of gRPC to one member of etcd: an HTTP/2 connection on which one call runs after the other.

Internal. h2 keeps the state of HTTP/2. Sources of the rules: "gRPC over HTTP2" in the documents of gRPC.

Rule 1: one thread reads, in `receive`; any thread may `send`.
Rule 2: what counts is the silence of the server about the call. A long answer that comes slowly is not given up. A server that
only keeps the connection alive is.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

from discovery.backends.stream import EngineStream
from discovery.exceptions import EngineError, EngineOverdueError
from discovery.native import native_lock

#: The protocol that is offered to the server if the connection has TLS.
ALPN = "h2"
#: Bytes that the server may send before this process has to confirm any: more than most answers have.
WINDOW = 4 * 1024 * 1024
#: Calls that have ended which h2 remembers, for frames that come late. By default it keeps 65,536, which take 10 MB.
REMEMBERED = 100
#: The first bytes of a server: a frame of less than 64 KiB, of kind SETTINGS. None is any byte.
_SETTINGS = (0, None, None, 4)


class GrpcConnection:
    """An open connection to one member.

    `call`: a word for the calls, for error texts. `seconds`: the time to connect. `longest`: the most bytes of one message.
    `opened` is called with the stream before the connection is made, so that another thread can cut it.
    """

    def __init__(
        self,
        server: tuple[str, int],
        context: ssl.SSLContext | None,
        call: str,
        seconds: float,
        longest: int,
        opened: Callable[[EngineStream], object] = lambda _: None,
    ) -> None:
        import h2.config
        import h2.connection
        import h2.events
        import h2.exceptions
        import h2.settings

        self._events: Any = h2.events
        self._errors: Any = h2.exceptions
        self._call = call
        self._longest = longest
        self._scheme = "http" if context is None else "https"
        self._hint = "; is it TLS that it wants?" if context is None else ""
        if context is not None:
            context.set_alpn_protocols([ALPN])
        self._guard = native_lock()
        self._head = b""
        self._id = 0
        self._unsent, self._received = bytearray(), bytearray()
        self._is_last = False
        #: Whether the server has ended the call, and gRPC's code and text.
        self.is_over = False
        self.status, self.text = 0, ""
        self._stream = EngineStream(server, context, seconds, opened)
        self.name = self._stream.name
        connection = type("_Connection", (h2.connection.H2Connection,), {"MAX_CLOSED_STREAMS": REMEMBERED})
        self._http: Any = connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        codes = h2.settings.SettingCodes
        self._http.local_settings = h2.settings.Settings(
            client=True, initial_values={codes.INITIAL_WINDOW_SIZE: WINDOW, codes.ENABLE_PUSH: 0}
        )
        try:
            self._http.initiate_connection()
            self._http.increment_flow_control_window(WINDOW)
        except BaseException:
            self._stream.close()
            raise

    def begin(self, path: str, token: str | None) -> None:
        """Begins a call. The one before must be over."""
        headers = [
            (":method", "POST"),
            (":scheme", self._scheme),
            (":authority", self.name),
            (":path", path),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            # A member that has no leader then ends the call, and the next attempt goes to another member.
            ("hasleader", "true"),
        ]
        if token is not None:
            headers.append(("token", token))
        with self._guard, self._as_engine_error("does not speak gRPC as etcd does"):
            self.is_over, self.status, self.text = False, 0, ""
            self._is_last = False
            self._unsent.clear()
            self._received.clear()
            self._id = self._http.get_next_available_stream_id()
            self._http.send_headers(self._id, headers)
            self._send()

    def send(self, message: bytes, is_last: bool = False) -> None:
        """Sends a message in the call. `is_last`: no other one follows."""
        with self._guard, self._as_engine_error(f"ended {self._call}"):
            self._unsent += b"\0" + len(message).to_bytes(4, "big") + message
            self._is_last = is_last
            self._send()

    def receive(self, seconds: float | None) -> list[bytes]:
        """Waits for bytes of the call, at most `seconds` (None: for ever), and returns the messages that are complete with them.

        EngineOverdueError when none come, EngineError when the connection is over.
        """
        until = None if seconds is None else time.monotonic() + seconds
        try:
            while not self._receive(until):
                pass
        except TimeoutError as exc:
            raise EngineOverdueError(f"{self.name} did not answer within {seconds:g} s") from exc
        return self._whole()

    def _receive(self, until: float | None) -> bool:
        """Waits for bytes, and returns whether some of them are about the call. TimeoutError when the time is over."""
        rest = None if until is None else until - time.monotonic()
        if rest is not None and rest <= 0:
            raise TimeoutError
        data = self._stream.recv(rest)
        if not data:
            raise EngineError(f"{self.name} closed the connection{'' if self._head else self._hint}")
        if len(self._head) < len(_SETTINGS):
            # h2 would take an answer in HTTP/1.1 for the beginning of a frame, and wait for the rest.
            self._head += data[: len(_SETTINGS)]
            if not all(expected in (None, byte) for expected, byte in zip(_SETTINGS, self._head, strict=False)):
                raise EngineError(f"{self.name} does not speak HTTP/2, as etcd's port for clients does{self._hint}")
        with self._guard, self._as_engine_error("does not speak gRPC as etcd does"):
            events = self._http.receive_data(data)
            is_about_call = [self._take(event) for event in events]
            self._send()
        return any(is_about_call)

    def close(self) -> None:
        """Closes the connection. Called by the thread that reads."""
        self._stream.close()

    @contextmanager
    def _as_engine_error(self, what: str) -> Iterator[None]:
        try:
            yield
        except (self._errors.H2Error, ValueError) as exc:
            raise EngineError(f"{self.name} {what}: {exc!s:.200}") from exc

    def _send(self) -> None:
        """Sends as much as HTTP/2's flow control allows, and everything that h2 itself wants to send."""
        while self._unsent:
            size = min(self._http.local_flow_control_window(self._id), self._http.max_outbound_frame_size, len(self._unsent))
            if size <= 0:
                break
            is_end = self._is_last and size == len(self._unsent)
            self._http.send_data(self._id, bytes(self._unsent[:size]), end_stream=is_end)
            del self._unsent[:size]
        self._stream.send(self._http.data_to_send())

    def _take(self, event: Any) -> bool:
        """Returns whether the event is about the present call."""
        events = self._events
        if getattr(event, "stream_id", self._id) not in (self._id, 0):
            return False  # The end of an earlier call, which had its answer.
        match event:
            case events.DataReceived():
                self._received += event.data
                self._http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case events.ResponseReceived() | events.TrailersReceived():
                self._check(dict(event.headers))
            case events.StreamEnded():
                self.is_over = True
                # A server may answer before it has read the whole request, and needs no more of it then.
                self._unsent.clear()
            case events.StreamReset() | events.ConnectionTerminated():
                # After a complete answer, a server may end the rest of a request so (RFC 9113, 8.1).
                if not self.is_over:
                    raise EngineError(f"{self.name} ended {self._call} with error {event.error_code!s:.100} of HTTP/2")
            case _:
                return False
        return True

    def _check(self, headers: dict[str, str]) -> None:
        status = headers.get(":status", "200")
        if status != "200":
            raise EngineError(f"{self.name} does not speak gRPC as etcd does (HTTP status {status:.20})")
        if "grpc-status" in headers:
            self.status = int(headers["grpc-status"])
            self.text = unquote(headers.get("grpc-message", "")).removeprefix("etcdserver: ")[:200]

    def _whole(self) -> list[bytes]:
        """The messages that have arrived completely."""
        found: list[bytes] = []
        while len(self._received) >= 5:
            length = int.from_bytes(self._received[1:5], "big")
            if self._received[0] or length > self._longest:
                raise EngineError(f"{self.name} sent a message of {length} bytes; {self._longest} are taken")
            if len(self._received) < 5 + length:
                break
            with memoryview(self._received) as received:
                found.append(bytes(received[5 : 5 + length]))
            del self._received[: 5 + length]
        return found
