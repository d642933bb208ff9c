"""Methods for operators, in services that are served and called like the user's: `events:SOURCE` and `node:operators`.

All of them are called through `OperatorMethods.take`, so that there is one place to check permissions.

Internal.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any, ClassVar

from discovery.security.permissions import NODE_OPERATORS
from zmqservices.cluster.calls.incoming import IncomingCall
from zmqservices.exceptions import BadRequest, IncorrectSignature, ZmqServicesError, serialize
from zmqservices.utils.near_names import no_such_method

_log = logging.getLogger(__name__)

#: The service with the operators' methods of a node. It is not listed itself: operators find nodes by their listed instances.
NODE = NODE_OPERATORS


class OperatorMethods:
    """The base of services for operators. `METHODS` may be called. Each call runs in a separate greenlet, started by `spawn`."""

    METHODS: ClassVar[tuple[str, ...]] = ()

    def __init__(self, name: str, spawn: Callable[[Callable[[], None]], object]) -> None:
        self.name = name
        self._spawn = spawn

    # --- the functions of a served instance: see `CallServer.serve` -----------------------------------------------------------

    def describe(self) -> dict[str, dict[str, Any]]:
        """The methods in the form of a directory record."""
        return {
            name: {"signature": str(inspect.signature(getattr(self, name))), "doc": inspect.getdoc(getattr(self, name))}
            for name in self.METHODS
        }

    def take(self, call: IncomingCall) -> None:
        """Begin the call."""
        if call.method not in self.METHODS:
            call.fail(serialize(no_such_method(self.name, call.method, self.METHODS)))
        else:
            self._spawn(lambda: self._answer(call))

    def flush(self) -> None:
        """Does nothing, because `take` begins each call at once."""

    def cancel(self, worker: object, why: str) -> None:
        """Does nothing, because all calls are short."""

    def _answer(self, call: IncomingCall) -> None:
        try:
            args, kwargs = call.args, call.kwargs or {}
            if call.serializer is not None:
                raise BadRequest("operators' methods take the wire's own format; leave `serializer` out")
            method = getattr(self, call.method)
            try:
                inspect.signature(method).bind(*args, **kwargs)
            except TypeError as exc:
                raise IncorrectSignature(str(exc)) from exc
            call.reply(method(*args, **kwargs))
        except Exception as exc:
            if not isinstance(exc, ZmqServicesError):
                _log.exception("%s.%s failed", self.name, call.method)
            call.fail(serialize(exc, with_traceback=True))
