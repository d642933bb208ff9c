"""Whether a call without an answer is given up, moved to another instance, or repeated there.

Rule 1: pure; what happened goes in, what to do comes out.
Rule 2: a call that may have run is made again only when its method was declared idempotent. Each repeat is paid for from the
service's budget (`zmqservices.resilience.budget`) and follows a random pause, so that many callers do not come back together.
Rule 3: a call that certainly did not run may always move, and at once. A call that a full instance refused moves once for
nothing; asking further instances is paid for.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from random import random


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
    #: Ask another instance at once, or wait for one.
    MOVE = "move"
    #: The same if the budget has a repeat left; else give up.
    MOVE_IF_PAID = "move if paid"
    #: The same after a pause, as soon as the budget has a repeat left.
    REPEAT = "repeat"


#: How many other instances a refused call may ask for nothing. One: more would spread the overload.
REFUSED_MOVES = 1

#: Instances that one call may lose under way before it is given up, idempotent or not.
LOST_MOVES = 5

#: Seconds of the longest pause before the first repeat; it doubles with each one, up to the second number.
FIRST_PAUSE, LONGEST_PAUSE = 0.025, 1.0


def next_action(failure: Failure, idempotent: bool, moves: int, others: int) -> RetryAction:
    """`moves`: how often this call has moved already. `others`: instances that could be asked and were not yet."""
    if failure is Failure.NOT_SERVED:
        return RetryAction.MOVE
    if failure is Failure.OVERLOADED:
        if not others:
            return RetryAction.GIVE_UP
        return RetryAction.MOVE if moves < REFUSED_MOVES else RetryAction.MOVE_IF_PAID
    return RetryAction.REPEAT if idempotent and moves < LOST_MOVES else RetryAction.GIVE_UP


def pause(moves: int, time_left: float | None, rand: Callable[[], float] = random) -> float:
    """Seconds before a call that has moved so often is repeated: anything up to a limit that doubles (full jitter).

    Never more than half of the time that is left, so that the repeat has time to be answered.
    """
    longest = min(FIRST_PAUSE * 2.0 ** min(moves, 10), LONGEST_PAUSE)
    if time_left is not None:
        longest = min(longest, max(time_left, 0.0) / 2)
    return rand() * longest
