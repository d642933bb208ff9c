"""Hedging: makes the second attempts of slow calls, by the rules of `zmqservices.resilience.hedging`.

A call and its second attempt are two pending calls with different ids on two links. While both are in flight, the first one that
is answered wins, and the other one is cancelled. If one fails, the other one goes on alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from zmqservices.cluster.calls.call import DONE, SENT, CallHistory, CallSender, PendingCall
from zmqservices.cluster.calls.instances import ServicePool
from zmqservices.exceptions import MessageTooLarge, UnserializableValueError
from zmqservices.resilience.budget import RetryBudget
from zmqservices.resilience.hedging import Durations, is_worth_it
from zmqservices.transport.reactor import Reactor

#: The fewest seconds between two searches for an instance that can take a second attempt.
AGAIN = 0.05


class Hedge:
    """One call that may be hedged, and its `second` attempt while both are in flight; otherwise None."""

    __slots__ = ("call", "second", "sent_at", "method")

    def __init__(self, call: PendingCall, method: HedgedMethod) -> None:
        self.call = call
        self.second: PendingCall | None = None
        self.sent_at = call.sent_at
        self.method = method


class HedgedMethod:
    """One method of one service: the durations of its calls, and its calls that may be due, in the order of sending."""

    __slots__ = ("durations", "due", "has_timer")

    def __init__(self) -> None:
        self.durations = Durations()
        self.due: deque[tuple[float, Hedge]] = deque()
        self.has_timer = False


class HedgingOwner(CallSender, Protocol):
    """Sends attempts and withdraws them; a Caller."""

    def next_id(self) -> int:
        """Return the id for a new attempt."""

    def withdraw(self, call: PendingCall) -> None:
        """Take the call out of flight, and tell its instance to stop."""

    def replace(self, attempt: PendingCall, call: PendingCall) -> None:
        """From now on an answer to `attempt`, which is in flight, is an answer to `call`."""

    def tell_hedged(self, call: PendingCall) -> None:
        """Tell the probes that a second attempt of `call` was sent."""


class HedgedCalls:
    """The hedged calls of one caller. `budget` returns the retry budget of a service, from which second attempts are taken."""

    def __init__(
        self,
        owner: HedgingOwner,
        reactor: Reactor,
        budget: Callable[[ServicePool], RetryBudget],
        clock: Callable[[], float],
    ) -> None:
        self._owner = owner
        self._reactor = reactor
        self._budget = budget
        self._clock = clock
        self._methods: dict[tuple[ServicePool, str], HedgedMethod] = {}

    # --- when a call is sent -----------------------------------------------------------------------------------------

    def watch(self, call: PendingCall, is_wanted: bool | None) -> None:
        """A call was sent for the first time. `is_wanted`: the `hedge` option of its proxy, None if it has none."""
        pool = call.pool
        if is_wanted is None:
            is_wanted = pool.hedges_all or call.method in pool.hedged_methods
        # A call with a key is not hedged: only the key's instance has the data of the key in its caches.
        if not is_wanted or not call.instance.is_idempotent(call.method) or pool.key_of(call) is not None:
            return
        key = (pool, call.method)
        method = self._methods.get(key)
        if method is None:
            method = self._methods[key] = HedgedMethod()
        if call.history is None:
            call.history = CallHistory()
        call.history.hedge = Hedge(call, method)
        delay = method.durations.delay
        if delay is not None:
            method.due.append((call.sent_at + delay, call.history.hedge))
            if not method.has_timer:
                method.has_timer = True
                self._reactor.call_later(delay, self._look, method)

    def _look(self, method: HedgedMethod) -> None:
        method.has_timer = False
        now, due = self._clock(), method.due
        while due and (due[0][0] <= now or due[0][1].call.stage == DONE):
            hedge = due.popleft()[1]
            call = hedge.call
            if call.stage == SENT and not call.moves and is_worth_it(None if call.deadline is None else call.deadline - now):
                if not self._second(hedge, now):
                    due.append((now + max(method.durations.delay or 0.0, AGAIN), hedge))
        if due:
            method.has_timer = True
            self._reactor.call_later(due[0][0] - now, self._look, method)

    def _second(self, hedge: Hedge, now: float) -> bool:
        """Make the second attempt. Returns False if no other instance is less busy, or the budget is empty: try again later."""
        call = hedge.call
        pool: ServicePool = call.pool
        other = None if now < pool.refused_until else pool.pick_second(call.instance, call.method, now)
        if other is None or not self._budget(pool).spend_earned(pool.calls, now):
            return False
        second = PendingCall(
            self._owner.next_id(), pool, call.method, call.args, call.kwargs, call.headers, call.serializer, call.timeout,
            call.deadline,
        )  # fmt: skip
        second.history = CallHistory()
        second.history.hedge = hedge
        try:
            is_sent = self._owner.send(second, other, now, False)
        except (UnserializableValueError, MessageTooLarge):
            return True  # The caller has changed the arguments since the first attempt, so that they cannot be sent.
        if is_sent:
            hedge.second = second
            pool.hedged += 1
            self._owner.tell_hedged(call)
        return is_sent

    # --- the end of attempts ----------------------------------------------------------------------------------

    def answered(self, attempt: PendingCall, hedge: Hedge, now: float) -> PendingCall:
        """This attempt is answered and no longer in flight. Cancels the other one, and returns the call that is now answered."""
        hedge.method.durations.add(now - hedge.sent_at)
        call, second = hedge.call, hedge.second
        if second is None:
            return call
        hedge.second = None
        loser = call if attempt is second else second
        loser.instance.load.outlasted(loser.method, now - loser.sent_at, loser.ahead, now)
        self._owner.withdraw(loser)
        if attempt is second:
            call.pool.hedges_won += 1
            call.instance = second.instance
        second.stage = DONE
        return call

    def goes_on(self, attempt: PendingCall) -> bool:
        """This attempt failed and is no longer in flight.

        Returns whether the other one is still in flight, so that the call goes on.
        """
        hedge = None if attempt.history is None else attempt.history.hedge
        if hedge is None or hedge.second is None:
            return False
        call, second = hedge.call, hedge.second
        hedge.second = None
        if attempt is call:
            self._owner.replace(second, call)
            call.id, call.instance, call.sent_at, call.ahead = second.id, second.instance, second.sent_at, second.ahead
        second.stage = DONE
        return True

    def ended(self, hedge: Hedge) -> None:
        """The call has ended without an answer: cancel its second attempt."""
        second, hedge.second = hedge.second, None
        if second is not None:
            second.stage = DONE
            self._owner.withdraw(second)
