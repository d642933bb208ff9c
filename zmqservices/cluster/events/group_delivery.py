"""Delivers one group's events of one journal, by carrying out the actions of the group's `DeliverySchedule`.

    SUBSCRIBE, GRANT, ACK, NACK  -->  DeliverySchedule  -->  Send, SendGap, Fetch, Bury  -->  the members, the journal

Rule 1: no sockets and no clock here; `send_on` sends events, and `clock` tells the time.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from functools import partial
from typing import Any

from zmqservices.cluster.settings import EventSettings
from zmqservices.journal import Action, Bury, DeliverySchedule, Fetch, Group, Journal, LostRange, Page, Send, SendGap, StoredEvent
from zmqservices.probes import UNWATCHED, Watched
from zmqservices.transport.reactor import Reactor, ReactorTimer

_log = logging.getLogger(__name__)

#: The credit that is taken from a leaving member: more than it can ever have.
ALL_CREDIT = 1 << 40

#: If a timer fires LATE seconds late, the hub was busy. Then messages that have arrived are handled for CATCH_UP seconds before a
#: member counts as silent.
LATE, CATCH_UP = 0.1, 0.02

#: The most events of one commit that are handed over with it. The journal commits no more at once.
AHEAD = 512

#: How an event, or a gap, is sent to a member: `send_on(member, group, event or gap, attempt)`.
SendOn = Callable[[str, str, StoredEvent | LostRange, int], None]

#: How several events are sent in one message: `together(work, argument)` calls `work(argument)`.
Together = Callable[..., None]


class GroupDelivery:
    """The delivery of one group's events of one journal. Runs inside the reactor, to which the journal's answers are posted."""

    def __init__(
        self,
        reactor: Reactor,
        journal: Journal,
        group: Group,
        cursor: int,
        settings: EventSettings,
        send_on: SendOn,
        together: Together,
        clock: Callable[[], float],
        watched: Watched = UNWATCHED,
        source: str = "",
    ) -> None:
        self.group = group
        self._watched = watched
        self._source = source
        self.journal = journal
        #: While True, nothing is sent, but answers still count.
        self.is_paused = False
        self._reactor = reactor
        self._send_on = send_on
        self._together = together
        self._clock = clock
        self._timer: ReactorTimer | None = None
        self._timer_at = 0.0
        self._closed = False
        self._asked_ahead = False
        #: The answer of `fetch_ahead` for the commit that `appended` will report next. Set by the journal's thread.
        self._ahead: tuple[int, Page | Exception | None] | None = None
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

    # --- messages of members: `flush` is called once after all messages that arrived together ----------

    def joined(self, member: str, credit: int) -> None:
        """A member joined. It takes `credit` events at once."""
        now = self._clock()
        self.rules.joined(member, now)
        if credit:
            self.rules.granted(member, credit, now)
        self.journal.seen(self.group.name)

    def left(self, member: str) -> None:
        """The member has gone. Its unanswered events go to others."""
        self.rules.left(member, self._clock())
        self.flush()

    def retire(self, member: str) -> None:
        """Send the member no more events. It may still answer those that it has."""
        self.rules.granted(member, -ALL_CREDIT, self._clock())

    def granted(self, member: str, amount: int) -> None:
        """The member takes `amount` more events. 0 only shows that it is alive."""
        now = self._clock()
        if amount:
            self.rules.granted(member, amount, now)
        else:
            self.rules.alive(member, now)
            self.journal.seen(self.group.name)

    def acked(self, member: str, seq: int, process: str, is_older: bool, gets_credit: bool) -> None:
        """The member has handled an event. For `process` and `is_older` see `DeliverySchedule.acked`.

        `gets_credit` is False for an answer that is repeated on a new link.
        """
        now = self._clock()
        if self.rules.acked(member, seq, now, process=process, is_older=is_older):
            self.journal.acknowledge(self.group.name, seq)
            probes = self._watched.probes
            if probes is not None and probes.event_acked is not None:
                probes.event_acked(self._source, self.group.name)
        if gets_credit:
            self.rules.granted(member, 1, now)

    def nacked(self, member: str, seq: int, delay: float, error: dict[str, Any] | None) -> None:
        """The member's handler failed with `error`, or the member gives the event back unhandled (None)."""
        now = self._clock()
        probes = self._watched.probes
        if probes is not None and probes.event_failed is not None:
            probes.event_failed(self._source, self.group.name, error)
        self.rules.granted(member, 1, now)
        if error is None:
            self.rules.returned(member, seq, now, delay)
        else:
            self.rules.nacked(member, seq, delay or None, error, now)

    # --- actions -------------------------------------------------------------------------------------------------

    def appended(self, last_seq: int) -> None:
        """The journal now has events up to `last_seq`."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            after, page = ahead
            self._asked_ahead = False
            if isinstance(page, Page):
                self.rules.offered(after, page)
        self.rules.appended(last_seq)
        self.flush()

    def flush(self) -> None:
        """Carry out all due actions, and set a timer for the next one."""
        if self._closed or self.is_paused:
            return
        now = self._clock()
        while actions := self.rules.due(now):
            if len(actions) == 1:
                self._do(actions[0])
            else:
                self._together(self._do_all, actions)
        self._set_timer(now)
        if not self._asked_ahead:
            self._ask_ahead()

    def _ask_ahead(self) -> None:
        """Ask the journal to hand over the events of the next commit together with the news of it, which saves a fetch."""
        after = self.rules.next_after
        if after is not None:
            self._asked_ahead = True
            self.journal.fetch_ahead(self.group.name, after, AHEAD, partial(self._read_ahead, after))

    def _read_ahead(self, after: int, page: Page | Exception | None) -> None:
        # Runs on the journal's thread, just before it reports the commit.
        self._ahead = (after, page)

    def _do_all(self, actions: list[Action]) -> None:
        for action in actions:
            self._do(action)

    def _do(self, action: Action) -> None:
        if type(action) is Send:
            self._send_on(action.member, self.group.name, action.event, action.attempt)
            probes = self._watched.probes
            if probes is not None and probes.event_delivered is not None:
                probes.event_delivered(self._source, action.event.type, self.group.name, action.attempt)
        elif type(action) is Fetch:
            self.journal.fetch(self.group.name, action.after, action.limit, self._on_thread(self._loaded))
        elif type(action) is Bury:
            self._bury(action)
        elif type(action) is SendGap:
            gap = action.gap
            _log.error(
                "%d events from %d to %d are lost for %s: %s", gap.events, gap.from_seq, gap.to_seq, self.group.name, gap.reason
            )
            probes = self._watched.probes
            if probes is not None and probes.events_lost is not None:
                probes.events_lost(self._source, self.group.name, gap.events, gap.reason)
            self._send_on(action.member, self.group.name, gap, 0)
            self.journal.acknowledge(self.group.name, gap.seq)

    def _bury(self, action: Bury) -> None:
        error = action.error
        _log.error(
            "gave up event %d (%s) for %s after %d deliveries: %s: %s; see `zmqservices events dead-letters`",
            action.event.seq, action.event.type, self.group.name, action.attempts, error.get("exc_type"), error.get("value"),
        )  # fmt: skip
        done = self._on_thread(partial(self._buried, action))
        self.journal.bury(self.group.name, action.event, error, action.attempts, done)

    def _buried(self, action: Bury, outcome: Exception | None) -> None:
        if isinstance(outcome, Exception):
            _log.error("a dead letter of %s could not be written, and is delivered again: %s", self.group.name, outcome)
            self.rules.requeued([action.event])
            self.flush()
            return
        probes = self._watched.probes
        if probes is not None and probes.event_dead is not None:
            probes.event_dead(self._source, action.event.type, self.group.name, action.attempts, action.error)

    def _loaded(self, outcome: Page | Exception) -> None:
        if isinstance(outcome, Page):
            self.rules.loaded(outcome)
        else:
            _log.error("events of %s could not be read: %s", self.group.name, outcome)
            self.rules.not_loaded(self._clock())
        self.flush()

    def _requeued(self, outcome: list[StoredEvent] | Exception) -> None:
        if isinstance(outcome, Exception):
            _log.error("requeued dead letters of %s could not be read: %s", self.group.name, outcome)
        elif outcome:
            self.requeued(outcome)

    def requeued(self, events: list[StoredEvent]) -> None:
        """Deliver these dead letters again."""
        self.rules.requeued(events)
        self.flush()

    def rewound(self, cursor: int) -> None:
        """Deliver all events after `cursor` again."""
        self.rules.rewound(cursor)
        self.flush()

    # --- time --------------------------------------------------------------------------------------------------------

    def _set_timer(self, now: float) -> None:
        at = self.rules.next_at(now)
        if self._timer is not None:
            if at is not None and self._timer_at <= at:
                return  # The present timer fires early enough, and sets the next one.
            self._timer.cancel()
            self._timer = None
        if at is not None:
            self._timer_at = at
            self._timer = self._reactor.call_later(max(at - now, 0.0), self._on_timer)

    def _on_timer(self, has_caught_up: bool = False) -> None:
        self._timer = None
        now = self._clock()
        if now - self._timer_at > LATE and not has_caught_up:
            # The hub was busy: handle what members sent meanwhile before any of them counts as silent.
            self._timer_at = now + CATCH_UP
            self._timer = self._reactor.call_later(CATCH_UP, self._on_timer, True)
        else:
            self.flush()

    def _on_thread(self, callback: Callable[[Any], None]) -> Callable[[Any], None]:
        """A callback for the journal's thread, which posts the answer to `callback` in the reactor."""
        return lambda outcome: self._reactor.post(self._unless_closed, callback, outcome)

    def _unless_closed(self, callback: Callable[[Any], None], outcome: object) -> None:
        if not self._closed:
            callback(outcome)

    def close(self) -> None:
        """Send nothing more, and ignore further answers of the journal."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
