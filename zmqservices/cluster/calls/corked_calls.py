"""Coalesces calls: those made in one turn of the event loop are sent together, in one BATCH per peer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zmqservices.cluster.calls.call import SENT, PendingCall
from zmqservices.cluster.calls.cork import Cork
from zmqservices.cluster.calls.flow_control import UNCOUNTED
from zmqservices.cluster.calls.peer import Peer
from zmqservices.wire import batches


class CorkedCalls:
    """The held calls of one caller. `not_sent` gets calls for which their peer has no room; `defer` is the reactor's.

    `cork` holds pairs of a call and its body.
    """

    def __init__(
        self,
        defer: Callable[[Callable[[], None]], Any] | None,
        not_sent: Callable[[list[PendingCall]], None],
        clock: Callable[[], float],
    ) -> None:
        self.cork = Cork(self._pour, defer, clock)
        self._not_sent = not_sent
        self._clock = clock

    def _pour(self, calls: list[tuple[PendingCall, bytes]]) -> None:
        """Send the held calls, except those that were given up meanwhile."""
        by_peer: dict[Peer, list[tuple[PendingCall, bytes]]] = {}
        for call, body in calls:
            if call.stage == SENT:
                by_peer.setdefault(call.instance.peer, []).append((call, body))
        for peer, held in by_peer.items():
            batch = batches.encode([body for _, body in held])
            if not (peer.send(batch) if len(batch) <= UNCOUNTED else peer.send_counted(batch, self._clock())):
                self._not_sent([call for call, _ in held])

    def take_back(self, peer: Peer) -> list[PendingCall]:
        """Take back the calls that are held for this peer, and send those for other peers."""
        held = [(call, body) for call, body in self.cork.take() if call.stage == SENT]
        own = [call for call, _ in held if call.instance.peer is peer]
        self._pour([(call, body) for call, body in held if call.instance.peer is not peer])
        return own
