"""Counts what happens in a process: calls, events, requests, links, with their errors and durations.

Peers choose names of methods, event types and errors. Beyond a bound, further names are counted together as `_OTHER`, so that
the counts stay small whatever peers send.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Hashable, Iterator, Mapping
from time import monotonic
from typing import Any, Generic, TypeVar

from zmqservices.constants import CALL_ID_STACK_CONTEXT_KEY
from zmqservices.observability.histogram import BOUNDS, Histogram
from zmqservices.observability.last_errors import LastError, LastErrors
from zmqservices.observability.timeline import Timeline
from zmqservices.probes import ExcInfo, OutgoingCall, Probe, guards_itself, ignore

#: Stands for every name beyond a bound, as in the semantic conventions of OpenTelemetry.
OTHER = "_OTHER"

#: The most error types of one series, series of each kind, and event types of one handler that are counted separately.
MOST_ERRORS, MOST_SERIES, MOST_TYPES = 20, 1000, 100

HTTP_METHODS = frozenset(("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"))

#: Errors of calls to a service or method that may not exist.
UNKNOWN_TARGETS = frozenset(("UnknownService", "MethodNotFound"))

#: The reasons for which a call is refused after its method was looked up.
_OF_KNOWN_METHODS = frozenset(("bad-arguments", "overloaded"))

Key = TypeVar("Key", bound=Hashable)


class Outcomes:
    """The durations of something that is done again and again, by its outcome."""

    __slots__ = ("good", "failed")

    def __init__(self) -> None:
        self.good = Histogram()
        #: Durations of the failures, by type of the error.
        self.failed: dict[str, Histogram] = {}

    def of_error(self, name: str) -> Histogram:
        """The durations of the failures with this error."""
        histogram = self.failed.get(name)
        if histogram is None:
            if len(self.failed) >= MOST_ERRORS:
                name = OTHER
            histogram = self.failed.setdefault(name, Histogram())
        return histogram

    def add(self, other: Outcomes) -> None:
        """Add the counts of `other` to these."""
        self.good.add(other.good)
        for name, histogram in other.failed.items():
            self.of_error(name).add(histogram)

    def all(self) -> Iterator[tuple[str, Histogram]]:
        """The durations by type of the error; "" for the successes."""
        if self.good.count:
            yield "", self.good
        yield from self.failed.items()


class Worked(Outcomes):
    """The outcomes of one entrypoint's workers, or of one event type of an event handler."""

    __slots__ = ("service", "instance", "method", "kind", "source", "type", "group", "queued", "last_error", "by_type")

    def __init__(self, service: str, instance: str, method: str, kind: str, source: str = "", type: str = "", group: str = ""):
        super().__init__()
        self.service = service
        self.instance = instance
        self.method = method
        #: "rpc", "event", "http", "timer", or the name of another entrypoint's class.
        self.kind = kind
        self.source = source
        self.type = type
        self.group = group
        #: Seconds from the arrival until a worker began.
        self.queued = Histogram()
        self.last_error: LastError | None = None
        #: The outcomes by event type; only event handlers have them.
        self.by_type: dict[str, Worked] = {}

    def of_type(self, source: str, type: str) -> Worked:
        """The outcomes of one event type."""
        found = self.by_type.get(type)
        if found is None:
            if len(self.by_type) >= MOST_TYPES:
                type = OTHER
            made = Worked(self.service, self.instance, self.method, self.kind, source, type, self.group)
            found = self.by_type.setdefault(type, made)
        return found


class Bounded(Generic[Key]):
    """Counters by key. Once there are `most` keys, every further key is counted as `other`."""

    def __init__(self, other: Key, most: int = MOST_SERIES) -> None:
        self.counts: dict[Key, int] = {}
        self._other = other
        self._most = most

    def count(self, key: Key, by: int = 1) -> None:
        """Add `by` to the counter of the key."""
        if key not in self.counts and len(self.counts) >= self._most:
            key = self._other
        self.counts[key] = self.counts.get(key, 0) + by


class Statistics(Probe):
    """The counts of one process. Attach it with `zmqservices.probes.attach`; its attributes may be read at any time."""

    def __init__(self) -> None:
        self.since = time.time()
        #: The outcomes by bound entrypoint.
        self.workers: dict[Any, Worked] = {}
        #: Outgoing calls, by the service whose method made them (see `caller_of`), the called service, and its method.
        self.calls: dict[tuple[str, str, str], Outcomes] = {}
        self.errors = LastErrors()
        self.timeline = Timeline()
        #: Dispatched events by source and type.
        self.dispatched: dict[tuple[str, str], Outcomes] = {}
        #: Requests by service, method, route and status.
        self.requests: dict[tuple[str, str, str, int], Histogram] = {}
        self.drains: dict[tuple[str, str], Histogram] = {}
        self.refused: Bounded[tuple[str, str, str]] = Bounded((OTHER, OTHER, OTHER))
        #: Second attempts of outgoing calls, by service and method.
        self.hedged: Bounded[tuple[str, str]] = Bounded((OTHER, OTHER))
        #: Reliable events, by source and group.
        self.delivered: Bounded[tuple[str, str]] = Bounded((OTHER, OTHER))
        self.redelivered: Bounded[tuple[str, str]] = Bounded((OTHER, OTHER))
        self.acked: Bounded[tuple[str, str]] = Bounded((OTHER, OTHER))
        self.failed: Bounded[tuple[str, str]] = Bounded((OTHER, OTHER))
        self.dead: Bounded[tuple[str, str]] = Bounded((OTHER, OTHER))
        self.lost: Bounded[tuple[str, str]] = Bounded((OTHER, OTHER))
        #: Dropped copies of best-effort events, by source.
        self.dropped: Bounded[str] = Bounded(OTHER)
        #: Changes of links, by what happened.
        self.links: Bounded[str] = Bounded(OTHER)
        #: Changes in the directory of instances that are called from here, by service and state.
        self.instances: Bounded[tuple[str, str]] = Bounded((OTHER, OTHER))
        #: Calls that never began, by service and error.
        self.unstarted: Bounded[tuple[str, str]] = Bounded((OTHER, OTHER))

    # --- workers: once for each call, so written out ---------------------------------------------------------------------

    @guards_itself
    def worker_result(self, worker_ctx: Any, result: Any, exc_info: ExcInfo | None) -> None:
        try:
            worked = self.workers.get(worker_ctx.entrypoint)
            if worked is None:
                worked = self._new(worker_ctx)
            event = worker_ctx.event
            if event is not None:
                worked = worked.of_type(event.source, event.type)
            started = worker_ctx._started_at
            if not started:
                return  # It began before this was attached.
            queued = worker_ctx._queued_at
            if queued:
                waited = started - queued
                histogram = worked.queued
                histogram.counts[bisect_left(BOUNDS, waited)] += 1
                histogram.total += waited
            seconds = monotonic() - started
            if exc_info is None:
                histogram = worked.good
            else:
                name = type_name(exc_info[0])
                histogram = worked.of_error(name)
                worked.last_error = self.errors.note(
                    worked.service, worked.instance, worked.method, name, exc_info[1], worker_ctx.call_id
                )
            histogram.counts[bisect_left(BOUNDS, seconds)] += 1
            histogram.total += seconds
        except BaseException as exc:
            ignore(exc, self, "worker_result")

    def _new(self, worker_ctx: Any) -> Worked:
        entrypoint, container = worker_ctx.entrypoint, worker_ctx.container
        listed = entrypoint.listed() if hasattr(entrypoint, "listed") else {}
        # The entrypoints of @rpc are not in this list, because the service's methods are listed elsewhere.
        kind = "rpc" if listed is None else str(listed.get("kind", "")).partition(",")[0]
        group = "" if listed is None else str(listed.get("group", ""))
        worked = Worked(container.service_name, container.instance_id, entrypoint.method_name, kind, group=group)
        self.workers[entrypoint] = worked
        return worked

    def worker_dropped(self, worker_ctx: Any, exc: BaseException) -> None:
        self.unstarted.count((worker_ctx.container.service_name, type_name(type(exc))))

    def service_stopped(self, service: str, instance: str) -> None:
        self.timeline.add("stopped", service, instance)
        for entrypoint in [entrypoint for entrypoint, worked in self.workers.items() if worked.instance == instance]:
            del self.workers[entrypoint]

    def service_started(self, service: str, instance: str) -> None:
        self.timeline.add("started", service, instance)

    def all_worked(self) -> Iterator[Worked]:
        """The outcomes of each entrypoint, each followed by its outcomes by event type."""
        for worked in list(self.workers.values()):
            yield worked
            yield from list(worked.by_type.values())

    # --- calls -----------------------------------------------------------------------------------------------------------

    @guards_itself
    def call_ended(self, call: OutgoingCall) -> None:
        try:
            seconds = monotonic() - call.began_at
            error = call.error
            caller = caller_of(call)
            outcomes = self.calls.get((caller, call.service, call.method))
            if outcomes is None:
                outcomes = self._new_calls(caller, call)
            if error is None:
                histogram = outcomes.good
                histogram.counts[bisect_left(BOUNDS, seconds)] += 1
                histogram.total += seconds
            else:
                outcomes.of_error(error_name(error)).observe(seconds)
        except BaseException as exc:
            ignore(exc, self, "call_ended")

    def _new_calls(self, caller: str, call: OutgoingCall) -> Outcomes:
        key = (caller, call.service, call.method)
        is_unknown = call.error is not None and error_name(call.error).rpartition(".")[2] in UNKNOWN_TARGETS
        if is_unknown or len(self.calls) >= MOST_SERIES:
            key = (caller if len(self.calls) < 2 * MOST_SERIES else OTHER, OTHER, OTHER)
        return self.calls.setdefault(key, Outcomes())

    def call_hedged(self, call: OutgoingCall) -> None:
        self.hedged.count((call.service, call.method))

    def call_refused(self, service: str, method: str, reason: str) -> None:
        service = OTHER if reason == "unknown-service" else service
        self.refused.count((service, method if reason in _OF_KNOWN_METHODS else OTHER, reason))

    # --- events ----------------------------------------------------------------------------------------------------------

    def event_dispatched(self, source: str, type: str, seconds: float, exc: BaseException | None) -> None:
        outcomes = self.dispatched.get((source, type))
        if outcomes is None:
            key = (source, type)
            if len(self.dispatched) >= MOST_SERIES:
                key = (OTHER, OTHER)
            elif sum(source == other for other, _ in self.dispatched) >= MOST_TYPES:
                key = (source, OTHER)
            outcomes = self.dispatched.setdefault(key, Outcomes())
        (outcomes.good if exc is None else outcomes.of_error(type_name(exc.__class__))).observe(seconds)

    def event_delivered(self, source: str, type: str, group: str, attempt: int) -> None:
        self.delivered.count((source, group))
        if attempt > 1:
            self.redelivered.count((source, group))

    def event_acked(self, source: str, group: str) -> None:
        self.acked.count((source, group))

    def event_failed(self, source: str, group: str, error: Mapping[str, Any] | None) -> None:
        if error is not None:
            self.failed.count((source, group))

    def event_dead(self, source: str, type: str, group: str, attempts: int, error: Mapping[str, Any]) -> None:
        self.dead.count((source, group))

    def events_lost(self, source: str, group: str, count: int, reason: str) -> None:
        self.lost.count((source, group), count)

    def event_dropped(self, source: str, type: str) -> None:
        self.dropped.count(source)

    # --- the cluster -----------------------------------------------------------------------------------------------------

    def link_up(self, node: str, endpoint: str) -> None:
        self.links.count("up")
        self.timeline.add("link up", "", node, endpoint)

    def link_lost(self, node: str, endpoint: str) -> None:
        self.links.count("lost")
        self.timeline.add("link lost", "", node, endpoint)

    def link_suspect(self, node: str, endpoint: str, seconds: float) -> None:
        self.links.count("suspect")
        self.timeline.add("link suspect", "", node, f"{endpoint}, silent for {seconds:.1f} s")

    def link_refused(self, node: str, endpoint: str, why: str) -> None:
        self.links.count("refused")
        self.timeline.add("link refused", "", node, f"{endpoint}: {why}")

    def instance_listed(self, service: str, instance: str, state: str) -> None:
        self.instances.count((service, state.lower()))
        self.timeline.add("listed", service, instance, state)

    def instance_unlisted(self, service: str, instance: str, state: str, where: str) -> None:
        self.instances.count((service, "unlisted"))
        self.timeline.add("unlisted", service, instance, f"was {state}, {where}")

    def instance_ejected(self, service: str, instance: str, endpoint: str, seconds: float, why: str) -> None:
        self.instances.count((service, "ejected"))
        self.timeline.add("ejected", service, instance, f"for {seconds:.0f} s: {why}")

    def instance_restored(self, service: str, instance: str, endpoint: str) -> None:
        self.instances.count((service, "restored"))
        self.timeline.add("restored", service, instance)

    def drain_began(self, service: str, instance: str) -> None:
        self.timeline.add("draining", service, instance)

    def drain_ended(self, service: str, instance: str, seconds: float, is_complete: bool) -> None:
        key = (service, "complete" if is_complete else "cancelled")
        self.drains.setdefault(key, Histogram()).observe(seconds)
        self.timeline.add("drained", service, instance, f"{key[1]} after {seconds:.1f} s")

    def http_answered(self, service: str, method: str, route: str | None, status: int, seconds: float) -> None:
        key = (service, method if method in HTTP_METHODS else OTHER, OTHER if route is None else route, status)
        histogram = self.requests.get(key)
        if histogram is None:
            if len(self.requests) >= MOST_SERIES:
                key = (service, OTHER, OTHER, status if status in (200, 404, 500) else 0)
            histogram = self.requests.setdefault(key, Histogram())
        histogram.observe(seconds)


def caller_of(call: OutgoingCall) -> str:
    """The service whose method makes the call; "standalone_rpc_proxy" for a standalone client, "" if unknown."""
    stack = call.headers.get(CALL_ID_STACK_CONTEXT_KEY) if call.headers else None
    # A call id is `service.method.unique`, and a service's name may have dots.
    return stack[-1].rsplit(".", 2)[0] if stack else ""


def type_name(cls: type) -> str:
    """The name of an error's class, after the name of its module unless the class is built in."""
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def error_name(error: BaseException | Mapping[str, Any]) -> str:
    """The type of the error that a call ended with, here or at the service."""
    if isinstance(error, BaseException):
        return type_name(type(error))
    name = error.get("exc_path") or error.get("exc_type") or error.get("code")
    return name[:200].removeprefix("builtins.") if isinstance(name, str) else OTHER
