"""A service for every kind of client: requests, WebSockets, calls."""

from __future__ import annotations

import os
import time
from typing import Any

from zmqservices.rpc import rpc
from zmqservices.web import websocket
from zmqservices.web.handlers import http


class Shop:
    name = "shop"
    hub = websocket.WebSocketHubProvider()

    @http("GET", "/pid")
    def pid(self, request: Any) -> str:
        return str(os.getpid())

    @http("GET", "/slow")
    def slow(self, request: Any) -> str:
        self.hub.broadcast("news", "slow", None)
        # Patched, as `zmqservices run` does: others are served meanwhile.
        time.sleep(float(request.args["seconds"]))
        return "done"

    @http("GET", "/stream")
    def stream(self, request: Any) -> Any:
        for number in range(5):
            yield f"{number}\n"
            time.sleep(0.02)

    @http("POST", "/length")
    def length(self, request: Any) -> str:
        return str(len(request.get_data()))

    @websocket.rpc
    def listen(self, socket_id: str) -> None:
        self.hub.subscribe(socket_id, "news")

    @websocket.rpc
    def add(self, socket_id: str, a: int, b: int) -> int:
        return a + b

    @rpc
    def add_up(self, a: int, b: int) -> int:
        return a + b


class FlowControlWindow:
    name = "window"

    @http("GET", "/window")
    def look(self, request: Any) -> dict[str, Any]:
        return {"seen": True}
