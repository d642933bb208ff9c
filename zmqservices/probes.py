"""Probes are told what happens in a process: calls, workers, events, links, instances, drains, HTTP requests.

    class Slow(Probe):
        def worker_result(self, worker_ctx, result, exc_info):
            seconds = time.monotonic() - worker_ctx.started_at
            if seconds > 1.0:
                print(worker_ctx.call_id, seconds)

    probes.attach(Slow())                   # for all services, calls and events of this process
    with watching(container, Slow()):       # for the workers of one container
        ...

The setting PROBES attaches probes by their names.

Rule 1: an error of a probe is logged once for each of its hooks, and does not affect the watched code. Only errors that end or
cancel a worker from outside are passed on.
Rule 2: without probes, each point costs one look at an attribute, which is None.
Rule 3: a hook runs in the code that it watches: in the worker's greenlet, in the event loop, or in the thread of a standalone
client. It must not block.
Rule 4: only hooks that a probe overrides are called.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
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
H = TypeVar("H", bound=Callable[..., None])

#: A raised error in the form of `sys.exc_info()`.
ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None]


class OutgoingCall(Protocol):
    """The part of an outgoing call that probes may read."""

    @property
    def service(self) -> str: ...

    @property
    def moves(self) -> int:
        """How often the call was made again at another instance."""

    method: str
    #: The context that is sent with the call. A probe may change it in `call_began`.
    headers: dict[str, Any] | None
    #: The time when the call was made, in monotonic seconds.
    began_at: float
    #: None, an exception, or the mapping by which the service describes one (`exc_type`, `value`, perhaps `code`).
    error: BaseException | Mapping[str, Any] | None


class Probe:
    """The base of all probes. Override the hooks that you need.

    `worker_ctx` is a `zmqservices.containers.WorkerContext`, for a call of an @rpc method, an event, a request or a tick. Its
    `queued_at` and `started_at` are monotonic seconds (0.0 if no probe was attached then). `worker_ctx.event` is the handled
    event, if any.
    """

    #: The outgoing calls of whose end the probe wants to hear; None for all. For a probe that notes few of them.
    awaited_calls: Collection[object] | None = None
    #: The same for workers: whose `worker_ended` the probe wants to hear.
    awaited_workers: Collection[object] | None = None

    # --- workers: `worker_started`, `worker_result`, `worker_ended` for one call, or `worker_dropped` alone ---------------

    def worker_started(self, worker_ctx: Any) -> None:
        """Called when a worker begins, before the service is instantiated and its dependencies are injected."""

    def worker_result(self, worker_ctx: Any, result: object, exc_info: ExcInfo | None) -> None:
        """Called after the outcome was sent to the caller and before `worker_result` of the providers, with the same outcome."""

    def worker_ended(self, worker_ctx: Any, result: object, exc_info: ExcInfo | None) -> None:
        """Called when every provider is torn down, with the same outcome. Not called for killed workers."""

    def worker_dropped(self, worker_ctx: Any, exc: BaseException) -> None:
        """Called for a call that never began: too late, cancelled, or in the queue of a container that was killed."""

    # --- calls ---------------------------------------------------------------------------------------------------------

    def call_refused(self, service: str, method: str, reason: str) -> None:
        """Called when an incoming call is refused. `service` and `method` are the names that the caller sent.

        Reasons: "unknown-service", "unknown-method", "bad-arguments", "overloaded", "draining", "expired".
        """

    def call_began(self, call: OutgoingCall) -> None:
        """Called when a call to another service is made, before it is encoded, so that its `headers` may be changed."""

    def call_ended(self, call: OutgoingCall) -> None:
        """Called when an outgoing call has its result or its error, also for a call that could not be encoded."""

    def call_hedged(self, call: OutgoingCall) -> None:
        """Called when an unanswered call is also sent to a second instance (hedging)."""

    # --- events, at their publisher ------------------------------------------------------------------------------------

    def event_began(self, source: str, type: str, headers: dict[str, Any] | None) -> None:
        """Called when an event is dispatched, before it is encoded, so that its `headers` may be changed."""

    def event_dispatched(self, source: str, type: str, seconds: float, exc: BaseException | None) -> None:
        """Called when a dispatch returns (then a reliable event is on disk) or raises `exc`."""

    def event_delivered(self, source: str, type: str, group: str, attempt: int) -> None:
        """Called when a reliable event is sent to a member of a group. `attempt` counts from 1."""

    def event_acked(self, source: str, group: str) -> None:
        """Called when a member of a group has handled a reliable event."""

    def event_failed(self, source: str, group: str, error: Mapping[str, Any] | None) -> None:
        """Called when a handler failed with `error`, or a member gave the event back unhandled (None). It is delivered again."""

    def event_dead(self, source: str, type: str, group: str, attempts: int, error: Mapping[str, Any]) -> None:
        """Called when an event becomes a dead letter of a group."""

    def events_lost(self, source: str, group: str, count: int, reason: str) -> None:
        """Called when a group has lost `count` events, because of a bound or a damaged disk."""

    def event_dropped(self, source: str, type: str) -> None:
        """Called when the publisher or the handler's process drops a copy of a best-effort event, because there is no room."""

    # --- the cluster ---------------------------------------------------------------------------------------------------

    def link_up(self, node: str, endpoint: str) -> None:
        """Called when a called node has been greeted, or is heard again after a silence."""

    def link_lost(self, node: str, endpoint: str) -> None:
        """Called when the connection to a node ends."""

    def link_suspect(self, node: str, endpoint: str, seconds: float) -> None:
        """Called when a node has been silent for `seconds` and gets no new calls."""

    def link_refused(self, node: str, endpoint: str, why: str) -> None:
        """Called when a node is not used, because it speaks another version, or is not the node that the directory lists."""

    def instance_listed(self, service: str, instance: str, state: str) -> None:
        """Called when the directory lists an instance of a called service, or a new state of it."""

    def instance_unlisted(self, service: str, instance: str, state: str, where: str) -> None:
        """Called when the directory no longer lists an instance: it was withdrawn, or its lease has expired.

        `state` is the last one that was listed, `where` says which process it was, such as "process 4711 on blue".
        """

    def instance_ejected(self, service: str, instance: str, endpoint: str, seconds: float, why: str) -> None:
        """Called when an instance is ejected: it gets no calls from this process for `seconds`."""

    def instance_restored(self, service: str, instance: str, endpoint: str) -> None:
        """Called when an ejected instance gets calls again."""

    def record_announced(self, service: str, instance: str, state: str) -> None:
        """Called when this process announces one of its instances in the directory, or changes its record."""

    def record_withdrawn(self, service: str, instance: str) -> None:
        """Called when this process withdraws the record of one of its instances."""

    # --- services of this process --------------------------------------------------------------------------------------

    def service_started(self, service: str, instance: str) -> None:
        """Called when a container has started."""

    def service_stopped(self, service: str, instance: str) -> None:
        """Called when a container has stopped or was killed."""

    def drain_began(self, service: str, instance: str) -> None:
        """Called when an instance begins to drain: it takes no more calls, and tells its callers."""

    def drain_ended(self, service: str, instance: str, seconds: float, is_complete: bool) -> None:
        """Called when a draining instance's calls have ended, or were cancelled (not `is_complete`)."""

    def http_answered(self, service: str, method: str, route: str | None, status: int, seconds: float) -> None:
        """Called when the body of an HTTP response is sent, or when a WebSocket (status 101) is closed.

        `route`: the rule of the URL, such as `/orders/<int:id>`; None if no rule matches.
        """


#: The names of all hooks.
HOOKS = tuple(name for name, value in vars(Probe).items() if not name.startswith("_") and callable(value))

Hook: TypeAlias = Callable[..., None]


class ProbePoints:
    """The hooks of several probes. Each attribute calls that hook of every probe that overrides it; None if no probe does."""

    __slots__ = (*HOOKS, "awaited_calls", "awaited_workers")

    #: The calls of whose end a probe wants to hear; None for all.
    awaited_calls: Collection[object] | None
    #: The same for workers.
    awaited_workers: Collection[object] | None
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
        self.awaited_calls = _awaited([probe.awaited_calls for probe in probes if _overrides(probe, "call_ended")])
        self.awaited_workers = _awaited([probe.awaited_workers for probe in probes if _overrides(probe, "worker_ended")])
        for name in HOOKS:
            hooks = [_guarded(probe, name) for probe in probes if _overrides(probe, name)]
            setattr(self, name, None if not hooks else hooks[0] if len(hooks) == 1 else _all(hooks))


def _awaited(each: list[Collection[object] | None]) -> Collection[object] | None:
    # Of several probes all hear of everything: whom one awaits, it finds out itself.
    return each[0] if len(each) == 1 else None


def _overrides(probe: Probe, name: str) -> bool:
    return getattr(type(probe), name, None) is not getattr(Probe, name) or name in getattr(probe, "__dict__", ())


def guards_itself(hook: H) -> H:
    """Mark a hook that obeys rule 1 by itself, with `ignore`, so that it is called without a wrapper. For hooks of each call."""
    hook.__dict__["guards_itself"] = True
    return hook


def ignore(exc: BaseException, probe: Any, name: str) -> None:
    """Treat an error of a hook by rule 1. Called where it is caught."""
    if isinstance(exc, (GreenletExit, WorkerCancelled)):
        raise exc
    _log_once(probe, name)


def _guarded(probe: Probe, name: str) -> Hook:
    hook = getattr(probe, name)
    if getattr(hook, "guards_itself", False):
        return hook

    def call(*args: object) -> None:
        try:
            hook(*args)
        except (GreenletExit, WorkerCancelled):
            raise
        except BaseException:
            _log_once(probe, name)

    # Written out for each number of arguments, because packing and unpacking them takes as long as some hooks.
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


def _log_once(probe: Any, name: str) -> None:
    failed: set[str] = probe.__dict__.setdefault("_failed_hooks", set())
    if name not in failed:
        failed.add(name)
        _log.exception("ignored an error of %s in %s; more of them will not be logged", probe, name)


class Measure(NamedTuple):
    """The present size of something, such as `Measure("workers_running", 3, {"service": "orders", ...})`."""

    name: str
    value: float
    labels: Mapping[str, str]


class Watched:
    """The base of objects that probes watch. `probes` is None while no probe is attached."""

    #: An attribute of the instance, which is read faster.
    probes: ProbePoints | None
    _own_probes: tuple[Probe, ...] = ()

    def watch(self) -> None:
        """Begin to tell the probes of the process, and to be measured."""
        with _lock:
            _watched.add(self)
            self._renew_probes()

    def unwatch(self) -> None:
        """Stop being measured, because this object has ended."""
        with _lock:
            _watched.discard(self)

    def measure(self) -> Iterable[Measure]:
        """The present sizes of its parts. Called in the event loop's thread, and must not block."""
        return ()

    def attach(self, probe: Probe) -> None:
        """Tell `probe` what happens here from now on, including the rest of running calls."""
        self._own_probes = (*self._own_probes, probe)
        self._renew_probes()

    def detach(self, probe: Probe) -> None:
        """Tell `probe` nothing more. The end of a call that is just ending may still be reported."""
        self._own_probes = _without(self._own_probes, probe)
        self._renew_probes()

    def _renew_probes(self) -> None:
        self.probes = ProbePoints((*_attached, *self._own_probes)) if self._own_probes else _points


#: An object that no probe watches, for parts that are used alone.
UNWATCHED = Watched()
UNWATCHED.probes = None


def _without(probes: tuple[Probe, ...], probe: Probe) -> tuple[Probe, ...]:
    return tuple(each for each in probes if each is not probe)


#: The probes of the whole process, and all watched objects.
_attached: tuple[Probe, ...] = ()
_points: ProbePoints | None = None
_watched: WeakSet[Watched] = WeakSet()
_lock = reentrant_lock()


def attach(probe: Probe) -> None:
    """Tell `probe` of everything in this process from now on."""
    global _attached
    with _lock:
        _attached = (*_attached, probe)
        _renew_all()


def detach(probe: Probe) -> None:
    """Tell `probe` nothing more of this process."""
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
    """Attach `probe` to this process during the block."""
    attach(probe)
    try:
        yield
    finally:
        detach(probe)


def measures() -> Iterator[Measure]:
    """The present sizes of everything in this process: pools, queues, links, journals."""
    with _lock:
        watched = list(_watched)
    for each in watched:
        try:
            yield from each.measure()
        except Exception:
            _log.exception("%s could not be measured", each)


@contextmanager
def watching(container: Watched, probe: Probe) -> Iterator[None]:
    """Attach `probe` to a container during the block."""
    container.attach(probe)
    try:
        yield
    finally:
        container.detach(probe)
