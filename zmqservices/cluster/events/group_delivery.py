"""One group's events out of one journal: does what the schedule (`zmqservices.journal.DeliverySchedule`) says.

    SUBSCRIBE, GRANT, ACK, NACK  -->  DeliverySchedule  -->  Send, Fetch, Bury, Tell  -->  the door, the journal
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

from zmqservices.cluster.settings import EventSettings
from zmqservices.journal import Bury, DeliverySchedule, Fetch, Group, LostRange, Page, Send, StoredEvent, Tell
from zmqservices.transport.reactor import Reactor

_log = logging.getLogger(__name__)

#: Credit taken from a member that leaves: more than it can ever have.
ALL_CREDIT = 1 << 40

#: Seconds by which a timer that is late tells of a hub that was busy, and seconds in which it then hears what has come.
LATE, HEAR_OUT = 0.1, 0.02

#: How a delivery hands an event, or a gap, to a member: `send(member, group, event or gap, attempt)`.
SendOn = Callable[[str, str, StoredEvent | LostRange, int], None]

#: How it has several sent at once: `together(work, argument)` calls `work(argument)`.
Together = Callable[..., None]


class GroupDelivery:
    """Everything here runs inside the reactor; the journal's answers are posted to it."""

    def __init__(
        self,
        reactor: Reactor,
        journal: Any,
        group: Group,
        cursor: int,
        settings: EventSettings,
        send_on: SendOn,
        together: Together,
    ) -> None:
        self.group = group
        self.journal = journal
        self._reactor = reactor
        self._send_on = send_on
        self._together = together
        self._timer: Any = None
        self._timer_at = 0.0
        self._closed = False
        self.is_paused = False
        self.rules = DeliverySchedule(
            cursor,
            max_deliveries=group.max_deliveries,
            ack_wait=settings.ack_wait,
            backoff=settings.backoff,
            backoff_max=settings.backoff_max,
            random=random.random,
        )
        self.rules.appended(journal.last_seq)
        journal.requeued(group.name, self._on_thread(self._requeued))

    # --- what members say: the schedule is told, and looked at once for all that arrives together ----------------------

    def joined(self, member: str, credit: int) -> None:
        now = monotonic()
        self.rules.joined(member, now)
        if credit:
            self.rules.granted(member, credit, now)
        self.journal.seen(self.group.name)

    def left(self, member: str) -> None:
        self.rules.left(member, monotonic())
        self.flush()

    def retire(self, member: str) -> None:
        """It gets nothing more; what it has, it answers still."""
        self.rules.granted(member, -ALL_CREDIT, monotonic())

    def granted(self, member: str, amount: int) -> None:
        now = monotonic()
        if amount:
            self.rules.granted(member, amount, now)
        else:
            self.rules.heard(member, now)
            self.journal.seen(self.group.name)

    def acked(self, member: str, seq: int, process: str, is_older: bool, gets_credit: bool) -> None:
        """For `process` and `is_older` see `DeliverySchedule.acked`. An answer that is told once more gets no credit back."""
        now = monotonic()
        if self.rules.acked(member, seq, now, process=process, is_older=is_older):
            self.journal.acknowledge(self.group.name, seq)
        if gets_credit:
            self.rules.granted(member, 1, now)

    def nacked(self, member: str, seq: int, delay: float, error: dict[Any, Any] | None) -> None:
        now = monotonic()
        self.rules.granted(member, 1, now)
        if error is None:
            self.rules.returned(member, seq, now, delay)
        else:
            self.rules.nacked(member, seq, delay or None, error, now)

    # --- what is due -------------------------------------------------------------------------------------------------

    def appended(self, last_seq: int) -> None:
        """The journal has more."""
        self.rules.appended(last_seq)
        self.flush()

    def flush(self) -> None:
        """Do all that is due, and come again when more is."""
        if self._closed or self.is_paused:
            return
        now = monotonic()
        while actions := self.rules.due(now):
            if len(actions) == 1:
                self._do(actions[0])
            else:
                self._together(self._do_all, actions)
        self._set_timer(now)

    def _do_all(self, actions: list[Any]) -> None:
        for action in actions:
            self._do(action)

    def _do(self, action: Any) -> None:
        kind = type(action)
        if kind is Send:
            self._send_on(action.member, self.group.name, action.event, action.attempt)
        elif kind is Fetch:
            self.journal.fetch(self.group.name, action.after, action.limit, self._on_thread(self._loaded))
        elif kind is Bury:
            self._bury(action)
        elif kind is Tell:
            gap = action.gap
            _log.error(
                "%d events from %d to %d are lost for %s: %s", gap.events, gap.from_seq, gap.to_seq, self.group.name, gap.reason
            )
            self._send_on(action.member, self.group.name, gap, 0)
            self.journal.acknowledge(self.group.name, gap.seq)

    def _bury(self, action: Bury) -> None:
        error = action.error
        _log.error(
            "gave up event %d (%s) for %s after %d deliveries: %s: %s; see `zmqservices events dead-letters`",
            action.event.seq, action.event.type, self.group.name, action.attempts, error.get("exc_type"), error.get("value"),
        )  # fmt: skip
        done = self._on_thread(partial(self._buried, action.event))
        self.journal.bury(self.group.name, action.event, error, action.attempts, done)

    def _buried(self, event: StoredEvent, outcome: Any) -> None:
        if isinstance(outcome, Exception):
            _log.error("a dead letter of %s could not be written, and is delivered again: %s", self.group.name, outcome)
            self.rules.requeued([event])
            self.flush()

    def _loaded(self, outcome: Any) -> None:
        if isinstance(outcome, Page):
            self.rules.loaded(outcome)
        else:
            _log.error("events of %s could not be read: %s", self.group.name, outcome)
            self.rules.not_loaded(monotonic())
        self.flush()

    def _requeued(self, outcome: Any) -> None:
        if isinstance(outcome, Exception):
            _log.error("requeued dead letters of %s could not be read: %s", self.group.name, outcome)
        elif outcome:
            self.requeued(outcome)

    def requeued(self, events: list[StoredEvent]) -> None:
        """Dead letters that somebody wants delivered once more."""
        self.rules.requeued(events)
        self.flush()

    def rewound(self, cursor: int) -> None:
        self.rules.rewound(cursor)
        self.flush()

    def _set_timer(self, now: float) -> None:
        at = self.rules.next_at(now)
        if self._timer is not None:
            if at is not None and self._timer_at <= at:
                return  # It comes early enough, and will set the next one.
            self._timer.cancel()
            self._timer = None
        if at is not None:
            self._timer_at = at
            self._timer = self._reactor.call_later(max(at - now, 0.0), self._time_came)

    def _time_came(self, has_heard_out: bool = False) -> None:
        self._timer = None
        now = monotonic()
        if now - self._timer_at > LATE and not has_heard_out:
            # The hub was busy: what members said meanwhile is heard before anybody is taken for silent.
            self._timer_at = now + HEAR_OUT
            self._timer = self._reactor.call_later(HEAR_OUT, self._time_came, True)
        else:
            self.flush()

    def _on_thread(self, callback: Callable[[Any], None]) -> Callable[[Any], None]:
        """What the journal's thread calls: hands over to the reactor."""
        return lambda outcome: self._reactor.post(self._unless_closed, callback, outcome)

    def _unless_closed(self, callback: Callable[[Any], None], outcome: Any) -> None:
        if not self._closed:
            callback(outcome)

    def close(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
