"""An HTTP/1.1 connection to one server of an engine, for native threads: nothing in it uses gevent.

Internal. h11 keeps the state of HTTP. A caller waits for an answer in `call`, or polls many connections itself.

Rule 1: one thread uses a connection. Only `cut` may come from another thread.
Rule 2: what counts is the silence of the server. A long answer that comes slowly is not given up.
Rule 3: if the server closes a connection before a byte of the answer has come, the request is made once more on a new
connection. Callers make only requests that may be made twice.
"""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass
from typing import Any

from discovery.backends.stream import EngineStream, name_of
from discovery.client.patience import Patience
from discovery.exceptions import EngineError, EngineOverdueError


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """Status, headers with names in lower case, and the body."""

    status: int
    headers: dict[str, str]
    body: bytes


class _ClosedError(EngineError):
    """The server closed the connection."""


class HttpConnection:
    """Connects with the first request, within `seconds`. `longest`: the most bytes of a body. `headers`: sent with each request.

    `patience`: with which answers are awaited.
    """

    def __init__(
        self,
        server: tuple[str, int],
        context: ssl.SSLContext | None,
        seconds: float,
        longest: int,
        headers: dict[str, str],
        patience: Patience,
    ) -> None:
        import h11

        self._h11: Any = h11
        self.name = name_of(server)
        self._server, self._context, self._seconds, self._longest = server, context, seconds, longest
        self._headers = [("host", self.name), *headers.items()]
        self._patience = patience
        self._stream: EngineStream | None = None
        self._http: Any = None
        self._status = 0
        self._answer_headers: dict[str, str] = {}
        self._body = bytearray()
        self._is_cut = False

    def call(self, method: str, target: str, body: bytes = b"") -> HttpAnswer:
        """The answer to one request. EngineError when there is none in time."""
        for is_first in (True, False):
            is_old = self._stream is not None
            try:
                self.ask(method, target, body)
                silence, heard = 0.0, time.monotonic()
                while True:
                    answer = self.read(self._patience.seconds)
                    now = time.monotonic()
                    silence, heard = max(silence, now - heard), now
                    if answer is not None:
                        self._patience.was_answered(silence)
                        return answer
            except _ClosedError:
                if not (is_old and is_first) or self._status or self._is_cut:
                    raise
        raise AssertionError("the second attempt raises or returns")

    def ask(self, method: str, target: str, body: bytes = b"") -> None:
        """Sends a request; `read` returns the answer."""
        if self._stream is None:
            try:
                self._stream = EngineStream(self._server, self._context, self._seconds, self._opened)
            except EngineError:
                self._stream = None
                raise
            self._http = self._h11.Connection(self._h11.CLIENT)
        self._status, self._body = 0, bytearray()
        request = self._h11.Request(
            method=method, target=target, headers=[*self._headers, ("content-length", str(len(body)))]
        )
        data = self._http.send(request) + (self._http.send(self._h11.Data(data=body)) if body else b"")
        try:
            self._stream.send(data + self._http.send(self._h11.EndOfMessage()))
        except EngineError as exc:
            self.close()
            raise _ClosedError(str(exc)) from exc

    def fileno(self) -> int:
        """The descriptor to poll for reading while an answer is awaited."""
        assert self._stream is not None
        return self._stream.fileno()

    def read(self, seconds: float) -> HttpAnswer | None:
        """Waits for a part of the answer; None while it is not complete. EngineError when nothing comes within `seconds`."""
        assert self._stream is not None
        try:
            data = self._stream.recv(max(0.001, seconds))
            self._http.receive_data(data)
            answer = self._next()
            if answer is None and not data:
                raise _ClosedError(f"{self.name} closed the connection")
        except TimeoutError as exc:
            self.close()
            self._patience.was_overdue()
            raise EngineOverdueError(f"{self.name} did not answer within {seconds:g} s") from exc
        except self._h11.RemoteProtocolError as exc:
            self.close()
            if not data:
                raise _ClosedError(f"{self.name} closed the connection") from exc
            raise EngineError(f"the server at {self.name} does not speak HTTP: {exc!s:.200}; is it TLS that it wants?") from exc
        except EngineError:
            self.close()
            raise
        return answer

    def cut(self) -> None:
        """Ends the connection, although another thread waits for an answer."""
        self._is_cut = True
        stream = self._stream
        if stream is not None:
            stream.cut()

    def close(self) -> None:
        """Closes the connection; the next request makes another one."""
        if self._stream is not None:
            self._stream.close()
        self._stream = None

    def _opened(self, stream: EngineStream) -> None:
        self._stream = stream
        if self._is_cut:
            stream.cut()

    def _next(self) -> HttpAnswer | None:
        """The answer, once it is complete."""
        while True:
            event = self._http.next_event()
            if isinstance(event, self._h11.Response):
                self._status = event.status_code
                self._answer_headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
            elif isinstance(event, self._h11.Data):
                self._body += event.data
                if len(self._body) > self._longest:
                    raise EngineError(f"{self.name} sent an answer of more than {self._longest} bytes")
            elif isinstance(event, self._h11.EndOfMessage):
                answer = HttpAnswer(self._status, self._answer_headers, bytes(self._body))
                if self._http.our_state is self._h11.DONE and self._http.their_state is self._h11.DONE:
                    self._http.start_next_cycle()
                else:
                    self.close()
                return answer
            elif event is self._h11.NEED_DATA or isinstance(event, self._h11.ConnectionClosed):
                return None
