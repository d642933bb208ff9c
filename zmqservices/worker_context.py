"""One call as its worker sees it: the arguments, and the headers that travel on. And the container, as workers see it.

Internal: `WorkerContext` is public as `zmqservices.containers.WorkerContext`. It stands here, below extensions, so that
these can name the types of what they are given.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from zmqservices.constants import (
    CALL_ID_STACK_CONTEXT_KEY,
    DEFAULT_PARENT_CALLS_TRACKED,
    PARENT_CALLS_CONFIG_KEY,
)
from zmqservices.probes import ExcInfo, ProbePoints

#: The outcome of a call: the result, and the error if there was one.
Outcome: TypeAlias = tuple[Any, ExcInfo | None]


def exc_info_of(exc: BaseException) -> ExcInfo:
    """An error that was caught, as `sys.exc_info()` gives it."""
    return type(exc), exc, exc.__traceback__


class Pool(Protocol):
    """A container's worker pool, as extensions see it; see `zmqservices.hosting.workers.WorkerPool`."""

    jobs: deque[WorkerContext]

    @property
    def queued(self) -> int: ...

    def running(self) -> int: ...

    def backlog(self) -> int: ...

    def flush(self) -> None: ...

    def waitall(self, timeout: float | None = None) -> bool: ...


class Container(Protocol):
    """The container of a service, as its extensions and workers see it; see `zmqservices.containers.ServiceContainer`."""

    service_cls: type
    service_name: str
    #: The id of this instance, wherever it is named: in the directory, in metrics, in logs.
    instance_id: str
    #: The probes that are told what happens here; None while there are none.
    probes: ProbePoints | None
    max_workers: int
    shared_extensions: dict[Any, Any]
    _being_killed: bool

    @property
    def config(self) -> Mapping[str, Any]: ...

    @property
    def pool(self) -> Pool: ...

    @property
    def queued(self) -> int: ...

    def submit(
        self,
        entrypoint: EntrypointOfCall,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        context_data: dict[str, Any] | None = None,
        handle_result: HandleResult | None = None,
        deadline: float | None = None,
        is_flushed: bool = False,
    ) -> WorkerContext: ...

    def spawn_worker(
        self,
        entrypoint: EntrypointOfCall,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        context_data: dict[str, Any] | None = None,
        handle_result: HandleResult | None = None,
    ) -> WorkerContext: ...

    def flush(self) -> None: ...

    def cancel(self, worker_ctx: WorkerContext, exc: BaseException) -> bool: ...

    def spawn_managed_thread(self, fn: Callable[[], Any], identifier: str | None = None) -> Any: ...

    def stop(self) -> None: ...

    def kill(self, exc_info: ExcInfo | None = None) -> None: ...

    def wait(self) -> None: ...


class EntrypointOfCall(Protocol):
    """The entrypoint through which a call came; see `zmqservices.extensions.Entrypoint`."""

    method_name: Any
    expected_exceptions: Any
    sensitive_arguments: Any


#: The phases of a call: made; queued; up to the end of its method (may be cancelled); answering and tearing
#: down (may not); over.
MADE, WAITING, RUNNING, CLOSING, OVER = range(5)

_prefix = ""
_numbers = itertools.count(1)


def _fresh_prefix() -> None:
    global _prefix, _numbers
    _prefix = os.urandom(12).hex()
    _numbers = itertools.count(1)


_fresh_prefix()
# Otherwise a forked child would repeat the ids of its parent.
os.register_at_fork(after_in_child=_fresh_prefix)


def new_call_id() -> str:
    """A text that no other call of any process has: a random prefix of the process and a number."""
    return f"{_prefix}-{next(_numbers)}"


def is_own_id(made: str) -> bool:
    """Whether `new_call_id` made it, rather than a test that counts calls."""
    return made.startswith(_prefix)


class WorkerContext:
    """One call, from its submission to its teardown.

    `data` are the context headers that came with the call; what a method or a provider puts there travels on
    with the calls that it makes. `deadline` is in seconds of `time.monotonic`, None for a call that may take
    for ever. `service` is the instance that runs it, from before its providers are asked until it is over; else None.
    """

    __slots__ = (
        "container", "service", "entrypoint", "args", "kwargs", "data", "deadline", "_queued_at", "_started_at",
        "_parent_call_ids", "_call_id", "_phase", "_handle_result", "_injected", "_is_cancelled",
        "__dict__", "__weakref__",
    )  # fmt: skip

    #: The event that the worker handles (`zmqservices.events.received.ReceivedEvent`); None if it handles no event.
    event: Any = None
    #: The name in the certificate of the process that calls, or that published the event; None without SECURITY.
    peer: str | None = None
    #: Makes the unique part of a call id.
    make_call_id: Callable[[], str] = staticmethod(new_call_id)

    def __init__(
        self,
        container: Container,
        service: object,
        entrypoint: EntrypointOfCall,
        args: Sequence[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        data: dict[str, Any] | None = None,
    ) -> None:
        self.container = container
        self.service: Any = service
        # Typed as Any, since every kind of entrypoint has attributes of its own.
        self.entrypoint: Any = entrypoint
        self.args = args if args is not None else ()
        self.kwargs = kwargs if kwargs is not None else {}
        self.deadline: float | None = None
        #: When it was submitted; only of a call with a deadline, or one that probes watch.
        self._queued_at = 0.0
        #: When its turn came; only of a call that probes watch.
        self._started_at = 0.0
        if data:
            self.data = data
            parents = data.pop(CALL_ID_STACK_CONTEXT_KEY, None)
            # The value came from a peer, which may send anything.
            self._parent_call_ids = parents if isinstance(parents, (list, tuple)) else None
        else:
            self.data = {} if data is None else data
            self._parent_call_ids = None
        self._call_id: str | None = None
        self._phase = MADE
        self._is_cancelled = False
        self._handle_result: HandleResult | None = None
        #: The providers that were injected, if only a part of them was.
        self._injected: tuple[Any, ...] | None = None

    @property
    def queued_at(self) -> float:
        """When it was submitted, in monotonic seconds; 0.0 where it has no deadline and no probe listened then."""
        return self._queued_at

    @property
    def started_at(self) -> float:
        """When its turn came, in monotonic seconds; 0.0 where no probe listened then."""
        return self._started_at

    @property
    def config(self) -> Mapping[str, Any]:
        """The container's configuration."""
        return self.container.config

    @property
    def service_name(self) -> str:
        """The name of the service that runs the call."""
        return self.container.service_name

    @property
    def call_id(self) -> str:
        """`service.method.unique`, made when it is first asked for."""
        call_id = self._call_id
        if call_id is None:
            name = f"{self.container.service_name}.{self.entrypoint.method_name}"
            call_id = self._call_id = f"{name}.{self.make_call_id()}"
        return call_id

    @property
    def call_id_stack(self) -> list[str]:
        """The ids of the calls that led here, oldest first, this one last.

        At most `parent_calls_tracked` stand before it; the oldest are dropped.
        """
        stack = list(self._parent_call_ids or ())
        stack.append(self.call_id)
        tracked = self.container.config.get(PARENT_CALLS_CONFIG_KEY, DEFAULT_PARENT_CALLS_TRACKED)
        return stack[-(tracked + 1) :]

    @property
    def origin_call_id(self) -> str | None:
        """The id of the first call of the chain, as far as it is tracked; None for a first call."""
        parents = self._parent_call_ids
        return parents[0] if parents else None

    @property
    def immediate_parent_call_id(self) -> str | None:
        """The id of the call that made this one; None for the first."""
        parents = self._parent_call_ids
        return parents[-1] if parents else None

    @property
    def context_data(self) -> dict[str, Any]:
        """A copy of the headers with the call id stack, as they are sent with calls made from here."""
        headers = self.data.copy()
        headers[CALL_ID_STACK_CONTEXT_KEY] = self.call_id_stack
        return headers

    def __repr__(self) -> str:
        return f"<WorkerContext [{self.service_name}.{self.entrypoint.method_name}] at 0x{id(self):x}>"


#: Called with the outcome of a call, before its providers are; returns the outcome that the providers are given.
HandleResult: TypeAlias = Callable[[WorkerContext, Any, ExcInfo | None], Outcome]
