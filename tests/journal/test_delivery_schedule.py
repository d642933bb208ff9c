"""Which event goes to which member, and when. The tests move the time themselves."""

import pytest

from zmqservices.journal import Bury, DeliverySchedule, Fetch, LostRange, Page, Send, SendGap, StoredEvent

ERROR = {"exc_type": "ValueError", "exc_path": "builtins.ValueError", "exc_args": ["no"], "value": "no"}


def event(seq, key=None, body=b"body"):
    return StoredEvent(seq, seq - 1, 0.0, "order.created", body, None, key, "origin")


def page(*items, is_last=True):
    items = [item if isinstance(item, (StoredEvent, LostRange)) else event(item) for item in items]
    return Page(tuple(items), items[-1].seq if items else 0, is_last)


def schedule(cursor=0, chance=1.0, **options):
    return DeliverySchedule(cursor, random=lambda: chance, **options)


def with_members(deliveries, credit=1, names=("a",), now=0.0):
    for name in names:
        deliveries.joined(name, now)
        deliveries.granted(name, credit, now)
    return deliveries


def sends(actions):
    return [(action.member, action.event.seq) for action in actions if isinstance(action, Send)]


def loads(actions):
    return [action for action in actions if isinstance(action, Fetch)]


# --- loading ---------------------------------------------------------------------------------------------------------------


def test_nothing_is_loaded_without_members():
    deliveries = schedule()

    assert deliveries.due(0.0) == []
    assert deliveries.next_at(0.0) is None


def test_the_first_member_starts_a_load_after_the_cursor():
    deliveries = with_members(schedule(cursor=41, window=10))

    assert deliveries.due(0.0) == [Fetch(41, 10)]


def test_one_load_is_under_way_at_a_time():
    deliveries = with_members(schedule())
    deliveries.due(0.0)

    deliveries.appended(5)

    assert deliveries.due(0.0) == []


def test_the_next_page_is_asked_for_when_half_of_the_window_is_handled():
    deliveries = with_members(schedule(window=4), credit=4)
    deliveries.due(0.0)
    deliveries.loaded(page(1, 2, 3, 4, is_last=False))
    assert loads(deliveries.due(0.0)) == []

    deliveries.acked("a", 1, 0.0)
    assert loads(deliveries.due(0.0)) == []
    deliveries.acked("a", 2, 0.0)
    assert loads(deliveries.due(0.0)) == [Fetch(4, 2)]


def test_no_more_bytes_than_the_window_allows_are_loaded():
    deliveries = with_members(schedule(window=100, window_bytes=1000), credit=0)
    deliveries.due(0.0)

    deliveries.loaded(page(event(1, body=b"x" * 2000), is_last=False))

    assert loads(deliveries.due(0.0)) == []


def test_after_the_last_page_nothing_is_loaded_until_an_append():
    deliveries = with_members(schedule())
    deliveries.due(0.0)
    deliveries.loaded(page(1))
    assert loads(deliveries.due(0.0)) == []

    deliveries.appended(2)

    assert deliveries.next_at(0.0) == 0.0
    assert loads(deliveries.due(0.0)) == [Fetch(1, 999)]


def test_events_appended_during_a_load_are_loaded():
    deliveries = with_members(schedule())
    deliveries.due(0.0)
    deliveries.appended(2)

    deliveries.loaded(page(1))

    assert loads(deliveries.due(0.0)) == [Fetch(1, 999)]


def test_events_handed_over_with_their_commit_are_sent_without_a_load():
    deliveries = loaded(1, credit=3)
    assert deliveries.next_after == 1

    deliveries.offered(1, page(2, 3))
    deliveries.appended(3)

    assert deliveries.due(0.0) == [Send("a", event(seq), 1) for seq in (1, 2, 3)]
    assert deliveries.next_after == 3


def test_a_commit_that_is_larger_than_what_is_handed_over_is_loaded_on():
    deliveries = loaded(1, credit=9)

    deliveries.offered(1, page(2, 3, is_last=False))
    deliveries.appended(5)

    assert loads(deliveries.due(0.0)) == [Fetch(3, 997)]


def test_events_handed_over_out_of_order_are_ignored_and_loaded():
    deliveries = loaded(1)

    deliveries.offered(0, page(1, 2))
    deliveries.appended(3)

    assert loads(deliveries.due(0.0)) == [Fetch(1, 999)]
    deliveries.offered(1, page(2, 3))
    assert deliveries.in_memory == 1


def test_what_was_asked_for_before_a_rewind_is_not_taken_until_the_schedule_is_there_again():
    deliveries = loaded(1, 2, credit=9)
    deliveries.rewound(0)

    deliveries.offered(2, page(3))
    deliveries.appended(3)

    assert loads(deliveries.due(0.0)) == [Fetch(0, 1000)]


@pytest.mark.parametrize("options", [{"window": 1}, {"window_bytes": 4}])
def test_without_room_no_events_are_handed_over(options):
    deliveries = loaded(1, credit=0, **options)
    assert deliveries.next_after is None

    deliveries.offered(1, page(2))
    deliveries.appended(2)

    assert deliveries.in_memory == 1


def test_no_events_are_handed_over_while_older_ones_wait_or_without_members():
    assert schedule().next_after is None
    deliveries = with_members(schedule())
    assert deliveries.next_after is None
    deliveries.due(0.0)
    assert deliveries.next_after is None
    deliveries.loaded(page(1))
    assert deliveries.next_after == 1
    deliveries.left("a", 0.0)
    assert deliveries.next_after is None


def test_a_failed_load_is_repeated_after_a_second():
    deliveries = with_members(schedule())
    deliveries.due(0.0)

    deliveries.not_loaded(1.0)

    assert deliveries.due(1.0) == []
    assert deliveries.next_at(1.0) == 2.0
    assert loads(deliveries.due(2.0)) == [Fetch(0, 1000)]


# --- credit and order ------------------------------------------------------------------------------------------------------


def loaded(*items, names=("a",), credit=1, **options):
    deliveries = with_members(schedule(**options), credit, names)
    deliveries.due(0.0)
    deliveries.loaded(page(*items))
    return deliveries


def test_a_member_gets_as_many_events_as_it_has_credit_in_order():
    deliveries = loaded(1, 2, 3, credit=2)

    assert deliveries.due(0.0) == [Send("a", event(1), 1), Send("a", event(2), 1)]
    assert deliveries.in_flight == 2


def test_an_answer_gives_no_credit_a_grant_does():
    deliveries = loaded(1, 2)
    deliveries.due(0.0)

    assert deliveries.acked("a", 1, 0.0)
    assert deliveries.due(0.0) == []
    deliveries.granted("a", 1, 0.0)
    assert sends(deliveries.due(0.0)) == [("a", 2)]


def test_members_take_turns():
    deliveries = loaded(1, 2, 3, 4, names=("a", "b"), credit=2)

    assert sends(deliveries.due(0.0)) == [("a", 1), ("b", 2), ("a", 3), ("b", 4)]


def test_a_slow_member_does_not_hold_up_a_fast_one():
    deliveries = loaded(*range(1, 8), names=("slow", "fast"))
    deliveries.due(0.0)

    for seq in range(2, 7):
        deliveries.acked("fast", seq, 0.0)
        deliveries.granted("fast", 1, 0.0)
        assert sends(deliveries.due(0.0)) == [("fast", seq + 1)]


def test_one_turn_sends_at_most_the_limit_and_the_next_turn_the_rest():
    deliveries = loaded(1, 2, 3, credit=3)

    assert sends(deliveries.due(0.0, limit=2)) == [("a", 1), ("a", 2)]
    assert deliveries.next_at(0.0) == 0.0
    assert sends(deliveries.due(0.0, limit=2)) == [("a", 3)]
    assert deliveries.next_at(0.0) == 30.0


def test_only_members_get_credit():
    deliveries = loaded(1, credit=0)

    deliveries.granted("nobody", 5, 0.0)

    assert deliveries.due(0.0) == []
    assert deliveries.members() == ["a"]


# --- failures --------------------------------------------------------------------------------------------------------------


def failing(deliveries, seq=1, now=0.0, delay=None, **options):
    deliveries.nacked("a", seq, delay, ERROR, now, **options)
    deliveries.granted("a", 1, now)


def test_a_failed_event_comes_again_after_a_pause_that_doubles():
    deliveries = loaded(1, backoff=1.0)
    now = 0.0
    for pause in (1.0, 2.0, 4.0):
        assert len(sends(deliveries.due(now))) == 1
        failing(deliveries, now=now)
        assert deliveries.due(now) == []
        assert deliveries.next_at(now) == now + pause
        assert deliveries.due(now + pause - 0.1) == []
        now += pause
    assert deliveries.due(now) == [Send("a", event(1), 4)]


def test_the_pause_is_bounded():
    deliveries = loaded(1, backoff=1.0, backoff_max=3.0, max_deliveries=0)
    now = 0.0
    for _ in range(2000):
        assert len(sends(deliveries.due(now))) == 1
        failing(deliveries, now=now)
        deliveries.due(now)
        now = deliveries.next_at(now)

    assert now == 1.0 + 2.0 + 1998 * 3.0


def test_the_pause_has_full_jitter():
    deliveries = loaded(1, chance=0.25, backoff=1.0)
    deliveries.due(0.0)

    failing(deliveries)
    deliveries.due(0.0)

    assert deliveries.next_at(0.0) == 0.25


def test_a_handler_may_choose_the_delay():
    deliveries = loaded(1)
    deliveries.due(0.0)

    failing(deliveries, delay=7.0)

    assert deliveries.due(6.9) == []
    assert sends(deliveries.due(7.0)) == [("a", 1)]


def test_other_events_pass_an_event_that_waits_for_its_next_try():
    deliveries = loaded(1, 2)
    deliveries.due(0.0)

    failing(deliveries, delay=7.0)

    assert sends(deliveries.due(0.0)) == [("a", 2)]


def test_after_its_last_delivery_an_event_is_buried_with_its_error():
    deliveries = loaded(1, max_deliveries=2)
    deliveries.due(0.0)
    failing(deliveries, delay=0.0)
    assert deliveries.due(0.0) == [Send("a", event(1), 2)]

    failing(deliveries)

    assert deliveries.due(0.0) == [Bury(event(1), 2, ERROR)]
    assert deliveries.in_memory == 0
    assert deliveries.next_at(0.0) is None


def test_an_error_that_is_final_buries_at_once():
    deliveries = loaded(1)
    deliveries.due(0.0)

    failing(deliveries, final=True)

    assert deliveries.due(0.0) == [Bury(event(1), 1, ERROR)]


def test_a_requeued_event_has_its_attempts_counted_from_one():
    deliveries = loaded(1, max_deliveries=1)
    deliveries.due(0.0)
    failing(deliveries)
    deliveries.due(0.0)

    deliveries.requeued([event(1)])

    assert deliveries.due(0.0) == [Send("a", event(1), 1)]


def test_an_event_given_back_unhandled_goes_out_again_at_once_and_uncounted():
    deliveries = loaded(1, names=("a", "b"))
    deliveries.due(0.0)

    deliveries.returned("a", 1, 0.0)

    assert deliveries.due(0.0) == [Send("b", event(1), 1)]


# --- members that go -------------------------------------------------------------------------------------------------------


def test_events_of_a_member_that_leaves_go_to_others():
    deliveries = loaded(1, 2, names=("a", "b"), credit=2)
    deliveries.due(0.0)

    deliveries.left("a", 1.0)

    assert deliveries.due(1.0) == [Send("b", event(1), 2)]
    assert deliveries.members() == ["b"]


def test_events_of_the_last_member_wait_in_memory():
    deliveries = loaded(1)
    deliveries.due(0.0)
    deliveries.left("a", 0.0)
    assert deliveries.due(0.0) == []

    with_members(deliveries, names=("b",))

    assert deliveries.due(0.0) == [Send("b", event(1), 2)]


def test_an_event_that_takes_every_member_down_is_buried():
    deliveries = loaded(1, max_deliveries=2)
    deliveries.due(0.0)
    deliveries.left("a", 0.0)
    with_members(deliveries, names=("b",))
    deliveries.due(0.0)

    deliveries.left("b", 0.0)

    [bury] = deliveries.due(0.0)
    assert bury.event == event(1) and bury.attempts == 2
    assert bury.error["exc_type"] == "MaybeExecuted" and "b went away" in bury.error["value"]


def test_events_of_a_silent_member_go_to_others():
    deliveries = loaded(1, names=("a", "b"), ack_wait=5.0)
    deliveries.due(0.0)
    assert deliveries.next_at(0.0) == 5.0
    deliveries.alive("b", 4.0)
    assert deliveries.due(4.9) == []

    assert deliveries.due(5.0) == [Send("b", event(1), 2)]


def test_a_silent_member_with_credit_does_not_delay_others():
    deliveries = loaded(1, names=("a", "b"), ack_wait=5.0, credit=2)
    deliveries.due(0.0)
    deliveries.alive("b", 4.0)

    assert deliveries.due(5.0) == [Send("b", event(1), 2)]


def test_a_member_that_reports_keeps_its_events_however_long_it_takes():
    deliveries = loaded(1, names=("a", "b"), ack_wait=5.0)
    deliveries.due(0.0)

    for now in range(1, 1000):
        deliveries.alive("a", float(now))
        assert deliveries.due(float(now)) == []


def test_a_silent_member_gets_no_events_until_it_answers():
    deliveries = loaded(1, 2, ack_wait=5.0, credit=2)
    deliveries.due(0.0)
    assert deliveries.due(5.0) == []

    deliveries.granted("a", 2, 6.0)

    assert deliveries.due(6.0) == [Send("a", event(1), 2), Send("a", event(2), 2)]


def test_the_late_answer_of_a_member_that_was_silent_counts():
    deliveries = loaded(1, names=("a", "b"), ack_wait=5.0)
    deliveries.due(0.0)
    deliveries.alive("b", 5.0)
    deliveries.due(5.0)

    assert deliveries.acked("a", 1, 6.0)
    assert not deliveries.acked("b", 1, 7.0)
    assert deliveries.in_flight == 0


# --- answers to what is not loaded --------------------------------------------------------------------------------------------


def test_an_event_that_was_handled_for_the_process_before_is_news_though_it_is_not_loaded():
    deliveries = schedule(cursor=1)
    deliveries.appended(3)

    assert deliveries.acked("", 2, 0.0, is_older=True)
    assert not deliveries.acked("", 1, 0.0, is_older=True)
    assert not deliveries.acked("", 4, 0.0, is_older=True)


def test_one_that_is_handled_while_its_page_is_on_its_way_is_not_sent():
    deliveries = with_members(schedule(), credit=5)
    deliveries.appended(3)
    assert loads(deliveries.due(0.0))

    assert deliveries.acked("", 2, 0.0, is_older=True)
    deliveries.loaded(page(1, 2, 3))

    assert sends(deliveries.due(0.0)) == [("a", 1), ("a", 3)]


def test_an_answer_from_before_a_rewind_holds_nothing_back():
    deliveries = with_members(schedule(), credit=5)
    deliveries.appended(2)
    deliveries.due(0.0)
    deliveries.acked("", 2, 0.0, is_older=True)

    deliveries.rewound(0)
    deliveries.loaded(page(1))
    deliveries.due(0.0)
    deliveries.loaded(page(1, 2))

    assert sends(deliveries.due(0.0)) == [("a", 1), ("a", 2)]


# --- answers of somebody who did not have the event ---------------------------------------------------------------------------


def test_of_an_event_of_this_opening_only_those_count_to_whom_it_was_sent():
    deliveries = loaded(1, 2, names=("n.a", "n.b"), credit=1)
    deliveries.due(0.0)

    assert not deliveries.acked("n.b", 1, 0.0)
    assert not deliveries.acked("m.c", 1, 0.0, process="m.")
    assert deliveries.acked("n.a", 1, 0.0)
    assert deliveries.in_flight == 1


def test_one_that_was_sent_to_nobody_is_answered_by_nobody():
    deliveries = schedule()
    deliveries.appended(3)
    deliveries.joined("a", 0.0)

    assert not deliveries.acked("a", 2, 0.0)
    assert deliveries.acked("a", 2, 0.0, is_older=True)


def test_the_answer_may_come_from_another_subscription_of_the_process_that_had_it():
    deliveries = loaded(1, names=("n.1",))
    deliveries.due(0.0)
    deliveries.left("n.1", 0.0)

    assert deliveries.acked("n.2", 1, 0.0, process="n.")


def test_what_is_given_back_for_want_of_room_comes_later_and_is_not_counted():
    deliveries = loaded(1, names=("a",))
    deliveries.due(0.0)

    deliveries.returned("a", 1, 0.0, delay=1.0)
    deliveries.granted("a", 1, 0.0)

    assert deliveries.due(0.5) == []
    assert deliveries.due(1.0) == [Send("a", event(1), 1)]


# --- answers that mean nothing ---------------------------------------------------------------------------------------------


def test_answers_that_come_twice_or_to_nothing_do_no_harm():
    deliveries = loaded(1, 2)
    deliveries.due(0.0)

    assert deliveries.acked("a", 1, 0.0)
    assert not deliveries.acked("a", 1, 0.0)
    assert not deliveries.acked("nobody", 17, 0.0)
    deliveries.nacked("a", 1, None, ERROR, 0.0)
    deliveries.nacked("a", 2, None, ERROR, 0.0)
    deliveries.returned("a", 2, 0.0)
    deliveries.left("nobody", 0.0)
    deliveries.alive("nobody", 0.0)
    deliveries.granted("a", 1, 0.0)

    assert deliveries.due(0.0) == [Send("a", event(2), 1)]


def test_the_failure_of_a_member_that_has_it_no_longer_is_not_counted():
    deliveries = loaded(1, names=("a", "b"), max_deliveries=2)
    deliveries.due(0.0)
    deliveries.left("a", 0.0)
    deliveries.due(0.0)

    deliveries.nacked("a", 1, None, ERROR, 0.0)

    assert deliveries.due(0.0) == []
    assert deliveries.in_flight == 1


# --- keys ------------------------------------------------------------------------------------------------------------------


def test_the_events_of_a_key_go_one_at_a_time_in_order_to_one_member():
    deliveries = loaded(*(event(seq, key="k") for seq in (1, 2, 3)), names=("a", "b", "c"), credit=9)
    takers = set()
    for seq in (1, 2, 3):
        [send] = deliveries.due(0.0)
        assert send.event.seq == seq
        takers.add(send.member)
        deliveries.acked(send.member, seq, 0.0)

    assert len(takers) == 1


def test_keys_do_not_hold_up_each_other():
    deliveries = loaded(event(1, key="x"), event(2, key="x"), event(3, key="y"), event(4), credit=9)

    assert sends(deliveries.due(0.0)) == [("a", 1), ("a", 3), ("a", 4)]


def test_a_failing_event_of_a_key_holds_up_the_later_ones_until_it_is_buried():
    deliveries = loaded(event(1, key="k"), event(2, key="k"), event(3), credit=9, max_deliveries=2)
    assert sends(deliveries.due(0.0)) == [("a", 1), ("a", 3)]
    deliveries.nacked("a", 1, 5.0, ERROR, 0.0)
    assert deliveries.due(0.0) == []
    assert sends(deliveries.due(5.0)) == [("a", 1)]

    deliveries.nacked("a", 1, 5.0, ERROR, 5.0)

    assert deliveries.due(5.0) == [Bury(event(1, key="k"), 2, ERROR), Send("a", event(2, key="k"), 1)]


def test_a_requeued_event_of_a_key_waits_for_the_one_in_flight():
    deliveries = loaded(event(5, key="k"), event(6, key="k"), credit=9)
    deliveries.due(0.0)

    deliveries.requeued([event(1, key="k")])
    assert deliveries.due(0.0) == []
    deliveries.acked("a", 5, 0.0)

    assert sends(deliveries.due(0.0)) == [("a", 1)]


def test_a_key_waits_for_its_member_rather_than_go_to_another():
    keys = [event(seq, key=f"k{seq}") for seq in range(1, 101)]
    deliveries = loaded(*keys, names=("a", "b"), credit=0)
    deliveries.granted("a", 100, 0.0)
    taken = {seq for _, seq in sends(deliveries.due(0.0))}
    assert 20 < len(taken) < 80

    deliveries.granted("b", 100, 0.0)

    assert {seq for _, seq in sends(deliveries.due(0.0))} == set(range(1, 101)) - taken


def test_when_a_member_leaves_only_its_keys_move():
    def owners(names):
        deliveries = loaded(*(event(seq, key=f"k{seq}") for seq in range(1, 101)), names=names, credit=100)
        return {seq: member for member, seq in sends(deliveries.due(0.0))}

    before, after = owners(("a", "b", "c")), owners(("a", "b"))

    assert set(before.values()) == {"a", "b", "c"}
    assert all(after[seq] == member for seq, member in before.items() if member != "c")


def test_the_keys_of_a_member_that_leaves_go_to_others():
    deliveries = loaded(*(event(seq, key=f"k{seq}") for seq in range(1, 21)), names=("a", "b"), credit=0)

    deliveries.left("a", 0.0)
    deliveries.granted("b", 20, 0.0)

    assert [seq for _, seq in sends(deliveries.due(0.0))] == list(range(1, 21))


# --- gaps and rewinding ----------------------------------------------------------------------------------------------------


def test_a_gap_is_told_to_a_member_in_its_place_and_needs_no_credit():
    gap = LostRange(1, 5, 3, "bytes")
    deliveries = loaded(gap, event(6), credit=0)

    assert deliveries.due(0.0) == [SendGap("a", gap)]
    assert deliveries.due(0.0) == []


def test_a_gap_waits_for_a_member():
    gap = LostRange(1, 5, 3, "bytes")
    deliveries = with_members(schedule())
    deliveries.due(0.0)
    deliveries.left("a", 0.0)
    deliveries.loaded(page(gap))
    assert deliveries.due(0.0) == []

    deliveries.joined("b", 0.0)

    assert deliveries.due(0.0) == [SendGap("b", gap)]


def test_rewound_it_starts_over_but_for_what_is_being_handled():
    deliveries = loaded(1, 2, 3, 4, credit=2)
    deliveries.due(0.0)
    deliveries.acked("a", 1, 0.0)

    deliveries.rewound(0)
    assert loads(deliveries.due(0.0)) == [Fetch(0, 999)]
    deliveries.loaded(page(1, 2, 3, 4))
    deliveries.granted("a", 9, 0.0)

    assert sends(deliveries.due(0.0)) == [("a", 1), ("a", 3), ("a", 4)]


@pytest.mark.parametrize(
    "answer",
    [lambda d: d.acked("a", 2, 0.0), lambda d: d.nacked("a", 2, None, ERROR, 0.0, final=True)],
    ids=["acked", "given up"],
)
def test_what_is_answered_while_the_page_after_a_rewind_is_on_its_way_does_not_come_again(answer):
    deliveries = loaded(1, 2, 3, credit=2)
    deliveries.due(0.0)
    deliveries.rewound(0)
    assert loads(deliveries.due(0.0))

    answer(deliveries)
    deliveries.loaded(page(1, 2, 3))
    deliveries.granted("a", 9, 0.0)

    assert sends(deliveries.due(0.0)) == [("a", 3)]


def test_a_page_from_before_a_rewind_is_thrown_away():
    deliveries = with_members(schedule(cursor=10), credit=9)
    deliveries.due(0.0)
    deliveries.rewound(2)
    assert deliveries.due(0.0) == []

    deliveries.loaded(page(11, 12))

    assert deliveries.due(0.0) == [Fetch(2, 1000)]


@pytest.mark.parametrize("n", [10_000])
def test_many_events_take_little_time_each(n):
    deliveries = with_members(schedule(window=n), credit=n, names=tuple("abcd"))
    deliveries.due(0.0)
    deliveries.loaded(page(*range(1, n + 1)))

    sent = sends(deliveries.due(0.0, limit=n))
    news = [deliveries.acked(member, seq, 0.0) for member, seq in reversed(sent)]

    assert all(news) and len(news) == n
