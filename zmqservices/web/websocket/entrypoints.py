"""The decorators: `@rpc` for calls, `@on_connect` and `@on_disconnect` for the beginning and the end of a connection.

Internal. Services use `zmqservices.web.websocket`.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from gevent.event import AsyncResult

from zmqservices.exceptions import ContainerBeingKilled
from zmqservices.extensions import Entrypoint
from zmqservices.hosting.outcomes import is_overridden, never_began, outcome_of
from zmqservices.web.results import error_response
from zmqservices.web.websocket import messages
from zmqservices.web.websocket.connection import Connection
from zmqservices.web.websocket.server import WebSocketServer
from zmqservices.worker_context import ExcInfo, Outcome, WorkerContext, exc_info_of

_log = logging.getLogger(__name__)


class WebSocketEntrypoint(Entrypoint):
    """The base of the three kinds of WebSocket entrypoint."""

    server = WebSocketServer()
    takes_generators = False

    #: The event of a connection for which it runs; None for calls.
    hook: str | None = None

    def listed(self) -> dict[str, Any]:
        return {"kind": "websocket", "what": self.hook or "calls"}

    def setup(self) -> None:
        self.server.register_provider(self)

    def stop(self) -> None:
        """Take no more calls, wait until the running ones are answered, close the connections, and leave the server."""
        self.server.drain()
        self.server.unregister_provider(self)
        super().stop()


class WebSocketReply:
    """A call that came over a connection and must be answered once."""

    __slots__ = ("connection", "correlation_id", "is_answered")

    def __init__(self, connection: Connection, correlation_id: object) -> None:
        self.connection = connection
        self.correlation_id = correlation_id
        self.is_answered = False

    def answer(self, text: str) -> None:
        """Send `text`, the outcome in the form of `messages`."""
        self.is_answered = True
        self.connection.answer(text)


class WebSocketRpc(WebSocketEntrypoint):
    """Makes a method callable over the service's WebSocket: `method(self, socket_id, **data)`.

    The calls of one connection run concurrently. The method's result is sent as JSON. `expected_exceptions` (and BadRequest) are
    sent with their text; of all other errors only the class is sent.
    """

    def handle_message(self, connection: Connection, call: messages.WebSocketCall) -> None:
        """Called in the connection's greenlet: begin the call. If it raises, the error is sent as the answer."""
        self.check_signature((connection.socket_id,), call.data)
        handle_result = partial(self._answer, WebSocketReply(connection, call.correlation_id))
        context_data = dict(connection.socket.context_data)
        worker_ctx = self.container.submit(self, (connection.socket_id,), call.data, context_data, handle_result)
        self.server.wsgi_server.count(worker_ctx)
        connection.begin_call()

    def _answer(self, pending: WebSocketReply, worker_ctx: WorkerContext, result: object, exc_info: ExcInfo | None) -> Outcome:
        if is_overridden(self, WebSocketRpc) and not never_began(worker_ctx):
            result, exc_info = outcome_of(self, pending, worker_ctx, result, exc_info)
        return WebSocketRpc.handle_result(self, pending, worker_ctx, result, exc_info)

    def handle_result(
        self, pending: WebSocketReply, worker_ctx: WorkerContext, result: object, exc_info: ExcInfo | None
    ) -> Outcome:
        """Called by the worker with the outcome: send it, unless it was already sent.

        It, or an override, may replace the result.
        """
        if pending.is_answered:
            return result, exc_info
        correlation_id, text = pending.correlation_id, ""
        if exc_info is None:
            try:
                text = messages.result(result, correlation_id)
            except Exception as exc:
                result, exc_info = None, exc_info_of(exc)
                _log.error("the result of %s could not be sent", worker_ctx.call_id, exc_info=exc_info)
        if exc_info is not None:
            text = messages.error(exc_info[1], self.expected_exceptions, correlation_id)
        pending.answer(text)
        return result, exc_info


class WebSocketConnect(WebSocketEntrypoint):
    """Runs a method before a client's handshake is accepted: `method(self, socket_id, request)`.

    The method may already subscribe the socket to channels. If it raises, the handshake is refused with the response that an
    @http method would get (403 for werkzeug's Forbidden, for example).
    """

    hook = "connect"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._awaited: set[AsyncResult] = set()

    def kill(self) -> None:
        """Fail the waiting handshakes, whose workers are killed."""
        for outcome in self._awaited:
            if not outcome.ready():
                outcome.set(ContainerBeingKilled(f"{self.container.service_name} was killed"))

    def run(self, connection: Connection, args: tuple[Any, ...]) -> BaseException | None:
        """Run the method, and wait for its end.

        Returns its error, or the error for which it did not run; None if it succeeded.
        """
        outcome: AsyncResult = AsyncResult()

        def handle_result(worker_ctx: WorkerContext, result: object, exc_info: ExcInfo | None) -> Outcome:
            outcome.set(None if exc_info is None else exc_info[1])
            return result, exc_info

        try:
            self.check_signature(args, {})
            self.container.submit(self, args, {}, dict(connection.socket.context_data), handle_result)
        except Exception as exc:
            return exc
        self._awaited.add(outcome)
        try:
            failure: BaseException | None = outcome.get()
            return failure
        finally:
            self._awaited.discard(outcome)

    def response_from_exception(self, exc: BaseException) -> Any:
        """The response that refuses a handshake."""
        return error_response(exc, self.expected_exceptions)


class WebSocketDisconnect(WebSocketConnect):
    """Runs a method when a connection has ended for any reason: `method(self, socket_id)`. Its errors are logged."""

    hook = "disconnect"

    def tell(self, connection: Connection) -> None:
        """Run the method. Called in the greenlet of the ending connection."""
        exc = self.run(connection, (connection.socket_id,))
        if exc is not None and not isinstance(exc, ContainerBeingKilled):
            # Other errors were logged by the worker.
            _log.warning("%r did not run for the end of %r: %s", self, connection, exc)


rpc = WebSocketRpc.decorator
on_connect = WebSocketConnect.decorator
on_disconnect = WebSocketDisconnect.decorator
