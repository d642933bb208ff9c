"""The WebSocket of one container: accepts connections at a path of its web server, runs calls, and pings silent clients.

Internal. Services use `zmqservices.web.websocket`.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable
from time import monotonic
from typing import Any
from wsgiref.types import StartResponse

import gevent
from werkzeug.exceptions import Forbidden
from werkzeug.routing import Rule
from werkzeug.wrappers import Response

from zmqservices import configuration, constants
from zmqservices.exceptions import BadRequest, Draining, MalformedRequest, MethodNotFound, RemoteUnavailable
from zmqservices.extensions import ProviderCollector, SharedExtension
from zmqservices.web.guard import Guard
from zmqservices.web.protocol import HANDLER, HttpOnlyProtocol
from zmqservices.web.requests import WebRequest
from zmqservices.web.results import error_response
from zmqservices.web.server import WebServer
from zmqservices.web.websocket import messages
from zmqservices.web.websocket.connection import MOST_FAULTS, Connection, SocketInfo
from zmqservices.web.websocket.transport import INTERNAL_ERROR, POLICY_VIOLATION, WebSocketTransport
from zmqservices.worker_context import Container

_log = logging.getLogger(__name__)

_refused = Guard(_log, "refused a message that is no call")
_failed = Guard(_log, "a call could not be begun", logging.ERROR)
_broken = Guard(_log, "a WebSocket broke", logging.ERROR)

#: The most pings that a client may leave unanswered.
MISSED_PINGS = 2

#: The reason in the close message when the service stops.
STOPPING = "the service is stopping"


class WebSocketServer(ProviderCollector, SharedExtension):
    """The WebSocket of one container, which its hubs and entrypoints share. The entrypoints are its providers."""

    wsgi_server = WebServer()

    def __init__(self) -> None:
        super().__init__()
        #: The connections by socket id.
        self.connections: dict[str, Connection] = {}
        #: The subscribers of each channel that has any.
        self.channels: dict[str, set[Connection]] = {}
        self._methods: dict[str, Any] = {}
        self._hooks: dict[str, list[Any]] = {"connect": [], "disconnect": []}
        self._is_draining = False
        self._sweeper: Any = None

    @property
    def sockets(self) -> dict[str, SocketInfo]:
        """A copy of the present state: the connected sockets by socket id."""
        return {socket_id: connection.socket for socket_id, connection in self.connections.items()}

    # --- life cycle --------------------------------------------------------------------------------------------------

    def bind(self, container: Container) -> WebSocketServer:
        bound = super().bind(container)
        bound._read_settings()  # A wrong setting is reported before anything starts.
        return bound

    def setup(self) -> None:
        self._read_settings()
        self.wsgi_server.register_provider(self)

    def _read_settings(self) -> None:
        config = self.container.config
        path = configuration.text(config, constants.WEBSOCKET_PATH_CONFIG_KEY, constants.DEFAULT_WEBSOCKET_PATH)
        self.path = path.replace("{service}", self.container.service_name)
        self._max_message = configuration.whole_number(
            config, constants.WEBSOCKET_MAX_MESSAGE_CONFIG_KEY, constants.DEFAULT_WEBSOCKET_MAX_MESSAGE
        )
        self._max_calls = configuration.whole_number(
            config, constants.WEBSOCKET_MAX_CALLS_CONFIG_KEY, constants.DEFAULT_WEBSOCKET_MAX_CALLS
        )
        self._max_queued_bytes = configuration.whole_number(
            config, constants.WEBSOCKET_MAX_QUEUED_BYTES_CONFIG_KEY, constants.DEFAULT_WEBSOCKET_MAX_QUEUED_BYTES
        )
        self._ping_interval = configuration.seconds(
            config, constants.WEBSOCKET_PING_INTERVAL_CONFIG_KEY, constants.DEFAULT_WEBSOCKET_PING_INTERVAL
        )

    def start(self) -> None:
        """Called once all extensions are set up. From here on clients may connect."""
        for provider in self._providers:
            hook = getattr(provider, "hook", None)
            if hook is None:
                self._methods[provider.method_name] = provider
            else:
                self._hooks[hook].append(provider)
        if self._ping_interval:
            self._sweeper = gevent.get_hub().loop.timer(self._ping_interval, self._ping_interval)
            self._sweeper.start(self._sweep)

    def begin_to_drain(self) -> None:
        """Take no more calls, and close each connection when its calls are answered. Returns at once."""
        if not self._is_draining:
            self._is_draining = True
            for connection in list(self.connections.values()):
                connection.say_goodbye(STOPPING)

    def drain(self) -> None:
        """As `begin_to_drain`, but returns when all connections are closed. After `drain_timeout` they are cut."""
        self.begin_to_drain()
        self.wsgi_server.drain()
        # Here and not later, because @on_disconnect methods need their dependencies.
        self._cut_all("the service ended")

    def stop(self) -> None:
        """Called when the container stops. Returns when the last provider has left and no client is connected."""
        super().stop()
        self.drain()
        self._end()
        self.wsgi_server.unregister_provider(self)

    def kill(self) -> None:
        """Cut all connections."""
        self._is_draining = True
        self._end()

    def _end(self) -> None:
        sweeper, self._sweeper = self._sweeper, None
        if sweeper is not None:
            sweeper.stop()
            sweeper.close()
        self._cut_all("the service ended")

    def _cut_all(self, reason: str) -> None:
        for connection in list(self.connections.values()):
            connection.cut(reason)

    def _sweep(self) -> None:
        """Called in the hub at intervals: ping silent clients, and disconnect those that have been silent for too long."""
        now = monotonic()
        for connection in list(self.connections.values()):
            silence = now - connection.transport.heard_at
            if not connection.is_read:
                # Its messages are not read until one of its calls ends, so silence means nothing.
                connection.transport.heard_at = now
            elif silence > (MISSED_PINGS + 0.5) * self._ping_interval:
                connection.cut(f"it was silent for {silence:.0f} s")
            elif silence > 0.5 * self._ping_interval:
                connection.transport.ping()

    # --- connections: each runs in the greenlet of its HTTP connection ------------------------------------------------------

    def get_url_rule(self) -> Rule:
        """The rule of the path at which clients connect."""
        return Rule(self.path, methods=["GET"])

    def handle_request(self, request: WebRequest) -> Any:
        """Called for each request at the path. Returns a Response that refuses it, or the WSGI application of a connection."""
        handler: HttpOnlyProtocol | None = request.environ.get(HANDLER)
        is_asked = request.headers.get("Upgrade", "").lower() == "websocket"
        if handler is None or not is_asked or request.environ["SERVER_PROTOCOL"] == "HTTP/1.0":
            # Upgrade has no meaning in HTTP/1.0 (RFC 9110, 7.8).
            return Response("a WebSocket is served here\n", 426, {"Upgrade": "websocket", "Connection": "Upgrade"})
        try:
            if request.content_length or "Transfer-Encoding" in request.headers:
                # Bytes after the headers would be read as frames.
                raise MalformedRequest("a WebSocket handshake has no body")
            self._check_origin(request)
            headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in request.headers]
            transport = WebSocketTransport(handler, headers, self._max_message, self._max_queued_bytes)
            context_data = self.wsgi_server.context_data_from_headers(request)
        except Exception as exc:
            return error_response(exc, ())
        socket = SocketInfo(str(uuid.uuid4()), context_data, request.remote_addr)
        connection = self.connections[socket.socket_id] = Connection(socket, transport, self._max_calls)
        try:
            refusal = self._greet(connection, request)
        except BaseException:
            self._forget(connection)
            raise
        if refusal is None:
            return _Upgraded(self, connection)
        self._forget(connection)
        return refusal

    def _greet(self, connection: Connection, request: WebRequest) -> Any:
        """Run the @on_connect methods before a connection is accepted. Returns the Response that refuses it, if any."""
        for hook in self._hooks["connect"]:
            exc = hook.run(connection, (connection.socket_id, request))
            if exc is not None:
                return hook.response_from_exception(exc)
        return None

    def _check_origin(self, request: WebRequest) -> None:
        """Raise Forbidden for a page of an origin that WEB_SERVER_CORS does not allow. Without that setting, all may connect."""
        cors, origin = self.wsgi_server.settings.cors, request.headers.get("Origin")
        if cors is None or origin is None or cors.allows(origin):
            return
        if origin.partition("://")[2] != request.headers.get("Host"):
            raise Forbidden(f"pages of {origin} may not connect; see WEB_SERVER_CORS")

    def serve(self, connection: Connection) -> None:
        """Serve a connection from its handshake to its end."""
        transport = connection.transport
        try:
            try:
                transport.open(messages.event(messages.CONNECTED, {"socket_id": connection.socket_id}))
                _log.debug("%r connected", connection)
                if self._is_draining:
                    connection.say_goodbye(STOPPING)
                while (text := transport.receive()) is not None:
                    if not transport.reason:
                        self._take(connection, text)
            except OSError:
                _log.debug("%r went away during its handshake", connection)
            except Exception as exc:
                # Any fault of a client ends only its own connection.
                _broken.caught(repr(connection), exc, monotonic(), trace=True)
                transport.close(INTERNAL_ERROR, "the message could not be handled")
            finally:
                self._forget(connection)
                transport.end()
        finally:
            if transport.reason:
                _log.info("closed %r: %s", connection, transport.reason)
            for hook in self._hooks["disconnect"]:
                hook.tell(connection)

    def _take(self, connection: Connection, text: str) -> None:
        """Handle one message of a client: begin its call, or answer with its fault."""
        correlation_id = None
        try:
            call = messages.read_call(text)
            correlation_id = call.correlation_id
            self._begin(connection, call)
        except messages.BadCall as exc:
            _refused.caught(repr(connection), exc, monotonic())
            connection.refuse(exc, exc.correlation_id)
            if not connection.faults.allows(monotonic()):
                connection.transport.close(POLICY_VIOLATION, f"more than {MOST_FAULTS} messages within a second were no calls")
        except Exception as exc:
            if not isinstance(exc, (BadRequest, RemoteUnavailable)):
                _failed.caught(repr(connection), exc, monotonic(), trace=True)
            connection.refuse(exc, correlation_id)
        connection.wait_for_room()

    def _begin(self, connection: Connection, call: messages.WebSocketCall) -> None:
        provider = self._methods.get(call.method)
        if provider is None:
            raise MethodNotFound(call.method)
        if self._is_draining:
            raise Draining(f"{self.container.service_name} is shutting down")
        self.wsgi_server.check_load()
        provider.handle_message(connection, call)

    # --- subscriptions -----------------------------------------------------------------------------------------------

    def subscribe(self, connection: Connection, channel: str) -> None:
        """Also send events of `channel` to this connection."""
        connection.subscriptions.add(channel)
        self.channels.setdefault(channel, set()).add(connection)

    def unsubscribe(self, connection: Connection, channel: str) -> None:
        """Stop sending events of `channel` to this connection."""
        connection.subscriptions.discard(channel)
        subscribers = self.channels.get(channel)
        if subscribers is not None:
            subscribers.discard(connection)
            if not subscribers:
                del self.channels[channel]

    def _forget(self, connection: Connection) -> None:
        self.connections.pop(connection.socket_id, None)
        for channel in list(connection.subscriptions):
            self.unsubscribe(connection, channel)


class _Upgraded:
    """The WSGI application for an accepted handshake. It returns when the connection has ended."""

    def __init__(self, server: WebSocketServer, connection: Connection) -> None:
        self._server = server
        self._connection = connection

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        self._server.serve(self._connection)
        return []
