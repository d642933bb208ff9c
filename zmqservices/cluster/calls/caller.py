"""The client side of calls: chooses an instance, sends the call, and decides what becomes of calls that go wrong.

Everything here runs inside one reactor (`zmqservices.transport.reactor`), and nothing blocks. `begin` makes a call; the
caller's code then parks on it with `Reactor.park`. Nobody else needs to know which reactor it is.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Mapping
from functools import partial
from time import monotonic
from typing import Any

from discovery import Directory
from zmqservices.cluster.calls import failures
from zmqservices.cluster.calls.call import DONE, HELD, SENT, PendingCall
from zmqservices.cluster.calls.cork import LONGEST, Cork
from zmqservices.cluster.calls.flow_control import UNCOUNTED
from zmqservices.cluster.calls.instances import Instance, ServicePool
from zmqservices.cluster.calls.peer import EXPECTED, NewLink, Peer
from zmqservices.cluster.calls.peer_pool import PeerPool
from zmqservices.cluster.calls.send_queue import size_of
from zmqservices.cluster.settings import Settings
from zmqservices.exceptions import CallCancelled, MessageTooLarge, ProtocolError, RpcTimeout
from zmqservices.resilience.retries import Failure, RetryAction, next_action
from zmqservices.transport import DealerLink, Sockets
from zmqservices.transport.handover import TAKE_UP_TIMEOUT
from zmqservices.transport.reactor import Reactor
from zmqservices.utils.forks import ForkHook
from zmqservices.wire import batches, envelope
from zmqservices.wire.envelope import encode_call
from zmqservices.wire.messages import Cancel, Error, Result

_log = logging.getLogger(__name__)

#: Seconds between two looks at the calls' deadlines, while there are calls. One scan is cheaper than a timer per call.
SWEEP_INTERVAL = 0.05

#: A call that may take less than this many seconds gets a timer of its own, so that its end is not rounded up much.
SHORT_TIMEOUT = 0.5

#: Seconds that a hub gets at least to begin a call of another thread, even when the call has less time.
LEAST_PATIENCE = 1.0

#: What a refusal's code means for the call. All of them say that it did not run.
FAILURES = {
    "draining": Failure.NOT_SERVED,
    "unknown-service": Failure.NOT_SERVED,
    # The node does not know this client: another process than the greeted one answers, or the node gave the client up.
    "protocol": Failure.NOT_SERVED,
    "overloaded": Failure.OVERLOADED,
}


class Caller:
    """All calls of one node or client. `directory` is started already; `clock` says monotonic time."""

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
        self.reactor = reactor
        self._clock = clock
        #: The thread that may call `begin`; None where the thread that leads the reactor may.
        self.thread: int | None = getattr(reactor, "thread", None)
        self.settings = settings
        self.directory = directory
        self._pending: dict[int, PendingCall] = {}
        self._ids = itertools.count(1)
        self._woken: list[PendingCall] = []
        #: Holds calls that are made in one turn of the loop, so that they leave together.
        self.cork = Cork(self._pour, reactor.defer, clock)
        #: Peers that get no more calls until they have read some of what was sent to them.
        self._full: set[Peer] = set()
        self._sweeping = False
        self._beating = False
        self._closed = False
        self._max_message_size = settings.max_message_size
        #: `begin`, for callers that may be outside the reactor.
        self.enter: Callable[..., PendingCall] = partial(reactor.run, self.begin) if reactor.must_be_entered else self.begin
        #: Handlers of messages that are no answers, by kind of message: `take(peer, message)`.
        self.other_kinds: dict[type, Callable[[Any, Any], None]] = {}
        #: Functions to call after each change of a link or of the listed instances.
        self.on_change: list[Callable[[], None]] = []
        self._peer_pool = PeerPool(self, reactor, sockets, directory, settings.namespace, node, clock, new_link)
        self._pools = self._peer_pool.pools
        _callers.add(self)

    # --- making a call -----------------------------------------------------------------------------------------------

    def begin(
        self,
        service: str,
        method: str,
        args: Any,
        kwargs: Any,
        headers: dict[str, Any] | None,
        timeout: float | None,
        deadline: float | None = None,
        serializer: Any = None,
    ) -> PendingCall:
        """Send a call, or hold it until an instance can be asked. `deadline` bounds it besides `timeout`.

        Raises UnserializableValueError or MessageTooLarge, and then nothing was sent.
        """
        now = self._clock()
        if timeout is not None:
            own = now + timeout
            if deadline is None or own < deadline:
                deadline = own
            else:
                timeout = None  # What ends the call is its caller's limit.
        call = PendingCall(next(self._ids), service, method, args, kwargs, headers, serializer, timeout, deadline)
        pool = self._pools.get(service)
        if pool is None:
            pool = self.expect(service)
        call.pool = pool
        if deadline is not None and deadline - now < SHORT_TIMEOUT:
            if deadline <= now:
                self._finish(call, failures.timed_out(call))
                return call
            self.reactor.call_later(deadline - now, self._expire, call)
        instance = pool.only
        if instance is None:
            instance = pool.pick(now, method, (), bool(pool.coming) and self._may_wait(call, now))
        if instance is None or not self._send(call, instance, now):
            self._begin_elsewhere(call, instance, now)
        if not self._sweeping:
            self._sweep_soon()
        return call

    def begin_outside(
        self,
        service: str,
        method: str,
        args: Any,
        kwargs: Any,
        headers: dict[str, Any] | None,
        timeout: float | None,
        deadline: float | None = None,
        serializer: Any = None,
    ) -> PendingCall:
        """`begin`, for threads other than the hub's. RuntimeError where the hub stays blocked for the whole time of the call."""
        limits = [] if timeout is None else [timeout]
        if deadline is not None:
            limits.append(deadline - self._clock())
        reactor: Any = self.reactor
        patience = max(min(limits, default=TAKE_UP_TIMEOUT), LEAST_PATIENCE)
        call: PendingCall = reactor.hand_over(
            self.begin, (service, method, args, kwargs, headers, timeout, deadline, serializer), patience
        )
        return call

    def _begin_elsewhere(self, call: PendingCall, full: Instance | None, now: float, may_be_held: bool = True) -> None:
        """No instance could be asked, or the peer `full` could not take the call: ask another instance, or wait for one."""
        other = None if full is None else call.pool.pick(now, call.method, (full,))
        if other is None or not self._send(call, other, now, may_be_held):
            self._encode(call, now)  # What cannot be sent at all must fail here, not when somebody can be asked.
            self._hold(call, now)

    def _encode(self, call: PendingCall, now: float) -> bytes | tuple[bytes, bytes]:
        deadline = call.deadline
        time_left = None if deadline is None else deadline - now
        args, kwargs, name = call.args, call.kwargs, None
        if call.serializer is not None:
            name = call.serializer.name
            args, kwargs = call.serializer.dumps([list(args), kwargs or {}]), None
        frames = encode_call(call.id, call.service, call.method, args, kwargs, time_left, call.headers, name)
        size = len(frames) if type(frames) is bytes else size_of(frames)
        if size > self._max_message_size:
            raise MessageTooLarge(
                f"the arguments of {call.service}.{call.method} take {size:,} bytes; "
                f"max_message_size is {self.settings.max_message_size:,}"
            )
        return frames

    def _send(self, call: PendingCall, instance: Instance, now: float, may_be_held: bool = True) -> bool:
        frames = self._encode(call, now)
        cork = self.cork
        # A single call has no other call to wait for.
        is_held = may_be_held and (cork.is_in or (len(self._pending) > 0 and cork.join(now)))
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

    def _pour(self, calls: list[tuple[PendingCall, bytes]]) -> None:
        """Send the calls that were held, except those that were given up meanwhile."""
        by_peer: dict[Peer, list[tuple[PendingCall, bytes]]] = {}
        for call, body in calls:
            if call.stage == SENT:
                by_peer.setdefault(call.instance.peer, []).append((call, body))
        for peer, held in by_peer.items():
            batch = batches.encode([body for _, body in held])
            if not (peer.send(batch) if len(batch) <= UNCOUNTED else peer.send_counted(batch, self._clock())):
                self._not_sent([call for call, _ in held])

    def _unhold(self, peer: Peer) -> list[PendingCall]:
        """Take back the calls that are held for this peer, and send those for other peers."""
        held = [(call, body) for call, body in self.cork.take() if call.stage == SENT]
        own = [call for call, _ in held if call.instance.peer is peer]
        self._pour([(call, body) for call, body in held if call.instance.peer is not peer])
        return own

    def _not_sent(self, calls: list[PendingCall]) -> None:
        for call in calls:
            if self._pending.pop(call.id, None) is None:
                continue
            call.instance.load.in_flight -= 1
            try:
                # The call is not held again: it would be tried in every turn while no peer has room.
                self._begin_elsewhere(call, call.instance, self._clock(), may_be_held=False)
            except Exception as exc:  # It could be encoded before; its arguments were changed meanwhile.
                self._finish(call, exc)
                self.reactor.post(self.wake_all)

    def _hold(self, call: PendingCall, now: float) -> None:
        call.stage = HELD
        call.instance = None
        if not call.held_until:  # Else it was held before, and never sent.
            call.held_until = now + self.settings.rpc_wait_for_service
            if call.deadline is not None and call.deadline < call.held_until:
                call.held_until = call.deadline
        call.pool.waiting.append(call)

    def _release_held(self, pool: ServicePool) -> None:
        """An instance can be asked now: send the calls that waited, in their order."""
        now = self._clock()
        waiting = pool.waiting
        is_shared_out = False
        for _ in range(len(waiting)):
            call = waiting.popleft()
            if call.stage != HELD:
                continue
            instance, method, may_wait = None, call.method, self._may_wait(call, now)
            if not (is_shared_out and may_wait):
                instance = (call.avoid and pool.pick(now, method, call.avoid)) or pool.pick(now, method, (), may_wait)
                is_shared_out = instance is None
            try:
                sent = instance is not None and self._send(call, instance, now)
            except Exception as exc:  # It could be encoded before; its arguments were changed meanwhile.
                self._finish(call, exc)
                continue
            if sent:
                self._woken.append(call)
            else:
                waiting.append(call)

    def _may_wait(self, call: PendingCall, now: float) -> bool:
        """Whether the call has enough time to wait until other instances are greeted."""
        held_until = call.held_until or now + self.settings.rpc_wait_for_service
        return held_until - now > 2 * EXPECTED and (call.deadline is None or call.deadline - now > 2 * EXPECTED)

    # --- answers -----------------------------------------------------------------------------------------------------

    def on_result(self, peer: Peer, result: Result, now: float) -> None:
        call = self._pending.pop(result.id, None)
        if call is None:
            return  # It was given up; its instance has been told so.
        if call.instance.peer is not peer:
            self._pending[result.id] = call  # A call belongs to the node that it was made of.
            return
        load = call.instance.load
        load.in_flight -= 1
        if call.pool.only is None:
            load.saw(call.method, now - call.sent_at, call.ahead, now)
        if result.serializer is None:
            call.value = result.value
        else:
            self._deserialize(call, result)
        call.stage = DONE
        self._woken.append(call)

    @staticmethod
    def _deserialize(call: PendingCall, result: Result) -> None:
        # A result comes in the serialization of its request.
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
        error = message.error
        code = error.get("code")
        failure = FAILURES.get(code) if code else None
        if failure is Failure.NOT_SERVED:
            call.instance.left = True
            call.pool.refresh(self._clock())
        if failure is not None:
            self._failure(call, failure, error)
            if code == "protocol":
                peer.greet_again()
        elif code == "expired":
            self._finish(call, failures.ran_out_of_time(call, error, self._is_spent(call)))
        elif code == "cancelled":
            self._finish(call, CallCancelled(str(error.get("value"))))
        elif error.get("exc_type") == RpcTimeout.__name__ and self._is_spent(call):
            # The service gave up a nested call because this call's time is over; both sides noticed at the same moment.
            self._finish(call, failures.timed_out(call))
        else:
            self._finish(call, error)

    def _failure(self, call: PendingCall, failure: Failure, error: Mapping[str, Any]) -> None:
        instance = call.instance
        others = len([other for other in call.pool.ready if other is not instance])
        if next_action(failure, instance.is_idempotent(call.method), call.moves, others) is RetryAction.GIVE_UP:
            self._finish(call, failures.refused(call, error) if failure is Failure.OVERLOADED else failures.lost(call))
            return
        call.moves += 1
        call.held_until = 0.0
        call.avoid = (*call.avoid, instance)
        now = self._clock()
        other = call.pool.pick(now, call.method, call.avoid)
        try:
            if other is None or not self._send(call, other, now):
                self._hold(call, now)
                self._sweep_soon()
        except Exception as exc:
            self._finish(call, exc)

    def _finish(self, call: PendingCall, error: BaseException | Mapping[str, Any]) -> None:
        call.error = error
        call.stage = DONE
        self._woken.append(call)

    def wake_all(self) -> None:
        """Wake the callers whose calls advanced. The last step of every turn: a woken caller may call again at once."""
        while self._woken:
            woken, self._woken = self._woken, []
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
        """Drop a call whose caller waits no longer, and tell its instance to stop."""
        if call.stage == DONE:
            return
        self._tell_to_stop(call)
        self._finish(call, CallCancelled(f"{call.service}.{call.method} was given up by its caller"))
        self.wake_all()

    def _tell_to_stop(self, call: PendingCall) -> None:
        if self._pending.pop(call.id, None) is not None:
            call.instance.load.in_flight -= 1
            if call.instance.peer.is_up:
                call.instance.peer.send(envelope.encode(Cancel(call.id)))

    def _is_spent(self, call: PendingCall) -> bool:
        return call.deadline is not None and call.deadline - self._clock() < SWEEP_INTERVAL

    def _expire(self, call: PendingCall) -> None:
        if call.stage != DONE:
            self._tell_to_stop(call)
            self._finish(call, self._unavailable(call) if call.stage == HELD else failures.timed_out(call))
            self.wake_all()

    def _sweep_soon(self) -> None:
        if not self._sweeping and not self._closed:
            self._sweeping = True
            self.reactor.call_later(SWEEP_INTERVAL, self._sweep)

    def _sweep(self) -> None:
        self._sweeping = False
        if self._closed:
            return
        now = self._clock()
        for call in [c for c in self._pending.values() if c.deadline is not None and c.deadline <= now]:
            # The instance knows the deadline and stops by itself. The message is for an instance whose clock runs behind.
            self._tell_to_stop(call)
            self._finish(call, failures.timed_out(call))
        for peer in tuple(self._full):
            if peer.link.is_closed:
                self._full.discard(peer)
            elif peer.is_up:
                peer.ask_whether_read(now)
        held = False
        for pool in self._pools.values():
            if pool.waiting:
                if pool.ready or pool.suspects:
                    self._release_held(pool)  # An instance whose queue was full may have room by now.
                self._sweep_held(pool, now)
                held = held or bool(pool.waiting)
        if self._pending and not self._beating:
            self._beating = True
            self.reactor.call_later(self.settings.heartbeat, self._beat)
        if self._pending or held:
            self._sweep_soon()
        self.wake_all()

    def _sweep_held(self, pool: ServicePool, now: float) -> None:
        for call in [c for c in pool.waiting if c.held_until <= now or c.stage != HELD]:
            pool.waiting.remove(call)
            if call.stage == HELD:
                self._finish(call, self._unavailable(call))

    def _unavailable(self, call: PendingCall) -> BaseException:
        return failures.unavailable(call, self.directory.describe())

    def _beat(self) -> None:
        self._beating = False
        if self._closed:
            return
        peers = {call.instance.peer for call in self._pending.values()}
        # A suspect peer gets no new calls. Without a PING it would stay suspect for ever.
        peers.update(peer for peer in self._peer_pool.peers.values() if peer.is_suspect)
        if not peers:
            return
        now = self._clock()
        for peer in peers:
            peer.beat(now, self.settings.heartbeat)
        self._beating = True
        self.reactor.call_later(self.settings.heartbeat, self._beat)
        self.wake_all()

    # --- who is there: what the peer pool and the peers report -----------------------------------------------------

    def expect(self, service: str) -> ServicePool:
        """Calls to `service` will be made: connect to its instances now. Raises RuntimeError once closed."""
        return self._peer_pool.expect(service)

    def update(self) -> None:
        """Read the directory now, instead of waiting until its changes are handed over."""
        self._peer_pool.update()

    def refresh(self, pool: ServicePool) -> None:
        pool.refresh(self._clock())
        if pool.waiting and (pool.ready or pool.suspects):
            self._release_held(pool)

    def updated(self) -> None:
        self._tell_of_change()
        self.wake_all()

    def _tell_of_change(self) -> None:
        for tell in self.on_change:
            tell()

    def peer_changed(self, peer: Peer) -> None:
        if not peer.is_full:
            self._full.discard(peer)
        for pool in {instance.pool for instance in peer.instances}:
            self.refresh(pool)
        self._tell_of_change()

    def peer_is_full(self, peer: Peer) -> None:
        """Send nothing more to this peer: too much is in flight to it. `peer_changed` follows when that has changed."""
        self._full.add(peer)
        for pool in {instance.pool for instance in peer.instances}:
            pool.refresh(self._clock())

    def peer_lost(self, peer: Peer) -> None:
        """Fail or move all calls in flight to this peer, which may have run. Calls that were held for it never left."""
        # First of all, so that nothing more is sent there.
        for pool in {instance.pool for instance in peer.instances}:
            pool.refresh(self._clock())
        held = self._unhold(peer)
        self.peer_changed(peer)
        self._not_sent(held)
        for call in [call for call in self._pending.values() if call.instance.peer is peer]:
            del self._pending[call.id]
            call.instance.load.in_flight -= 1
            self._failure(call, Failure.LOST, {})
        self._peer_pool.drop_if_gone(peer)
        self.wake_all()

    def close(self) -> None:
        """End all calls in flight, and close the links."""
        if self._closed:
            return
        self.cork.release()
        self._closed = True
        held = [call for pool in self._pools.values() for call in pool.waiting]
        for call in [*self._pending.values(), *held]:
            if call.stage != DONE:
                self._tell_to_stop(call)
                self._finish(call, CallCancelled(f"{call.service}.{call.method}: the client was stopped"))
        self._peer_pool.close()
        self.wake_all()

    def _refuse_calls(self) -> None:
        # Runs in a forked child. Without a pool, `expect` refuses each call there. A check at each call would cost more.
        self._pools = {}
        self._peer_pool.pools = {}


#: All callers of this process.
_callers = ForkHook(Caller._refuse_calls)
