"""Calls that wait because no instance can be asked. They are sent in order as soon as one can be asked."""

from __future__ import annotations

from collections.abc import Callable

from zmqservices.cluster.calls import failures
from zmqservices.cluster.calls.call import HELD, CallSender, PendingCall
from zmqservices.cluster.calls.instances import ServicePool
from zmqservices.cluster.calls.peer import EXPECTED


class HeldCalls:
    """The held calls of one caller, which are in `waiting` of their pools. Each waits for `patience` seconds at most.

    `describe` describes the directory, for error texts.
    """

    def __init__(
        self, sender: CallSender, patience: float, describe: Callable[[], str], clock: Callable[[], float]
    ) -> None:
        self._sender = sender
        self._patience = patience
        self._describe = describe
        self._clock = clock

    def hold(self, call: PendingCall, now: float) -> None:
        """Let `call` wait until an instance can be asked."""
        call.stage = HELD
        call.instance = None
        if not call.held_until:  # Otherwise it was held before, and never sent.
            call.held_until = now + self._patience
            if call.deadline is not None and call.deadline < call.held_until:
                call.held_until = call.deadline
        call.pool.waiting.append(call)

    def may_wait(self, call: PendingCall, now: float) -> bool:
        """Whether the call has time to wait for the greeting of other instances."""
        held_until = call.held_until or now + self._patience
        return held_until - now > 2 * EXPECTED and (call.deadline is None or call.deadline - now > 2 * EXPECTED)

    def release(self, pool: ServicePool) -> None:
        """An instance can be asked: send the waiting calls in order."""
        now = self._clock()
        waiting = pool.waiting
        is_shared_out = False
        for _ in range(len(waiting)):
            call = waiting.popleft()
            if call.stage != HELD:
                continue
            instance, method, may_wait = None, call.method, self.may_wait(call, now)
            if not (is_shared_out and may_wait):
                key, history = pool.key_of(call), call.history
                if history is not None and history.avoid:
                    instance = pool.pick(now, method, history.avoid, False, key)
                instance = instance or pool.pick(now, method, (), may_wait, key)
                is_shared_out = instance is None and key is None
            try:
                sent = instance is not None and self._sender.send(call, instance, now)
            except Exception as exc:  # Its arguments were changed since it was first encoded.
                self._sender.finish(call, exc)
                continue
            if sent:
                self._sender.advanced(call)
            else:
                waiting.append(call)

    def expire(self, pool: ServicePool, now: float) -> None:
        """End the calls that have waited for too long."""
        for call in [c for c in pool.waiting if c.held_until <= now or c.stage != HELD]:
            pool.waiting.remove(call)
            if call.stage == HELD:
                self._sender.finish(call, self.unavailable(call))

    def unavailable(self, call: PendingCall) -> BaseException:
        """The error of a call for which no instance could be asked."""
        return failures.unavailable(call, self._describe())
