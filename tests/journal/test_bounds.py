"""Which events a journal deletes when it is full or they are old, and how groups and operators learn of it."""

import time

import pytest

from zmqservices.exceptions import JournalFull
from zmqservices.journal import LostRange, NewEvent
from zmqservices.journal.events import Dropped, Expired
from zmqservices.journal.group_state import UNPROVEN_FOR
from zmqservices.journal.store import Store

BODY = b"x" * 1000


@pytest.fixture
def clock(monkeypatch):
    """The wall's, wound by hand; the journal's thread looks at what is old with every question."""

    class Clock:
        now = 1_000_000.0

        def __call__(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr("zmqservices.journal.writer.time", clock)
    monkeypatch.setattr("zmqservices.journal.journal.time", clock)
    monkeypatch.setattr("zmqservices.journal.writer.SWEEP_INTERVAL", 0.0)
    return clock


def one_by_one(journal, n, body=BODY):
    return [journal.append(body=body) for _ in range(n)]


# --- block -----------------------------------------------------------------------------------------------------------------


def test_an_append_without_room_names_the_group_that_blocks_it(open_journal):
    journal = open_journal(max_bytes=5000, full_timeout=0.0)
    journal.ensure()
    one_by_one(journal, 4)

    with pytest.raises(JournalFull, match=r"holds \d+ of 5000 bytes; group 'reports.handle' has 4 events to handle"):
        journal.append(body=BODY)

    assert journal.seqs() == [1, 2, 3, 4]
    assert JournalFull.retryable


def test_a_group_that_never_answered_blocks_no_append_after_a_while(open_journal, clock):
    journal = open_journal(max_bytes=5000, full_timeout=0.0)
    journal.ensure("unserved")
    one_by_one(journal, 4)
    with pytest.raises(JournalFull):
        journal.append(body=BODY)
    clock.now += UNPROVEN_FOR + 1

    one_by_one(journal, 4)

    assert journal.stats_of("unserved").waiting + journal.stats_of("unserved").lost == 8
    assert journal.items("unserved")[0].reason == "bytes"


@pytest.mark.parametrize("answer", ["acknowledge", "bury"])
def test_a_group_that_has_answered_blocks_appends_even_after_a_restart(open_journal, reopened, clock, answer):
    journal = open_journal(max_bytes=5000, full_timeout=0.0)
    journal.ensure("unserved")
    journal.ensure()
    one_by_one(journal, 1)
    if answer == "acknowledge":
        journal.acknowledge(1)
    else:
        journal.ask("bury", "reports.handle", journal.items()[0], {}, 1)
    journal = reopened(journal, max_bytes=5000, full_timeout=0.0)
    clock.now += UNPROVEN_FOR + 1
    with pytest.raises(JournalFull, match="'reports.handle' has"):
        one_by_one(journal, 10)

    journal.acknowledge(*range(1, 10))

    one_by_one(journal, 3)
    assert "bytes" in {item.reason for item in journal.items("unserved") if isinstance(item, LostRange)}


def test_an_append_waits_for_room(open_journal):
    journal = open_journal(max_bytes=5000, full_timeout=30.0)
    journal.ensure()
    one_by_one(journal, 4)
    answers = []
    for _ in range(3):
        journal.journal.append(NewEvent("a", BODY), answers.append)
    assert journal.stats_of().waiting == 4 and journal.stats().blocked == 3 and answers == []

    journal.acknowledge(1, 2)
    journal.settled()

    assert answers == [5, 6]
    assert journal.stats().blocked == 1
    journal.acknowledge(3)
    journal.settled()
    assert answers == [5, 6, 7]


def test_waiting_appends_keep_their_order_and_later_ones_follow(open_journal):
    journal = open_journal(max_bytes=5000, full_timeout=30.0)
    journal.ensure()
    one_by_one(journal, 4)
    answers = []
    journal.journal.append(NewEvent("large", BODY), answers.append)
    journal.journal.append(NewEvent("small", b""), answers.append)
    journal.settled()
    assert answers == []

    journal.acknowledge(1, 2, 3, 4)
    journal.settled()

    assert [item.type for item in journal.items()] == ["large", "small"]


def test_an_event_that_can_never_fit_says_so(open_journal):
    journal = open_journal(max_bytes=5000, full_timeout=3600.0)

    with pytest.raises(JournalFull, match="an event of .* cannot fit the journal's max_bytes, 5000"):
        journal.append(body=b"x" * 6000)

    assert journal.append() == 1


def test_nothing_is_deleted_for_an_event_that_can_never_fit(open_journal):
    journal = open_journal(max_bytes=5000, when_full="drop-oldest")
    journal.ensure()
    one_by_one(journal, 4)

    with pytest.raises(JournalFull, match="cannot fit"):
        journal.append(body=b"x" * 6000)

    assert journal.seqs() == [1, 2, 3, 4]


def test_without_groups_nothing_is_ever_full(open_journal):
    journal = open_journal(max_bytes=5000, full_timeout=0.0)

    assert one_by_one(journal, 20)[-1] == 20
    assert journal.stats().bytes <= 5000


def test_handled_events_are_deleted_first(open_journal, reopened):
    journal = open_journal(max_bytes=5000, full_timeout=0.0)
    journal.ensure()
    for seq in one_by_one(journal, 4):
        journal.acknowledge(seq)

    one_by_one(journal, 3)

    assert journal.seqs() == [5, 6, 7]
    assert reopened(journal).seqs() == [5, 6, 7]
    assert journal.notices == []


def test_waiting_appends_are_refused_when_the_journal_closes(open_journal):
    journal = open_journal(max_bytes=5000, full_timeout=30.0)
    journal.ensure()
    one_by_one(journal, 4)
    answers = []
    journal.journal.append(NewEvent("a", BODY), answers.append)

    journal.close()

    assert isinstance(answers[0], JournalFull)


# --- drop-oldest -----------------------------------------------------------------------------------------------------------


def test_the_oldest_events_are_dropped_and_their_group_gets_a_gap(open_journal):
    journal = open_journal(max_bytes=5000, when_full="drop-oldest")
    journal.ensure()

    one_by_one(journal, 10)

    items = journal.items()
    assert items[0] == LostRange(1, 6, 6, "bytes")
    assert [item.seq for item in items[1:]] == [7, 8, 9, 10]
    assert items[1].prev_seq == 6
    assert journal.stats_of().lost == 6 and journal.stats_of().waiting == 4


def test_a_gap_is_delivered_until_it_is_acknowledged(open_journal, reopened):
    options = {"max_bytes": 5000, "when_full": "drop-oldest"}
    journal = open_journal(**options)
    journal.ensure()
    one_by_one(journal, 10)
    journal.fetch()
    journal = reopened(journal, **options)
    [gap, *_] = journal.items()

    journal.acknowledge(gap.seq)

    assert journal.seqs() == [7, 8, 9, 10]
    assert reopened(journal).seqs() == [7, 8, 9, 10]


def test_only_events_of_the_group_count_as_lost(open_journal):
    journal = open_journal(max_bytes=5000, when_full="drop-oldest")
    journal.ensure("some", "order.paid")
    journal.ensure("none", "nothing")
    for i in range(10):
        journal.append(("order.paid", "order.created")[i % 2], BODY)

    assert journal.items("some")[0] == LostRange(1, 5, 3, "bytes")
    assert journal.items("none") == []


def test_events_handled_before_do_not_count_as_lost(open_journal):
    journal = open_journal(max_bytes=5000, when_full="drop-oldest")
    journal.ensure()
    one_by_one(journal, 4)
    journal.acknowledge(1, 3)

    one_by_one(journal, 4)

    assert journal.items()[0] == LostRange(2, 4, 2, "bytes")


def test_many_losses_give_one_warning(open_journal):
    journal = open_journal(max_bytes=5000, when_full="drop-oldest")
    journal.ensure()
    one_by_one(journal, 30)

    journal.close()

    told = [notice for notice in journal.notices if isinstance(notice, Dropped)]
    assert sum(notice.gap.events for notice in told) == 26
    assert {notice.group for notice in told} == {"reports.handle"}
    assert len(told) < 10


def test_events_fetched_before_they_were_dropped_may_still_be_handled(open_journal):
    journal = open_journal(max_bytes=5000, when_full="drop-oldest")
    journal.ensure()
    one_by_one(journal, 4)
    in_hand = journal.fetch(limit=2)
    one_by_one(journal, 4)

    for item in in_hand.items:
        journal.acknowledge(item.seq)

    assert journal.items(after=in_hand.to_seq)[0] == LostRange(3, 4, 2, "bytes")
    assert journal.stats_of().lost == 2


def test_dropped_events_in_flight_become_a_gap_after_a_restart(open_journal, reopened):
    options = {"max_bytes": 5000, "when_full": "drop-oldest"}
    journal = open_journal(**options)
    journal.ensure()
    one_by_one(journal, 4)
    journal.fetch(limit=2)
    one_by_one(journal, 4)
    journal.acknowledge(1)

    journal = reopened(journal, **options)

    lost = [item for item in journal.items() if isinstance(item, LostRange)]
    assert lost == [LostRange(1, 2, 1, "bytes"), LostRange(3, 4, 2, "bytes")]
    journal.acknowledge(2, 4)
    assert journal.stats_of().cursor == 4
    assert journal.seqs() == [5, 6, 7, 8]


def test_a_group_that_stays_away_has_one_gap_however_much_it_loses(open_journal):
    journal = open_journal(max_bytes=50_000, when_full="drop-oldest")
    journal.ensure()
    for _ in range(20):
        journal.append_many(100, body=BODY)

    items = journal.items()
    gaps = [item for item in items if isinstance(item, LostRange)]

    assert len(gaps) == 1
    assert gaps[0].events + len(items) - 1 == 2000
    assert journal.stats().bytes <= 50_000


# --- age -------------------------------------------------------------------------------------------------------------------


def test_events_that_are_too_old_are_deleted_and_become_a_gap(open_journal, clock):
    journal = open_journal(max_age=60.0)
    journal.ensure()
    one_by_one(journal, 3)
    clock.now += 50
    one_by_one(journal, 2)
    clock.now += 11
    journal.settled()

    items = journal.items()

    assert items[0] == LostRange(1, 3, 3, "age")
    assert [item.seq for item in items[1:]] == [4, 5]


def test_handled_events_are_kept_for_replays_for_a_while(open_journal, clock):
    journal = open_journal(retention=60.0)
    journal.ensure()
    for seq in one_by_one(journal, 3):
        journal.acknowledge(seq)
    clock.now += 59
    assert journal.settled().stats().events == 3

    clock.now += 2
    journal.settled()

    assert journal.settled().stats().events == 0
    assert journal.ask("rewind", "reports.handle", to_seq=0) == 3
    assert journal.items() == [] and journal.notices == []


def test_events_that_wait_are_kept_without_limit(open_journal, clock):
    journal = open_journal(retention=0.0)
    journal.ensure()
    one_by_one(journal, 3)

    clock.now += 1e9
    journal.settled()

    assert journal.settled().seqs() == [1, 2, 3]
    assert journal.stats_of().oldest_age == 1e9


def test_no_events_are_kept_for_a_group_that_stays_away_too_long(open_journal, clock):
    journal = open_journal(max_bytes=5000, full_timeout=0.0)
    journal.ensure(expires_after=60.0)
    one_by_one(journal, 4)

    clock.now += 61
    journal.settled()
    journal.settled()

    assert [notice for notice in journal.notices if isinstance(notice, Expired)] == [Expired("reports.handle", 61.0, 4)]
    assert journal.stats_of().has_expired and journal.stats_of().waiting == 0
    assert one_by_one(journal, 4) == [5, 6, 7, 8]


def test_a_group_that_comes_back_gets_a_gap(open_journal, reopened, clock):
    journal = open_journal()
    journal.ensure(expires_after=60.0)
    one_by_one(journal, 4)
    clock.now += 61
    journal.settled()
    journal.settled()
    one_by_one(journal, 2)
    journal = reopened(journal)

    cursor = journal.ensure(expires_after=60.0)
    journal.append()

    assert journal.items(after=cursor)[0] == LostRange(1, 6, 6, "expired")
    assert [item.seq for item in journal.items()[1:]] == [7]
    assert journal.stats_of().waiting == 1


def test_a_group_whose_members_are_there_does_not_expire(open_journal, clock):
    journal = open_journal()
    journal.ensure(expires_after=60.0)
    for _ in range(5):
        clock.now += 59
        journal.seen("reports.handle")
        journal.settled()

    assert not journal.stats_of().has_expired


def test_a_group_whose_members_are_busy_for_long_does_not_expire_when_they_answer(open_journal, clock):
    journal = open_journal()
    journal.ensure(expires_after=60.0)
    one_by_one(journal, 2)
    clock.now += 59
    journal.acknowledge(1)
    journal.settled()
    clock.now += 59
    journal.settled()

    assert journal.settled().seqs() == [2]


# --- the disk --------------------------------------------------------------------------------------------------------------


def test_space_of_deleted_events_is_given_back_to_the_disk(open_journal, reopened, monkeypatch):
    monkeypatch.setattr("zmqservices.journal.store._SPARE_PAGES", 16)
    monkeypatch.setattr("zmqservices.journal.writer.SWEEP_INTERVAL", 0.0)
    journal = open_journal(retention=0.0)
    journal.ensure()
    journal.append_many(4000, body=BODY)
    journal = reopened(journal, retention=0.0)
    full = journal.path.stat().st_size
    journal.acknowledge(*range(1, 4001))
    until = time.monotonic() + 30

    while time.monotonic() < until and journal.settled().stats().events:
        pass
    for _ in range(20):
        journal.settled()
    journal.close()

    assert full > 4_000_000
    assert journal.path.stat().st_size < full / 4


def test_a_store_of_another_layout_is_refused_by_its_number(open_journal, journal):
    journal.close()
    store = Store(journal.path, "normal")
    store._db.execute("PRAGMA user_version = 7")
    store.close()

    with pytest.raises(Exception, match="is of layout 7; this version knows 1 only"):
        open_journal()
