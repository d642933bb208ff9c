"""The rules of a caller: which instance gets a call, and what happens to calls that fail."""

import pytest

from tests.cluster.calls.world import Calling
from zmqservices.cluster.calls.call import DONE, HELD, SENT
from zmqservices.cluster.calls.peer import EXPECTED
from zmqservices.cluster.calls.sweep import SWEEP_INTERVAL
from zmqservices.exceptions import (
    CallCancelled,
    MaybeExecuted,
    MessageTooLarge,
    Overloaded,
    RemoteError,
    RemoteUnavailable,
    RpcTimeout,
    UnknownService,
    UnserializableValueError,
)
from zmqservices.resilience.retries import FIRST_PAUSE, LONGEST_PAUSE, LOST_MOVES
from zmqservices.wire import batches, envelope
from zmqservices.wire.messages import Bye, Call, Cancel, Error, Event, Hello, Nack, Ping, Pong


@pytest.fixture
def calling():
    return Calling()


def refusal(call, code, value="no"):
    return Error(call.id, {"exc_type": "Refusal", "exc_path": "", "exc_args": [], "value": value, "code": code})


def ids(link):
    return [message.id for message in link.said(Call)]


def only(links, call):
    """Of two links, the one on which the call was sent, and the other."""
    return links if ids(links[0]) and ids(links[0])[-1] == call.id else links[::-1]


# --- a call that goes well ---------------------------------------------------------------------------------


def test_a_call_is_sent_to_the_instance_and_answered(calling):
    link = calling.add_instance("one")

    call = calling.begin(2, 3)
    [sent] = link.said(Call)
    link.answer(call, 5)

    assert (sent.service, sent.method, sent.args, sent.time_left) == ("maths", "add", [2, 3], 10.0)
    assert call.outcome() == 5
    assert calling.reactor.woken == [call]


def test_a_link_is_greeted_before_anything_else_is_sent(calling):
    link = calling.add_instance("one", is_greeted=False)
    call = calling.begin()
    assert (call.stage, link.sent) == (HELD, [])

    link.greet()

    assert [type(message) for message in link.sent] == [Hello, Call]
    assert call.stage == SENT


def test_an_error_of_the_method_is_raised_at_the_caller(calling):
    link = calling.add_instance("one")
    call = calling.begin()

    link.say(Error(call.id, {"exc_type": "ZeroDivisionError", "exc_path": "x", "exc_args": ["by 0"], "value": "by 0"}))

    with pytest.raises(RemoteError, match="by 0"):
        call.outcome()


def test_unserializable_arguments_fail_at_once_and_nothing_is_sent():
    calling = Calling(max_message_size=1000)
    link = calling.add_instance("one")

    with pytest.raises(UnserializableValueError):
        calling.begin(object())
    with pytest.raises(MessageTooLarge, match="max_message_size"):
        calling.begin("x" * 1000)

    assert link.said(Call) == []


@pytest.mark.parametrize("argument", [b"", b"x" * 100_000], ids=["short", "with a payload"])
def test_a_call_with_too_many_headers_fails_at_once_and_nothing_is_sent(argument):
    calling = Calling(max_headers=3, max_headers_size=1000)
    link = calling.add_instance("one")

    with pytest.raises(MessageTooLarge, match=r"the call maths.add has 4 headers; max_headers is 3"):
        calling.begin(argument, headers=dict.fromkeys("abcd", ""))
    text = r"the headers \(context data\) of the call maths.add take 1,006 bytes; max_headers_size is 1,000"
    with pytest.raises(MessageTooLarge, match=text):
        calling.begin(argument, headers={"a": "x" * 1000})
    assert link.said(Call) == []
    calling.begin(argument, headers={"a": "x" * 900, "b": "", "c": ""})
    assert len(link.said(Call)) == 1


@pytest.mark.parametrize("together", [False, True], ids=["alone", "in a batch"])
def test_an_event_with_too_many_headers_is_given_back(together, caplog):
    calling = Calling(max_headers=3, max_headers_size=1000)
    link = calling.add_instance("one")
    came = []
    calling.caller.other_kinds[Event] = lambda peer, event: came.append(event.seq)

    def event(seq, headers, group="readers"):
        return envelope.encode(Event("journal", seq, 0, "orders", "paid", b"", group, headers=headers, subscription=7))

    many = dict.fromkeys("abcd", "")
    events = [event(1, many), event(2, {"a": "x" * 1000}), event(3, {"a": ""}), event(4, None), event(5, many, None)]
    link.say(*([batches.encode(events)] if together else events))

    assert came == [3, 4]
    refused = link.said(Nack)
    assert [(nack.seq, nack.subscription, nack.error["exc_type"]) for nack in refused] == [
        (1, 7, "MessageTooLarge"),
        (2, 7, "MessageTooLarge"),
    ]
    assert refused[0].error["value"] == "the event 'paid' of 'orders' has 4 headers; max_headers is 3"
    assert "has 4 headers" in caplog.text


def test_unserializable_arguments_fail_at_once_even_without_a_known_instance(calling):
    with pytest.raises(UnserializableValueError):
        calling.begin(object())


# --- answers that do not belong to a call ------------------------------------------------------------------


def test_an_answer_that_comes_after_the_call_was_given_up_is_ignored(calling):
    link = calling.add_instance("one")
    first = calling.begin()
    calling.caller.abandon(first)
    second = calling.begin()

    link.answer(first, "late")
    assert second.stage == SENT
    link.answer(second, "in time")

    with pytest.raises(CallCancelled):
        first.outcome()
    assert second.outcome() == "in time"


def test_an_answer_or_a_refusal_from_another_node_is_ignored(calling):
    links = calling.add_instance("one"), calling.add_instance("other")
    call = calling.begin()
    asked, other = only(links, call)

    other.answer(call, "forged")
    other.say(refusal(call, "overloaded"))
    assert call.stage == SENT
    asked.answer(call, "true")

    assert call.outcome() == "true"


def test_a_second_answer_is_ignored(calling):
    link = calling.add_instance("one")
    call = calling.begin()

    link.answer(call, "first")
    link.answer(call, "second")

    assert call.outcome() == "first"
    assert calling.reactor.woken == [call]


# --- deadlines ---------------------------------------------------------------------------------------------


def test_a_call_without_an_answer_ends_at_its_deadline_and_is_cancelled_at_its_instance(calling):
    link = calling.add_instance("one")
    call = calling.begin(timeout=3.0)

    calling.reactor.wind(2.9)
    assert call.stage == SENT
    calling.reactor.wind(0.1 + SWEEP_INTERVAL)

    with pytest.raises(RpcTimeout, match="maths.add was not answered by one within 3 s"):
        call.outcome()
    assert link.said(Cancel) == [Cancel(call.id)]


def test_a_short_call_ends_on_time(calling):
    calling.add_instance("one")
    call = calling.begin(timeout=0.01)

    calling.reactor.wind(0.01)

    assert call.stage == DONE


def test_the_earlier_of_timeout_and_deadline_counts(calling):
    calling.add_instance("one")
    by_timeout = calling.begin(timeout=2.0, deadline=calling.reactor.now + 5.0)
    by_deadline = calling.begin(timeout=5.0, deadline=calling.reactor.now + 2.0)

    calling.reactor.wind(2.0 + SWEEP_INTERVAL)

    with pytest.raises(RpcTimeout, match="within 2 s"):
        by_timeout.outcome()
    with pytest.raises(RpcTimeout, match="its caller's time"):
        by_deadline.outcome()


def test_a_call_whose_deadline_has_passed_is_not_sent(calling):
    link = calling.add_instance("one")

    call = calling.begin(timeout=None, deadline=calling.reactor.now)

    assert call.stage == DONE
    assert link.said(Call) == []


def test_a_call_carries_the_time_left_not_the_time_of_day(calling):
    link = calling.add_instance("one", is_greeted=False)
    calling.begin(timeout=3.0)

    calling.reactor.wind(1.0)
    link.greet()

    assert [message.time_left for message in link.said(Call)] == pytest.approx([2.0])


def test_a_call_without_a_limit_waits_for_as_long_as_it_takes(calling):
    link = calling.add_instance("one")
    call = calling.begin(timeout=None)

    for _ in range(10):
        calling.reactor.wind(10.0)
        link.say(Pong(0))
    link.answer(call, "at last")

    assert call.outcome() == "at last"


# --- waiting for an instance -------------------------------------------------------------------------------


def test_a_call_of_an_unknown_service_waits_and_then_names_it():
    calling = Calling(rpc_wait_for_service=2.0)
    call = calling.begin()

    calling.reactor.wind(1.9)
    assert call.stage == HELD
    calling.reactor.wind(0.1 + SWEEP_INTERVAL)

    with pytest.raises(UnknownService, match="the directory of this test"):
        call.outcome()


def test_a_call_of_a_service_with_unreachable_instances_names_them(calling):
    calling.add_instance("one", is_greeted=False)
    call = calling.begin(timeout=1.0)

    calling.reactor.wind(1.0 + SWEEP_INTERVAL)

    with pytest.raises(RemoteUnavailable, match="one at tcp://one:1 is not connected"):
        call.outcome()


def test_calls_that_wait_are_sent_in_their_order_once_an_instance_is_there(calling):
    calls = [calling.begin(number) for number in range(5)]
    calling.reactor.wind(1.0)

    link = calling.add_instance("one")

    assert ids(link) == [call.id for call in calls]
    assert calling.reactor.woken == calls


def test_a_call_that_was_given_up_while_it_waited_is_not_sent(calling):
    call = calling.begin()
    calling.caller.abandon(call)

    link = calling.add_instance("one")
    calling.reactor.wind(1.0)

    assert link.said(Call) == []


def test_a_call_for_a_full_queue_is_sent_when_there_is_room(calling):
    link = calling.add_instance("one")
    link.has_room = False
    call = calling.begin()
    assert call.stage == HELD

    link.has_room = True
    calling.reactor.wind(SWEEP_INTERVAL)

    assert ids(link) == [call.id]


def test_calls_that_never_find_room_in_a_queue_end_in_time(calling):
    links = calling.add_instance("one"), calling.add_instance("other")
    for _ in links:
        calling.begin(timeout=60.0)
    for link in links:
        link.has_room = False
    patient, other = calling.begin(timeout=10.0), calling.begin(timeout=1.0)

    # Each look hands the second of them to a link once more, and gets it back at the end of the turn.
    calling.reactor.wind(1.0 + 2 * SWEEP_INTERVAL)
    assert (patient.stage, other.stage) == (HELD, DONE)
    calling.reactor.wind(2.0)
    assert patient.stage == DONE


def test_a_call_for_a_full_queue_goes_to_another_instance(calling):
    one, other = calling.add_instance("one"), calling.add_instance("other")
    one.has_room = False

    calls = [calling.begin() for _ in range(4)]

    assert ids(other) == [call.id for call in calls]


# --- calls that leave together -----------------------------------------------------------------------------


def test_calls_made_in_one_turn_leave_together_at_its_end(calling):
    link = calling.add_instance("one")
    calls = [calling.caller.begin("maths", "add", (number,), None, None, 10.0) for number in range(4)]
    assert ids(link) == [calls[0].id, calls[1].id][: len(ids(link))]

    calling.reactor.turn()

    assert ids(link) == [call.id for call in calls]


# --- refusals: the call did not run ------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["draining", "unknown-service"])
def test_a_refused_call_goes_to_another_instance_and_no_more_calls_to_the_first(calling, code):
    links = calling.add_instance("one"), calling.add_instance("other")
    call = calling.begin()
    asked, other = only(links, call)

    asked.say(refusal(call, code))
    following = calling.begin()

    assert ids(other) == [call.id, following.id]
    assert ids(asked) == [call.id]


def test_a_call_that_the_only_instance_does_not_serve_waits_for_the_next(calling):
    one = calling.add_instance("one")
    call = calling.begin()

    one.say(refusal(call, "draining"))
    assert call.stage == HELD
    other = calling.add_instance("other")

    assert ids(other) == [call.id]


def test_without_a_budget_a_call_leaves_an_overloaded_instance_once():
    calling = Calling(rpc_retry_ratio=0, rpc_retries_per_second=0)
    links = calling.add_instance("one"), calling.add_instance("other"), calling.add_instance("third")
    call = calling.begin()

    for _ in range(2):
        [asked] = [link for link in links if ids(link) and not getattr(link, "is_asked", False)]
        asked.is_asked = True
        asked.say(refusal(call, "overloaded", "the queue is full"))

    with pytest.raises(Overloaded, match="the queue is full"):
        call.outcome()
    assert sum(len(ids(link)) for link in links) == 2


def test_the_only_instance_is_not_asked_again_if_it_is_overloaded(calling):
    one = calling.add_instance("one")
    call = calling.begin()

    one.say(refusal(call, "overloaded"))

    with pytest.raises(Overloaded):
        call.outcome()
    assert len(ids(one)) == 1


def test_a_node_that_has_forgotten_this_one_is_greeted_again_and_then_called(calling):
    one = calling.add_instance("one")
    call = calling.begin()

    one.say(refusal(call, "protocol"))
    assert [type(message) for message in one.sent] == [Hello, Call, Hello]
    one.greet()

    assert ids(one)[-1] == call.id


def test_a_call_ends_if_its_service_answers_that_it_has_expired(calling):
    one = calling.add_instance("one")
    call = calling.begin(timeout=5.0)

    one.say(refusal(call, "expired", "after 1 s"))

    with pytest.raises(RpcTimeout, match="maths.add was ended by one: after 1 s"):
        call.outcome()


# --- links that are lost: the call may have run ------------------------------------------------------------


def test_a_call_in_flight_on_a_lost_link_is_not_repeated(calling):
    links = calling.add_instance("one"), calling.add_instance("other")
    call = calling.begin()
    asked, other = only(links, call)

    asked.listener.on_disconnect()

    with pytest.raises(MaybeExecuted, match="may or may not have run"):
        call.outcome()
    assert ids(other) == []


def test_an_idempotent_call_is_repeated_elsewhere(calling):
    links = [calling.add_instance(name, add={"idempotent": True}) for name in ("one", "other")]
    call = calling.begin()
    asked, other = only(links, call)

    asked.listener.on_disconnect()
    assert call.stage == HELD
    calling.reactor.wind(FIRST_PAUSE)
    other.answer(call, 5)

    assert call.outcome() == 5


def test_an_idempotent_call_gives_up_after_a_number_of_lost_links(calling):
    link = calling.add_instance("one", add={"idempotent": True})
    call = calling.begin(timeout=None)

    for _ in range(LOST_MOVES):
        link.listener.on_disconnect()
        assert call.stage == HELD
        link.greet()
        calling.reactor.wind(LONGEST_PAUSE)
    link.listener.on_disconnect()

    with pytest.raises(MaybeExecuted):
        call.outcome()
    assert len(ids(link)) == LOST_MOVES + 1


def begin_many(calling, number):
    calls = [calling.begin(timeout=10.0) for _ in range(number)]
    assert all(call.stage == SENT for call in calls)
    return calls


def test_all_calls_of_an_instance_that_dies_are_repeated_elsewhere(calling):
    """However many there are: the failure of one instance is no storm."""
    one, other = [calling.add_instance(name, add={"idempotent": True}) for name in ("one", "other")]
    calls = begin_many(calling, 500)
    lost = {call.id for call in calls if call.instance.peer.link is one}

    one.listener.on_disconnect()
    calling.reactor.wind(FIRST_PAUSE)

    assert len(lost) > 200
    assert lost < set(ids(other))


def test_repeats_are_spread_over_the_pause(calling):
    one, other = [calling.add_instance(name, add={"idempotent": True}) for name in ("one", "other")]
    begin_many(calling, 500)
    first = len(ids(other))

    one.listener.on_disconnect()
    assert len(ids(other)) == first
    calling.reactor.wind(FIRST_PAUSE / 2)

    assert 0.3 < (len(ids(other)) - first) / (500 - first) < 0.7


def test_a_call_waits_for_the_budget_and_ends_in_time():
    """It may have run, which the error says."""
    calling = Calling(rpc_retry_ratio=0, rpc_retries_per_second=0.001)
    link = calling.add_instance("one", add={"idempotent": True})
    calling.begin(timeout=1.0)
    link.listener.on_disconnect()  # The first loss is paid for.
    link.greet()
    calling.reactor.wind(0.5)
    call = calling.begin(timeout=5.0)
    link.listener.on_disconnect()
    link.greet()

    calling.reactor.wind(4.9)
    assert call.stage == HELD
    calling.reactor.wind(0.1)

    with pytest.raises(MaybeExecuted, match="may or may not have run; it was not repeated: the retry budget of the service"):
        call.outcome()


def test_calls_that_wait_for_the_budget_are_repeated_as_it_is_earned():
    calling = Calling(rpc_retry_ratio=0, rpc_retries_per_second=1)
    link = calling.add_instance("one", add={"idempotent": True})
    calls = []
    for _ in range(2):
        calls += begin_many(calling, 30)
        link.listener.on_disconnect()
        link.greet()

    calling.reactor.wind(5.0)
    repeated = [call for call in calls if call.stage == SENT]

    # Ten at once, and up to one a second besides.
    assert 12 <= len(repeated) <= 15
    assert all(call.stage == HELD for call in calls if call not in repeated)


def test_without_a_budget_nothing_is_repeated():
    calling = Calling(rpc_retry_ratio=0, rpc_retries_per_second=0)
    link = calling.add_instance("one", add={"idempotent": True})
    call = calling.begin()

    link.listener.on_disconnect()

    with pytest.raises(MaybeExecuted):
        call.outcome()


def test_a_call_that_pauses_can_be_given_up_and_ends_with_its_client(calling):
    one, other = [calling.add_instance(name, add={"idempotent": True}) for name in ("one", "other")]
    given_up, stopped = begin_many(calling, 2)
    one.listener.on_disconnect()
    other.listener.on_disconnect()
    other.greet()

    calling.caller.abandon(given_up)
    calling.caller.close()
    calling.reactor.wind(1.0)

    for call in (given_up, stopped):
        with pytest.raises(CallCancelled):
            call.outcome()


def test_a_lost_call_without_another_instance_says_that_it_may_have_run(calling):
    link = calling.add_instance("one", add={"idempotent": True})
    call = calling.begin(timeout=10.0)

    link.listener.on_disconnect()
    calling.reactor.wind(3.0)

    with pytest.raises(MaybeExecuted, match="may or may not have run, and no other instance can be asked .one at tcp://one"):
        call.outcome()


def test_a_refused_call_asks_all_others_while_the_budget_lasts():
    calling = Calling(rpc_retry_ratio=0, rpc_retries_per_second=0.1)  # One repeat.
    links = {name: calling.add_instance(name) for name in ("a", "b", "c", "d")}
    call = calling.begin()

    asked = []
    while call.stage == SENT:
        asked.append(call.instance.record.instance)
        links[asked[-1]].say(refusal(call, "overloaded"))

    assert len(set(asked)) == len(asked) == 3
    with pytest.raises(Overloaded):
        call.outcome()


def test_a_call_still_held_for_a_lost_link_moves_to_another_instance(calling):
    """It never left, so it is safe to send it elsewhere."""
    links = calling.add_instance("one"), calling.add_instance("other")
    calling.caller.cork.begin(calling.reactor.now)
    call, following = (calling.caller.begin("maths", "add", (), None, None, 10.0) for _ in range(2))
    asked = call.instance.peer.link
    [other] = [link for link in links if link is not asked]
    assert call.stage == following.stage == SENT and ids(asked) == []

    asked.listener.on_disconnect()
    calling.caller.cork.end()

    assert sorted(ids(other)) == sorted([call.id, following.id])


def test_a_node_that_sends_bye_gets_no_more_calls_and_a_bye_as_answer(calling):
    links = calling.add_instance("one"), calling.add_instance("other")
    call = calling.begin()
    asked, other = only(links, call)

    asked.say(Bye(["maths"], "shutting down"))
    calls = [calling.begin() for _ in range(3)]
    asked.answer(call, "read")

    assert asked.said(Bye) == [Bye(["maths"], None)]
    assert ids(other) == [each.id for each in calls]
    assert call.outcome() == "read"


# --- silence -----------------------------------------------------------------------------------------------


def test_a_silent_node_gets_pings_and_then_no_new_calls_until_it_answers():
    calling = Calling(HEARTBEAT=1.0)
    links = calling.add_instance("one"), calling.add_instance("other")
    call = calling.begin(timeout=None)
    silent, other = only(links, call)

    for _ in range(50):
        calling.reactor.wind(0.1)
    assert len(silent.said(Ping)) >= 3
    calls = [calling.begin() for _ in range(4)]
    assert ids(other) == [each.id for each in calls]

    silent.answer(call, "slow")
    following = [calling.begin() for _ in range(4)]

    assert call.outcome() == "slow"
    assert ids(silent)[1:] == [each.id for each in following]


# --- a burst at the start ----------------------------------------------------------------------------------


def test_a_burst_leaves_a_share_to_an_instance_that_is_about_to_be_greeted(calling):
    one, other = (calling.add_instance(name, is_greeted=False) for name in ("one", "other"))
    one.greet()

    calls = [calling.begin() for _ in range(4)]
    assert len(ids(one)) == 2
    other.greet()

    assert len(ids(other)) == 2
    assert sorted(ids(one) + ids(other)) == [call.id for call in calls]


def test_a_burst_waits_for_no_instance_that_does_not_come(calling):
    one, _ = (calling.add_instance(name, is_greeted=False) for name in ("one", "other"))
    one.greet()
    calls = [calling.begin() for _ in range(4)]

    calling.reactor.wind(EXPECTED + SWEEP_INTERVAL)

    assert sorted(ids(one)) == [call.id for call in calls]


# --- the end -----------------------------------------------------------------------------------------------


def test_closing_ends_all_calls_and_refuses_more(calling):
    link = calling.add_instance("one")
    sent, held = calling.begin(), calling.begin(service="words")

    calling.caller.close()

    for call in (sent, held):
        with pytest.raises(CallCancelled, match="the client was stopped"):
            call.outcome()
    assert link.said(Cancel) == [Cancel(sent.id)]
    assert link.is_closed
    with pytest.raises(RuntimeError, match="was stopped"):
        calling.begin()


def test_junk_only_costs_a_line_in_the_log(calling, caplog):
    link = calling.add_instance("one")
    call = calling.begin()

    link.say(b"\xc1", envelope.encode_result(call.id, 5, None))

    assert call.outcome() == 5
    assert "sent what cannot be handled" in caplog.text
