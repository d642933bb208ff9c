"""The rules by which members of a group get events, answer them and leave. No sockets; the tests move the time themselves."""

import pytest

from tests.cluster.events.rules import GROUP, Stage
from zmqservices.cluster.events.source_members import RETRY_INTERVAL
from zmqservices.exceptions import BadRequest, JournalError
from zmqservices.journal import LostRange
from zmqservices.wire.messages import Ack, Event, Gap, Subscribe


@pytest.fixture
def stage():
    return Stage()


# --- a member subscribes ---------------------------------------------------------------------------------------------------


def test_a_member_is_confirmed_once_the_journal_keeps_its_group(stage):
    client = stage.client("a")
    client.subscribe()
    assert not client.is_confirmed

    stage.turn()

    assert client.is_confirmed
    assert [group.name for group in stage.journal.groups()] == [GROUP]
    assert stage.announced == 1


def test_a_member_of_a_new_group_gets_the_events_from_then_on(stage):
    stage.dispatch("before")

    client = stage.member("a")
    stage.dispatch("after")

    assert client.events == ["after"]


def test_a_new_group_that_starts_with_the_earliest_gets_all_kept_events(stage):
    stage.dispatch(1, 2)

    assert stage.member("a", start="earliest").events == [1, 2]


def test_events_wait_for_a_group_whose_members_are_away(stage):
    client = stage.member("a")
    stage.source.members.left(client.member)
    stage.dispatch(1, 2, 3)
    assert stage.journal.waiting() == [1, 2, 3]

    assert stage.member("b").events == [1, 2, 3]


def test_a_member_gets_no_more_events_than_its_credit(stage):
    client = stage.member("a", credit=2)
    stage.dispatch(1, 2, 3, 4)
    assert client.events == [1, 2]

    client.answer(client.last)
    stage.turn()

    assert client.events == [1, 2, 3]


def test_later_credit_brings_the_next_events(stage):
    client = stage.member("a", credit=0)
    stage.dispatch(1, 2)
    assert client.events == []

    stage.source.members.granted(client.member, 1)
    stage.turn()

    assert client.events == [1]


def test_each_event_goes_to_one_member_of_a_group_and_to_every_group(stage):
    one, other = stage.member("a"), stage.member("b")
    audit = stage.member("c", group="audit:#", pattern="#")

    stage.dispatch(1, 2, 3, 4)

    assert sorted(one.events + other.events) == [1, 2, 3, 4] and one.events and other.events
    assert audit.events == [1, 2, 3, 4]


def test_answers_from_an_earlier_link_count_and_give_no_credit(stage):
    client = stage.member("a", credit=1)
    stage.dispatch(1, 2)
    event = client.last
    stage.source.members.left(client.member)

    client.subscribe(credit=0, answers=[Ack(GROUP, event.origin, event.seq)])
    stage.turn()

    assert stage.journal.waiting() == [2]
    assert client.events == [1]


def test_a_failed_request_to_a_journal_is_repeated_after_a_while(stage, caplog):
    stage.journal.trouble = JournalError("the disk is full")
    client = stage.member("a")
    assert not client.is_confirmed and "the disk is full" in caplog.text

    stage.journal.trouble = None
    stage.wind(RETRY_INTERVAL)

    assert client.is_confirmed


def test_a_failed_request_is_not_repeated_for_a_member_that_left(stage):
    stage.journal.trouble = JournalError("the disk is full")
    client = stage.member("a")
    stage.source.members.left(client.member)

    stage.journal.trouble = None
    stage.wind(RETRY_INTERVAL)

    assert not client.is_confirmed and stage.journal.groups() == []


# --- a member contradicts its group ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{"pattern": "#"}, {"kind": "singleton"}, {"kind": "junk"}, {"group": "x" * 5000}, {"group": "a\0b"}]
)
def test_contradicting_and_malformed_subscriptions_are_refused(stage, options):
    stage.member("a")

    with pytest.raises(BadRequest):
        stage.client("b").subscribe(**options)

    assert list(stage.source.groups.by_name) == [GROUP]


def test_a_member_is_named_after_its_own_process(stage):
    of_another = Subscribe(1, "orders", "order.*", "service_pool", "a.1", GROUP, True, 1, None)

    with pytest.raises(BadRequest, match="named after its node"):
        stage.source.members.subscribe(stage.client("b"), of_another)


def test_a_refused_subscription_does_not_affect_other_members(stage):
    client = stage.member("a")
    with pytest.raises(BadRequest):
        stage.client("b").subscribe(pattern="stock.*")

    stage.dispatch(1)

    assert client.events == [1]


# --- a member leaves -------------------------------------------------------------------------------------------------------


def test_events_of_a_lost_member_go_to_others(stage):
    lost = stage.member("a")
    stage.dispatch(1, 2)
    other = stage.member("b")
    assert other.events == []

    stage.source.members.left(lost.member)
    stage.turn()

    assert other.events == [1, 2]


def test_a_leaving_member_gets_no_more_events_and_may_answer_those_it_has(stage):
    leaving = stage.member("a")
    stage.dispatch(1)

    stage.source.members.unsubscribe(leaving.member)
    stage.dispatch(2)
    leaving.answer(leaving.last)
    stage.turn()

    assert leaving.events == [1]
    assert stage.journal.waiting() == [2]


def test_a_silent_member_is_lost_after_ack_wait(stage):
    silent, other = stage.member("a", credit=1), stage.member("b", credit=1)
    stage.dispatch(1)
    holder, free = (silent, other) if silent.events else (other, silent)

    stage.wind(29.0)
    assert free.events == []
    stage.wind(2.0)

    assert (holder.events, free.events) == ([1], [1])


def test_a_member_that_reports_in_time_keeps_its_events(stage):
    busy, other = stage.member("a", credit=1), stage.member("b", credit=1)
    stage.dispatch(1)
    holder, free = (busy, other) if busy.events else (other, busy)

    for _ in range(10):
        stage.wind(20.0)
        stage.source.members.granted(holder.member, 0)
    stage.turn()

    assert (holder.events, free.events) == ([1], [])


def test_a_late_answer_of_a_process_that_had_the_event_counts(stage):
    late = stage.member("a", credit=1)
    stage.dispatch(1)
    stage.wind(31.0)

    late.answer(late.last)
    stage.turn()

    assert stage.journal.waiting() == []


def test_an_answer_of_a_process_that_never_had_the_event_does_not_count(stage):
    holder, stranger = stage.member("a", credit=1), stage.member("b", credit=0)
    stage.dispatch(1)

    stranger.answer(holder.last)
    stage.turn()

    assert stage.journal.waiting() == [1]


def test_a_member_that_subscribes_again_takes_its_own_place(stage):
    client = stage.member("a")
    stage.dispatch(1)

    client.subscribe()
    stage.turn()

    assert client.events == [1, 1]
    assert list(stage.source.groups.by_name[GROUP].members) == ["a.1"]


# --- a handler fails -------------------------------------------------------------------------------------------------------


def test_a_failed_event_is_delivered_again_and_then_is_a_dead_letter(stage):
    client = stage.member("a")
    stage.dispatch(1)

    for _ in range(3):
        client.answer(client.last, error={"exc_type": "ValueError", "value": "no"})
        stage.turn()

    assert client.events == [1, 1, 1]
    [(seq, error, attempts)] = stage.journal.buried
    assert (seq, error["exc_type"], attempts) == (1, "ValueError", 3)


def test_events_of_a_key_wait_for_the_one_that_failed(stage):
    stage.source._owner.settings.backoff = 5.0
    client = stage.member("a")
    stage.dispatch(1, 2, key="k")
    assert client.events == [1]

    client.answer(client.last, error={"value": "no"})
    stage.turn()
    stage.wind(10.0)
    assert client.events == [1, 1]
    client.answer(client.last)
    stage.turn()

    assert client.events == [1, 1, 2]


# --- journals that other processes left ------------------------------------------------------------------------------------


def left_journal(*data, origin="left", group=GROUP, pattern="order.*"):
    """A journal with events for one group, as another process left it."""
    other = Stage()
    other.journal.origin = origin
    other.member("x", credit=0, group=group, pattern=pattern)
    other.dispatch(*data)
    other.journal.close()
    return other.journal


def test_members_get_the_events_of_an_adopted_journal(stage):
    client = stage.member("a")

    journal = left_journal(1, 2)
    stage.adopt(journal)
    for event in [message for message in client.received if type(message) is Event]:
        client.answer(event)
    stage.turn()

    assert client.events == [1, 2]
    assert client.last.origin == "left"
    assert journal.waiting() == []


def test_events_are_kept_for_the_groups_of_an_adopted_journal(stage):
    stage.adopt(left_journal(1))

    assert [group.name for group in stage.journal.groups()] == [GROUP]
    stage.dispatch(2)
    assert sorted(stage.member("a").events) == [1, 2]


def test_answers_shortly_before_an_adoption_count(stage):
    client = stage.member("a")
    journal = left_journal(1, 2)
    stage.source.members.acked(client.member, "left", (1,))

    stage.adopt(journal)

    assert client.events == [2]


def test_answers_long_before_an_adoption_do_not_count(stage):
    client = stage.member("a")
    stage.source.members.acked(client.member, "left", (1,))

    stage.wind(61.0)
    stage.adopt(left_journal(1, 2))

    assert client.events == [1, 2]


def test_a_relay_confirms_members_and_serves_adopted_journals():
    stage = Stage(has_journal=False)
    client = stage.member("a")
    assert client.is_confirmed

    stage.adopt(left_journal(1))

    assert client.events == [1]
    with pytest.raises(JournalError, match="no journal here"):
        stage.dispatch(2)


def test_an_adopted_journal_that_is_removed_gets_no_answers(stage):
    client = stage.member("a")
    served = stage.adopt(left_journal(1))
    event = client.last

    stage.source.journals.remove(served)
    client.answer(event)
    stage.turn()

    assert served.journal.waiting() == [1]


def test_a_gap_is_sent_to_one_member(stage):
    client = stage.member("a")

    stage.source.members.send("a.1", GROUP, LostRange(1, 5, 5, "bytes"), 0)

    assert client.received[-1] == Gap(GROUP, "here", 1, 5, "bytes")
