"""The @rpc decorator."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from time import monotonic
from typing import Any

from zmqservices.cluster.calls.incoming import IncomingCall
from zmqservices.exceptions import ConfigurationError
from zmqservices.extensions import Entrypoint
from zmqservices.hosting.outcomes import is_overridden, never_began, outcome_of
from zmqservices.rpc.server import RpcServer
from zmqservices.worker_context import ExcInfo, Outcome, WorkerContext

__all__ = ["Rpc", "rpc"]


class Rpc(Entrypoint):
    """Makes a method callable by other services and by standalone clients.

    `expected_exceptions`: classes of errors that are the caller's own mistakes; they are logged as warnings.
    `sensitive_arguments`: names of arguments that are redacted wherever arguments are shown. `idempotent=True`: running the
    method twice does no harm, so a call may be repeated at another instance if the connection to the first one is lost.
    `hedge=True`: an unusually slow call of an idempotent method is also sent to a second instance, and the first answer counts.
    `key`: the name of an argument; calls with the same value of it go to the same instance while the set of instances is the
    same. `timeout`: seconds after which the method is cancelled, even if its caller would wait longer.
    """

    server = RpcServer()
    takes_generators = False

    def __init__(
        self,
        *args: Any,
        idempotent: bool = False,
        timeout: float | None = None,
        key: str | None = None,
        hedge: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or timeout <= 0):
            raise ConfigurationError(f"@rpc(timeout={timeout!r}): a number of seconds above 0 is needed")
        if not isinstance(hedge, bool):
            raise ConfigurationError(f"@rpc(hedge={repr(hedge)[:80]}): True or False is needed")
        if hedge and not idempotent:
            raise ConfigurationError("@rpc(hedge=True): a call may run twice then; say idempotent=True if that does no harm")
        self.idempotent = bool(idempotent)
        self.hedge = hedge
        if key is not None and not isinstance(key, str):
            raise ConfigurationError(f"@rpc(key={repr(key)[:80]}): the name of an argument is needed")
        self.timeout = timeout
        self.key = key

    def key_place(self, function: Callable[..., Any]) -> tuple[str, int] | None:
        """The name and the position (without `self`) of the key argument of `function`; None without a key."""
        if self.key is None:
            return None
        names = list(inspect.signature(function).parameters)[1:]
        if self.key not in names:
            raise ConfigurationError(
                f"@rpc(key={self.key!r}) of {self.method_name!r}: it has no argument of that name; its arguments are "
                f"{', '.join(names) or 'none'}"
            )
        return self.key, names.index(self.key)

    def latest(self, deadline: float | None) -> float:
        """The earlier of the call's own deadline and this method's timeout from now."""
        own = monotonic() + (self.timeout or 0.0)
        return own if deadline is None or own < deadline else deadline

    def listed(self) -> None:
        """Returns nothing, because the record of the service already lists its RPC methods with their signatures."""

    def details(self) -> dict[str, Any]:
        return {"idempotent": bool(self.idempotent), "timeout": self.timeout}

    def setup(self) -> None:
        #: Called with a call and its outcome. Chosen once, because most entrypoints do not override `handle_result`.
        self.answer = self._answer if is_overridden(self, Rpc) else self.server.handle_result
        self.server.register_provider(self)

    def handle_result(
        self, message: IncomingCall, worker_ctx: WorkerContext, result: object, exc_info: ExcInfo | None
    ) -> Outcome:
        """Answer the call `message`. Called by the worker with the outcome, before dependency providers are told.

        An override may change `result` and `exc_info`. Its return value is passed to dependency providers, and an error that it
        raises becomes the answer. See `zmqservices.hosting.outcomes`.
        """
        return self.server.handle_result(message, worker_ctx, result, exc_info)

    def _answer(self, call: IncomingCall, worker_ctx: WorkerContext, result: object, exc_info: ExcInfo | None) -> Outcome:
        if not never_began(worker_ctx):
            result, exc_info = outcome_of(self, call, worker_ctx, result, exc_info)
        return self.server.finish(call, worker_ctx, result, exc_info)

    def stop(self) -> None:
        """Refuse new calls, wait until running calls are answered, and leave the server."""
        self.server.drain()
        self.server.unregister_provider(self)
        super().stop()


rpc = Rpc.decorator
