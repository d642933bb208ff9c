"""Decides when each event of one group is sent, and to which member.

Rule 1: no I/O and no clock here: `now` (monotonic seconds) and the source of random numbers are arguments.
Rule 2: `due` returns the actions to take. Each action is returned once, and counts as taken.
Rule 3: messages of a peer that come late, twice, or for an unknown event have no effect.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterable
from heapq import heappop, heappush
from typing import Any

from zmqservices.exceptions import MaybeExecuted, serialize
from zmqservices.journal.delivery_actions import Action, Bury, Fetch, Send, SendGap
from zmqservices.journal.delivery_queue import DeliveryQueue, QueuedEvent, State
from zmqservices.journal.events import LostRange, Page, StoredEvent
from zmqservices.journal.members import Member

#: The most earlier members of an event that are remembered. Their late answers count.
_REMEMBERED_MEMBERS = 15


class DeliverySchedule:
    """The schedule of one group of one journal.

    It begins with the cursor that `Journal.ensure_group` returned. The first `due` after a member joined asks for events. After
    each call of another method, call `due(now)`, take the actions that it returns, and call it again at `next_at(now)`.

    While no delivery fails, events are sent in the order of their seqs. Events of one key are in flight one at a time, in order.
    Rendezvous hashing chooses their member among those that are connected. A failing event delays only the events of its key.
    """

    def __init__(
        self,
        cursor: int,
        *,
        max_deliveries: int = 10,
        ack_wait: float = 30.0,
        backoff: float = 0.5,
        backoff_max: float = 60.0,
        window: int = 1000,
        window_bytes: int = 1 << 23,
        random: Callable[[], float],
    ) -> None:
        """`ack_wait`: seconds of silence after which a member's events in flight are sent to other members; call `alive` for each
        heartbeat of a busy member. `backoff`: the longest pause before the second delivery, in seconds. It doubles with each
        delivery, up to `backoff_max`, and the pause is a random part of it (full jitter). `window`, `window_bytes`: how many
        events may be in memory. `max_deliveries`: 0 for no limit. `random`: returns a number between 0 and 1, as random.random.
        """
        self._max_deliveries = max_deliveries
        self._ack_wait = ack_wait
        self._backoff = backoff
        self._backoff_max = backoff_max
        self._window = window
        self._window_bytes = window_bytes
        self._random = random
        self._members: dict[str, Member] = {}
        #: Members with credit, in the order in which they get events.
        self._turn: deque[Member] = deque()
        self._queue = DeliveryQueue()
        self._delayed: list[tuple[float, int]] = []
        self._buries: list[Bury] = []
        self._gaps: list[LostRange] = []
        #: The last seq that was loaded, and the last one that the journal has.
        self._after = self._last = cursor
        self._is_last = False
        self._is_loading = False
        #: Whether the answer to the current Fetch is to be dropped, because the group was rewound since.
        self._discards = False
        #: Seqs that were handled while a page was loading that may still hold them.
        self._handled_meanwhile: set[int] = set()
        self._load_at = 0.0
        self._has_news = True

    # --- from the journal -------------------------------------------------------------------------------------------

    def loaded(self, page: Page) -> None:
        """The page that a Fetch asked for."""
        self._has_news = True
        self._is_loading = False
        handled, self._handled_meanwhile = self._handled_meanwhile, set()
        if self._discards:
            self._discards = False
            return
        self._take(page, handled)

    def _take(self, page: Page, handled: Container[int]) -> None:
        self._after = max(self._after, page.to_seq)
        self._is_last = page.is_last
        for item in page.items:
            if isinstance(item, LostRange):
                self._gaps.append(item)
            elif item.seq not in handled:
                self._queue.add(item)

    def offered(self, after: int, page: Page) -> None:
        """Events after `after` that were just committed, offered without a Fetch.

        They are taken if the next Fetch would ask for them. Otherwise a later Fetch asks for them.
        """
        if after == self._after and not self._is_loading and self._is_low():
            self._has_news = True
            self._take(page, ())

    def not_loaded(self, now: float) -> None:
        """The Fetch failed. It is repeated a second later."""
        self._has_news = True
        self._is_loading = self._discards = False
        self._handled_meanwhile.clear()
        self._load_at = now + 1.0

    def appended(self, last_seq: int) -> None:
        """The journal now has events up to `last_seq`."""
        if last_seq > self._last:
            self._last = last_seq
            self._has_news = True

    def requeued(self, events: Iterable[StoredEvent]) -> None:
        """Deliver these dead letters once more. Their attempts are counted from 0 again."""
        self._has_news = True
        for event in events:
            self._queue.add(event)

    def rewound(self, cursor: int) -> None:
        """Deliver all events after `cursor` again, except those that are in flight now."""
        self._has_news = True
        self._queue.keep_in_flight()
        self._delayed.clear()
        self._gaps.clear()
        self._after = cursor
        self._is_last = False
        self._discards = self._is_loading
        self._handled_meanwhile.clear()

    # --- from members ------------------------------------------------------------------------------------------------

    def joined(self, member: str, now: float) -> None:
        """A member has connected. It has no credit yet."""
        if member not in self._members:
            self._members[member] = Member(member, now)
            self._queue.share(self._members)
        self._seen(member, now)

    def left(self, member: str, now: float) -> None:
        """A member has disconnected. Its events in flight are sent to other members at once."""
        self._has_news = True
        gone = self._members.pop(member, None)
        if gone is not None:
            if gone.is_in_turn:
                self._turn.remove(gone)
            self._queue.share(self._members)
            self._give_to_others(gone, "went away")

    def granted(self, member: str, n: int, now: float) -> None:
        """Add `n` to the credit of `member`.

        A large negative `n` retires a member that stops: it gets no more events, and keeps its events in flight until it answers
        or disconnects.
        """
        taker = self._seen(member, now)
        if taker is not None:
            taker.credit += n
            self._take_turn(taker)

    def alive(self, member: str, now: float) -> None:
        """A heartbeat of a member. Its other messages count as heartbeats as well."""
        self._seen(member, now)

    def acked(self, member: str, seq: int, now: float, *, process: str = "", is_older: bool = False) -> bool:
        """A member has handled the event. Returns True for the first such answer: then call `Journal.acknowledge(group, seq)`.

        The answer counts from each member that the event was sent to, now or before: `member`, or another one whose name begins
        with `process`. With `is_older` it counts from any member, also if the event is not loaded yet: the event is older than
        this opening of the journal, and the process that served the journal before may have sent it.
        """
        self._seen(member, now)
        entry = self._queue.get(seq)
        if not is_older and not (entry is not None and _was_sent_to(entry, member, process)):
            return False
        if entry is None:
            if not self._after < seq <= self._last:
                return False
            if self._is_loading:
                self._handled_meanwhile.add(seq)
            return True
        self._no_longer_in_flight(entry)
        self._queue.remove(entry)
        if self._is_loading:
            # After a rewind, the page that is loading may hold it.
            self._handled_meanwhile.add(seq)
        return True

    def nacked(
        self, member: str, seq: int, delay: float | None, error: dict[str, Any], now: float, *, final: bool = False
    ) -> None:
        """The handler failed with `error`. The event is delivered again after `delay` seconds (None: after the backoff).

        After the last delivery, or if `final`, it becomes a dead letter. Ignored unless the event is in flight to `member`.
        """
        self._seen(member, now)
        entry = self._in_flight_at(member, seq)
        if entry is None:
            return
        self._no_longer_in_flight(entry)
        entry.error = error
        if final or self._was_last(entry):
            self._bury(entry)
        else:
            self._delay(entry, now + (self._pause(entry.attempts) if delay is None else delay))

    def returned(self, member: str, seq: int, now: float, delay: float = 0.0) -> None:
        """The member gives the event back unhandled, because it stops or has no room. This delivery is not counted.

        The event may be sent again after `delay` seconds. Ignored unless it is in flight to `member`.
        """
        self._seen(member, now)
        entry = self._in_flight_at(member, seq)
        if entry is not None:
            self._no_longer_in_flight(entry)
            entry.attempts -= 1
            if delay > 0:
                self._delay(entry, now + delay)
            else:
                self._queue.make_ready(entry)

    # --- actions ----------------------------------------------------------------------------------------------

    def due(self, now: float, limit: int = 1000) -> list[Action]:
        """The actions to take now, with about `limit` Sends at most. If more are due, next_at(now) is now."""
        self._has_news = False
        self._note_silence(now)
        self._end_delays(now)
        actions: list[Action] = [*self._buries, *self._gaps_to_send()]
        self._buries = []
        self._send(actions, limit)
        if self._wants_more(now):
            self._is_loading = True
            actions.append(Fetch(self._after, self._window - len(self._queue)))
        return actions

    def next_at(self, now: float) -> float | None:
        """The time to call `due` next if no other method is called before; None for never."""
        if self._has_news:
            return now
        times = [self._delayed[0][0]] if self._delayed else []
        times += [m.seen_at + self._ack_wait for m in self._members.values() if m.in_flight and not m.is_silent]
        if self._load_at > now and self._has_room():
            times.append(self._load_at)
        return max(now, min(times)) if times else None

    # --- the parts of due -------------------------------------------------------------------------------------------------

    def _note_silence(self, now: float) -> None:
        for member in self._members.values():
            if member.in_flight and not member.is_silent and now - member.seen_at >= self._ack_wait:
                member.is_silent = True
                self._give_to_others(member, f"was silent for {self._ack_wait:g} s")

    def _end_delays(self, now: float) -> None:
        while self._delayed and self._delayed[0][0] <= now:
            entry = self._queue.get(heappop(self._delayed)[1])
            if entry is not None and entry.state is State.DELAYED:
                self._queue.make_ready(entry)

    def _gaps_to_send(self) -> list[SendGap]:
        if not self._gaps or not self._members:
            return []
        member = next(iter(self._members))
        gaps, self._gaps = self._gaps, []
        return [SendGap(member, gap) for gap in gaps]

    def _send(self, actions: list[Action], limit: int) -> None:
        turn, take, refusals = self._turn, self._queue.take, 0
        while turn and refusals < len(turn):
            if limit <= 0:
                self._has_news = True
                return
            member = turn[0]
            entry = take(member) if member.may_take else None
            if entry is not None:
                actions.append(self._sent(entry, member))
                limit -= 1
                refusals = 0
            if not member.may_take:
                member.is_in_turn = False
                turn.popleft()
                continue
            turn.rotate(-1)
            # Count the members in turn that take nothing. Once each of them took nothing, no event can be sent.
            if entry is None:
                refusals += 1

    def _sent(self, entry: QueuedEvent, member: Member) -> Send:
        entry.attempts += 1
        entry.member = member.name
        if member.name not in entry.sent_to:
            entry.sent_to = (*entry.sent_to[-_REMEMBERED_MEMBERS:], member.name)
        member.credit -= 1
        member.in_flight.add(entry.event.seq)
        return Send(member.name, entry.event, entry.attempts)

    def _wants_more(self, now: float) -> bool:
        return not self._is_loading and now >= self._load_at and self._has_room()

    def _has_room(self) -> bool:
        has_more = not self._is_last or self._last > self._after
        return has_more and self._is_low()

    def _is_low(self) -> bool:
        return len(self._queue) <= self._window // 2 and self._queue.size < self._window_bytes and bool(self._members)

    # --- state of events -------------------------------------------------------------------------------------------

    def _seen(self, name: str, now: float) -> Member | None:
        member = self._members.get(name)
        if member is not None:
            self._has_news = True
            member.seen_at = now
            member.is_silent = False
            if not member.is_in_turn:
                self._take_turn(member)
        return member

    def _take_turn(self, member: Member) -> None:
        if member.may_take and not member.is_in_turn:
            member.is_in_turn = True
            self._turn.append(member)

    def _delay(self, entry: QueuedEvent, until: float) -> None:
        self._queue.delay(entry)
        heappush(self._delayed, (until, entry.event.seq))

    def _in_flight_at(self, name: str, seq: int) -> QueuedEvent | None:
        entry = self._queue.get(seq)
        return entry if entry is not None and entry.state is State.SENT and entry.member == name else None

    def _no_longer_in_flight(self, entry: QueuedEvent) -> None:
        owner = self._members.get(entry.member or "")
        if owner is not None:
            owner.in_flight.discard(entry.event.seq)
        entry.member = None

    def _give_to_others(self, member: Member, why: str) -> None:
        seqs, member.in_flight = sorted(member.in_flight), set()
        for entry in filter(None, map(self._queue.get, seqs)):
            entry.member = None
            if self._was_last(entry):
                entry.error = entry.error or serialize(MaybeExecuted(f"{member.name} {why} with the event in hand"))
                self._bury(entry)
            else:
                self._queue.make_ready(entry)

    def _was_last(self, entry: QueuedEvent) -> bool:
        return 0 < self._max_deliveries <= entry.attempts

    def _bury(self, entry: QueuedEvent) -> None:
        self._queue.remove(entry)
        if self._is_loading:
            self._handled_meanwhile.add(entry.event.seq)
        self._buries.append(Bury(entry.event, entry.attempts, entry.error or {}))

    def _pause(self, attempts: int) -> float:
        # Bound the exponent first: a large power of two is no float.
        return self._random() * min(self._backoff_max, self._backoff * 2.0 ** min(attempts - 1, 60))

    @property
    def next_after(self) -> int | None:
        """The seq after which the next commit should be offered at once. None if older events must be loaded, or without room."""
        is_at_end = self._is_last and not self._is_loading and self._last <= self._after
        return self._after if is_at_end and self._is_low() else None

    # --- figures ---------------------------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """Number of events that were sent and not answered."""
        return sum(len(member.in_flight) for member in self._members.values())

    @property
    def in_memory(self) -> int:
        """Number of events that are loaded and not acknowledged."""
        return len(self._queue)

    def members(self) -> list[str]:
        """The names of the connected members."""
        return list(self._members)


def _was_sent_to(entry: QueuedEvent, member: str, process: str) -> bool:
    return member in entry.sent_to or bool(process and any(name.startswith(process) for name in entry.sent_to))
