"""Probes hear what happens in a process: calls, workers, events, links, instances, drains, HTTP requests.

    class Slow(Probe):
        def worker_result(self, worker_ctx, result, exc_info):
            seconds = time.monotonic() - worker_ctx.started_at
            if seconds > 1.0:
                print(worker_ctx.call_id, seconds)

    probes.attach(Slow())                   # hears of all services, calls and events of this process
    with watching(container, Slow()):       # hears of the workers of one container
        ...

The setting PROBES attaches probes by their names.

Rule 1: an error of a probe is logged once for each of its hooks, and what the probe watches never feels it. Only an error that
is thrown into a worker from outside (its end, its cancelling) goes on, whichever code was running.
Rule 2: where no probe listens, each point costs one look at an attribute, which is None.
Rule 3: hooks run where things happen: in the worker's greenlet, in the event loop, or in the thread of a standalone client. A
hook must not block.
Rule 4: only hooks that a probe overrides are called.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar
from weakref import WeakSet

from gevent import GreenletExit

from zmqservices.exceptions import WorkerCancelled
from zmqservices.utils.native_threads import reentrant_lock

__all__ = ["ExcInfo", "Measure", "OutgoingCall", "Probe", "attach", "attached", "detach", "measures", "watching"]

_log = logging.getLogger(__name__)

P = TypeVar("P", bound="Probe")

#: An error that was raised, as `sys.exc_info()` gives it.
ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None]


class OutgoingCall(Protocol):
    """A call to another service, as probes see it."""

    @property
    def service(self) -> str: ...

    @property
    def moves(self) -> int:
        """How often it was made again at another instance."""

    method: str
    #: The context that travels with the call. A probe may change it when the call begins.
    headers: dict[str, Any] | None
    #: When the call was made, in monotonic seconds.
    began_at: float
    #: None, an exception, or the mapping that the service sent for one (`exc_type`, `value`, perhaps `code`).
    error: BaseException | Mapping[str, Any] | None


class Probe:
    """The base of all probes; override the hooks that you need.

    `worker_ctx` is a `zmqservices.containers.WorkerContext`: a call of an @rpc method, an event, a request, a tick. Its
    `queued_at` and `started_at` are monotonic seconds (0.0 where nobody listened at that time); `worker_ctx.event` is the event
    that it handles, if any.
    """

    # --- workers: `worker_started`, `worker_result`, `worker_ended` for one call, or `worker_dropped` alone ---------------

    def worker_started(self, worker_ctx: Any) -> None:
        """Called when a call's turn has come, before its service is made and its dependencies are injected."""

    def worker_result(self, worker_ctx: Any, result: object, exc_info: ExcInfo | None) -> None:
        """Called once the outcome is on its way to the caller, before providers hear of it. As they will see it."""

    def worker_ended(self, worker_ctx: Any, result: object, exc_info: ExcInfo | None) -> None:
        """Called when every provider is torn down, with the same outcome. Not for workers that are killed."""

    def worker_dropped(self, worker_ctx: Any, exc: BaseException) -> None:
        """Called for a call that never began: too late, cancelled, or in the queue of a container that was killed."""

    # --- calls ---------------------------------------------------------------------------------------------------------

    def call_refused(self, service: str, method: str, reason: str) -> None:
        """Called when a call that arrived is refused. `service` and `method` are what the caller wrote.

        Reasons: "unknown-service", "unknown-method", "bad-arguments", "overloaded", "draining", "expired".
        """

    def call_began(self, call: OutgoingCall) -> None:
        """Called when a call to another service is made, before it is encoded: its `headers` may be changed."""

    def call_ended(self, call: OutgoingCall) -> None:
        """Called when an outgoing call has its result or its error. For a call that could not be encoded, too."""

    def call_hedged(self, call: OutgoingCall) -> None:
        """Called when a call that was not answered yet is sent to a second instance as well (hedging)."""

    # --- events, at their publisher ------------------------------------------------------------------------------------

    def event_began(self, source: str, type: str, headers: dict[str, Any] | None) -> None:
        """Called when an event is dispatched, before it is encoded: its `headers` may be changed."""

    def event_dispatched(self, source: str, type: str, seconds: float, exc: BaseException | None) -> None:
        """Called when a dispatch returns (a reliable event is on disk then), or raises `exc`."""

    def event_delivered(self, source: str, type: str, group: str, attempt: int) -> None:
        """Called when a reliable event is sent to a member of a group. `attempt` counts from 1."""

    def event_acked(self, source: str, group: str) -> None:
        """Called when a member of a group has handled a reliable event."""

    def event_failed(self, source: str, group: str, error: Mapping[str, Any] | None) -> None:
        """Called when a member failed with `error`, or gave the event back untried (None). It is delivered again."""

    def event_dead(self, source: str, type: str, group: str, attempts: int, error: Mapping[str, Any]) -> None:
        """Called when an event becomes a dead letter of a group."""

    def events_lost(self, source: str, group: str, count: int, reason: str) -> None:
        """Called when `count` events are lost for a group: a bound deleted them, or the disk did."""

    def event_dropped(self, source: str, type: str) -> None:
        """Called when a copy of a best-effort event is dropped for want of room, by its publisher or its handler's process."""

    # --- the cluster ---------------------------------------------------------------------------------------------------

    def link_up(self, node: str, endpoint: str) -> None:
        """Called when a node that is called from here has been greeted, or speaks again after a silence."""

    def link_lost(self, node: str, endpoint: str) -> None:
        """Called when the connection to a node ends."""

    def link_suspect(self, node: str, endpoint: str, seconds: float) -> None:
        """Called when a node has been silent for `seconds` and gets no new calls."""

    def link_refused(self, node: str, endpoint: str, why: str) -> None:
        """Called when a node is not used: it speaks another version, or is another node than the directory says."""

    def instance_listed(self, service: str, instance: str, state: str) -> None:
        """Called when the directory lists an instance of a service that is called from here, or its state changes."""

    def instance_unlisted(self, service: str, instance: str, state: str, where: str) -> None:
        """Called when the directory lists it no more: it left, or its lease has expired.

        `state` is the last one that was listed, `where` says which process it was, such as "process 4711 on blue".
        """

    def instance_ejected(self, service: str, instance: str, endpoint: str, seconds: float, why: str) -> None:
        """Called when an instance fails so much more than the others that it gets no calls from here for `seconds`."""

    def instance_restored(self, service: str, instance: str, endpoint: str) -> None:
        """Called when an ejected instance gets calls again."""

    def record_announced(self, service: str, instance: str, state: str) -> None:
        """Called when this process announces an instance of its own in the directory, or changes what it announced."""

    def record_withdrawn(self, service: str, instance: str) -> None:
        """Called when this process withdraws an instance of its own."""

    # --- services of this process --------------------------------------------------------------------------------------

    def service_started(self, service: str, instance: str) -> None:
        """Called when a container has started."""

    def service_stopped(self, service: str, instance: str) -> None:
        """Called when a container has stopped or was killed."""

    def drain_began(self, service: str, instance: str) -> None:
        """Called when an instance takes no more calls and its callers are told so."""

    def drain_ended(self, service: str, instance: str, seconds: float, is_complete: bool) -> None:
        """Called when its calls have ended, or were cancelled (not `is_complete`)."""

    def http_answered(self, service: str, method: str, route: str | None, status: int, seconds: float) -> None:
        """Called when an HTTP request is answered and its body sent; for a WebSocket (status 101) when it is closed.

        `route` is the rule of the URL, such as `/orders/<int:id>`, and None where no rule fits.
        """


#: The names of all hooks.
HOOKS = tuple(name for name in vars(Probe) if not name.startswith("_"))

Hook: TypeAlias = Callable[..., None]


class ProbePoints:
    """The hooks of several probes: each attribute calls that hook of every probe that overrides it; None where none does."""

    __slots__ = HOOKS

    worker_started: Hook | None
    worker_result: Hook | None
    worker_ended: Hook | None
    worker_dropped: Hook | None
    call_refused: Hook | None
    call_began: Hook | None
    call_ended: Hook | None
    call_hedged: Hook | None
    event_began: Hook | None
    event_dispatched: Hook | None
    event_delivered: Hook | None
    event_acked: Hook | None
    event_failed: Hook | None
    event_dead: Hook | None
    events_lost: Hook | None
    event_dropped: Hook | None
    link_up: Hook | None
    link_lost: Hook | None
    link_suspect: Hook | None
    link_refused: Hook | None
    instance_listed: Hook | None
    instance_unlisted: Hook | None
    instance_ejected: Hook | None
    instance_restored: Hook | None
    record_announced: Hook | None
    record_withdrawn: Hook | None
    service_started: Hook | None
    service_stopped: Hook | None
    drain_began: Hook | None
    drain_ended: Hook | None
    http_answered: Hook | None

    def __init__(self, probes: Iterable[Probe]) -> None:
        for name in HOOKS:
            hooks = [_guarded(probe, name) for probe in probes if _overrides(probe, name)]
            setattr(self, name, None if not hooks else hooks[0] if len(hooks) == 1 else _all(hooks))


def _overrides(probe: Probe, name: str) -> bool:
    return getattr(type(probe), name, None) is not getattr(Probe, name) or name in getattr(probe, "__dict__", ())


def _guarded(probe: Probe, name: str) -> Hook:
    hook = getattr(probe, name)

    def call(*args: object) -> None:
        try:
            hook(*args)
        except (GreenletExit, WorkerCancelled):
            raise
        except BaseException:
            _log_once(probe, name)

    # The hooks of calls and workers, written out: packing and unpacking arguments takes as long as some hooks.
    def call_with_one(arg: object) -> None:
        try:
            hook(arg)
        except (GreenletExit, WorkerCancelled):
            raise
        except BaseException:
            _log_once(probe, name)

    def call_with_three(first: object, second: object, third: object) -> None:
        try:
            hook(first, second, third)
        except (GreenletExit, WorkerCancelled):
            raise
        except BaseException:
            _log_once(probe, name)

    by_count: dict[int, Hook] = {1: call_with_one, 3: call_with_three}
    return by_count.get(getattr(Probe, name).__code__.co_argcount - 1, call)


def _all(hooks: list[Hook]) -> Hook:
    def call(*args: object) -> None:
        for hook in hooks:
            hook(*args)

    return call


def _log_once(probe: Probe, name: str) -> None:
    failed: set[str] = probe.__dict__.setdefault("_failed_hooks", set())
    if name not in failed:
        failed.add(name)
        _log.exception("ignored an error of %s in %s; more of them will not be logged", probe, name)


class Measure(NamedTuple):
    """The size of something at this moment, such as `Measure("workers_running", 3, {"service": "orders", ...})`."""

    name: str
    value: float
    labels: Mapping[str, str]


class Watched:
    """The base of what probes watch. `probes` is None while nobody listens."""

    #: Set on the instance, where a look takes less time.
    probes: ProbePoints | None
    _own_probes: tuple[Probe, ...] = ()

    def watch(self) -> None:
        """From now on tell the probes of the process, and be measured."""
        with _lock:
            _watched.add(self)
            self._renew_probes()

    def unwatch(self) -> None:
        """It has ended: it is not measured any more."""
        with _lock:
            _watched.discard(self)

    def measure(self) -> Iterable[Measure]:
        """The sizes of its parts at this moment. Called in the event loop's thread, and must not block."""
        return ()

    def attach(self, probe: Probe) -> None:
        """From now on `probe` hears what happens here; of calls under way, it hears the rest."""
        self._own_probes = (*self._own_probes, probe)
        self._renew_probes()

    def detach(self, probe: Probe) -> None:
        """`probe` hears of no further call; the end of a call that is just ending may still be reported."""
        self._own_probes = _without(self._own_probes, probe)
        self._renew_probes()

    def _renew_probes(self) -> None:
        self.probes = ProbePoints((*_attached, *self._own_probes)) if self._own_probes else _points


#: Something that no probe watches: for parts that are used by themselves.
UNWATCHED = Watched()
UNWATCHED.probes = None


def _without(probes: tuple[Probe, ...], probe: Probe) -> tuple[Probe, ...]:
    return tuple(each for each in probes if each is not probe)


#: The probes of the whole process, and all that they watch.
_attached: tuple[Probe, ...] = ()
_points: ProbePoints | None = None
_watched: WeakSet[Watched] = WeakSet()
_lock = reentrant_lock()


def attach(probe: Probe) -> None:
    """From now on `probe` hears of everything in this process."""
    global _attached
    with _lock:
        _attached = (*_attached, probe)
        _renew_all()


def detach(probe: Probe) -> None:
    """`probe` hears no more of this process."""
    global _attached
    with _lock:
        _attached = _without(_attached, probe)
        _renew_all()


def attached_of(kind: type[P]) -> P | None:
    """The first probe of this class that is attached to the process."""
    return next((probe for probe in _attached if isinstance(probe, kind)), None)


def _renew_all() -> None:
    global _points
    _points = ProbePoints(_attached) if _attached else None
    for watched in list(_watched):
        watched._renew_probes()


@contextmanager
def attached(probe: Probe) -> Iterator[None]:
    """Attach `probe` to this process for the length of a block."""
    attach(probe)
    try:
        yield
    finally:
        detach(probe)


def measures() -> Iterator[Measure]:
    """The sizes of everything in this process at this moment: pools, queues, links, journals."""
    with _lock:
        watched = list(_watched)
    for each in watched:
        try:
            yield from each.measure()
        except Exception:
            _log.exception("%s could not be measured", each)


@contextmanager
def watching(container: Watched, probe: Probe) -> Iterator[None]:
    """Attach `probe` to a container for the length of a block."""
    container.attach(probe)
    try:
        yield
    finally:
        container.detach(probe)
