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

#: Bytes of a large message that count as one message more: what is still in the processor's cache is cheaper to work on than
#: what came a megabyte ago.
COUNTED_BYTES = 1024


class Reentered(RuntimeError):
    """The thread is in this reactor already: a signal handler, or a finalizer, has interrupted it there."""


class Drainable(Protocol):
    """The owner of one socket. `drain` takes what waits and returns True when there may be more."""

    socket: Any

    def drain(self) -> bool: ...


class SocketWatch(Protocol):
    """A socket under watch. `arm` must follow every send made outside `drain`: a send eats the readable edge."""

    #: Nothing may be done with the socket any more: it is closed, or this is a fork and it is its parent's.
    is_closed: bool

    def arm(self) -> None: ...

    def close(self) -> None: ...


class ReactorTimer(Protocol):
    """Something that will happen; `cancel` may come at any time and more than once."""

    def cancel(self) -> None: ...


class Completion:
    """What a caller waits for. It goes through stages upwards; `reached` says how far it is."""

    __slots__ = ("stage", "awaited", "waiter")

    def __init__(self) -> None:
        self.stage = 0
        #: The stage at which whoever is parked wants to be woken.
        self.awaited = 0
        #: Belongs to the reactor: the greenlet or lock that is parked on this ticket.
        self.waiter: Any = None


class Reactor(Protocol):
    """See the module."""

    #: Whoever calls may be outside, and has to enter with `run`; False where all that runs is inside.
    must_be_entered: bool

    #: Whether a socket whose `drain` said that there may be more is asked whether there is before it is drained again.
    looks_before_it_waits: bool

    #: `defer(callback)`: call it inside the reactor once all that can run now has run; None where that cannot be known.
    defer: Callable[[Callable[[], None]], Any] | None

    def watch(self, owner: Drainable) -> SocketWatch: ...

    def call_later(self, seconds: float, callback: Callable[..., Any], *args: Any) -> ReactorTimer: ...

    def post(self, callback: Callable[..., Any], *args: Any) -> None:
        """Run `callback` inside the reactor soon; may be called from any thread."""

    def run(self, action: Callable[..., Answer], *args: Any) -> Answer:
        """Run `action` inside the reactor now and return what it returns; it must not block. Raises Reentered."""

    def tell(self, action: Callable[..., Any], *args: Any) -> None:
        """Run `action` inside the reactor, at once or soon; what becomes of it is not waited for where that takes another."""

    def park(self, completion: Completion, stage: int) -> None:
        """Return once `completion` has reached `stage`. Called by whoever waits, outside the reactor, in any thread.

        Raises Reentered.
        """

    def wake(self, completions: Iterable[Completion]) -> None:
        """The tickets moved on: let whoever is parked on them see. Called inside the reactor."""

    def close(self) -> None: ...
