"""What stands for a remote service in a caller's hands: proxies, and the reply that is still to come."""

from __future__ import annotations

from math import isfinite
from typing import Any

from zmqservices.cluster.calls.call import DONE, SENT, PendingCall
from zmqservices.cluster.calls.caller import Caller
from zmqservices.exceptions import ConfigurationError

__all__ = ["Client", "ClusterProxy", "MethodProxy", "RpcCall", "RpcReply", "ServiceProxy"]

#: No timeout was named: the configured one holds. None, in contrast, means to wait for ever.
UNSET: Any = type("Unset", (), {"__repr__": lambda self: "UNSET"})()


def check_timeout(timeout: Any, whose: str, may_be_spent: bool = False) -> None:
    """Raise ConfigurationError unless `timeout` is a number of seconds above 0, None, or UNSET.

    With `may_be_spent` it may be 0 or less, as what is left of somebody's time may be.
    """
    if timeout is None or timeout is UNSET:
        return
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not isfinite(timeout):
        raise ConfigurationError(f"timeout={timeout!r} of {whose}: a number of seconds, or None, is needed")
    if timeout <= 0 and not may_be_spent:
        raise ConfigurationError(f"timeout={timeout!r} of {whose}: seconds above 0, or None, are needed")


class RpcCall:
    """A call under way. `result()` may be asked for any number of times, and in any order among calls."""

    __slots__ = ("_caller", "_call", "_client")

    def __init__(self, caller: Caller, call: PendingCall, client: Client) -> None:
        self._caller = caller
        self._call = call
        self._client = client  # Held: a client that nobody holds any more is stopped.

    def result(self) -> Any:
        """Wait for the answer. Raises what the call raised, a new instance each time, or RpcTimeout and its kin."""
        call = self._call
        if call.stage != DONE:
            self._caller.reactor.park(call, DONE)
        return call.outcome()

    get_response = result

    def cancel(self) -> None:
        """Give the call up: the service is told to stop, and `result` raises CallCancelled."""
        self._caller.reactor.run(self._caller.abandon, self._call)


RpcReply = RpcCall


class Client:
    """How a proxy makes its calls: the seam between proxies and whoever holds the caller, headers and time limits."""

    __slots__ = ()

    def begin(self, service: str, method: str, args: Any, kwargs: Any, timeout: Any) -> tuple[Caller, PendingCall]:
        raise NotImplementedError


class MethodProxy:
    """A remote method: call it, or `call_async` it. `with_timeout(seconds)` is the same method with its own limit."""

    __slots__ = ("_client", "service_name", "method_name", "_timeout")

    def __init__(self, client: Client, service_name: str, method_name: str, timeout: Any = UNSET) -> None:
        self._client = client
        self.service_name = service_name
        self.method_name = method_name
        self._timeout = timeout

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call, and wait for the answer. When the wait is broken off (a gevent.Timeout, a kill), the service is told to stop."""
        caller, call = self._client.begin(self.service_name, self.method_name, args, kwargs, self._timeout)
        if call.stage != DONE:
            try:
                caller.reactor.park(call, DONE)
            except BaseException:
                caller.reactor.tell(caller.abandon, call)
                raise
        return call.outcome()

    def call_async(self, /, *args: Any, **kwargs: Any) -> RpcCall:
        """Call without waiting for the answer. Raises UnknownService and RemoteUnavailable here, not at `result`."""
        caller, call = self._client.begin(self.service_name, self.method_name, args, kwargs, self._timeout)
        if caller.cork.is_in:
            caller.reactor.run(caller.cork.release)  # Who does not wait for the answer may do something else for long.
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
        """This method with a limit of its own per call; None waits for ever (a worker still for its own deadline).

        With 0 or less, as what is left of somebody's time may be, a call raises RpcTimeout and is never sent.
        """
        check_timeout(seconds, f"{self.service_name}.{self.method_name}", may_be_spent=True)
        return MethodProxy(self._client, self.service_name, self.method_name, seconds)

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
        # Kept: the next look-up finds it without coming here.
        method = self.__dict__[name] = MethodProxy(self._client, self.service_name, name)
        return method

    def __repr__(self) -> str:
        return f"<remote service {self.service_name}>"


class ClusterProxy:
    """All services: `cluster.maths`, or `cluster["a-name"]` where the name is no identifier."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __getattr__(self, name: str) -> ServiceProxy:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        service = self.__dict__[name] = ServiceProxy(self._client, name)
        return service

    def __getitem__(self, name: str) -> ServiceProxy:
        return ServiceProxy(self._client, name)
