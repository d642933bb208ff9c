"""The @rpc decorator."""

from __future__ import annotations

from time import monotonic
from typing import Any

from zmqservices.exceptions import ConfigurationError
from zmqservices.extensions import Entrypoint
from zmqservices.hosting.outcomes import is_overridden, never_began, outcome_of
from zmqservices.rpc.server import RpcServer

__all__ = ["Rpc", "rpc"]


class Rpc(Entrypoint):
    """Makes a method callable by other services and by standalone clients.

    `expected_exceptions`: classes that the method raises to tell its caller of the caller's own mistakes; logged as
    warnings. `sensitive_arguments`: names of arguments that are redacted wherever they are shown. `idempotent=True`:
    running it twice does no harm, so that a call may be repeated elsewhere when its instance is lost. `timeout`: seconds
    after which the method is cancelled, even where its caller would wait longer.
    """

    server = RpcServer()
    takes_generators = False

    def __init__(self, *args: Any, idempotent: bool = False, timeout: float | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or timeout <= 0):
            raise ConfigurationError(f"@rpc(timeout={timeout!r}): a number of seconds above 0 is needed")
        self.idempotent = bool(idempotent)
        self.timeout = timeout

    def latest(self, deadline: float | None) -> float:
        """The earlier of the call's own deadline and this method's timeout from now."""
        own = monotonic() + (self.timeout or 0.0)
        return own if deadline is None or own < deadline else deadline

    def listed(self) -> None:
        """Methods stand in the record already, with their signatures."""

    def setup(self) -> None:
        #: What the server calls with a call and its outcome. Looked for once: most have no `handle_result` of their own.
        self.answer = self._answer if is_overridden(self, Rpc) else self.server.handle_result
        self.server.register_provider(self)

    def handle_result(self, message: Any, worker_ctx: Any, result: Any, exc_info: Any) -> tuple[Any, Any]:
        """Called by the worker with the outcome, before its dependencies see it: answer the call, `message`.

        An override may change `result` and `exc_info`; it returns what dependency providers shall be told. What it raises
        is the answer. See `zmqservices.hosting.outcomes`.
        """
        return self.server.handle_result(message, worker_ctx, result, exc_info)

    def _answer(self, call: Any, worker_ctx: Any, result: Any, exc_info: Any) -> tuple[Any, Any]:
        if not never_began(worker_ctx):
            result, exc_info = outcome_of(self, call, worker_ctx, result, exc_info)
        return self.server.finish(call, worker_ctx, result, exc_info)

    def stop(self) -> None:
        """Refuse new calls, answer those that were taken, then part."""
        self.server.drain()
        self.server.unregister_provider(self)
        super().stop()


rpc = Rpc.decorator
