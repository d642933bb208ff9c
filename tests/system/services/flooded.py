"""A service to which others tell names of every kind: of services, methods, events, errors."""

from __future__ import annotations

from typing import Any

from gevent.pool import Pool

from zmqservices.events import EventDispatcher, event_handler
from zmqservices.exceptions import ZmqServicesError
from zmqservices.rpc import ClusterRpc, rpc
from zmqservices.web import websocket
from zmqservices.web.handlers import http


class Flooded:
    name = "flooded"
    cluster = ClusterRpc()
    dispatch = EventDispatcher()

    @rpc
    def honest(self) -> str:
        return "yes"

    @rpc
    def fail(self, error: str) -> None:
        raise type(error, (Exception,), {})("as told")

    @rpc
    def ask(self, services: list[str], method: str) -> int:
        """How many of these calls failed."""

        def has_failed(service: str) -> bool:
            try:
                getattr(self.cluster[service], method)()
            except ZmqServicesError:
                return True
            return False

        return sum(Pool(len(services)).imap_unordered(has_failed, services))

    @rpc
    def fail_for_me(self, errors: list[str]) -> None:
        """Call a service that fails with errors of these names."""
        for error in errors:
            try:
                self.cluster.flooded.fail(error)
            except ZmqServicesError:
                pass

    @rpc
    def tell(self, types: list[str]) -> None:
        for type in types:
            self.dispatch(type, None)

    @event_handler("flooded", "#", reliable_delivery=False)
    def hear(self, _payload: Any) -> None:
        pass

    @http("GET", "/honest")
    def page(self, request: Any) -> str:
        return "yes"

    @websocket.rpc
    def echo(self, socket_id: str, text: str) -> str:
        return text
