"""Which events a journal keeps for which groups, also across restarts."""

import pytest

from zmqservices.exceptions import ConfigurationError, GroupConflict, JournalError
from zmqservices.journal import Group, Journal, NewEvent, StoredEvent

# --- appending -------------------------------------------------------------------------------------------------------------


def test_seqs_count_from_one_without_a_hole(journal):
    assert [journal.append() for _ in range(3)] == [1, 2, 3]
    assert journal.append_many(1000) == list(range(4, 1004))
    assert journal.last_seq == 1003


def test_an_event_comes_back_as_it_went_in(journal):
    journal.ensure()
    journal.append("order.created", b"\x00\xff", headers=b"\x80", key="k")
    journal.append("order.paid", b"")

    first, second = journal.items()

    assert first == StoredEvent(1, 0, first.at, "order.created", b"\x00\xff", b"\x80", "k", journal.origin)
    assert second == StoredEvent(2, 1, second.at, "order.paid", b"", None, None, journal.origin)
    assert first.at <= second.at


def test_events_are_read_from_disk_as_from_memory(open_journal, reopened):
    journal = open_journal()
    journal.ensure()
    journal.append_many(100)
    from_memory = journal.items()

    journal = reopened(journal)

    assert journal.items() == from_memory


def test_more_events_than_stay_in_memory_are_read(journal):
    journal.ensure()
    journal.append_many(6000)

    assert journal.seqs() == list(range(1, 6001))
    assert journal.seqs(after=1900) == list(range(1901, 6001))


def test_a_commit_is_reported_once_for_all_its_events(tmp_path):
    told = []
    journal = Journal.open(tmp_path, "orders", on_commit=told.append)
    for _ in range(1000):
        journal.append(NewEvent("a", b""), lambda seq: None)

    journal.close()

    assert told[-1] == 1000 and sorted(told) == told
    assert len(told) < 1000


def test_a_commit_is_handed_over_before_it_is_reported(open_journal):
    told = []
    journal = open_journal(on_commit=told.append)
    journal.ensure(pattern="order.*")
    journal.append()

    journal.journal.fetch_ahead("reports.handle", 1, 10, told.append)
    journal.append("order.paid")
    journal.append("order.paid")
    journal.settled()

    assert [getattr(one, "items", one) for one in told] == [1, tuple(journal.items(after=1)[:1]), 2, 3]
    assert told[1].is_last and told[1].to_seq == 2


def test_events_of_a_commit_that_do_not_match_the_group_count_as_handled(open_journal):
    told = []
    journal = open_journal()
    journal.ensure(pattern="order.*")

    journal.journal.fetch_ahead("reports.handle", 0, 10, told.append)
    journal.append("stock.low")

    journal.settled()
    [page] = told
    assert (page.items, page.to_seq, page.is_last) == ((), 1, True)
    assert journal.stats().groups["reports.handle"].waiting == 0


def test_a_commit_that_begins_elsewhere_is_not_handed_over(open_journal):
    told = []
    journal = open_journal()
    journal.ensure()
    journal.append()

    journal.journal.fetch_ahead("reports.handle", 0, 10, told.append)
    journal.journal.fetch_ahead("nobody.there", 1, 10, told.append)
    journal.append()

    journal.settled()
    assert told[0] is None
    assert isinstance(told[1], JournalError)
    assert journal.seqs() == [1, 2]


@pytest.mark.parametrize("event", [NewEvent("a", "text"), NewEvent(b"a", b""), NewEvent("a", None)])
def test_a_body_that_is_not_bytes_is_refused_at_once(journal, event):
    with pytest.raises(TypeError, match="bytes"):
        journal.append(event.type, event.body)


def test_an_event_that_cannot_be_stored_does_not_affect_others_of_its_commit(journal):
    answers = []
    for headers in (None, {1, 2}, None):
        journal.journal.append(NewEvent("a", b"", headers), answers.append)

    assert journal.append() == 3
    assert [type(answer) for answer in answers] == [int, TypeError, int]


def test_a_failing_callback_does_not_affect_the_journal(journal, capsys):
    journal.journal.append(NewEvent("a", b""), lambda seq: 1 / 0)

    assert journal.append() == 2
    assert "ZeroDivisionError" in capsys.readouterr().err


# --- groups ----------------------------------------------------------------------------------------------------------------


def test_a_group_gets_events_appended_after_it(journal):
    journal.append()
    assert journal.ensure() == 1

    journal.append()

    assert journal.seqs(after=1) == [2]


def test_a_group_may_ask_for_all_kept_events(journal):
    journal.append()

    assert journal.ensure(start="earliest") == 0
    assert journal.seqs() == [1]


def test_the_order_of_calls_decides_the_events_of_a_group(journal):
    journal.journal.append(NewEvent("a", b""), lambda seq: None)
    journal.journal.ensure_group(Group("reports.handle", "#"), lambda cursor: None)
    journal.journal.append(NewEvent("a", b""), lambda seq: None)

    assert journal.seqs(after=1) == [2]


def test_a_group_gets_the_types_of_its_pattern(journal):
    journal.ensure("reports.created", "order.created")
    journal.ensure("reports.all", "order.*")
    for event_type in ("order.created", "order.paid", "customer.created", "order.created"):
        journal.append(event_type)

    assert journal.seqs("reports.created") == [1, 4]
    assert [(item.seq, item.prev_seq) for item in journal.items("reports.all")] == [(1, 0), (2, 1), (4, 2)]


def test_a_page_holds_no_more_than_its_limit(journal):
    journal.ensure()
    journal.append_many(10)

    page = journal.fetch(limit=4)

    assert [item.seq for item in page.items] == [1, 2, 3, 4] and page.to_seq == 4 and not page.is_last
    assert journal.fetch(after=8).is_last


def test_a_page_holds_no_more_than_its_bytes_and_one_event(journal):
    journal.ensure()
    journal.append_many(10, body=b"x" * 1000)

    page = journal.fetch(max_bytes=3000)

    assert len(page.items) == 3 and not page.is_last


def test_an_empty_page_says_how_far_the_search_went(journal):
    journal.ensure(pattern="rare")
    journal.append_many(100)

    page = journal.fetch()

    assert page.items == () and page.to_seq == 100 and page.is_last


def test_a_search_for_rare_events_pauses_between_pages(journal, monkeypatch):
    monkeypatch.setattr("zmqservices.journal.paging._LOOKED_AT", 30)
    journal.ensure(pattern="rare")
    journal.append_many(100)
    journal.append("rare")

    page = journal.fetch()

    assert page.items == () and page.to_seq == 30 and not page.is_last
    assert journal.seqs() == [101]


def test_an_unknown_group_is_an_error_that_names_the_known_ones(journal):
    journal.ensure("reports.handle")

    with pytest.raises(JournalError, match="no group 'report'; known: reports.handle"):
        journal.fetch("report")


def test_acknowledged_events_do_not_come_again(journal, open_journal, reopened):
    journal.ensure()
    journal.append_many(10)
    journal.acknowledge(1, 2, 3, 7)
    assert journal.seqs() == [4, 5, 6, 8, 9, 10]

    journal = reopened(journal)

    assert journal.ensure() == 3
    assert journal.seqs() == [4, 5, 6, 8, 9, 10]


def test_repeated_and_unknown_acknowledgements_have_no_effect(journal):
    journal.ensure()
    journal.append_many(3)

    journal.acknowledge(2, 2, 99, -1)
    journal.acknowledge(1, group="nobody")

    assert journal.seqs() == [1, 3]
    assert journal.stats_of().waiting == 2


def test_the_cursor_passes_events_that_do_not_match_the_group(journal):
    journal.ensure(pattern="order.created")
    journal.append_many(5, "order.paid")
    journal.append_many(1, "order.created")
    journal.append_many(5, "order.paid")
    assert journal.stats_of().cursor == 5

    journal.fetch()
    journal.acknowledge(6)

    assert journal.stats_of().cursor == 11


def test_groups_are_stored_with_their_declaration(journal, reopened):
    journal.ensure(pattern="order.*", max_deliveries=3, expires_after=60.0, details={"kind": "pool"})

    journal = reopened(journal)

    assert journal.groups() == [Group("reports.handle", "order.*", "new", 3, 60.0, {"kind": "pool"})]


def test_a_group_keeps_its_pattern_for_as_long_as_it_lives(journal, reopened):
    journal.ensure(pattern="a")
    journal.append("a")
    journal.append("b")

    with pytest.raises(GroupConflict, match="keeps events 'a' for group 'reports.handle', and not 'b'"):
        journal.ensure(pattern="b")

    assert journal.seqs() == [1]
    assert reopened(journal).seqs() == [1]


def test_a_group_that_was_removed_is_new_when_it_comes_again(journal, reopened):
    journal.ensure()
    journal.append()

    assert journal.ask("remove_group", "reports.handle") is True
    assert journal.ask("remove_group", "reports.handle") is False

    journal = reopened(journal)
    assert journal.groups() == []
    assert journal.ensure() == 1


def test_two_groups_are_told_apart(journal):
    journal.ensure("a")
    journal.ensure("b")
    journal.append_many(3)

    journal.acknowledge(1, 2, 3, group="a")

    assert journal.seqs("a") == []
    assert journal.seqs("b") == [1, 2, 3]


# --- replay ----------------------------------------------------------------------------------------------------------------


def test_a_group_may_be_rewound_to_a_seq(journal, reopened):
    journal.ensure()
    journal.append_many(10)
    journal.acknowledge(*range(1, 11))

    assert journal.ask("rewind", "reports.handle", to_seq=7) == 7

    assert journal.seqs(after=7) == [8, 9, 10]
    assert journal.stats_of().waiting == 3
    journal = reopened(journal)
    assert journal.ensure() == 7


def test_a_group_may_be_rewound_to_a_time(journal):
    journal.ensure()
    for _ in range(5):
        journal.append()
    third = journal.items()[2].at
    journal.acknowledge(*range(1, 6))

    assert journal.ask("rewind", "reports.handle", to_time=third) == 2


def test_a_group_may_be_wound_forward_past_what_waits(journal):
    journal.ensure()
    journal.append_many(10)

    assert journal.ask("rewind", "reports.handle", to_seq=10**9) == 10

    assert journal.stats_of().waiting == 0


def test_events_can_be_read_without_a_group(journal):
    journal.append("a")
    journal.append("b")
    journal.append("a")

    page = journal.ask("read", "a", 0, 10)

    assert [item.seq for item in page.items] == [1, 3] and page.is_last
    assert journal.groups() == []


# --- restarts --------------------------------------------------------------------------------------------------------------


def test_seqs_go_on_after_a_restart_under_another_origin(journal, reopened):
    journal.ensure()
    journal.append()
    origin, name = journal.origin, journal.id

    journal = reopened(journal)

    assert journal.append() == 2
    assert journal.id == name and journal.origin != origin
    assert [item.origin for item in journal.items()] == [origin, journal.origin]
    assert journal.notices == []


def test_a_journal_knows_the_names_that_it_gave(journal, reopened):
    journal.append_many(3)
    origin = journal.origin
    journal = reopened(reopened(journal))
    journal.append_many(2)

    assert journal.knows(origin, 3) and journal.knows(journal.origin, 4) and journal.knows(journal.origin, 5)
    assert not journal.knows(origin, 4)
    assert not journal.knows(journal.origin, 3) and not journal.knows(journal.origin, 6)
    assert not journal.knows("another", 1)


def test_seqs_go_on_when_all_events_were_handled_and_deleted(journal, reopened, monkeypatch):
    monkeypatch.setattr("zmqservices.journal.writer.SWEEP_INTERVAL", 0.0)
    journal = reopened(journal, retention=0.0)
    journal.append_many(3)
    journal.settled()
    assert journal.stats().events == 0
    journal.close()
    journal.path.with_suffix(".lock").unlink()

    journal = reopened(journal)

    assert journal.last_seq == 3 and journal.append() == 4


# --- how it stands ---------------------------------------------------------------------------------------------------------


def test_stats_count_waiting_events_and_their_age(journal, reopened):
    journal.ensure("a")
    journal.ensure("b", "nothing")
    journal.append_many(10, body=b"x" * 100)
    journal.acknowledge(1, 2, 5, group="a")
    journal = reopened(journal)

    stats = journal.stats()

    assert stats.events == 10 and 1000 < stats.bytes < 3000 and stats.last_seq == 10 and stats.trouble is None
    assert stats.groups["a"].waiting == 7 and stats.groups["a"].cursor == 2
    assert stats.groups["b"].waiting == 0 and stats.groups["b"].oldest_age is None
    assert 0 <= journal.stats_of("a").idle < 60


# --- the end ---------------------------------------------------------------------------------------------------------------


def test_events_posted_before_the_close_are_kept(journal, reopened):
    journal.ensure()
    answers = []
    for _ in range(1000):
        journal.journal.append(NewEvent("a", b""), answers.append)

    journal = reopened(journal)

    assert answers == list(range(1, 1001))
    assert journal.last_seq == 1000


def test_a_closed_journal_refuses_everything(journal):
    journal.close()
    journal.close()

    with pytest.raises(JournalError, match="is closed"):
        journal.append()
    with pytest.raises(JournalError, match="is closed"):
        journal.ensure()
    journal.acknowledge(1)


def test_the_end_may_be_told_instead_of_waited_for(journal, open_journal):
    assert journal.ask("close") is None
    assert journal.ask("close") is None

    assert open_journal().slot == journal.slot


@pytest.mark.parametrize(
    "options, text",
    [
        ({"sync": "fast"}, "sync is 'fast'; 'normal' or 'full'"),
        ({"when_full": "panic"}, "when_full is 'panic'; 'block' or 'drop-oldest'"),
        ({"max_bytes": 0}, "max_bytes is 0"),
        ({"retention": -1.0}, "retention is -1.0"),
    ],
)
def test_wrong_settings_are_quoted(tmp_path, options, text):
    with pytest.raises(ConfigurationError, match=text):
        Journal.open(tmp_path, "orders", **options)


def test_with_full_sync_a_journal_does_the_same(open_journal, reopened):
    journal = open_journal(sync="full")
    journal.ensure()
    journal.append_many(100)

    assert len(reopened(journal).seqs()) == 100
