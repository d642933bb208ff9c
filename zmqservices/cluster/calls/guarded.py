"""The call server of a closed cluster: asks before each call whether its caller may make it.

A class of its own, so that a server without SECURITY asks nothing.
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
    """The one gate for calls: methods of services and those of operators come through it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._forbidden = Faults(_log)

    def _take(self, client: ClientConnection, call: IncomingCall, size: int) -> None:
        identity = client.identity
        if identity is None:
            # Cannot be: a message before the HELLO is not decoded. If it is, it is nobody's.
            self._refuse(client, call.id, "forbidden", "its caller has shown no certificate")
            return
        verdict = identity.may_call(call.service, call.method)
        if verdict:
            super()._take(client, call, size)
            return
        what = f"{plain(call.service[:200])}.{plain(call.method[:200])} is forbidden to {plain(identity.name)!r}: {verdict.rule}"
        self._forbidden.saw(str(client), what)
        self._refuse(client, call.id, "forbidden", what)
