"""The call server of a closed cluster: checks before each call whether its caller may make it.

It is a separate class, so that a server without SECURITY checks nothing.
"""

from __future__ import annotations

import logging
from typing import Any

from zmqservices.cluster.calls.incoming import ClientConnection, IncomingCall
from zmqservices.cluster.calls.server import CallServer
from zmqservices.transport.faults import Faults
from zmqservices.wire.quoting import plain

_log = logging.getLogger(__name__)


class GuardedCallServer(CallServer):
    """A CallServer that authorizes every call, of methods of services and of methods for operators."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._forbidden = Faults(_log, "%s asked for what is forbidden (%d such calls): %s")

    def _take(self, client: ClientConnection, call: IncomingCall, size: int) -> None:
        identity = client.identity
        if identity is None:
            # Should never happen, because a message before the HELLO is not decoded. Without an identity, the call is refused.
            self._refuse(client, call.id, "forbidden", "its caller has shown no certificate")
            return
        verdict = identity.may_call(call.service, call.method)
        if verdict:
            super()._take(client, call, size)
            return
        what = f"{plain(call.service[:200])}.{plain(call.method[:200])} is forbidden to {plain(identity.name)!r}: {verdict.rule}"
        self._forbidden.saw(str(client), what)
        self._refuse(client, call.id, "forbidden", what)
