"""The client of programs that host no service. Threads and greenlets may use it at the same time.

A thread with a gevent hub gets a caller on that hub. All other threads share one caller, which they drive themselves. So
`ClusterRpcProxy` works in an unpatched Flask worker, in a script, and in a test whose services run on the same hub.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import Any

from gevent._hub_local import get_hub_if_exists

from zmqservices.cluster.calls.caller import Caller
from zmqservices.cluster.node import new_id, open_directory
from zmqservices.cluster.settings import Settings
from zmqservices.transport import Sockets
from zmqservices.transport.blocking import BlockingReactor
from zmqservices.transport.hub import HubReactor
from zmqservices.transport.reactor import Reentered
from zmqservices.transport.sockets import forked_error
from zmqservices.utils.forks import ForkHook
from zmqservices.utils.native_threads import reentrant_lock

#: The most seconds that a stop waits for the directory client's thread.
DIRECTORY_STOP_TIMEOUT = 1.0


class ClientNode:
    """A thread-safe client. It starts when it is made, and `stop` ends its running calls."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._id = new_id()
        self._pid = os.getpid()
        self._lock = reentrant_lock()
        #: The caller of each hub. All threads without a hub share the key None. Callers with a number as key are for calls that
        #: are made while a signal handler interrupts a thread in another call.
        self._callers: dict[Any, Caller] = {}
        self._sockets: dict[Any, Sockets] = {}
        self._stopped = False
        self.directory = open_directory(settings)
        _clients.add(self)

    def caller(self) -> Caller:
        """The caller for the current thread. Raises ForkedProcessError in a fork, RuntimeError once stopped."""
        hub = get_hub_if_exists()
        caller = self._callers.get(hub)
        return self._new_caller(hub) if caller is None else caller

    def call_state(self) -> list[dict[str, Any]]:
        """What the current thread's caller knows of each service that it calls."""
        caller = self.caller()
        return caller.reactor.run(caller.call_state)

    def callers_aside(self) -> Iterator[Caller]:
        """Further callers for a thread that is interrupted in a call, as by a signal handler. To be tried in turn."""
        for level in itertools.count(1):
            yield self._callers.get(level) or self._new_caller(level)

    def _new_caller(self, hub: object) -> Caller:
        if os.getpid() != self._pid:
            raise forked_error(self._pid)
        with self._lock:
            self._refuse_if_stopped()
            found = self._callers.get(hub)
            if found is not None:
                return found
            reactor: Any = BlockingReactor() if _is_plain(hub) else HubReactor()
            sockets = None
            try:
                sockets = Sockets(self.settings.sockets, shared=True)
                made = Caller(reactor, sockets, self.directory, self.settings, self._id)
            except BaseException:
                reactor.close()
                if sockets is not None:
                    sockets.close()
                raise
            # A signal handler that ran meanwhile may have made a call, or stopped this client.
            if hub in self._callers or self._stopped:
                _close_there(made, sockets)
                self._refuse_if_stopped()
                return self._callers[hub]
            self._sockets[hub] = sockets
            self._callers[hub] = made
            return made

    def _refuse_if_stopped(self) -> None:
        if self._stopped:
            raise RuntimeError("this client was stopped and can no longer be used")

    def stop(self) -> None:
        """Close everything. Running calls of other threads end with CallCancelled."""
        if os.getpid() != self._pid:
            return  # A copy in a forked child: the threads and sockets belong to the parent.
        with self._lock:
            if self._stopped:
                return
            self._stopped = True
            callers, self._callers = self._callers, {}
        here = get_hub_if_exists()
        for hub, caller in callers.items():
            sockets = self._sockets[hub]
            if _is_plain(hub) or hub is here:
                try:
                    caller.reactor.run(caller.close)
                except Reentered:
                    # The thread that was interrupted in this caller closes it once it goes on.
                    caller.reactor.post(_close_there, caller, sockets)
                    continue
                caller.reactor.close()
                sockets.close()
            else:
                # The caller belongs to the hub of another thread, and only that thread may close its sockets.
                caller.reactor.post(_close_there, caller, sockets)
        self.directory.stop(DIRECTORY_STOP_TIMEOUT)

    def _refuse_calls(self) -> None:
        # Runs in a forked child. Without callers, `caller` refuses there, which is cheaper than a check at each call.
        self._callers = {}


def _is_plain(hub: object) -> bool:
    return hub is None or type(hub) is int


def _close_there(caller: Caller, sockets: Sockets) -> None:
    caller.close()
    caller.reactor.close()
    sockets.close()


#: All clients of this process.
_clients = ForkHook(ClientNode._refuse_calls)
