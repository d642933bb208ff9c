"""Whether a call without an answer is given up, or made again at another instance.

Rule 1: pure; what happened goes in, what to do comes out.
Rule 2: a call that may have run is made again only when its method was declared idempotent.
Rule 3: a call that certainly did not run may always move; REFUSED_MOVES bounds how often a full house is asked around.
"""

from __future__ import annotations

import enum


class Failure(enum.Enum):
    """Why there is no answer."""

    #: The instance refused: it is draining, or serves that service no more. The call did not run.
    NOT_SERVED = "not served"
    #: The instance refused: its queue is full. The call did not run.
    OVERLOADED = "overloaded"
    #: The link was lost with the call in flight. The call may have run.
    LOST = "lost"


class RetryAction(enum.Enum):
    """What to do with the call."""

    GIVE_UP = "give up"
    #: Ask another instance, or wait for one.
    ELSEWHERE = "elsewhere"


#: How many other instances are asked after the first one was full. One: more would spread the overload.
REFUSED_MOVES = 1

#: Instances that one call may lose under way before it is given up, idempotent or not.
LOST_MOVES = 5


def next_action(failure: Failure, idempotent: bool, moves: int, others: int) -> RetryAction:
    """`moves`: how often this call has moved already. `others`: instances that could be asked instead."""
    if failure is Failure.NOT_SERVED:
        return RetryAction.ELSEWHERE
    if failure is Failure.OVERLOADED:
        return RetryAction.ELSEWHERE if moves < REFUSED_MOVES and others else RetryAction.GIVE_UP
    return RetryAction.ELSEWHERE if idempotent and moves < LOST_MOVES else RetryAction.GIVE_UP
