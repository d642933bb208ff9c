"""How the instances of a process stop: every call that was taken is answered, and no call arrives that nobody takes.

    service: BYE [names] ---> caller     it sends no more calls for these on this link
    service: <--- BYE [names] caller     all that it had sent before is here by now
    service: PING t ---------> caller    behind the last answers
    service: <--------- PONG t caller    it has read them

Where another instance of the service goes on in the same process, no BYE is sent: that instance takes the calls that still
arrive, and a new WELCOME lists the instances.

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

#: Seconds that a leaving service waits for its callers to say that they know.
BYE_TIMEOUT = 2.0

#: Seconds that callers get to show that they have read the last answers. A thread that has its answer and makes no
#: other call does not look at its sockets any more, and is waited for in vain.
READ_TIMEOUT = 1.0


class Drain:
    """`clients` are those of the CallServer, `instances(name)` those of a service; `tokens` numbers its PINGs.

    `send(client, frames)` sends; `stop(call, why)` ends a call that is under way and tells its caller so; `welcome_all()`
    tells callers which instances there are.
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
        #: Set whenever one client less is waited for.
        self._changed: Any = Event() if changed is None else changed
        self._clock = clock

    # --- the service's words -------------------------------------------------------------------------------------------

    def drain(self, served: Served, timeout: float | None) -> bool:
        """Let `served` take no more calls, tell its callers, and wait until those under way are answered.

        Returns when every caller has said that it sends no more (or BYE_TIMEOUT has passed) and all calls have
        ended. Calls that have not ended within `timeout` seconds (None: however long it takes) are cancelled, and
        False is returned.
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
        """Let `served` take no more calls; those under way are answered with an error and cancelled."""
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
        """Return when those who were answered last have read it, or time is up. To be called before the socket is closed.

        ZeroMQ drops what a peer has received and not yet read when the connection ends (with IMMEDIATE, as callers
        have it). A PONG to a PING that was sent after the answers shows that they were read.
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

    # --- the callers' words ----------------------------------------------------------------------------------------------

    def on_bye(self, client: ClientConnection, bye: Bye) -> None:
        """The client sends no more calls for these services, or for all that it was told of."""
        client.awaited.difference_update(bye.services if bye.services is not None else list(client.awaited))
        self._changed.set()

    def on_pong(self, client: ClientConnection, token: int) -> None:
        """The client has read all that was sent before the PING with this token, if it was a PING of the drain."""
        if token in client.awaited:
            client.awaited.discard(token)
            self._changed.set()

    def remove(self, client: ClientConnection) -> None:
        """The client has disconnected."""
        client.awaited.clear()
        self._changed.set()
