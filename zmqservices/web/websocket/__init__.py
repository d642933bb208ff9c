"""WebSockets: `@rpc` makes a method callable over one, and a hub sends events to connected clients.

    class Chat:
        name = "chat"
        hub = WebSocketHubProvider()

        @rpc
        def join(self, socket_id, room):
            self.hub.subscribe(socket_id, room)

        @rpc
        def say(self, socket_id, room, text):
            self.hub.broadcast(room, "said", {"text": text})
"""

from zmqservices.web.websocket.connection import Connection, SocketInfo
from zmqservices.web.websocket.entrypoints import (
    WebSocketConnect,
    WebSocketDisconnect,
    WebSocketRpc,
    on_connect,
    on_disconnect,
    rpc,
)
from zmqservices.web.websocket.hub import WebSocketHub, WebSocketHubProvider
from zmqservices.web.websocket.server import WebSocketServer

__all__ = [
    "Connection",
    "SocketInfo",
    "WebSocketConnect",
    "WebSocketDisconnect",
    "WebSocketHub",
    "WebSocketHubProvider",
    "WebSocketRpc",
    "WebSocketServer",
    "on_connect",
    "on_disconnect",
    "rpc",
]
