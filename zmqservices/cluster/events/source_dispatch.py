"""Dispatches the events of one source: appends reliable events to its journal, and sends best-effort events at once.

For greenlets of the hub. A dispatch in another thread is handed to the hub.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, Protocol, TypeVar

from zmqservices.cluster.events.best_effort import BestEffort, Headers, Packed
from zmqservices.cluster.events.commits import Commit, Commits
from zmqservices.cluster.events.source_groups import SourceGroups
from zmqservices.cluster.events.source_journals import SourceJournals
from zmqservices.exceptions import ForkedProcessError, JournalError, MessageTooLarge
from zmqservices.journal import NewEvent
from zmqservices.probes import ProbePoints, Watched
from zmqservices.transport.reactor import Reactor
from zmqservices.transport.sockets import forked_error
from zmqservices.utils.forks import ForkHook
from zmqservices.utils.native_threads import get_ident
from zmqservices.wire import codec
from zmqservices.wire.headers import HeaderLimits

#: The bytes of an EVENT besides its body, headers and names.
OVERHEAD = 1024

Answer = TypeVar("Answer")


class HubLike(Reactor, Protocol):
    """A reactor that runs greenlets for other threads; a HubReactor."""

    def run_greenlet(self, action: Callable[..., Answer], *args: object) -> Answer:
        """Run `action`, which may block, in a greenlet of the hub, and return its result."""


class SourceDispatch:
    """The dispatches of the source named `source`. To be made in the thread of its hub."""

    def __init__(
        self,
        source: str,
        groups: SourceGroups,
        journals: SourceJournals,
        best_effort: BestEffort,
        reactor: HubLike,
        max_message_size: int,
        watched: Watched,
        header_limits: HeaderLimits,
    ) -> None:
        #: The number of events that were dispatched without an error.
        self.dispatched = 0
        self._source = source
        self._watched = watched
        self._groups = groups
        self._journals = journals
        self._best_effort = best_effort
        self._reactor = reactor
        self._max_message_size = max_message_size
        self._header_limits = header_limits
        self._commits = Commits(reactor)
        self._closed = False
        self._thread = get_ident()
        self._pid = os.getpid()
        _fork_hook.add(self)

    def dispatch(
        self, type: str, body: Any, headers: Headers, serializer: str | None, key: str | None, reliable: bool
    ) -> None:
        """Dispatch one event. A reliable event is on disk when this returns, even if no member is connected.

        `serializer`: the name of the format of the bytes `body`; with None, `body` is any value and is packed in the wire's own
        format. Raises UnserializableValueError, MessageTooLarge, JournalFull or JournalError, and then no member gets the event.
        Raises ForkedProcessError in a fork of the publishing process, because journal and links belong to the parent.
        """
        if self._closed:
            raise self._refusal()
        if get_ident() != self._thread:
            self._reactor.run_greenlet(self.dispatch, type, body, headers, serializer, key, reliable)
            return
        probes = self._watched.probes
        began = 0.0
        if probes is not None:
            headers = {} if headers is None else headers  # A mapping, because probes may add to it.
            began = self._tell_began(probes, type, headers)
        best_effort = self._best_effort
        try:
            raw = body if serializer is not None else codec.pack(body)
            name = serializer or "msgpack"
            self.check_size(type, raw)
            if reliable:
                self._commits.wait(self._append(type, raw, headers, name, key))
            else:
                self.check_headers(type, headers)
                if self._groups.by_name:
                    best_effort.send_direct(self._groups.by_name.values(), type, raw, headers, name, key)
        except BaseException as exc:
            if probes is not None:
                self._tell_dispatched(probes, type, began, exc)
            raise
        if probes is not None:
            self._tell_dispatched(probes, type, began, None)
        self.dispatched += 1
        if best_effort.consumer_groups or best_effort.early is not None:
            best_effort.broadcast(type, raw, headers, name, key)

    def dispatch_all(self, events: Iterable[Packed]) -> list[Exception | None]:
        """Dispatch several reliable events in this order, waiting once for all. Returns the error of each event, or None.

        Raises ForkedProcessError as `dispatch` does.
        """
        if self._closed and isinstance(refusal := self._refusal(), ForkedProcessError):
            raise refusal
        if get_ident() != self._thread:
            return self._reactor.run_greenlet(self.dispatch_all, list(events))
        probes = self._watched.probes
        began = 0.0
        begun = []
        for event in events:
            if probes is not None:
                # A probe may change the headers, and several events may share one mapping. So they are encoded before the next
                # event.
                event = (event[0], event[1], {} if event[2] is None else event[2], event[3], event[4])
                began = self._tell_began(probes, event[0], event[2])
            begun.append((event, self._begin(event)))
        outcomes = [begin if isinstance(begin, Exception) else self._end(event, begin) for event, begin in begun]
        if probes is not None:
            for (event, _), outcome in zip(begun, outcomes, strict=True):
                self._tell_dispatched(probes, event[0], began, outcome)
        return outcomes

    def _tell_began(self, probes: ProbePoints, type: str, headers: Headers) -> float:
        if probes.event_began is not None:
            probes.event_began(self._source, type, headers)
        return monotonic()

    def _tell_dispatched(self, probes: ProbePoints, type: str, began: float, exc: BaseException | None) -> None:
        if probes.event_dispatched is not None:
            probes.event_dispatched(self._source, type, monotonic() - began, exc)

    def _begin(self, event: Packed) -> Commit | Exception:
        if self._closed:
            return JournalError(str(self._refusal()))
        try:
            self.check_size(event[0], event[1])
            return self._append(*event)
        except (MessageTooLarge, JournalError) as exc:
            return exc

    def _end(self, event: Packed, commit: Commit) -> Exception | None:
        try:
            self._commits.wait(commit)
        except JournalError as exc:
            return exc
        self.dispatched += 1
        best_effort = self._best_effort
        if best_effort.consumer_groups or best_effort.early is not None:
            best_effort.broadcast(*event)
        return None

    def _append(self, type: str, raw: bytes, headers: Headers, serializer: str, key: str | None) -> Commit:
        own = self._journals.own
        if own is None:
            raise JournalError(f"{self._source!r} has no journal here: a relay dispatches nothing itself")
        packed = codec.pack([headers, serializer])
        if len(packed) > self._header_limits.unchecked:
            self.check_headers(type, headers)
        return self._commits.append(own.journal, NewEvent(type, raw, packed, key))

    def check_size(self, type: str, raw: bytes) -> None:
        """Raise MessageTooLarge for an event that is too large to be sent."""
        size = len(raw) + len(type) + OVERHEAD
        if size > self._max_message_size:
            raise MessageTooLarge(
                f"the event {type!r} of {self._source!r} takes {size:,} bytes; max_message_size is "
                f"{self._max_message_size:,}"
            )

    def check_headers(self, type: str, headers: Headers) -> None:
        """Raise MessageTooLarge for an event whose headers are beyond the limits."""
        if not self._header_limits.fit(headers):
            self._header_limits.check(headers, "the event", f"{type!r} of {self._source!r}")

    def close(self) -> None:
        """Accept no more events."""
        self._closed = True

    def _refusal(self) -> Exception:
        """The error for events after `close`."""
        if os.getpid() != self._pid:
            return forked_error(self._pid)
        return RuntimeError(f"{self._source!r} does not publish any more: its process is stopping")


#: Closes the copies in a forked child, where a dispatch would wait for the parent's threads for ever. Checking for a fork at each
#: dispatch would cost more.
_fork_hook: ForkHook[SourceDispatch] = ForkHook(SourceDispatch.close)
