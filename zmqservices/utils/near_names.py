"""Internal. Guesses which name was meant by an unknown one, within a bounded cost."""

from __future__ import annotations

import difflib
import threading
from collections.abc import Callable, Iterable, Sequence
from time import monotonic, thread_time

from zmqservices.exceptions import MethodNotFound

#: The most seconds of processor time per second for guesses. A guess among ten names takes about 0.1 ms.
SHARE = 0.02

#: No guess is made for a longer name, and an error shows only this many characters of it.
LONGEST = 80

#: The most methods of a service that an error lists.
METHODS_NAMED = 10


class NearNames:
    """Guesses for names that come from peers.

    A guess helps a user who mistyped a name. A peer that sends endless wrong names must not cause much work: once guesses have
    taken SHARE of a second, there are none until that time has passed.
    """

    def __init__(self, clock: Callable[[], float] = monotonic, work: Callable[[], float] = thread_time) -> None:
        self._clock = clock
        self._work = work
        self._spent = self._at = 0.0
        self._lock = threading.Lock()

    def guess(self, name: str, known: Sequence[str]) -> str | None:
        """The name among `known` that is nearest to `name`. None if none is near, or there have been too many guesses."""
        with self._lock:
            now = self._clock()
            self._spent, self._at = max(0.0, self._spent - SHARE * (now - self._at)), now
            if self._spent >= SHARE or len(name) > LONGEST:
                return None
        began = self._work()
        near = difflib.get_close_matches(name, known, n=1)
        with self._lock:
            self._spent += self._work() - began
        return near[0] if near else None


_near_methods = NearNames()


def no_such_method(service: str, method: str, methods: Iterable[str]) -> MethodNotFound:
    """The error for a method that `service` does not have. It lists a similar name, or the existing methods."""
    wanted, known = method[:LONGEST], sorted(methods)
    near = _near_methods.guess(wanted, known)
    if near is not None:
        mend = f"did you mean {near!r}?"
    else:
        more = f" and {len(known) - METHODS_NAMED} more" if len(known) > METHODS_NAMED else ""
        mend = f"it has {', '.join(known[:METHODS_NAMED]) or 'none'}{more}"
    return MethodNotFound(f"the service {service!r} has no method {wanted!r}; {mend}")
