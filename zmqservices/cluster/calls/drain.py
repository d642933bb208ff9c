"""Stops instances of a process without failing a call: every accepted call is answered, and none arrives too late.

    service: BYE [names] ---> caller     the caller sends no more calls for these services on this link
    service: <--- BYE [names] caller     all calls that it sent before have arrived
    service: PING t ---------> caller    after the last answers
    service: <--------- PONG t caller    the caller has read them

    If another instance of the service stays in the same process, no BYE is sent: that instance takes calls that still arrive,
    and a new WELCOME lists the instances.

Runs on the hub of the CallServer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from time import monotonic
from typing import Any

from gevent.event import Event

from zmqservices.cluster.calls.incoming import ClientConnection, IncomingCall, Served
from zmqservices.utils.waiting import ChangeEvent, wait_until
from zmqservices.wire import envelope
from zmqservices.wire.messages import Bye, Ping

#: The most seconds that a stopping service waits for its callers' BYE.
BYE_TIMEOUT = 2.0

#: The most seconds that it waits for callers to read the last answers. A client in a plain thread that makes no further call does
#: not read its sockets, and so never shows it.
READ_TIMEOUT = 1.0


class Drain:
    """Drains instances of one CallServer.

    `clients`: its clients. `instances(name)`: the instances of a service. `tokens`: numbers for its PINGs. `send(client, frames)`
    sends. `stop(call, why)` ends a running call and tells its caller. `welcome_all()` tells all clients which instances there
    are.
    """

    def __init__(
        self,
        clients: Mapping[bytes, ClientConnection],
        instances: Callable[[str], list[Served]],
        tokens: Iterator[int],
        send: Callable[[ClientConnection, Any], None],
        stop: Callable[[IncomingCall, str], None],
        welcome_all: Callable[[], None],
        clock: Callable[[], float] = monotonic,
        changed: ChangeEvent | None = None,
    ) -> None:
        self._clients = clients
        self._instances = instances
        self._tokens = tokens
        self._send = send
        self._stop = stop
        self._welcome_all = welcome_all
        #: Set whenever a client that was waited for has answered or gone.
        self._changed: Any = Event() if changed is None else changed
        self._clock = clock

    # --- the service's side -------------------------------------------------------------------------------------------

    def drain(self, served: Served, timeout: float | None) -> bool:
        """Let `served` accept no more calls, tell its callers, and wait until its open calls are answered.

        Returns when every caller has sent its BYE (or BYE_TIMEOUT seconds have passed) and all calls have ended. Calls that have
        not ended after `timeout` seconds (None: no limit) are cancelled, and False is returned.
        """
        end = None if timeout is None else self._clock() + timeout
        if not served.is_draining:
            self._say_bye(served)
        self._wait_for(served.name, BYE_TIMEOUT if timeout is None else min(timeout, BYE_TIMEOUT))
        if served.open_calls:
            served.idle.wait(None if end is None else max(end - self._clock(), 0.0))
        in_time = not served.open_calls
        if not in_time:
            self._cancel_all(served, f"{served.name!r} is shutting down; its calls had {timeout:g} s to end")
        return in_time

    def drop(self, served: Served) -> None:
        """Let `served` accept no more calls, and cancel its open calls: their callers get an error."""
        self._say_bye(served)
        self._cancel_all(served, f"{served.name!r} was killed")

    def _say_bye(self, served: Served) -> None:
        served.is_draining = True
        if not all(other.is_draining for other in self._instances(served.name)):
            self._welcome_all()
            return
        for client in self._known():
            client.awaited.add(served.name)
            self._send(client, envelope.encode(Bye([served.name], "shutting down")))

    def _cancel_all(self, served: Served, why: str) -> None:
        for client in list(self._clients.values()):
            for call in [call for call in client.calls.values() if call.served is served]:
                self._stop(call, why)

    def wait_until_read(self, timeout: float = READ_TIMEOUT) -> None:
        """Return when all callers have read their last answers, or after `timeout` seconds. Call it before closing the socket.

        When a connection ends, ZeroMQ drops messages that the peer has received and not read (callers set IMMEDIATE). A PONG to a
        PING that was sent after the answers shows that they were read.
        """
        token = next(self._tokens)
        for client in self._known():
            if client.has_late_answers:
                client.has_late_answers = False
                client.awaited.add(token)
                self._send(client, envelope.encode(Ping(token)))
        self._wait_for(token, timeout)

    def _known(self) -> list[ClientConnection]:
        """The clients that have sent a HELLO."""
        return [client for client in self._clients.values() if client.node]

    def _wait_for(self, word: str | int, timeout: float) -> None:
        def is_over() -> bool:
            return not any(word in client.awaited for client in self._clients.values())

        wait_until(is_over, self._changed, timeout, clock=self._clock)

    # --- the callers' side ----------------------------------------------------------------------------------------------

    def on_bye(self, client: ClientConnection, bye: Bye) -> None:
        """The client sends no more calls for these services (None: for all that it was told of)."""
        client.awaited.difference_update(bye.services if bye.services is not None else list(client.awaited))
        self._changed.set()

    def on_pong(self, client: ClientConnection, token: int) -> None:
        """The client has read everything before the PING with this token. Ignores tokens of other PINGs than the drain's."""
        if token in client.awaited:
            client.awaited.discard(token)
            self._changed.set()

    def remove(self, client: ClientConnection) -> None:
        """The client has disconnected."""
        client.awaited.clear()
        self._changed.set()
