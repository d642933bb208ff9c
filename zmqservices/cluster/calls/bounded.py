"""Call servers that bound the open calls of each client.

These are separate classes, so that a server without `max_calls_per_client` counts nothing.
"""

from __future__ import annotations

from zmqservices.cluster.calls.guarded import GuardedCallServer
from zmqservices.cluster.calls.incoming import ClientConnection, IncomingCall
from zmqservices.cluster.calls.server import CallServer


class BoundedCallServer(CallServer):
    """Refuses calls of a client that has too many open calls, waiting or running.

    It refuses as overloaded, so they may go elsewhere.
    """

    def _take(self, client: ClientConnection, call: IncomingCall, size: int) -> None:
        most = self.limits.max_calls_per_client
        if most is not None and len(client.calls) >= most:
            why = f"this client has {len(client.calls):,} open calls here; max_calls_per_client is {most:,}"
            self._refuse(client, call.id, "overloaded", why)
            return
        super()._take(client, call, size)


class BoundedGuardedCallServer(BoundedCallServer, GuardedCallServer):
    """A BoundedCallServer of a closed cluster."""
