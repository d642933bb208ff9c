"""Decides about calls that an instance refused, or that were in flight when their link was lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from zmqservices.cluster.calls import failures
from zmqservices.cluster.calls.call import DONE, HELD, CallHistory, CallSender, PendingCall
from zmqservices.cluster.calls.ejection import Ejection
from zmqservices.cluster.calls.instances import ServicePool
from zmqservices.cluster.resilience_settings import ResilienceSettings
from zmqservices.resilience.budget import RetryBudget
from zmqservices.resilience.hedging import REFUSED_PAUSE
from zmqservices.resilience.retries import FIRST_PAUSE, Failure, RetryAction, next_action, pause
from zmqservices.transport.reactor import Reactor

#: The failure that each code of a refusal means. All these codes say that the call did not run.
FAILURES = {
    "draining": Failure.NOT_SERVED,
    "unknown-service": Failure.NOT_SERVED,
    # The node does not know this client: another process answers at its address, or the node gave the client up.
    "protocol": Failure.NOT_SERVED,
    "overloaded": Failure.OVERLOADED,
}

#: The most seconds that a call without a deadline waits for the budget.
LONGEST_WAIT = 30.0


class FailoverOwner(CallSender, Protocol):
    """Sends a call again; a Caller."""

    def hold(self, call: PendingCall, now: float) -> None:
        """Let the call wait until an instance can be asked."""

    def goes_on(self, call: PendingCall) -> bool:
        """Whether the other attempt of a failed call is still in flight, so that the call goes on."""

    def wake_all(self) -> None:
        """Wake the callers whose calls advanced."""


class Failover:
    """Gives failed calls up or makes them again, by the rules of `zmqservices.resilience.retries`."""

    def __init__(
        self,
        owner: FailoverOwner,
        reactor: Reactor,
        settings: ResilienceSettings,
        ejection: Ejection,
        clock: Callable[[], float],
    ) -> None:
        self._owner = owner
        self._reactor = reactor
        self._settings = settings
        self._ejection = ejection
        self._clock = clock
        #: Calls that pause before they are repeated.
        self.paused: set[PendingCall] = set()

    def budget(self, pool: ServicePool) -> RetryBudget:
        """The retry budget of a service."""
        found = pool.budget
        if found is None:
            settings = self._settings
            found = pool.budget = RetryBudget(settings.retry_ratio, settings.retries_per_second, self._clock())
        return found

    def count_calls(self, pools: Iterable[ServicePool], now: float) -> None:
        """Let new calls earn repeats. To be called from time to time while there are calls."""
        for pool in pools:
            self.budget(pool).earn(pool.calls, now)

    # --- failed calls ------------------------------------------------------------------------------------------------

    def link_lost(self, calls: Sequence[PendingCall]) -> None:
        """One link was lost with these calls in flight."""
        now = self._clock()
        for pool, number in Counter(call.pool for call in calls).items():
            self.budget(pool).link_lost(number, pool.calls, now)
        for instance in {call.instance for call in calls}:
            self._ejection.failed(instance)  # One failure for the link, however many calls were in flight.
        for call in calls:
            self.failed(call, Failure.LOST, {})

    def failed(self, call: PendingCall, failure: Failure, error: Mapping[str, Any]) -> None:
        """The call has failed and is no longer in flight. `error` is the refusal, or empty if the link was lost."""
        instance, pool = call.instance, call.pool
        if failure is Failure.OVERLOADED:
            self._ejection.failed(instance)
            pool.refused_until = self._clock() + REFUSED_PAUSE
        if self._owner.goes_on(call):
            return
        history = call.history
        if history is None:
            history = call.history = CallHistory(pool.key_of(call))
        history.avoid = (*history.avoid, instance)
        if failure is Failure.LOST:
            history.lost = instance
        others = len([other for other in (*pool.ready, *pool.ejected) if other not in history.avoid])
        action = next_action(failure, instance.is_idempotent(call.method), history.moves, others)
        now = self._clock()
        if action is RetryAction.REPEAT:
            if self.budget(pool).is_on:
                self._pause(call, now + LONGEST_WAIT if call.deadline is None else call.deadline, now)
                return
            action = RetryAction.GIVE_UP
        elif action is RetryAction.MOVE_IF_PAID and not self.budget(pool).spend(pool.calls, now):
            action = RetryAction.GIVE_UP
        if action is RetryAction.GIVE_UP:
            self._owner.finish(
                call, failures.refused(call, error) if failure is Failure.OVERLOADED else failures.lost(call, instance)
            )
            return
        self._move(call, history, now)

    def _move(self, call: PendingCall, history: CallHistory, now: float) -> None:
        history.moves += 1
        call.held_until = 0.0
        other = call.pool.pick(now, call.method, history.avoid, False, history.key)
        try:
            if other is None or not self._owner.send(call, other, now):
                self._owner.hold(call, now)
        except Exception as exc:
            self._owner.finish(call, exc)

    # --- pauses ------------------------------------------------------------------------------------------------------

    def _pause(self, call: PendingCall, until: float, now: float, tries: int = 0) -> None:
        """Repeat the call after a random pause, or end it at `until` if the budget allows no repeat before."""
        call.stage = HELD
        call.instance = None
        self.paused.add(call)
        moves = 0 if call.history is None else call.history.moves
        self._reactor.call_later(pause(moves + tries, until - now), self._resume, call, until, tries)

    def _resume(self, call: PendingCall, until: float, tries: int) -> None:
        self.paused.discard(call)
        history = call.history
        if call.stage == DONE or history is None:
            return
        now, pool = self._clock(), call.pool
        if self.budget(pool).spend(pool.calls, now):
            self._move(call, history, now)
        elif until - now <= FIRST_PAUSE:
            self._owner.finish(call, failures.out_of_budget(call))
        else:
            self._pause(call, until, now, tries + 1)
        self._owner.wake_all()
