"""The client side of calls: chooses an instance, sends the call, and wakes the code that waits for its answer.

`error_answers` settles calls that are answered with an error, and `failover` decides about calls that fail. `held_calls` has the
calls that wait for an instance, and `sweep` ends calls whose time is over.

Everything here runs inside one reactor (`zmqservices.transport.reactor`), and nothing blocks. `begin` makes a call; the calling
code then waits for it with `Reactor.park`. No other code depends on the kind of reactor.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from time import monotonic
from typing import Any

from discovery import Directory
from zmqservices.cluster.calls import failures
from zmqservices.cluster.calls.call import DONE, HELD, SENT, CallHistory, CallLimits, PendingCall, encode
from zmqservices.cluster.calls.call_state import describe, measure
from zmqservices.cluster.calls.cork import LONGEST
from zmqservices.cluster.calls.corked_calls import CorkedCalls
from zmqservices.cluster.calls.ejection import Ejection
from zmqservices.cluster.calls.error_answers import ErrorAnswers
from zmqservices.cluster.calls.failover import Failover
from zmqservices.cluster.calls.heartbeats import PeerHeartbeats
from zmqservices.cluster.calls.hedged_calls import HedgedCalls
from zmqservices.cluster.calls.held_calls import HeldCalls
from zmqservices.cluster.calls.instances import Instance, ServicePool
from zmqservices.cluster.calls.peer import NewLink, Peer
from zmqservices.cluster.calls.peer_pool import PeerPool
from zmqservices.cluster.calls.sweep import Sweep
from zmqservices.cluster.keys_watch import KeysWatch
from zmqservices.cluster.settings import Settings
from zmqservices.exceptions import CallCancelled, ProtocolError
from zmqservices.probes import Measure, Watched
from zmqservices.transport import DealerLink, Sockets
from zmqservices.transport.handover import TAKE_UP_TIMEOUT
from zmqservices.transport.reactor import Reactor
from zmqservices.utils.forks import ForkHook
from zmqservices.wire import envelope
from zmqservices.wire.messages import Cancel, Error, Result
from zmqservices.wire.serializers import Serializer

#: A call with a timeout of fewer seconds gets a separate timer, so that it ends on time.
SHORT_TIMEOUT = 0.5

#: A hub has at least this many seconds to begin a call of another thread, even if the call has less time.
LEAST_PATIENCE = 1.0


class Caller(Watched):
    """All calls of one node or client. `directory` must be started; `clock` returns monotonic seconds."""

    def __init__(
        self,
        reactor: Reactor,
        sockets: Sockets,
        directory: Directory,
        settings: Settings,
        node: str,
        clock: Callable[[], float] = monotonic,
        new_link: NewLink = DealerLink,
    ) -> None:
        self.watch()
        self.reactor = reactor
        self._clock = clock
        #: The thread that may call `begin`; None if the leader of the reactor may.
        self.thread: int | None = getattr(reactor, "thread", None)
        self.settings = settings
        self.directory = directory
        self._pending: dict[int, PendingCall] = {}
        self._ids = itertools.count(1)
        self._woken: list[PendingCall] = []
        #: Holds calls that are made in one turn of the event loop, so that they are sent together.
        self._corked = CorkedCalls(reactor.defer, self._not_sent, clock)
        self.cork = self._corked.cork
        self._closed = False
        self.header_limits = settings.limits.headers
        self._limits = CallLimits(settings.max_message_size, self.header_limits)
        #: `begin` for callers that may be outside the reactor.
        self.enter: Callable[..., PendingCall] = partial(reactor.run, self.begin) if reactor.must_be_entered else self.begin
        #: The functions for messages other than answers, `take(peer, message)`, by kind of message.
        self.other_kinds: dict[type, Callable[[Any, Any], None]] = {}
        #: Functions to call after each change of a link or of the listed instances.
        self.on_change: list[Callable[[], None]] = []
        self._peer_pool = PeerPool(
            self, reactor, sockets, directory, settings.namespace, node, clock, new_link, settings.resilience.preferences,
            settings.keys,
        )  # fmt: skip
        #: Looks for changes of this node's keys; None without SECURITY.
        self.keys_watch: KeysWatch | None = None
        if settings.keys is not None:
            self.keys_watch = KeysWatch(reactor, settings.keys, settings.look_interval)
            self.keys_watch.on_change.append(self._peer_pool.keys_changed)
            self.keys_watch.start()
        self._pools = self._peer_pool.pools
        self._held = HeldCalls(self, settings.rpc_wait_for_service, directory.describe, clock)
        self.ejection = Ejection(settings.resilience.outliers, self.refresh, clock, self)
        self._failover = Failover(self, reactor, settings.resilience, self.ejection, clock)
        self._hedging = HedgedCalls(self, reactor, self._failover.budget, clock)
        self.goes_on = self._hedging.goes_on
        self._errors = ErrorAnswers(self, self._failover, self._hedging, self.ejection, clock)
        self._heartbeats = PeerHeartbeats(
            reactor, settings.heartbeat, self._pending, self._peer_pool.peers, self.wake_all, clock
        )
        self._sweep = Sweep(
            self, reactor, self._pending, self._pools, self._held, self._failover, self.ejection, self._heartbeats, clock,
            self._peer_pool.is_unknown,
        )  # fmt: skip
        _callers.add(self)

    # --- making a call -----------------------------------------------------------------------------------------------

    def begin(
        self,
        service: str,
        method: str,
        args: Sequence[Any],
        kwargs: dict[str, Any] | None,
        headers: dict[str, Any] | None,
        timeout: float | None,
        deadline: float | None = None,
        serializer: Serializer | None = None,
        key: bytes | None = None,
        hedge: bool | None = None,
    ) -> PendingCall:
        """Send a call, or hold it until an instance can be asked. It ends at `deadline` or after `timeout`, whichever is first.

        Calls with the same `key` (see `zmqservices.resilience.hashing`) go to the same instance. `hedge`: whether a call of an
        idempotent method may have a second attempt; None leaves that to the service and the settings.

        Raises UnserializableValueError or MessageTooLarge, without sending anything.
        """
        now = self._clock()
        if timeout is not None:
            own = now + timeout
            if deadline is None or own < deadline:
                deadline = own
            else:
                timeout = None  # The caller's limit ends the call first.
        pool = self._pools.get(service)
        if pool is None:
            pool = self.expect(service)
        pool.calls += 1
        call = PendingCall(next(self._ids), pool, method, args, kwargs, headers, serializer, timeout, deadline)
        if self.probes is not None:
            call.began_at = now
            probes = self.probes  # Read again, since another thread may just have detached the last probe.
            if probes is not None and probes.call_began is not None:
                probes.call_began(call)
        if deadline is not None and deadline - now < SHORT_TIMEOUT:
            if deadline <= now:
                self.finish(call, failures.timed_out(call))
                return call
            self.reactor.call_later(deadline - now, self._expire, call)
        if key is not None:
            call.history = CallHistory(key)
        instance = pool.only
        if instance is None:
            if pool.keyed:
                key = pool.key_of(call)
            instance = pool.pick(now, method, (), bool(pool.coming) and self._held.may_wait(call, now), key)
        try:
            if instance is None or not self.send(call, instance, now):
                self._begin_elsewhere(call, instance, now)
        except BaseException as exc:
            call.error = exc
            if self.probes is not None:
                self._tell_ended([call])
            raise
        if (pool.may_hedge or hedge) and call.stage == SENT:
            self._hedging.watch(call, hedge)
        if not self._sweep.is_due:
            self._sweep.soon()
        return call

    def _tell_ended(self, calls: list[PendingCall]) -> None:
        """Tell the probes which calls have ended. A call may be woken twice, but is reported once."""
        probes = self.probes
        told = None if probes is None else probes.call_ended
        if probes is not None and told is not None:
            awaited = probes.awaited_calls
            if awaited is not None:
                if not awaited:
                    return
                calls = [call for call in calls if call in awaited]
            for call in calls:
                # A call that could not be encoded has an error without being DONE.
                if (call.stage == DONE or call.error is not None) and getattr(call, "began_at", None):
                    told(call)
                    call.began_at = 0.0

    # Repeats the parameters of `begin`: `*args` would hide them from type checks, and `begin` is on the hot path.
    def begin_outside(
        self,
        service: str,
        method: str,
        args: Sequence[Any],
        kwargs: dict[str, Any] | None,
        headers: dict[str, Any] | None,
        timeout: float | None,
        deadline: float | None = None,
        serializer: Serializer | None = None,
        key: bytes | None = None,
        hedge: bool | None = None,
    ) -> PendingCall:
        """`begin` for threads other than the hub's.

        Raises RuntimeError if the hub stays blocked for the whole time of the call.
        """
        limits = [] if timeout is None else [timeout]
        if deadline is not None:
            limits.append(deadline - self._clock())
        reactor: Any = self.reactor
        patience = max(min(limits, default=TAKE_UP_TIMEOUT), LEAST_PATIENCE)
        call: PendingCall = reactor.hand_over(
            self.begin, (service, method, args, kwargs, headers, timeout, deadline, serializer, key, hedge), patience
        )
        return call

    def _begin_elsewhere(self, call: PendingCall, full: Instance | None, now: float, may_be_held: bool = True) -> None:
        """Ask another instance, or wait for one: none could be asked, or the peer of the instance `full` had no room."""
        other = None if full is None else call.pool.pick(now, call.method, (full,), False, call.pool.key_of(call))
        if other is None or not self.send(call, other, now, may_be_held):
            # A call that cannot be encoded must fail here, and not later when an instance can be asked.
            encode(call, now, self._limits)
            may_not_wait = full is None and self.settings.rpc_wait_for_service <= 0
            if may_not_wait and self._peer_pool.is_unknown(call.pool):
                self.finish(call, self._held.unavailable(call))
                return
            self.hold(call, now)
            if may_not_wait and len(call.pool.waiting) == 1:
                self._sweep.look_for_answer(call.pool)

    def send(self, call: PendingCall, instance: Instance, now: float, may_be_held: bool = True) -> bool:
        frames = encode(call, now, self._limits)
        cork = self.cork
        # A call that is alone is not held, since no other call will leave with it.
        is_held = may_be_held and (cork.is_in or (bool(self._pending) and cork.join(now)))
        if type(frames) is not bytes or len(frames) > LONGEST:
            if is_held:
                cork.release()
                is_held = False
            if not instance.peer.send_counted(frames, now):
                return False
        elif not is_held and not instance.peer.send(frames):
            return False
        call.instance = instance
        call.sent_at = now
        call.stage = SENT
        load = instance.load
        call.ahead = load.in_flight
        load.in_flight += 1
        self._pending[call.id] = call
        if is_held:
            cork.hold((call, frames), now)
        return True

    def _not_sent(self, calls: list[PendingCall]) -> None:
        for call in calls:
            if self._pending.pop(call.id, None) is None:
                continue
            call.instance.load.in_flight -= 1
            if self.goes_on(call):
                continue
            try:
                # The call is not put into the cork again, or it would be tried in every turn while no peer has room.
                self._begin_elsewhere(call, call.instance, self._clock(), may_be_held=False)
            except Exception as exc:  # Its arguments were changed since it was first encoded.
                self.finish(call, exc)
                self.reactor.post(self.wake_all)

    def hold(self, call: PendingCall, now: float) -> None:
        """Let the call wait until an instance can be asked."""
        self._held.hold(call, now)
        self._sweep.soon()

    # --- answers -----------------------------------------------------------------------------------------------------

    def on_result(self, peer: Peer, result: Result, now: float) -> None:
        call = self._pending.pop(result.id, None)
        if call is None:
            return  # The call was given up, and its instance was told so.
        if call.instance.peer is not peer:
            self._pending[result.id] = call  # Only the node that was asked may answer the call.
            return
        load = call.instance.load
        load.in_flight -= 1
        pool = call.pool
        if pool.only is None:
            load.saw(call.method, now - call.sent_at, call.ahead, now)
            if pool.has_queues or result.waiting is not None:
                pool.heard(call.instance, result.waiting, now - call.sent_at, now)
        if call.history is not None and call.history.hedge is not None:
            call = self._hedging.answered(call, call.history.hedge, now)
        if result.serializer is None:
            call.value = result.value
        else:
            self._deserialize(call, result)
        call.stage = DONE
        self._woken.append(call)

    @staticmethod
    def _deserialize(call: PendingCall, result: Result) -> None:
        # A result has the serialization of its request.
        try:
            if call.serializer is None or call.serializer.name != result.serializer:
                raise ValueError(f"it is in {result.serializer!r}, which was not asked for")
            call.value = call.serializer.loads(result.value)
        except Exception as exc:
            call.error = ProtocolError(f"the result of {call.service}.{call.method} cannot be read: {exc}")

    def on_error(self, peer: Peer, message: Error) -> None:
        call = self._pending.get(message.id or 0)
        if call is None or call.instance.peer is not peer:
            return
        del self._pending[call.id]
        call.instance.load.in_flight -= 1
        self._errors.settle(peer, call, message.error)

    def finish(self, call: PendingCall, error: BaseException | Mapping[str, Any]) -> None:
        """The call is DONE, with this error. Its caller is woken at the end of the turn."""
        if call.history is not None and call.history.hedge is not None:
            self._hedging.ended(call.history.hedge)
        call.error = error
        call.stage = DONE
        self._woken.append(call)

    def advanced(self, call: PendingCall) -> None:
        """The call has reached another stage: its caller is woken at the end of the turn."""
        self._woken.append(call)

    def wake_all(self) -> None:
        """Wake the callers whose calls advanced.

        Must be the last step of a turn, because a woken caller may call again at once.
        """
        while self._woken:
            woken, self._woken = self._woken, []
            if self.probes is not None:
                self._tell_ended(woken)
            if len(woken) == 1:
                self.reactor.wake(woken)
                continue
            self.cork.begin(self._clock())
            try:
                self.reactor.wake(woken)
            finally:
                self.cork.end()

    # --- giving up ---------------------------------------------------------------------------------------------------

    def abandon(self, call: PendingCall) -> None:
        """End a call whose caller has stopped waiting, and tell its instance to stop."""
        if call.stage == DONE:
            return
        self.end(call, CallCancelled(f"{call.service}.{call.method} was given up by its caller"))
        self.wake_all()

    def withdraw(self, call: PendingCall) -> None:
        """Take the call out of flight, and tell its instance to stop."""
        if self._pending.pop(call.id, None) is not None:
            call.instance.load.in_flight -= 1
            if call.instance.peer.is_up:
                call.instance.peer.send(envelope.encode(Cancel(call.id)))

    def end(self, call: PendingCall, error: BaseException) -> None:
        """Tell the call's instance to stop, and finish the call."""
        self.withdraw(call)
        self.finish(call, error)

    def _expire(self, call: PendingCall) -> None:
        if call.stage == HELD:
            self.end(call, self._held.unavailable(call))
        elif call.stage != DONE:
            self.end(call, failures.timed_out(call))
            self.ejection.failed(call.instance)
        self.wake_all()

    # --- second attempts: called by the hedged calls ------------------------------------------------------------

    def next_id(self) -> int:
        return next(self._ids)

    def replace(self, attempt: PendingCall, call: PendingCall) -> None:
        """From now on an answer to `attempt`, which is in flight, is an answer to `call`."""
        self._pending[attempt.id] = call

    def tell_hedged(self, call: PendingCall) -> None:
        probes = self.probes
        if probes is not None and probes.call_hedged is not None:
            probes.call_hedged(call)

    # --- changes: called by the peer pool and the peers -----------------------------------------------------

    def expect(self, service: str) -> ServicePool:
        """Connect to the instances of `service` now, because calls will be made. Raises RuntimeError once closed."""
        pool = self._peer_pool.expect(service)
        if self.settings.resilience.hedge:
            pool.may_hedge = pool.hedges_all = True
        return pool

    def update(self) -> None:
        """Apply the changes of the directory now, instead of waiting until they are handed over."""
        self._peer_pool.update()

    def refresh(self, pool: ServicePool) -> None:
        pool.refresh(self._clock())
        if pool.waiting and pool.can_be_asked:
            self._held.release(pool)

    def updated(self) -> None:
        self._tell_of_change()
        self.wake_all()

    def _tell_of_change(self) -> None:
        for tell in self.on_change:
            tell()

    def peer_changed(self, peer: Peer) -> None:
        if not peer.is_full:
            self._sweep.full.discard(peer)
        for pool in {instance.pool for instance in peer.instances}:
            self.refresh(pool)
        self._tell_of_change()

    def peer_is_full(self, peer: Peer) -> None:
        """Send no more to this peer, because its flow-control window is full. `peer_changed` follows when it has room."""
        self._sweep.full.add(peer)
        for pool in {instance.pool for instance in peer.instances}:
            pool.refresh(self._clock())

    def peer_lost(self, peer: Peer) -> None:
        """Fail or move all calls in flight to this peer. They may have run; calls that were held for it were never sent."""
        # First, so that no more calls are sent there.
        for pool in {instance.pool for instance in peer.instances}:
            pool.refresh(self._clock())
        held = self._corked.take_back(peer)
        self.peer_changed(peer)
        self._not_sent(held)
        lost = [call for call in self._pending.values() if call.instance.peer is peer]
        for call in lost:
            del self._pending[call.id]
            call.instance.load.in_flight -= 1
        self._failover.link_lost(lost)
        self._peer_pool.drop_if_gone(peer)
        self.wake_all()

    def measure(self) -> Iterator[Measure]:
        """Measures: calls in flight, calls that wait for an instance, links by state, and the limits of each service."""
        return measure(self._pending, self._pools, self._peer_pool.peers, self._failover.budget, self.ejection, self._clock())

    def call_state(self) -> list[dict[str, Any]]:
        """The state of each called service that exists; see `zmqservices.cluster.calls.call_state`."""
        now = self._clock()
        known = [pool for pool in self._pools.values() if not pool.is_absent]
        return [describe(pool, self._failover.budget(pool), self.ejection, now) for pool in known]

    def close(self) -> None:
        """End all calls in flight, and close the links."""
        if self._closed:
            return
        self.cork.release()
        self._closed = True
        self._sweep.close()
        self._heartbeats.close()
        if self.keys_watch is not None:
            self.keys_watch.close()
        held = [call for pool in self._pools.values() for call in pool.waiting]
        for call in [*self._pending.values(), *held, *self._failover.paused]:
            if call.stage != DONE:
                self.end(call, CallCancelled(f"{call.service}.{call.method}: the client was stopped"))
        self._peer_pool.close()
        self.wake_all()
        self.unwatch()

    def _refuse_calls(self) -> None:
        # Runs in a forked child. Without pools, each call there reaches `expect`, which refuses it; a check at each call would
        # cost more.
        self._pools = {}
        self._peer_pool.pools = {}


#: All callers of this process.
_callers = ForkHook(Caller._refuse_calls)
