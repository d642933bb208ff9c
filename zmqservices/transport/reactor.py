"""The interface of a reactor, which drives the sockets of one process or one client.

All code above it (links, sockets, calls) runs *inside* a reactor, one piece at a time, and never blocks there. There are two
implementations: `zmqservices.transport.hub.HubReactor` for a gevent hub, and
`zmqservices.transport.blocking.BlockingReactor` for ordinary threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

Answer = TypeVar("Answer")

#: The most messages that one socket hands over in a turn, so that it cannot starve timers and other sockets.
DRAIN_QUOTA = 256

#: Each so many bytes of a large message count as another message. A message that is still in the processor's cache takes less
#: time than one that came a megabyte ago.
COUNTED_BYTES = 1024

#: A refused message counts as this many. Refusing a message may take twenty times as long as handling a valid one, and other
#: sockets wait for the end of the turn.
COUNTED_REFUSAL = 16


class Reentered(RuntimeError):
    """The thread is already inside this reactor, where a signal handler or a finalizer has interrupted it."""


class Drainable(Protocol):
    """The owner of one socket. `drain` handles waiting messages and returns True if there may be more."""

    socket: Any

    def drain(self) -> bool: ...


class SocketWatch(Protocol):
    """A watched socket. Call `arm` after every send outside `drain`, because a send hides the readable edge."""

    #: Whether the socket must not be used any more: it is closed, or it belongs to the parent of this fork.
    is_closed: bool

    def arm(self) -> None: ...

    def close(self) -> None: ...


class ReactorTimer(Protocol):
    """A timer. `cancel` may be called at any time, and more than once."""

    def cancel(self) -> None: ...


class Completion:
    """The progress of something that callers wait for. Its `stage` only grows."""

    __slots__ = ("stage", "awaited", "waiter")

    def __init__(self) -> None:
        self.stage = 0
        #: The stage at which the waiting caller wants to be woken.
        self.awaited = 0
        #: For the reactor only: the greenlet or lock that waits for this completion.
        self.waiter: Any = None


class Reactor(Protocol):
    """Drives sockets and timers; see the module."""

    #: Whether a caller may be outside the reactor, and must enter it with `run`.
    must_be_entered: bool

    #: Whether a socket is asked for its events before it is drained again after its `drain` returned True.
    looks_before_it_waits: bool

    #: `defer(callback)` calls it inside the reactor after everything that can run now; None if that cannot be known.
    defer: Callable[[Callable[[], None]], Any] | None

    def watch(self, owner: Drainable) -> SocketWatch: ...

    def call_later(self, seconds: float, callback: Callable[..., Any], *args: object) -> ReactorTimer: ...

    def post(self, callback: Callable[..., Any], *args: object) -> None:
        """Run `callback` inside the reactor soon. May be called from any thread."""

    def run(self, action: Callable[..., Answer], *args: object) -> Answer:
        """Run `action`, which must not block, inside the reactor now, and return its result. Raises Reentered."""

    def tell(self, action: Callable[..., Any], *args: object) -> None:
        """Run `action` inside the reactor, at once or soon. Does not wait for its end if another thread must run it."""

    def park(self, completion: Completion, stage: int) -> None:
        """Return once `completion` has reached `stage`.

        For waiting callers in any thread, outside the reactor. Raises Reentered.
        """

    def wake(self, completions: Iterable[Completion]) -> None:
        """Wake the callers that wait for these completions, which have advanced. Called inside the reactor."""

    def close(self) -> None: ...
