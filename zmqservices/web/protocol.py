"""One HTTP/1.1 connection on a gevent socket: reads requests by RFC 9112, with time limits, and logs them.

Internal. Services use `zmqservices.web.handlers`.

Only this file, `answering` and `listening` depend on internals of pywsgi. This package reads and frames messages itself, because
pywsgi repairs requests that must be refused.
"""

from __future__ import annotations

import io
import logging
import socket
import time
from time import monotonic
from types import TracebackType
from wsgiref.types import WSGIEnvironment

from gevent import GreenletExit, Timeout, getcurrent
from gevent.socket import socket as Socket
from werkzeug.exceptions import HTTPException

from zmqservices.constants import (
    DEFAULT_WEB_SERVER_HEADER_TIMEOUT,
    DEFAULT_WEB_SERVER_IDLE_TIMEOUT,
    DEFAULT_WEB_SERVER_MAX_CONNECTIONS,
    DEFAULT_WEB_SERVER_MAX_HEADERS,
    DEFAULT_WEB_SERVER_MAX_HEADERS_SIZE,
    DEFAULT_WEB_SERVER_MIN_BODY_RATE,
)
from zmqservices.utils.turns import Turn
from zmqservices.web import reading
from zmqservices.web.answering import PIECE, AnswerHandler
from zmqservices.web.environ import fill_environ
from zmqservices.web.framing import MAX_REQUEST_LINE, BadFraming, RequestHead, cut, read_head
from zmqservices.web.guard import Guard, RateLimit
from zmqservices.web.listening import Server
from zmqservices.web.reading import CONTINUE, RequestBody, SocketReader, header_lines
from zmqservices.web.refusals import refusal, text_of_http

_log = logging.getLogger(__name__)
#: One line for each request.
_access = logging.getLogger("zmqservices.web.access")

#: The most characters of a request line in the log.
LONGEST_LINE = 1000
#: The most lines of the access log in a second about malformed requests. A line is a quarter of the cost of such a request.
REFUSALS_LOGGED = 20
#: The key of the environment for the handler of the connection, which has the socket and the bytes already read from it.
HANDLER = "zmqservices.web.handler"

_refused = Guard(_log, "refused a malformed request")
_crowded = Guard(_log, "turned a connection away", logging.WARNING)
_broken = Guard(_log, "a connection broke", logging.ERROR)
_refusals_logged = RateLimit(REFUSALS_LOGGED)


class BodyBroken(Exception):
    """The body of a response ended with an error. The client notices because the connection ends in the middle of the body."""


class _Body(io.BufferedReader):
    """The body of a request. Applications read it, and pywsgi discards the rest."""

    def __init__(self, handler: HttpOnlyProtocol, body: RequestBody) -> None:
        super().__init__(body)
        self._handler = handler
        self._body = body

    @property
    def is_lost(self) -> bool:
        """Whether the end of the body cannot be found, so that no other request can follow."""
        return self._body.is_lost

    def _discard(self) -> None:
        if not self._body.discard():
            # Otherwise the rest of the body would be read as the next request.
            self._handler.close_connection = True


class _NoBody(io.BytesIO):
    is_lost = False

    def _discard(self) -> None:
        pass


class HttpOnlyProtocol(AnswerHandler):
    """One connection. It handles one request after another until it is closed, or idle for too long."""

    #: Whether no request is being answered, so that the connection may be closed without loss.
    is_idle = True
    #: Whether a request was read before the present one.
    _is_reused = False
    request: RequestHead

    def __init__(self, sock: Socket, address: object, server: Server) -> None:
        self.turn = Turn()
        self._reader = SocketReader(
            sock,
            getattr(server, "idle_timeout", DEFAULT_WEB_SERVER_IDLE_TIMEOUT) or None,
            getattr(server, "header_timeout", DEFAULT_WEB_SERVER_HEADER_TIMEOUT) or None,
            getattr(server, "min_body_rate", DEFAULT_WEB_SERVER_MIN_BODY_RATE),
            self.turn,
        )
        self._most_headers = (
            getattr(server, "max_headers", DEFAULT_WEB_SERVER_MAX_HEADERS),
            getattr(server, "max_headers_size", DEFAULT_WEB_SERVER_MAX_HEADERS_SIZE),
        )
        #: Why the connection is refused; "" if it is accepted.
        self._turned_away = ""
        super().__init__(sock, address, server, io.BufferedReader(self._reader))

    def handle(self) -> None:
        connections = getattr(self.server, "connections", None)
        self.socket.settimeout(getattr(self.server, "idle_timeout", DEFAULT_WEB_SERVER_IDLE_TIMEOUT) or None)
        if connections is not None:
            most = getattr(self.server, "max_connections", DEFAULT_WEB_SERVER_MAX_CONNECTIONS)
            if len(connections) >= most:
                self._turned_away = f"there are {most} connections, which is the WEB_SERVER_MAX_CONNECTIONS of this server"
                connections = None
            else:
                connections[self] = getcurrent()
        try:
            if self.socket.family != socket.AF_UNIX:
                # Responses and messages are written whole, so waiting for more data would only cost time.
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            super().handle()
        except OSError:
            # The client disconnected, perhaps while it got the error for its request.
            pass
        except Exception as exc:
            # Any error ends only this connection.
            _broken.caught(self._client(), exc, monotonic(), trace=True)
        finally:
            if connections is not None:
                del connections[self]

    # --- requests ----------------------------------------------------------------------------------------------------

    def handle_one_request(self) -> bool | None:
        """Read and answer one request. Called by pywsgi for as long as it returns True."""
        self._reader.begin_request()
        self.requestline, self.response_length = "", 0
        if self._turned_away:
            _crowded.caught(self._client(), OverflowError(self._turned_away), monotonic())
            self._refuse(503, self._turned_away)
            return None
        try:
            if not self._read_request():
                return None
        except BadFraming as exc:
            _refused.caught(self._client(), exc, monotonic())
            self._refuse(exc.status, str(exc))
            return None
        except TimeoutError:
            if not self._reader.is_idle:
                self._refuse(408, "the headers came too slowly")
            return None
        except OSError:
            return None
        self.environ = self.get_environ()
        self.application = self.server.application
        self.handle_one_response()
        return None if self.close_connection or self.rfile.closed else True

    def _read_request(self) -> bool:
        """Read the head of a request. False if the client sends no further request."""
        line = self.rfile.readline(MAX_REQUEST_LINE + 3)
        if line == b"\r\n":
            # Some clients send an empty line after a body (RFC 9112, 2.2).
            line = self.rfile.readline(MAX_REQUEST_LINE + 3)
        self.is_idle = False
        self.requestline = line.decode("latin-1")
        if len(line) > MAX_REQUEST_LINE + 2:
            raise BadFraming(f"a request line has {MAX_REQUEST_LINE} bytes at most", 414)
        if line[-1:] != b"\n":
            return False
        head = self.request = read_head(line, header_lines(self.rfile, *self._most_headers))
        self.command, self.path = head.method, head.target
        self.request_version = "HTTP/1.0" if head.version == (1, 0) else "HTTP/1.1"
        self.content_length = head.length
        self.close_connection = not head.keeps_open
        self._reader.begin_body()
        if self._is_reused:
            self.used_again()
        self._is_reused = True
        return True

    def used_again(self) -> None:
        """The client uses its connection for another request or message, so it must not wait for new connections."""
        self.server.used_at = monotonic()

    def get_environ(self) -> WSGIEnvironment:
        """The request as WSGI's environment."""
        head = self.request
        environ: WSGIEnvironment = self.server.get_environ()
        fill_environ(environ, head, self.request_version, self.client_address)
        self.wsgi_input = _NoBody() if head.length == 0 else _Body(self, RequestBody(head, self.rfile, self._invite))
        environ["wsgi.input"] = self.wsgi_input
        environ["wsgi.input_terminated"] = True
        environ[HANDLER] = self
        return environ

    def _invite(self) -> None:
        """Send `100 Continue` to a client that waits for it. Not within a response, of which it would become a part."""
        if not self.headers_sent:
            self.socket.sendall(CONTINUE)

    def _refuse(self, status: int, text: str) -> None:
        """Answer an invalid request, and give the client time to read the response before the connection closes."""
        self.status, self.close_connection = str(status), True
        self.time_finish = time.time()
        if _refusals_logged.allows(monotonic()):
            self.log_request()
        self.socket.sendall(refusal(status, text, not self.requestline.startswith("HEAD ")))
        # A stopping server need not wait for this connection.
        self.is_idle = True
        self._linger()

    def _linger(self) -> None:
        # If the connection were closed with unread bytes, TCP would discard the response (RFC 9112, 9.6).
        with Timeout(reading.LINGER, False):
            self.socket.shutdown(socket.SHUT_WR)
            while self.socket.recv(PIECE):
                self.turn.give_way()

    # --- answers -----------------------------------------------------------------------------------------------------

    def handle_one_response(self) -> None:
        try:
            super().handle_one_response()
        finally:
            self.is_idle = True
            if getattr(self.server, "is_closing", False):
                self.close_connection = True

    def upgrade(self, response: bytes) -> None:
        """Send `response`, after which the connection uses another protocol. No request follows this one."""
        self.close_connection = self.headers_sent = True
        self.code, self._orig_status = 101, "101 Switching Protocols"
        self._reader.be_patient()
        self.socket.settimeout(None)
        self.socket.sendall(response)

    # --- errors and the log ------------------------------------------------------------------------------------------

    def handle_error(self, t: type[BaseException], v: BaseException, tb: TracebackType | None) -> None:
        """Called by pywsgi when a response failed. The client gets an error if nothing of the response was sent yet."""
        self.close_connection = True
        if issubclass(t, (GreenletExit, OSError, BodyBroken)):
            return
        if not isinstance(v, HTTPException):
            _log.error("%s could not be answered", self._asked(), exc_info=(t, v, tb))
        if self.response_length or not hasattr(self, "socket"):
            # A part of the response was sent. The end of the connection shows that it is incomplete.
            return
        code = v.code if isinstance(v, HTTPException) and v.code else 500
        self.status, self.code = str(code), code
        text = text_of_http(v) if isinstance(v, HTTPException) and code != 500 else ""
        data = refusal(code, text, self.command != "HEAD")
        self.headers_sent = True
        try:
            self._sendall(data)
        except OSError:
            pass

    def log_request(self) -> None:
        if _access.isEnabledFor(logging.INFO):
            # `status` is a text if the connection or the request was faulty, and bytes if the application answered.
            status = self.status if isinstance(self.status, str) else (self._orig_status or "000").split(" ", 1)[0]
            took = (self.time_finish or time.time()) - self.time_start
            _access.info("%s %s %s %d %.3fs", self._client(), self._asked(), status, self.response_length, took)

    def _client(self) -> str:
        address = self.client_address
        return str(address[0]) if isinstance(address, tuple) and address else "-"

    def _asked(self) -> str:
        # Quoted like a Python text, because a client may send sequences that move a terminal's cursor.
        return cut((self.requestline or "").rstrip(), LONGEST_LINE)
