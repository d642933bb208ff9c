"""Sends heartbeats to silent peers while calls are in flight there."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from zmqservices.cluster.calls.call import PendingCall
from zmqservices.cluster.calls.peer import Peer
from zmqservices.transport.reactor import Reactor


class PeerHeartbeats:
    """Beats every `interval` seconds from `start` on, while there are calls or suspect peers.

    `pending`: the calls in flight. `peers`: all peers. Both belong to the owner. `wake_all` is called after each beat.
    """

    def __init__(
        self,
        reactor: Reactor,
        interval: float,
        pending: Mapping[int, PendingCall],
        peers: Mapping[tuple[str, str, str | None], Peer],
        wake_all: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._reactor = reactor
        self._interval = interval
        self._pending = pending
        self._peers = peers
        self._wake_all = wake_all
        self._clock = clock
        self._is_on = False
        self._is_closed = False

    def start(self) -> None:
        if not self._is_on:
            self._is_on = True
            self._reactor.call_later(self._interval, self._beat)

    def close(self) -> None:
        self._is_closed = True

    def _beat(self) -> None:
        self._is_on = False
        if self._is_closed:
            return
        peers = {call.instance.peer for call in self._pending.values()}
        # A suspect peer gets no new calls, so without a PING it would stay suspect for ever.
        peers.update(peer for peer in self._peers.values() if peer.is_suspect)
        if not peers:
            return
        now = self._clock()
        for peer in peers:
            peer.beat(now, self._interval)
        self.start()
        self._wake_all()
