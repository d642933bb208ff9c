"""Checks all calls at intervals while there are any: ends overdue calls, and tries waiting calls and full peers again.

One scan takes less time than a timer for each call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from zmqservices.cluster.calls import failures
from zmqservices.cluster.calls.call import DONE, PendingCall
from zmqservices.cluster.calls.ejection import Ejection
from zmqservices.cluster.calls.failover import Failover
from zmqservices.cluster.calls.heartbeats import PeerHeartbeats
from zmqservices.cluster.calls.held_calls import HeldCalls
from zmqservices.cluster.calls.instances import ServicePool
from zmqservices.cluster.calls.peer import Peer
from zmqservices.transport.reactor import Reactor

#: Seconds between two sweeps while there are calls.
SWEEP_INTERVAL = 0.05

#: Seconds until it is first checked whether the directory has answered, for calls that may not wait. Each pause is twice the
#: last.
FIRST_LOOK = 0.001


class SweepOwner(Protocol):
    """Ends calls; a Caller."""

    def end(self, call: PendingCall, error: BaseException) -> None:
        """Tell the call's instance to stop, and finish the call."""

    def wake_all(self) -> None:
        """Wake the callers whose calls advanced."""


class Sweep:
    """The sweep of one caller. `pending`: its calls in flight by id; `pools`: its services by name. Both belong to the owner.

    `is_unknown(pool)`: whether the directory has answered that it lists no instance of the service.
    """

    __slots__ = (
        "is_due", "full", "_owner", "_reactor", "_pending", "_pools", "_held", "_failover", "_ejection",
        "_heartbeats", "_clock", "_is_unknown", "_is_closed",
    )  # fmt: skip

    def __init__(
        self,
        owner: SweepOwner,
        reactor: Reactor,
        pending: Mapping[int, PendingCall],
        pools: Mapping[str, ServicePool],
        held: HeldCalls,
        failover: Failover,
        ejection: Ejection,
        heartbeats: PeerHeartbeats,
        clock: Callable[[], float],
        is_unknown: Callable[[ServicePool], bool],
    ) -> None:
        #: Whether a sweep is scheduled. A call that begins checks this before it calls `soon`.
        self.is_due = False
        #: Peers whose flow-control window is full.
        self.full: set[Peer] = set()
        self._owner = owner
        self._reactor = reactor
        self._pending = pending
        self._pools = pools
        self._held = held
        self._failover = failover
        self._ejection = ejection
        self._heartbeats = heartbeats
        self._clock = clock
        self._is_unknown = is_unknown
        self._is_closed = False

    def soon(self) -> None:
        """There are calls: sweep in SWEEP_INTERVAL seconds, and repeat while there are any."""
        if not self.is_due and not self._is_closed:
            self.is_due = True
            self._reactor.call_later(SWEEP_INTERVAL, self._sweep)

    def look_for_answer(self, pool: ServicePool, pause: float = FIRST_LOOK) -> None:
        """A call waits for a service that may not exist: end it as soon as the directory says so, before the next sweep."""
        self._reactor.call_later(pause, self._look_for_answer, pool, 2 * pause)

    def _look_for_answer(self, pool: ServicePool, pause: float) -> None:
        if self._is_closed or not pool.waiting:
            return
        if self._is_unknown(pool):
            self._held.expire(pool, self._clock())
            self._owner.wake_all()
        elif pause < SWEEP_INTERVAL:
            self.look_for_answer(pool, pause)

    def close(self) -> None:
        self._is_closed = True

    def _sweep(self) -> None:
        self.is_due = False
        if self._is_closed:
            return
        now = self._clock()
        for call in [c for c in self._pending.values() if c.deadline is not None and c.deadline <= now]:
            if call.stage == DONE:
                continue  # The second attempt of a call that has just ended.
            # The instance knows the deadline and stops by itself. It is told because its clock may run behind.
            self._owner.end(call, failures.timed_out(call))
            self._ejection.failed(call.instance)
        self._failover.count_calls(self._pools.values(), now)
        self._ejection.look(self._pools.values(), now)
        self._ask_full_peers(now)
        has_held = self._look_at_held(now)
        if self._pending:
            self._heartbeats.start()
        if self._pending or has_held:
            self.soon()
        self._owner.wake_all()

    def _ask_full_peers(self, now: float) -> None:
        for peer in tuple(self.full):
            if peer.link.is_closed:
                self.full.discard(peer)
            elif peer.is_up:
                peer.ask_whether_read(now)

    def _look_at_held(self, now: float) -> bool:
        """End held calls that waited too long, and send others if possible. Returns whether calls still wait.

        In this order, because a call that is given to a link without room comes back at the end of each turn.
        """
        has_held = False
        for pool in self._pools.values():
            if pool.waiting:
                self._held.expire(pool, now)
                if pool.can_be_asked:
                    self._held.release(pool)  # An instance whose queue was full may have room again.
                has_held = has_held or bool(pool.waiting)
        return has_held
