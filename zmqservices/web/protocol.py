"""HTTP/1.1 on a gevent socket: pywsgi's connections and greenlets, with framing by RFC 9112, time limits, and lines in the log.

Internal. Services use `zmqservices.web.handlers`.

Everything that leans on pywsgi's insides stands in this file. What it reads and what it says of a message's framing are ours:
pywsgi repairs requests that have to be refused.
"""

from __future__ import annotations

import errno
import io
import logging
import socket
import time
from functools import lru_cache
from http import HTTPStatus
from time import monotonic
from typing import Any
from urllib.parse import unquote

from gevent import GreenletExit, Timeout, getcurrent
from gevent.pool import Pool
from gevent.pywsgi import WSGIHandler, WSGIServer, format_date_time
from werkzeug.exceptions import HTTPException

from zmqservices.constants import (
    DEFAULT_WEB_SERVER_HEADER_TIMEOUT,
    DEFAULT_WEB_SERVER_IDLE_TIMEOUT,
    DEFAULT_WEB_SERVER_MIN_BODY_RATE,
)
from zmqservices.web import reading
from zmqservices.web.framing import MAX_REQUEST_LINE, BadAnswer, BadFraming, RequestHead, check_answer, cut, read_head
from zmqservices.web.guard import Guard
from zmqservices.web.reading import CONTINUE, RequestBody, SocketReader, header_lines

_log = logging.getLogger(__name__)
#: One line for each request.
_access = logging.getLogger("zmqservices.web.access")

#: Bytes that are sent in one go; each such piece has the idle timeout to itself, so that slow readers may be slow.
PIECE = 64 * 1024
#: Connections that are accepted in one turn of the loop. Those that are there have their turn in between: with gevent's 100,
#: whoever connects all the time made others wait for seconds, and the process grow.
ACCEPTED_AT_ONCE = 4
#: Characters of a request line that the log gets.
LONGEST_LINE = 1000
#: Seconds without accepting after there was no descriptor for a connection: at first, and as long as it lasts.
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 1.0
#: Answers that have no body, whatever the application gives (RFC 9112, 6.3).
BODYLESS = (101, 204, 304)
#: Where an application finds the handler of its connection: the socket, and what was read of it already.
HANDLER = "zmqservices.web.handler"


class BodyBroken(Exception):
    """The body of an answer ended in an error. Told to the client by a connection that ends in the middle of it."""


class _Body(io.BufferedReader):
    """A request's body as applications read it; as pywsgi ends it, too."""

    def __init__(self, handler: HttpOnlyProtocol, body: RequestBody) -> None:
        super().__init__(body)
        self._handler = handler

    @property
    def is_lost(self) -> bool:
        """Whether what follows it on the connection cannot be told from it."""
        return bool(self.raw.is_lost)  # type: ignore[attr-defined]

    def _discard(self) -> None:
        body: Any = self.raw
        if not body.discard():
            # What is left of the body would be taken for the next request.
            self._handler.close_connection = True


class _NoBody(io.BytesIO):
    is_lost = False

    def _discard(self) -> None:
        pass


class HttpOnlyProtocol(WSGIHandler):
    """One connection: request after request, until it is closed or idle for too long."""

    #: No request is being answered; such a connection may be closed without loss.
    is_idle = True
    #: The status and the headers of an answer, while they wait for the first of its body.
    _head: bytearray | None = None
    #: Bytes that the application said are still to come of its answer; None where it did not say.
    _owed: int | None = None
    # pywsgi's own, which it does not annotate.
    code: int
    status: Any
    wsgi_input: Any
    response_headers: Any
    request: RequestHead

    def __init__(self, sock: Any, address: Any, server: Any) -> None:
        self._reader = SocketReader(
            sock,
            getattr(server, "idle_timeout", DEFAULT_WEB_SERVER_IDLE_TIMEOUT) or None,
            getattr(server, "header_timeout", DEFAULT_WEB_SERVER_HEADER_TIMEOUT) or None,
            getattr(server, "min_body_rate", DEFAULT_WEB_SERVER_MIN_BODY_RATE),
        )
        super().__init__(sock, address, server, io.BufferedReader(self._reader))

    def handle(self) -> None:
        connections = getattr(self.server, "connections", None)
        self.socket.settimeout(getattr(self.server, "idle_timeout", DEFAULT_WEB_SERVER_IDLE_TIMEOUT) or None)
        if connections is not None:
            connections[self] = getcurrent()
        try:
            if self.socket.family != socket.AF_UNIX:
                # Answers and messages are written whole; waiting for more to come only costs time.
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            super().handle()
        except OSError:
            # The client went, perhaps while it was told what is wrong with its request.
            pass
        except Exception as exc:
            # Whatever it is, it ends this connection and no other.
            _broken.caught(self._client(), exc, monotonic(), trace=True)
        finally:
            if connections is not None:
                del connections[self]

    # --- requests ----------------------------------------------------------------------------------------------------

    def handle_one_request(self) -> Any:
        """Called by pywsgi until it does not return True."""
        self._reader.begin_request()
        self.requestline, self.response_length = "", 0
        try:
            if not self._read_request():
                return None
        except BadFraming as exc:
            _refused.caught(self._client(), exc, monotonic())
            return self._refuse(exc.status, str(exc))
        except TimeoutError:
            return None if self._reader.is_idle else self._refuse(408, "the headers came too slowly")
        except OSError:
            return None
        self.environ = self.get_environ()
        self.application = self.server.application
        self.handle_one_response()
        return None if self.close_connection or self.rfile.closed else True

    def _read_request(self) -> bool:
        """Read the head of a request; False where there is none any more."""
        line = self.rfile.readline(MAX_REQUEST_LINE + 3)
        if line == b"\r\n":
            # Some clients end a body with a line too many (RFC 9112, 2.2).
            line = self.rfile.readline(MAX_REQUEST_LINE + 3)
        self.is_idle = False
        self.requestline = line.decode("latin-1")
        if len(line) > MAX_REQUEST_LINE + 2:
            raise BadFraming(f"a request line has {MAX_REQUEST_LINE} bytes at most", 414)
        if line[-1:] != b"\n":
            return False
        head = self.request = read_head(line, header_lines(self.rfile))
        self.command, self.path = head.method, head.target
        self.request_version = "HTTP/1.0" if head.version == (1, 0) else "HTTP/1.1"
        self.content_length = head.length
        self.close_connection = not head.keeps_open
        self._reader.begin_body()
        return True

    def get_environ(self) -> dict[str, Any]:
        """The request as WSGI's: all texts are native, latin-1 for what came as bytes (PEP 3333)."""
        head = self.request
        environ: dict[str, Any] = self.server.get_environ()
        path, _, query = head.target.partition("?")
        environ["REQUEST_METHOD"] = head.method
        environ["SCRIPT_NAME"] = ""
        environ["PATH_INFO"] = unquote(path, "latin-1") if "%" in path else path
        environ["QUERY_STRING"] = query
        environ["SERVER_PROTOCOL"] = self.request_version
        if isinstance(self.client_address, tuple):
            environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = str(self.client_address[0]), str(self.client_address[1])
        for name, value in head.fields:
            key = _key(name)
            if key is None:
                continue
            if key not in environ:
                environ[key] = value
            elif key[:5] == "HTTP_":
                environ[key] += ("; " if key == "HTTP_COOKIE" else ",") + value
        if head.host is not None:
            # For a URL as the target it is the URL's (3.2.2).
            environ["HTTP_HOST"] = head.host
        self.wsgi_input = _NoBody() if head.length == 0 else _Body(self, RequestBody(head, self.rfile, self._invite))
        environ["wsgi.input"] = self.wsgi_input
        environ["wsgi.input_terminated"] = True
        environ[HANDLER] = self
        return environ

    def _invite(self) -> None:
        """The client waits for a word before it sends its body; in the middle of an answer it would be taken for a part of it."""
        if not self.headers_sent:
            self.socket.sendall(CONTINUE)

    def _refuse(self, status: int, text: str) -> None:
        """Answer a request that is none, and take the time that the client needs to read that."""
        self.status, self.close_connection = str(status), True
        self.time_finish = time.time()
        self.log_request()
        self.socket.sendall(_refusal(status, text, not self.requestline.startswith("HEAD ")))
        # Whoever stops need not wait for it.
        self.is_idle = True
        self._linger()

    def _linger(self) -> None:
        # Closed with bytes that nobody read, TCP would take back what was sent (RFC 9112, 9.6).
        with Timeout(reading.LINGER, False):
            self.socket.shutdown(socket.SHUT_WR)
            while self.socket.recv(PIECE):
                pass

    # --- answers -----------------------------------------------------------------------------------------------------

    def handle_one_response(self) -> None:
        try:
            super().handle_one_response()
        finally:
            self.is_idle = True
            if getattr(self.server, "is_closing", False):
                self.close_connection = True

    def start_response(self, status: Any, headers: Any, exc_info: Any = None) -> Any:
        """Called by the application (PEP 3333). Raises BadAnswer where that cannot be sent."""
        if exc_info:
            try:
                if self.headers_sent:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        self._owed = check_answer(status, headers)
        self._orig_status, self.status, self.code = status, status.encode("latin-1"), int(status[:3])
        self.response_headers = []
        self.provided_date = None
        for name, value in headers:
            lowered = name.lower()
            if lowered == "connection":
                # What it says besides is the application's; whether the connection stays is for us to say.
                options = [one for one in value.split(",") if one.strip().lower() not in ("close", "keep-alive", "")]
                self.close_connection = self.close_connection or "close" in value.lower()
                value = ",".join(options).strip()
                if not value:
                    continue
            elif lowered == "date":
                self.provided_date = value
            elif lowered == "content-length":
                if self.code in BODYLESS:
                    continue
            self.response_headers.append((name.encode("latin-1"), value.encode("latin-1")))
        if self.code in BODYLESS:
            self._owed = None
        return self.write

    @property
    def _has_body(self) -> bool:
        return self.command != "HEAD" and self.code not in BODYLESS

    def finalize_headers(self) -> None:
        """Add what only the server can say: how the body ends, and whether the connection does."""
        headers = self.response_headers
        if self.provided_date is None:
            headers.append((b"Date", format_date_time(time.time())))
        self.response_use_chunked = False
        if self._owed is None and self.code not in BODYLESS:
            if self.request_version != "HTTP/1.0":
                headers.append((b"Transfer-Encoding", b"chunked"))
                self.response_use_chunked = self.command != "HEAD"
            elif self.command != "HEAD":
                # To an old client, which knows no chunks, the end of the body is the end of the connection.
                self.close_connection = True
        if getattr(self.server, "is_closing", False) or self.wsgi_input.is_lost:
            # Said in time, so that the client sends its next request elsewhere.
            self.close_connection = True
        if self.close_connection:
            headers.append((b"Connection", b"close"))
        elif self.request_version == "HTTP/1.0":
            headers.append((b"Connection", b"keep-alive"))

    def write(self, data: bytes) -> None:
        """Called for each piece of the body. Raises BadAnswer for more of it than the application said."""
        if not self.status:
            raise BadAnswer("the application did not call start_response()")
        if not self._has_body:
            data = b""
        elif self._owed is not None:
            if len(data) > self._owed:
                raise BadAnswer("the body of an answer is longer than its Content-Length says")
            self._owed -= len(data)
        if self.headers_sent:
            self._write(data)
        else:
            self._write_with_headers(data)

    def process_result(self) -> None:
        if self._owed is None and isinstance(self.result, (list, tuple)) and self.status and not self.headers_sent:
            # All there is to say is known, and an old client's connection stays.
            self._owed = sum(map(len, self.result))
            if self.code not in BODYLESS and self.command != "HEAD":
                self.response_headers.append((b"Content-Length", b"%d" % self._owed))
        super().process_result()
        if self._owed and self._has_body:
            raise BadAnswer("the body of an answer is shorter than its Content-Length says")

    def upgrade(self, response: bytes) -> None:
        """The connection speaks another protocol from here on; `response` says so. There is no request after this one."""
        self.close_connection = self.headers_sent = True
        self.code, self._orig_status = 101, "101 Switching Protocols"
        self._reader.be_patient()
        self.socket.settimeout(None)
        self.socket.sendall(response)

    def _write_with_headers(self, data: bytes) -> None:
        # One packet for a small answer instead of two.
        self._head = bytearray()
        try:
            super()._write_with_headers(data)
        finally:
            head, self._head = self._head, None
        if head:
            self._sendall(head)

    def _sendall(self, data: Any) -> None:
        head = self._head
        if head is not None and not head:
            head += data
            return
        if head is not None:
            self._head = None
            if len(data) <= PIECE:
                data = head + data
            else:
                super()._sendall(head)
        view = data if len(data) <= PIECE else memoryview(data)
        for start in range(0, len(data), PIECE):
            super()._sendall(view[start : start + PIECE])

    # --- what goes wrong, and what is told of it ---------------------------------------------------------------------

    def handle_error(self, t: Any, v: Any, tb: Any) -> None:
        self.close_connection = True
        if issubclass(t, (GreenletExit, OSError, BodyBroken)):
            return
        if not isinstance(v, HTTPException):
            _log.error("an answer to %s could not be given", self._asked(), exc_info=(t, v, tb))
        if self.response_length or not hasattr(self, "socket"):
            # A part of it is sent; the end of the connection says that it is not whole.
            return
        code = v.code if isinstance(v, HTTPException) and v.code else 500
        self.status, self.code = str(code), code
        data = _refusal(code, "" if code == 500 else text_of_http(v), self.command != "HEAD")
        self.headers_sent = True
        try:
            self._sendall(data)
        except OSError:
            pass

    def log_request(self) -> None:
        if _access.isEnabledFor(logging.INFO):
            # A text where the connection or the request was at fault, bytes where the application answered.
            status = self.status if isinstance(self.status, str) else (self._orig_status or "000").split(" ", 1)[0]
            took = (self.time_finish or time.time()) - self.time_start
            _access.info("%s %s %s %d %.3fs", self._client(), self._asked(), status, self.response_length, took)

    def _client(self) -> str:
        address = self.client_address
        return str(address[0]) if isinstance(address, tuple) and address else "-"

    def _asked(self) -> str:
        # As Python writes it, since a client may send what moves a terminal's cursor.
        return cut((self.requestline or "").rstrip(), LONGEST_LINE)


_refused = Guard(_log, "refused a request that is none")
_broken = Guard(_log, "a connection broke", logging.ERROR)
_short = Guard(_log, "connections wait for descriptors; raise `ulimit -n`, or LimitNOFILE= of a systemd unit", logging.WARNING)


def text_of_http(exc: HTTPException) -> str:
    """What an HTTPException tells the client."""
    return exc.description or exc.name


def _refusal(status: int, text: str, has_body: bool) -> bytes:
    reason = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Error"
    body = f"Error: {text or reason}\n".encode()
    date = format_date_time(time.time()).decode()
    head = (
        f"HTTP/1.1 {status} {reason}\r\nDate: {date}\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode("latin-1") + (body if has_body else b"")


@lru_cache(1024)
def _key(name: str) -> str | None:
    """The name of a header in WSGI's environment. None where it has none: `_` would be taken for `-`, and `Proxy` for the
    setting of an HTTP client (httpoxy)."""
    key = name.upper().replace("-", "_")
    if "_" in name or key == "PROXY":
        return None
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"


class Server(WSGIServer):
    """A pywsgi server that knows its connections: those that are idle can be closed, and all of them at the end."""

    max_accept = ACCEPTED_AT_ONCE

    def __init__(
        self,
        listener: Any,
        application: Any,
        handler_class: Any,
        idle_timeout: float,
        environ: dict[str, str],
        header_timeout: float = DEFAULT_WEB_SERVER_HEADER_TIMEOUT,
        min_body_rate: float = DEFAULT_WEB_SERVER_MIN_BODY_RATE,
    ) -> None:
        # Known before anything can go wrong: it would be closed then.
        self.connections: dict[Any, Any] = {}
        self.idle_timeout = idle_timeout
        self.header_timeout = header_timeout
        self.min_body_rate = min_body_rate
        self.is_closing = False
        #: Seconds until the next try to accept, should there be no descriptor for it.
        self._pause = FIRST_PAUSE
        super().__init__(
            listener, application, spawn=Pool(), log=None, error_log=None, handler_class=handler_class, environ=environ
        )

    def do_read(self) -> Any:
        """Called by gevent while connections wait: the next of them, or None."""
        try:
            connection = super().do_read()
        except OSError as exc:
            if exc.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            _short.caught(f"{self.address}", exc, monotonic())
            self._wait_for_descriptors()
            return None
        self._pause = FIRST_PAUSE
        return connection

    def _wait_for_descriptors(self) -> None:
        # As gevent does it after other errors, which it would print with a traceback each time.
        self.stop_accepting()
        self._timer = self.loop.timer(self._pause)
        self._timer.start(self._start_accepting_if_started)
        self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def close(self) -> None:
        """Take no more connections, and close those that are idle; the others end with the answer that is under way."""
        self.is_closing = True
        super().close()
        for handler, greenlet in list(self.connections.items()):
            if handler.is_idle:
                greenlet.kill(block=False)
