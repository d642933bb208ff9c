"""The context of one call: its arguments, and the headers that are passed on. Also the interfaces of container and pool.

Internal: `WorkerContext` is public as `zmqservices.containers.WorkerContext`. It is defined here, below `extensions`, so that
extensions can name the types of their arguments.
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
    """A caught error in the form of `sys.exc_info()`."""
    return type(exc), exc, exc.__traceback__


class Pool(Protocol):
    """The interface of a container's worker pool for extensions; see `zmqservices.hosting.workers.WorkerPool`."""

    jobs: deque[WorkerContext]
    #: How many run at once, at most.
    size: int

    @property
    def queued(self) -> int: ...

    def running(self) -> int: ...

    def backlog(self) -> int: ...

    def flush(self) -> None: ...

    def waitall(self, timeout: float | None = None) -> bool: ...


class AdaptiveLimit(Protocol):
    """Accepts or refuses calls if `max_workers` is `auto`; see `zmqservices.hosting.limited_workers.LimitedWorkerPool`."""

    def may_enter(self) -> bool: ...

    def entered(self, job: WorkerContext) -> None: ...

    def why_full(self) -> str: ...


class Container(Protocol):
    """The interface of a container for extensions and workers; see `zmqservices.containers.ServiceContainer`."""

    service_cls: type
    service_name: str
    #: The id of this instance in the directory, in metrics and in logs.
    instance_id: str
    #: The attached probes; None while there are none.
    probes: ProbePoints | None
    #: How many workers run at once, at most.
    max_workers: int
    shared_extensions: dict[Any, Any]
    _being_killed: bool

    @property
    def config(self) -> Mapping[str, Any]: ...

    @property
    def pool(self) -> Pool: ...

    @property
    def queued(self) -> int: ...

    @property
    def admission(self) -> AdaptiveLimit | None: ...

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


#: The phases of a call: made; queued; running until the end of its method (may be cancelled); answering and teardown (may not be
#: cancelled); over.
MADE, WAITING, RUNNING, CLOSING, OVER = range(5)

_prefix = ""
_numbers = itertools.count(1)


def _fresh_prefix() -> None:
    global _prefix, _numbers
    _prefix = os.urandom(12).hex()
    _numbers = itertools.count(1)


_fresh_prefix()
# A forked child must not repeat the ids of its parent.
os.register_at_fork(after_in_child=_fresh_prefix)


def new_call_id() -> str:
    """A text that is unique among the calls of all processes: a random prefix of this process, and a number."""
    return f"{_prefix}-{next(_numbers)}"


def is_own_id(made: str) -> bool:
    """Whether `new_call_id` made this text, and not a test that counts calls."""
    return made.startswith(_prefix)


class WorkerContext:
    """One call, from its submission to its teardown.

    `data`: the context headers of the call; values that a method or a provider adds are sent with its own calls. `deadline`:
    seconds of `time.monotonic`, or None for no limit. `service`: the instance of the service class that runs the call, from
    before its providers are called until it is over; otherwise None.
    """

    __slots__ = (
        "container", "service", "entrypoint", "args", "kwargs", "data", "deadline", "_queued_at", "_started_at",
        "_parent_call_ids", "_call_id", "_phase", "_handle_result", "_injected", "_is_cancelled",
        "__dict__", "__weakref__",
    )  # fmt: skip

    #: The event that the worker handles (`zmqservices.events.received.ReceivedEvent`); None if it handles no event.
    event: Any = None
    #: The name in the certificate of the calling process, or of the event's publisher; None without SECURITY.
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
        # Any, because each kind of entrypoint has further attributes.
        self.entrypoint: Any = entrypoint
        self.args = args if args is not None else ()
        self.kwargs = kwargs if kwargs is not None else {}
        self.deadline: float | None = None
        #: The time of submission. Set only if the call has a deadline or a probe is attached.
        self._queued_at = 0.0
        #: The time when the worker began. Set only if a probe is attached.
        self._started_at = 0.0
        if data:
            self.data = data
            parents = data.pop(CALL_ID_STACK_CONTEXT_KEY, None)
            # A peer may have sent any value.
            self._parent_call_ids = parents if isinstance(parents, (list, tuple)) else None
        else:
            self.data = {} if data is None else data
            self._parent_call_ids = None
        self._call_id: str | None = None
        self._phase = MADE
        self._is_cancelled = False
        self._handle_result: HandleResult | None = None
        #: The injected providers, if not all were injected; otherwise None.
        self._injected: tuple[Any, ...] | None = None

    @property
    def queued_at(self) -> float:
        """The time of submission, in monotonic seconds; 0.0 if the call has no deadline and no probe was attached."""
        return self._queued_at

    @property
    def started_at(self) -> float:
        """The time when the worker began, in monotonic seconds; 0.0 if no probe was attached."""
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
        """The id of the call, `service.method.unique`. It is made at the first use."""
        call_id = self._call_id
        if call_id is None:
            name = f"{self.container.service_name}.{self.entrypoint.method_name}"
            call_id = self._call_id = f"{name}.{self.make_call_id()}"
        return call_id

    @property
    def call_id_stack(self) -> list[str]:
        """The ids of the calls that led to this one, oldest first, and its own id last.

        At most `parent_calls_tracked` ids precede its own; the oldest are dropped.
        """
        stack = list(self._parent_call_ids or ())
        stack.append(self.call_id)
        tracked = self.container.config.get(PARENT_CALLS_CONFIG_KEY, DEFAULT_PARENT_CALLS_TRACKED)
        return stack[-(tracked + 1) :]

    @property
    def origin_call_id(self) -> str | None:
        """The id of the first tracked call of the chain; None if this is the first call."""
        parents = self._parent_call_ids
        return parents[0] if parents else None

    @property
    def immediate_parent_call_id(self) -> str | None:
        """The id of the call that made this one; None if this is the first call."""
        parents = self._parent_call_ids
        return parents[-1] if parents else None

    @property
    def context_data(self) -> dict[str, Any]:
        """A copy of the headers with the call id stack, in the form in which they are sent with this worker's own calls."""
        headers = self.data.copy()
        headers[CALL_ID_STACK_CONTEXT_KEY] = self.call_id_stack
        return headers

    def __repr__(self) -> str:
        return f"<WorkerContext [{self.service_name}.{self.entrypoint.method_name}] at 0x{id(self):x}>"


#: Called with the outcome of a call, before its providers. Returns the outcome for the providers.
HandleResult: TypeAlias = Callable[[WorkerContext, Any, ExcInfo | None], Outcome]
