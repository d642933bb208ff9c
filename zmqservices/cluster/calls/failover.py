"""What becomes of a call that an instance refused, or that was in flight when its link was lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from zmqservices.cluster.calls import failures
from zmqservices.cluster.calls.call import CallSender, PendingCall
from zmqservices.resilience.retries import Failure, RetryAction, next_action

#: What a refusal's code means for the call. All of them say that it did not run.
FAILURES = {
    "draining": Failure.NOT_SERVED,
    "unknown-service": Failure.NOT_SERVED,
    # The node does not know this client: another process than the greeted one answers, or the node gave the client up.
    "protocol": Failure.NOT_SERVED,
    "overloaded": Failure.OVERLOADED,
}


class FailoverOwner(CallSender, Protocol):
    """Sends a call again; a Caller."""

    def hold(self, call: PendingCall, now: float) -> None:
        """Let the call wait until an instance can be asked."""


class Failover:
    """Gives failed calls up or makes them again, by the rules of `zmqservices.resilience.retries`."""

    def __init__(self, owner: FailoverOwner, clock: Callable[[], float]) -> None:
        self._owner = owner
        self._clock = clock

    def failed(self, call: PendingCall, failure: Failure, error: Mapping[str, Any]) -> None:
        """`call` is in flight no more. `error` is the refusal, or empty where the link was lost."""
        instance = call.instance
        others = len([other for other in call.pool.ready if other is not instance])
        if next_action(failure, instance.is_idempotent(call.method), call.moves, others) is RetryAction.GIVE_UP:
            end = failures.refused(call, error) if failure is Failure.OVERLOADED else failures.lost(call)
            self._owner.finish(call, end)
            return
        call.moves += 1
        call.held_until = 0.0
        call.avoid = (*call.avoid, instance)
        now = self._clock()
        other = call.pool.pick(now, call.method, call.avoid)
        try:
            if other is None or not self._owner.send(call, other, now):
                self._owner.hold(call, now)
        except Exception as exc:
            self._owner.finish(call, exc)
