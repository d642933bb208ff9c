"""The rules of a dispatch: which events are stored, refused and sent. No sockets, no disk, no waiting."""

import pytest

from tests.cluster.events.rules import GROUP, Stage, want
from zmqservices.exceptions import BadRequest, JournalFull, MessageTooLarge, UnserializableValueError


@pytest.fixture
def stage():
    return Stage()


# --- reliable events -------------------------------------------------------------------------------------------------------


def test_an_event_without_a_group_is_stored_and_not_sent(stage):
    stage.dispatch(1)

    assert stage.journal.last_seq == 1
    assert stage.source.dispatching.dispatched == 1
    assert stage.source.is_empty


def test_a_full_journal_refuses_the_event_and_no_group_gets_it():
    stage = Stage(room=1)
    client = stage.member("a")
    stage.dispatch(1)

    with pytest.raises(JournalFull):
        stage.dispatch(2)

    assert client.events == [1]
    assert stage.source.dispatching.dispatched == 1


def test_each_of_several_events_has_its_own_error():
    stage = Stage(room=2)
    large = ("order.paid", bytes(20_000), None, "msgpack", None)
    small = ("order.paid", b"\x01", None, "msgpack", None)

    outcomes = stage.source.dispatch_all([small, large, small, small])

    assert [type(outcome) for outcome in outcomes] == [type(None), MessageTooLarge, type(None), JournalFull]


def test_an_event_that_cannot_be_sent_or_packed_is_not_stored(stage):
    with pytest.raises(MessageTooLarge, match="max_message_size is 10,000"):
        stage.dispatch("x" * 20_000)
    with pytest.raises(UnserializableValueError):
        stage.dispatch(object())

    assert stage.journal.last_seq == 0


@pytest.mark.parametrize("is_reliable", [True, False], ids=["reliable", "best effort"])
@pytest.mark.parametrize(
    ("headers", "text"),
    [
        (dict.fromkeys(map(str, range(101)), ""), "the event 'order.paid' of 'orders' has 101 headers; max_headers is 100"),
        ({"a": "x" * 1000}, r"the headers \(context data\) of the event .* take 1,006 bytes; max_headers_size is 1,000"),
    ],
    ids=["many", "large"],
)
def test_an_event_with_too_many_headers_is_not_stored(stage, headers, text, is_reliable):
    event = ("order.paid", b"\x01", headers, "msgpack", None)

    for _ in range(2):
        with pytest.raises(MessageTooLarge, match=text):
            stage.source.dispatch(*event, is_reliable)
        assert [type(outcome) for outcome in stage.source.dispatch_all([event])] == [MessageTooLarge]

    assert stage.journal.last_seq == 0


@pytest.mark.parametrize("is_reliable", [True, False], ids=["reliable", "best effort"])
def test_headers_that_grow_between_two_events_are_looked_at_again(stage, is_reliable):
    headers = {"a": ""}
    stage.source.dispatch("order.paid", b"\x01", headers, "msgpack", None, is_reliable)

    headers["a"] = "x" * 1000

    with pytest.raises(MessageTooLarge, match="max_headers_size is 1,000"):
        stage.source.dispatch("order.paid", b"\x01", headers, "msgpack", None, is_reliable)


def test_a_closed_source_accepts_no_events(stage):
    stage.source.dispatching.close()

    with pytest.raises(RuntimeError, match="does not publish any more"):
        stage.dispatch(1)
    [outcome] = stage.source.dispatch_all([("order.paid", b"", None, "msgpack", None)])
    assert "does not publish any more" in str(outcome)


# --- events without a promise ----------------------------------------------------------------------------------------------


def test_a_best_effort_event_goes_to_one_present_member_of_each_reliable_group(stage):
    clients = [stage.member("a"), stage.member("b"), stage.member("c", group="audit")]

    stage.dispatch("x", reliable=False)

    assert sorted(len(client.events) for client in clients[:2]) == [0, 1]
    assert clients[2].events == ["x"]
    assert stage.journal.last_seq == 0


def test_a_best_effort_event_without_members_is_dropped(stage):
    stage.dispatch("x", reliable=False)

    assert stage.member("a", start="earliest").events == []


def test_early_events_wait_for_listed_handlers_and_no_longer_than_wait_for_peers(stage):
    best_effort = stage.source.best_effort
    stage.directory.lists("a", want(group="cache", kind="broadcast", reliable=False))
    stage.source.update()
    stage.reactor.call_later(1.0, best_effort.release)
    client = stage.client("a")
    client.subscribe(group="cache", kind="broadcast", reliable=False)
    stage.dispatch("x")
    assert stage.broadcasts == []

    stage.wind(1.0)

    assert [message.type for message in stage.broadcasts] == ["order.paid"]


# --- groups that are known elsewhere ---------------------------------------------------------------------------------------


def test_events_are_kept_for_a_group_that_a_subscriber_lists(stage):
    stage.directory.lists("a", want())

    stage.source.update()
    stage.dispatch(1)

    assert stage.journal.waiting() == [1]
    assert stage.announced == 1
    assert not stage.source.is_empty


@pytest.mark.parametrize("how", ["lists_publisher", "remembers"])
def test_events_are_kept_for_a_group_that_another_publisher_or_the_directory_knows(stage, how):
    arguments = ("b", want()) if how == "lists_publisher" else (want(),)
    getattr(stage.directory, how)(*arguments)

    stage.source.update()

    stage.dispatch(1)
    assert stage.journal.waiting() == [1]


def test_no_events_are_kept_for_groups_of_other_sources_or_best_effort_groups(stage):
    stage.directory.lists("a", want(reliable=False))

    stage.source.update()

    assert stage.journal.groups() == []


def test_a_group_keeps_its_pattern(stage):
    stage.member("a")
    stage.directory.lists("b", want(pattern="#"))

    stage.source.update()

    assert stage.source.groups.by_name[GROUP].group.pattern == "order.*"


# --- a group that an operator removes --------------------------------------------------------------------------------------


def test_a_group_with_members_is_not_removed(stage):
    stage.member("a")

    with pytest.raises(BadRequest, match="has 1 members"):
        stage.source.groups.remove(GROUP, stage.reactor.now)


def test_a_removed_group_does_not_come_back_from_other_publishers_for_a_while(stage):
    groups, now = stage.source.groups, stage.reactor.now
    groups.remove(GROUP, now)
    stage.directory.lists_publisher("b", want())
    view = stage.directory.view()

    assert groups.listed(view, now + 59.0).to_take_up == []
    assert [group.name for group in groups.listed(view, now + 61.0).to_take_up] == [GROUP]


def test_a_removed_group_comes_back_at_once_when_a_member_subscribes(stage):
    stage.source.groups.remove(GROUP, stage.reactor.now)

    stage.member("a")
    stage.dispatch(1)

    assert stage.journal.groups()


def test_a_listed_subscriber_brings_a_removed_group_back_at_once(stage):
    stage.source.groups.remove(GROUP, stage.reactor.now)
    stage.directory.lists("a", want())

    listed = stage.source.groups.listed(stage.directory.view(), stage.reactor.now)

    assert [group.name for group in listed.to_take_up] == [GROUP]
    assert listed.with_members == {GROUP}


@pytest.mark.parametrize("fields", [{"state": "DRAINING"}, {"suspect": True}])
def test_a_leaving_subscriber_does_not_count_as_a_member(stage, fields):
    stage.directory.lists("a", want(), **fields)

    listed = stage.source.groups.listed(stage.directory.view(), 0.0)

    assert listed.with_members == set()
    assert [group.name for group in listed.to_take_up] == [GROUP]
