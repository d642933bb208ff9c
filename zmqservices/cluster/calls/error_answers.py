"""What an ERROR of the called node means for its call: an error of the method, a refusal, or a limit of time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from zmqservices.cluster.calls import failures
from zmqservices.cluster.calls.call import CallSender, PendingCall
from zmqservices.cluster.calls.ejection import Ejection
from zmqservices.cluster.calls.failover import FAILURES, Failover
from zmqservices.cluster.calls.hedged_calls import HedgedCalls
from zmqservices.cluster.calls.sweep import SWEEP_INTERVAL
from zmqservices.exceptions import CallCancelled, Forbidden, RpcTimeout
from zmqservices.resilience.retries import Failure

#: Codes of errors that do not come from the method. If a hedged call gets one, its other attempt may still be answered.
_ENDED_UNANSWERED = frozenset(("expired", "forbidden", "cancelled"))


class AnsweringPeer(Protocol):
    """The node that sent the error; a Peer."""

    def greet_again(self) -> None:
        """The node does not know this client: send HELLO again."""


class ErrorAnswers:
    """Settles the calls of one caller that were answered with an ERROR."""

    def __init__(
        self, owner: CallSender, failover: Failover, hedging: HedgedCalls, ejection: Ejection, clock: Callable[[], float]
    ) -> None:
        self._owner = owner
        self._failover = failover
        self._hedging = hedging
        self._ejection = ejection
        self._clock = clock

    def settle(self, peer: AnsweringPeer, call: PendingCall, error: Mapping[Any, Any]) -> None:
        """Finish the call, move it, or wait for its other attempt. It is no longer in flight."""
        code = error.get("code")
        failure = FAILURES.get(code) if code else None
        if code is None:
            call.instance.load.answers += 1
        hedge = None if call.history is None else call.history.hedge
        if hedge is not None and failure is None:
            if code not in _ENDED_UNANSWERED:
                call = self._hedging.answered(call, hedge, self._clock())
            elif self._hedging.goes_on(call):
                return
        if failure is not None:
            self._refused(peer, call, failure, error)
        else:
            self._ended(call, code, error)

    def _refused(self, peer: AnsweringPeer, call: PendingCall, failure: Failure, error: Mapping[Any, Any]) -> None:
        if failure is Failure.NOT_SERVED:
            call.instance.left = True
            call.pool.refresh(self._clock())
        self._failover.failed(call, failure, error)
        if error.get("code") == "protocol":
            peer.greet_again()

    def _ended(self, call: PendingCall, code: object, error: Mapping[Any, Any]) -> None:
        finish = self._owner.finish
        if code == "expired":
            is_spent = self._is_spent(call)
            finish(call, failures.ran_out_of_time(call, error, is_spent))
            if is_spent:
                self._ejection.failed(call.instance)
        elif code == "forbidden":
            finish(call, Forbidden(str(error.get("value"))))
        elif code == "cancelled":
            finish(call, CallCancelled(str(error.get("value"))))
        elif error.get("exc_type") == RpcTimeout.__name__ and self._is_spent(call):
            # The service gave up a nested call because the time of this call is over. Both sides noticed that at the same moment.
            finish(call, failures.timed_out(call))
        else:
            finish(call, error)

    def _is_spent(self, call: PendingCall) -> bool:
        return call.deadline is not None and call.deadline - self._clock() < SWEEP_INTERVAL
