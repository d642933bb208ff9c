"""Proxies with which a caller calls methods of remote services, and the objects of unanswered calls."""

from __future__ import annotations

from decimal import Decimal
from enum import Enum
from math import isfinite
from typing import Any, Final, TypeAlias
from uuid import UUID

from zmqservices.cluster.calls.call import DONE, SENT, PendingCall
from zmqservices.cluster.calls.caller import Caller
from zmqservices.exceptions import ConfigurationError
from zmqservices.resilience.hashing import as_bytes

__all__ = ["Client", "ClusterProxy", "MethodProxy", "RpcCall", "RpcReply", "ServiceProxy"]


class Unset(Enum):
    """The type of UNSET, so that a type checker can tell it from numbers and None."""

    UNSET = "UNSET"

    def __repr__(self) -> str:
        return "UNSET"


#: No timeout was given, so the configured one applies. (None means no limit.)
UNSET: Final = Unset.UNSET

#: Seconds that a call may take, None for no limit, or UNSET for the configured limit.
Timeout: TypeAlias = float | Unset | None


def check_timeout(timeout: object, whose: str, may_be_spent: bool = False) -> None:
    """Raise ConfigurationError unless `timeout` is a number of seconds above 0, None, or UNSET.

    With `may_be_spent` it may be 0 or less, as the time that is left until a deadline.
    """
    if timeout is None or timeout is UNSET:
        return
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not isfinite(timeout):
        raise ConfigurationError(f"timeout={timeout!r} of {whose}: a number of seconds, or None, is needed")
    if timeout <= 0 and not may_be_spent:
        raise ConfigurationError(f"timeout={timeout!r} of {whose}: seconds above 0, or None, are needed")


def check_hedge(hedge: object, whose: str) -> None:
    """Raise ConfigurationError unless `hedge` is True, False, or None."""
    if hedge is not None and not isinstance(hedge, bool):
        raise ConfigurationError(f"hedge={repr(hedge)[:80]} of {whose}: True, False or None is needed")


class RpcCall:
    """A running call. `result()` may be called any number of times, from several threads, and in any order among calls."""

    __slots__ = ("_caller", "_call", "_client")

    def __init__(self, caller: Caller, call: PendingCall, client: Client) -> None:
        self._caller = caller
        self._call = call
        self._client = client  # Keeps the client alive, because a client is stopped when it is garbage-collected.

    def result(self) -> Any:
        """Wait for the answer, and return it.

        Raises the method's error (a new instance each time), RpcTimeout, CallCancelled or RemoteUnavailable.
        """
        call = self._call
        if call.stage != DONE:
            self._caller.reactor.park(call, DONE)
        return call.outcome()

    get_response = result

    def cancel(self) -> None:
        """Cancel the call: the service stops running it, and `result` raises CallCancelled."""
        self._caller.reactor.run(self._caller.abandon, self._call)


RpcReply = RpcCall


class Client:
    """Makes the calls of a proxy. Each kind of client adds its own headers and time limits."""

    __slots__ = ()

    def begin(
        self, service: str, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], timeout: Timeout,
        key: bytes | None = None, hedge: bool | None = None,
    ) -> tuple[Caller, PendingCall]:
        """Send a call, and return it with the caller that will receive its answer.

        Calls with one `key` go to one instance. `hedge`: whether a call may have a second attempt; None leaves that to the
        settings.
        """
        raise NotImplementedError


class KeyedClient(Client):
    """Makes the calls of `client` with a key."""

    __slots__ = ("_client", "_key")

    def __init__(self, client: Client, key: bytes) -> None:
        self._client = client
        self._key = key

    def begin(
        self, service: str, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], timeout: Timeout,
        key: bytes | None = None, hedge: bool | None = None,
    ) -> tuple[Caller, PendingCall]:
        return self._client.begin(service, method, args, kwargs, timeout, self._key if key is None else key, hedge)


class HedgedClient(Client):
    """Makes the calls of `client` with or without second attempts."""

    __slots__ = ("_client", "_hedge")

    def __init__(self, client: Client, hedge: bool) -> None:
        self._client = client
        self._hedge = hedge

    def begin(
        self, service: str, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], timeout: Timeout,
        key: bytes | None = None, hedge: bool | None = None,
    ) -> tuple[Caller, PendingCall]:
        return self._client.begin(service, method, args, kwargs, timeout, key, self._hedge if hedge is None else hedge)


class MethodProxy:
    """A remote method.

    Call it to wait for the result, or use `call_async` to wait later. `with_timeout(seconds)` gives the same method with
    another time limit, `with_key(key)` the same method whose calls go to the instance of that key, and `with_hedge()` the same
    method whose calls may have a second attempt.
    """

    __slots__ = ("_client", "service_name", "method_name", "_timeout")

    def __init__(self, client: Client, service_name: str, method_name: str, timeout: Timeout = UNSET) -> None:
        self._client = client
        self.service_name = service_name
        self.method_name = method_name
        self._timeout = timeout

    def __call__(self, /, *args: object, **kwargs: object) -> Any:
        """Call and wait for the result.

        If the wait is interrupted, for example by a gevent.Timeout, the service is told to stop.
        """
        caller, call = self._client.begin(self.service_name, self.method_name, args, kwargs, self._timeout)
        if call.stage != DONE:
            try:
                caller.reactor.park(call, DONE)
            except BaseException:
                caller.reactor.tell(caller.abandon, call)
                raise
        return call.outcome()

    def call_async(self, /, *args: object, **kwargs: object) -> RpcCall:
        """Call without waiting for the answer. UnknownService and RemoteUnavailable are raised here, not by `result`."""
        caller, call = self._client.begin(self.service_name, self.method_name, args, kwargs, self._timeout)
        if caller.cork.is_in:
            caller.reactor.run(caller.cork.release)  # Send it now, because the caller may do other work before it waits.
        if call.stage < SENT:
            try:
                caller.reactor.park(call, SENT)
            except BaseException:
                caller.reactor.tell(caller.abandon, call)
                raise
        if call.error is not None and call.instance is None:
            call.outcome()
        return RpcCall(caller, call, self._client)

    def with_timeout(self, seconds: float | None) -> MethodProxy:
        """This method with a time limit of `seconds` per call; None means no limit, except a worker's own deadline.

        With 0 or less, a call raises RpcTimeout and is never sent.
        """
        check_timeout(seconds, f"{self.service_name}.{self.method_name}", may_be_spent=True)
        return MethodProxy(self._client, self.service_name, self.method_name, seconds)

    def with_key(self, key: str | bytes | int | float | Decimal | UUID) -> MethodProxy:
        """This method with a key: calls with the same key go to the same instance while the set of instances is the same.

        A number and its text are the same key. Raises TypeError for a key of another type. docs/resilience.rst says what happens
        when instances come, go, or are overloaded.
        """
        return MethodProxy(KeyedClient(self._client, as_bytes(key)), self.service_name, self.method_name, self._timeout)

    def with_hedge(self, hedge: bool = True) -> MethodProxy:
        """This method with hedging: unusually slow calls are also sent to a second instance. With False, they never are.

        It only affects idempotent methods. docs/resilience.rst says when a call is hedged.
        """
        check_hedge(hedge, f"{self.service_name}.{self.method_name}")
        return MethodProxy(HedgedClient(self._client, hedge), self.service_name, self.method_name, self._timeout)

    def __repr__(self) -> str:
        return f"<remote method {self.service_name}.{self.method_name}>"


class ServiceProxy:
    """A remote service: its attributes are its methods."""

    def __init__(self, client: Client, service_name: str) -> None:
        self._client = client
        self.service_name = service_name

    def __getattr__(self, name: str) -> MethodProxy:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        # Stored, so that the next look-up does not need this method.
        method = self.__dict__[name] = MethodProxy(self._client, self.service_name, name)
        return method

    def __repr__(self) -> str:
        return f"<remote service {self.service_name}>"


class ClusterProxy:
    """All services: `cluster.maths`, or `cluster["a-name"]` if the name is no identifier."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __getattr__(self, name: str) -> ServiceProxy:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        service = self.__dict__[name] = ServiceProxy(self._client, name)
        return service

    def __getitem__(self, name: str) -> ServiceProxy:
        return ServiceProxy(self._client, name)
