"""The dependency with which methods send events to the clients of this instance.

Internal. Services use `zmqservices.web.websocket`.
"""

from __future__ import annotations

from zmqservices.exceptions import ConnectionNotFound
from zmqservices.extensions import DependencyProvider
from zmqservices.web.websocket import messages
from zmqservices.web.websocket.connection import Connection
from zmqservices.web.websocket.server import WebSocketServer
from zmqservices.worker_context import WorkerContext


class WebSocketHub:
    """Channels and their subscribers. Nothing here blocks. Each client has a bounded queue, and is disconnected if it is full."""

    def __init__(self, server: WebSocketServer) -> None:
        self._server = server

    def _connection(self, socket_id: str) -> Connection:
        connection = self._server.connections.get(socket_id)
        if connection is None:
            raise ConnectionNotFound(socket_id)
        return connection

    @property
    def subscriptions(self) -> dict[str, set[str]]:
        """A copy of the present state: the channels that have subscribers, with the ids of their sockets."""
        return {
            channel: {connection.socket_id for connection in connections}
            for channel, connections in self._server.channels.items()
        }

    def get_subscriptions(self, socket_id: str) -> list[str]:
        """The channels of a socket's subscriptions, sorted; empty for an unknown socket."""
        connection = self._server.connections.get(socket_id)
        return [] if connection is None else sorted(connection.subscriptions)

    def subscribe(self, socket_id: str, channel: str) -> None:
        """Subscribe a socket to a channel. Raises ConnectionNotFound for an unknown or closed socket."""
        self._server.subscribe(self._connection(socket_id), channel)

    def unsubscribe(self, socket_id: str, channel: str) -> None:
        """Unsubscribe a socket from a channel. Has no effect if it is not subscribed."""
        connection = self._server.connections.get(socket_id)
        if connection is not None:
            self._server.unsubscribe(connection, channel)

    def broadcast(self, channel: str, event: str, data: object) -> None:
        """Send an event to all subscribers of `channel`. Raises UnserializableValueError for data that is not JSON."""
        text = messages.event(event, data)
        for connection in list(self._server.channels.get(channel, ())):
            connection.send_event(text)

    def unicast(self, socket_id: str, event: str, data: object) -> bool:
        """Send an event to one socket. Returns False for an unknown or closed socket. Raises as `broadcast`."""
        text = messages.event(event, data)
        connection = self._server.connections.get(socket_id)
        if connection is None:
            return False
        connection.send_event(text)
        return True


class WebSocketHubProvider(DependencyProvider):
    """Injects the hub of the service's WebSocket."""

    server = WebSocketServer()

    def setup(self) -> None:
        self.hub = WebSocketHub(self.server)

    def get_dependency(self, worker_ctx: WorkerContext) -> WebSocketHub:
        return self.hub
