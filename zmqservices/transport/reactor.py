"""What drives the sockets of one process or one client: the seam between the gevent hub and a plain thread.

Everything above (links, doors, calls) runs *inside* a reactor, one piece of code at a time, and never blocks there. Two
implementations: `zmqservices.transport.hub.HubReactor` for a gevent hub and
`zmqservices.transport.blocking.BlockingReactor` for ordinary threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

Answer = TypeVar("Answer")

#: Messages that one socket may hand over in a turn, so that it cannot starve timers and other sockets.
DRAIN_QUOTA = 256

#: Bytes of a large message that count as one message more. A message that is still in the processor's cache is cheaper to
#: handle than one that came a megabyte ago.
COUNTED_BYTES = 1024

#: A message that is refused counts as so many. Refusing one may cost twenty times what an honest message costs, and others wait
#: for the end of the turn.
COUNTED_REFUSAL = 16


class Reentered(RuntimeError):
    """The thread is inside this reactor already: a signal handler or a finalizer has interrupted it there."""


class Drainable(Protocol):
    """The owner of one socket. `drain` takes what waits and returns True when there may be more."""

    socket: Any

    def drain(self) -> bool: ...


class SocketWatch(Protocol):
    """A socket under watch. `arm` must follow every send made outside `drain`: a send eats the readable edge."""

    #: Whether the socket must not be used any more: it is closed, or it belongs to the parent of this fork.
    is_closed: bool

    def arm(self) -> None: ...

    def close(self) -> None: ...


class ReactorTimer(Protocol):
    """Something that will happen; `cancel` may come at any time and more than once."""

    def cancel(self) -> None: ...


class Completion:
    """Something that a caller waits for. Its `stage` only grows."""

    __slots__ = ("stage", "awaited", "waiter")

    def __init__(self) -> None:
        self.stage = 0
        #: The stage at which the waiting caller wants to be woken.
        self.awaited = 0
        #: The reactor's own: the greenlet or lock that waits for this completion.
        self.waiter: Any = None


class Reactor(Protocol):
    """See the module."""

    #: Whether a caller may be outside the reactor, and has to enter it with `run`.
    must_be_entered: bool

    #: Whether a socket whose `drain` returned True is asked for its events before it is drained again.
    looks_before_it_waits: bool

    #: `defer(callback)` calls it inside the reactor once everything that can run now has run; None where that cannot be known.
    defer: Callable[[Callable[[], None]], Any] | None

    def watch(self, owner: Drainable) -> SocketWatch: ...

    def call_later(self, seconds: float, callback: Callable[..., Any], *args: object) -> ReactorTimer: ...

    def post(self, callback: Callable[..., Any], *args: object) -> None:
        """Run `callback` inside the reactor soon; may be called from any thread."""

    def run(self, action: Callable[..., Answer], *args: object) -> Answer:
        """Run `action` inside the reactor now and return what it returns; it must not block. Raises Reentered."""

    def tell(self, action: Callable[..., Any], *args: object) -> None:
        """Run `action` inside the reactor, at once or soon. Its outcome is not waited for when another thread has to run it."""

    def park(self, completion: Completion, stage: int) -> None:
        """Return once `completion` has reached `stage`. Called by whoever waits, outside the reactor, in any thread.

        Raises Reentered.
        """

    def wake(self, completions: Iterable[Completion]) -> None:
        """Wake the callers that wait for these completions, which have advanced. Called inside the reactor."""

    def close(self) -> None: ...
