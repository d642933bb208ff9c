"""A caller for programs that host no service: from plain threads and from greenlets alike, each driven its own way.

A thread that runs a gevent hub gets a caller on that hub; all other threads share one that they drive themselves. So
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

#: Seconds that a directory client is given to end its thread.
DIRECTORY_STOP_TIMEOUT = 1.0


class ClientNode:
    """Thread-safe. Made started; `stop` ends the calls that are under way."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._id = new_id()
        self._pid = os.getpid()
        self._lock = reentrant_lock()
        #: The caller of each hub. None stands for all threads without one; a number for such a thread that was interrupted
        #: in a call, and calls meanwhile.
        self._callers: dict[Any, Caller] = {}
        self._sockets: dict[Any, Sockets] = {}
        self._stopped = False
        self.directory = open_directory(settings)
        _clients.add(self)

    def caller(self) -> Caller:
        """The caller that serves the current thread. Raises ForkedProcessError in a fork, RuntimeError once stopped."""
        hub = get_hub_if_exists()
        caller = self._callers.get(hub)
        return self._new_caller(hub) if caller is None else caller

    def call_state(self) -> list[dict[str, Any]]:
        """What the caller of the current thread knows of the services that it calls."""
        caller = self.caller()
        return caller.reactor.run(caller.call_state)

    def callers_aside(self) -> Iterator[Caller]:
        """Callers for a plain thread that is in the middle of a call, as in a signal handler. Each is tried in turn."""
        for level in itertools.count(1):
            yield self._callers.get(level) or self._new_caller(level)

    def _new_caller(self, hub: Any) -> Caller:
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
            # Whatever interrupted us may have called, or stopped us.
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
        """Close everything. Calls that other threads are waiting for end with CallCancelled."""
        if os.getpid() != self._pid:
            return  # A child's copy: threads and sockets are its parent's.
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
                    # The thread that was interrupted here does it as soon as it goes on.
                    caller.reactor.post(_close_there, caller, sockets)
                    continue
                caller.reactor.close()
                sockets.close()
            else:
                # It belongs to another thread's hub; its sockets may be closed there only.
                caller.reactor.post(_close_there, caller, sockets)
        self.directory.stop(DIRECTORY_STOP_TIMEOUT)

    def _refuse_calls(self) -> None:
        # In a forked child. Without a caller, `caller` refuses there; to check for a fork at each call would cost more.
        self._callers = {}


def _is_plain(hub: Any) -> bool:
    return hub is None or type(hub) is int


def _close_there(caller: Caller, sockets: Sockets) -> None:
    caller.close()
    caller.reactor.close()
    sockets.close()


#: All clients of this process.
_clients = ForkHook(ClientNode._refuse_calls)
