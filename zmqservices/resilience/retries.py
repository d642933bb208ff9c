"""Decides whether a call without an answer is given up, or moved to another instance, at once or after a pause.

Rule 1: pure. The failure goes in, the action comes out.
Rule 2: a call that may have run is made again only if its method was declared idempotent. Each repeat takes one from the
service's retry budget (`zmqservices.resilience.budget`) and waits for a random pause, so that many callers do not repeat at once.
Rule 3: a call that certainly did not run may always move, and at once. A call that a full instance refused may ask one other
instance for free; each further one is taken from the budget.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from random import random


class Failure(enum.Enum):
    """The reason why a call has no answer."""

    #: The instance refused the call, because it drains or no longer serves the service. The call did not run.
    NOT_SERVED = "not served"
    #: The instance refused the call, because its queue is full. The call did not run.
    OVERLOADED = "overloaded"
    #: The link was lost with the call in flight. The call may have run.
    LOST = "lost"


class RetryAction(enum.Enum):
    """What to do with the call."""

    GIVE_UP = "give up"
    #: Ask another instance at once, or wait for one.
    MOVE = "move"
    #: As MOVE if the budget has a repeat left; otherwise give up.
    MOVE_IF_PAID = "move if paid"
    #: As MOVE, but after a pause, and once the budget has a repeat left.
    REPEAT = "repeat"


#: How many other instances a refused call may ask for free. Only one, because more would spread the overload.
REFUSED_MOVES = 1

#: How many links a call may lose in flight before it is given up, even if it is idempotent.
LOST_MOVES = 5

#: The longest pause before the first repeat, in seconds. It doubles with each repeat, up to the second number.
FIRST_PAUSE, LONGEST_PAUSE = 0.025, 1.0


def next_action(failure: Failure, idempotent: bool, moves: int, others: int) -> RetryAction:
    """What to do after a failure. `moves`: how often the call has moved. `others`: how many instances it can still ask."""
    if failure is Failure.NOT_SERVED:
        return RetryAction.MOVE
    if failure is Failure.OVERLOADED:
        if not others:
            return RetryAction.GIVE_UP
        return RetryAction.MOVE if moves < REFUSED_MOVES else RetryAction.MOVE_IF_PAID
    return RetryAction.REPEAT if idempotent and moves < LOST_MOVES else RetryAction.GIVE_UP


def pause(moves: int, time_left: float | None, rand: Callable[[], float] = random) -> float:
    """Seconds before a call that has moved `moves` times is repeated: random, up to a limit that doubles each time (full jitter).

    Never more than half of `time_left`, so that the repeat has time to be answered.
    """
    longest = min(FIRST_PAUSE * 2.0 ** min(moves, 10), LONGEST_PAUSE)
    if time_left is not None:
        longest = min(longest, max(time_left, 0.0) / 2)
    return rand() * longest
