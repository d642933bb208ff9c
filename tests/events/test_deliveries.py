"""What becomes of reliable events: kept, tried again, given up; across restarts of either side."""

import threading

import gevent
import pytest

from tests.events.stage import Context, Gate, Notes, Orders, until
from tests.stage import aside
from zmqservices.events import BROADCAST, EventDispatcher, event_handler
from zmqservices.exceptions import BadRequest, JournalError, MessageTooLarge, UnserializableValueError
from zmqservices.journal import Journal
from zmqservices.rpc import rpc
from zmqservices.wire import envelope
from zmqservices.wire.messages import Ack, Nack


def mails_that_note(notes, **options):
    class Mails:
        name = "mails"
        notes_ = notes

        @event_handler("orders", "order.*", **options)
        def send(self, payload):
            self.notes_.append(payload)

    return Mails


def test_a_dispatch_succeeds_when_nobody_handles_it(serve, cluster):
    serve(Orders)

    assert cluster.orders.tell("order.paid", 1) is None


def test_events_are_kept_while_the_handler_is_away(serve, cluster):
    notes = Notes()
    Mails = mails_that_note(notes)
    serve(Orders)
    serve(Mails).stop()

    cluster.orders.tell_all("order.paid", 10)
    serve(Mails)

    assert notes.wait_for(10) == list(range(10))


def test_best_effort_events_are_not(serve, cluster):
    notes = Notes()
    Mails = mails_that_note(notes, reliable_delivery=False)
    serve(Orders)
    serve(Mails).stop()

    cluster.orders.tell("order.paid", "lost")
    serve(Mails)
    cluster.orders.tell("order.paid", "heard")

    assert notes.wait_for(1) == ["heard"]


def test_events_wait_over_a_restart_of_both_sides(serve, connect):
    notes = Notes()
    Mails = mails_that_note(notes)
    orders = serve(Orders)
    serve(Mails).stop()
    connect().orders.tell_all("order.paid", 5)
    orders.stop()

    serve(Orders)
    serve(Mails)

    assert notes.wait_for(5) == list(range(5))


def test_a_new_handler_gets_what_comes_after_it(serve, cluster):
    notes = Notes()
    serve(Orders)
    cluster.orders.tell("order.paid", "before")

    serve(mails_that_note(notes))
    cluster.orders.tell("order.paid", "after")

    assert notes.wait_for(1) == ["after"]


def test_or_all_that_is_kept_when_it_asks_for_it(serve, cluster):
    notes = Notes()
    serve(Orders)
    cluster.orders.tell("order.paid", "before")

    serve(mails_that_note(notes, start="earliest"))

    assert notes.wait_for(1) == ["before"]


def test_a_publisher_that_is_new_keeps_events_for_a_group_that_is_away(serve, connect):
    notes = Notes()
    Mails = mails_that_note(notes)
    serve(Orders, elsewhere=True)
    serve(Mails).stop()

    # The other instance remembers the group, and tells of it in the directory.
    serve(Orders, elsewhere=True)
    cluster = connect()
    for number in range(20):
        cluster.orders.tell("order.paid", number)
    serve(Mails)

    assert sorted(notes.wait_for(20)) == list(range(20))


def test_a_handler_that_fails_gets_the_event_again(serve, cluster):
    notes = Notes()

    class Mails:
        name = "mails"
        notes_ = notes

        @event_handler("orders", "order.paid")
        def send(self, payload):
            self.notes_.append(payload)
            if len(self.notes_) < 3:
                raise ValueError("not now")

    serve(Orders)
    serve(Mails)
    cluster.orders.tell("order.paid", 1)

    assert notes.wait_for(3) == [1, 1, 1]


def test_one_that_always_fails_makes_a_dead_letter_and_the_rest_flows(serve, cluster):
    notes = Notes()

    class Mails:
        name = "mails"
        notes_ = notes

        @event_handler("orders", "order.paid", max_deliveries=3)
        def send(self, payload):
            if payload == "bad":
                raise ValueError("never")
            self.notes_.append(payload)

    serve(Orders)
    serve(Mails)
    cluster.orders.tell("order.paid", "bad")
    cluster.orders.tell_all("order.paid", 10)

    assert sorted(notes.wait_for(10)) == list(range(10))
    until(lambda: cluster["events:orders"].dead_letters())
    [letter] = cluster["events:orders"].dead_letters()
    assert letter["data"] == "bad"
    assert letter["attempts"] == 3
    assert letter["error"]["exc_type"] == "ValueError"
    trace = letter["error"]["traceback"].splitlines()
    assert "never" in trace[-1] and __file__ in trace[1], "the traceback begins with the handler's own code"


def test_an_event_whose_dead_letter_cannot_be_written_is_delivered_again(serve, cluster, monkeypatch):
    refused = []
    bury = Journal.bury

    def refuse_once(journal, name, event, error, attempts, done):
        if refused:
            bury(journal, name, event, error, attempts, done)
        else:
            refused.append(event.seq)
            done(JournalError("no space is left"))

    monkeypatch.setattr(Journal, "bury", refuse_once)
    notes = Notes()

    class Mails:
        name = "mails"
        notes_ = notes

        @event_handler("orders", "order.paid", max_deliveries=2)
        def send(self, payload):
            self.notes_.append(payload)
            raise ValueError("never")

    serve(Orders)
    serve(Mails)
    cluster.orders.tell("order.paid", "bad")

    assert notes.wait_for(4) == ["bad"] * 4
    until(lambda: cluster["events:orders"].dead_letters())
    assert len(refused) == 1


def test_a_dead_letter_is_delivered_once_more_when_an_operator_says_so(serve, cluster):
    notes = Notes()
    mended = []

    class Mails:
        name = "mails"
        notes_ = notes

        @event_handler("orders", "order.paid", max_deliveries=1)
        def send(self, payload):
            if not mended:
                raise ValueError("not yet")
            self.notes_.append(payload)

    serve(Orders)
    serve(Mails)
    cluster.orders.tell("order.paid", 1)
    admin = cluster["events:orders"]
    until(lambda: admin.dead_letters())

    mended.append(True)
    assert admin.requeue("mails.send:order.paid") == 1

    assert notes.wait_for(1) == [1]
    assert admin.dead_letters() == []


def test_with_on_error_drop_a_failed_event_is_gone(serve, cluster):
    notes = Notes()

    class Mails:
        name = "mails"
        notes_ = notes

        @event_handler("orders", "order.paid")
        def send(self, payload):
            self.notes_.append(payload)
            raise ValueError("no")

        @event_handler("orders", "order.sent", requeue_on_error=True)
        def track(self, payload):
            self.notes_.append(payload)
            if len(self.notes_) < 3:
                raise ValueError("no")

    serve(Orders)
    serve(Mails, events_on_error="drop")
    cluster.orders.tell("order.paid", "paid")
    cluster.orders.tell("order.sent", "sent")

    assert notes.wait_for(3) == ["paid", "sent", "sent"]
    until(lambda: all(g["waiting"] == 0 for g in cluster["events:orders"].stats()["journals"][0]["groups"]))


def test_context_and_call_ids_travel_with_an_event(serve, connect):
    notes = Notes()

    class Mails:
        name = "mails"
        notes_ = notes
        context = Context()

        @event_handler("orders", "order.paid")
        def send(self, payload):
            self.notes_.append((dict(self.context.data), self.context.call_id_stack))

    serve(Orders)
    serve(Mails)
    connect(context_data={"language": "de"}).orders.tell("order.paid")

    [(data, stack)] = notes.wait_for(1)
    assert data == {"language": "de"}
    assert [call_id.rpartition(".")[0] for call_id in stack[1:]] == ["orders.tell", "mails.send"]


def test_what_a_worker_adds_to_its_context_does_not_travel_with_events(serve, cluster):
    notes = Notes()

    class Shop:
        name = "shop"
        dispatch = EventDispatcher()
        context = Context()

        @rpc
        def sell(self):
            self.context.data["added"] = 1
            self.dispatch("sold", {})

    class Mails:
        name = "mails"
        notes_ = notes
        context = Context()

        @event_handler("shop", "sold")
        def send(self, payload):
            self.notes_.append(dict(self.context.data))

    serve(Shop)
    serve(Mails)
    cluster.shop.sell()

    assert notes.wait_for(1) == [{}]


def test_as_many_events_run_at_once_as_there_are_workers_and_they_begin_in_order(serve, cluster):
    gate, notes = Gate(), Notes()

    class Mails:
        name = "mails"
        notes_ = notes
        gate_ = gate

        @event_handler("orders", "order.paid")
        def send(self, payload):
            self.notes_.append(payload)
            self.gate_()

    serve(Orders)
    serve(Mails, max_workers=3)
    cluster.orders.tell_all("order.paid", 10)

    gate.wait_for(3)
    assert notes.lines == [0, 1, 2]
    [group] = cluster["events:orders"].stats()["journals"][0]["groups"]
    assert group["in_flight"] == 3
    gate.open()
    assert notes.wait_for(10) == list(range(10))


def test_events_of_one_key_are_handled_one_after_the_other(serve, cluster):
    notes = Notes()
    running = set()

    class Mails:
        name = "mails"
        notes_ = notes

        @event_handler("orders", "#")
        def send(self, payload):
            key, number = payload
            assert key not in running
            running.add(key)
            gevent.sleep(0.001)
            running.discard(key)
            self.notes_.append((key, number))

    serve(Orders)
    serve(Mails, elsewhere=True)
    serve(Mails, elsewhere=True)
    for number in range(30):
        for key in ("a", "b"):
            cluster.orders.tell("moved", (key, number), key=key)

    notes.wait_for(60)
    for key in ("a", "b"):
        assert [number for k, number in notes.lines if k == key] == list(range(30))


def test_a_wrong_signature_is_an_error_of_the_handler(serve, cluster):
    class Mails:
        name = "mails"

        @event_handler("orders", "order.paid", max_deliveries=1)
        def send(self):
            pass

    serve(Orders)
    serve(Mails)
    cluster.orders.tell("order.paid", 1)

    until(lambda: cluster["events:orders"].dead_letters())
    [letter] = cluster["events:orders"].dead_letters()
    assert letter["error"]["exc_type"] == "TypeError"


def test_an_event_in_a_format_that_accept_does_not_name_is_a_dead_letter_undecoded(serve, dispatcher, cluster):
    handled = []

    class Mails:
        name = "mails"

        @event_handler("orders", "order.paid", max_deliveries=1)
        def send(self, payload):
            handled.append(payload)

    serve(Mails, ACCEPT=["msgpack"])

    dispatcher(settings={"serializer": "json"})("orders", "order.paid", {"a": 2})

    until(lambda: cluster["events:orders"].dead_letters())
    [letter] = cluster["events:orders"].dead_letters()
    assert "'json'" in letter["error"]["value"] and "not accepted" in letter["error"]["value"]
    assert handled == []


@pytest.mark.parametrize("data", [object(), lambda: None])
def test_what_cannot_travel_is_refused_at_the_dispatch(serve, data, dispatch):
    with pytest.raises(UnserializableValueError):
        dispatch("orders", "order.paid", data)


def test_an_event_larger_than_a_message_may_be_is_refused_at_the_dispatch(dispatcher):
    dispatch = dispatcher(settings={"max_message_size": 10_000})

    with pytest.raises(MessageTooLarge, match="max_message_size"):
        dispatch("orders", "order.paid", b"x" * 10_000)


def test_a_large_event_travels_in_a_frame_of_its_own(serve, dispatch):
    notes = Notes()
    serve(mails_that_note(notes))
    data = bytes(range(256)) * 4096

    dispatch("orders", "order.paid", data)

    assert notes.wait_for(1) == [data]


def test_data_in_json_is_what_json_makes_of_it(serve, dispatcher):
    notes = Notes()
    serve(mails_that_note(notes))

    dispatcher(settings={"serializer": "json"})("orders", "order.paid", (1, {"a": 2}))

    assert notes.wait_for(1) == [[1, {"a": 2}]]


def test_a_graceful_stop_handles_what_it_has_and_answers_it(serve, cluster):
    gate, notes = Gate(), Notes()

    class Mails:
        name = "mails"
        notes_ = notes
        gate_ = gate

        @event_handler("orders", "order.paid")
        def send(self, payload):
            self.gate_()
            self.notes_.append(payload)

    serve(Orders)
    first = serve(Mails, elsewhere=True, max_workers=2)
    cluster.orders.tell_all("order.paid", 4)
    gate.wait_for(2)
    stopping = gevent.spawn(first.stop)
    until(lambda: first._being_stopped)
    gate.open()
    stopping.get(timeout=30)
    serve(Mails, elsewhere=True)

    notes.wait_for(4)
    assert sorted(notes.lines) == [0, 1, 2, 3]


def test_an_event_that_a_killed_handler_had_goes_to_another(serve, cluster):
    gate, notes = Gate(), Notes()

    class Mails:
        name = "mails"
        notes_ = notes
        gate_ = gate
        context = Context()

        @event_handler("orders", "order.paid")
        def send(self, payload):
            self.notes_.append(id(self.context.container))
            self.gate_()

    serve(Orders)
    first = serve(Mails, elsewhere=True)
    cluster.orders.tell("order.paid", 1)
    gate.wait_for(1)
    serve(Mails, elsewhere=True)

    first.kill()

    assert len(set(notes.wait_for(2))) == 2


def test_a_publisher_that_is_killed_waits_for_no_answers(serve, cluster):
    gate = Gate()

    class Mails:
        name = "mails"
        gate_ = gate

        @event_handler("orders", "order.paid")
        def send(self, payload):
            self.gate_()

    publisher = serve(Orders, elsewhere=True)
    serve(Mails)
    cluster.orders.tell("order.paid", 1)
    gate.wait_for(1)

    with gevent.Timeout(15):
        publisher.kill()


# --- from outside ------------------------------------------------------------------------------------------------------


def test_a_plain_thread_dispatches(serve, dispatcher):
    notes = Notes()
    serve(mails_that_note(notes))
    dispatch = dispatcher()

    aside(dispatch, "orders", "order.paid", 1)

    assert notes.wait_for(1) == [1]
    aside(dispatch.stop)


def test_many_plain_threads_dispatch_at_once(serve, dispatcher):
    notes = Notes()
    serve(mails_that_note(notes))
    dispatch = dispatcher()
    threads = [threading.Thread(target=dispatch, args=("orders", "order.paid", number)) for number in range(20)]

    def run_all():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        dispatch.stop()

    aside(run_all)

    assert sorted(notes.wait_for(20)) == list(range(20))


def test_a_program_that_ends_at_once_has_its_event_handled(serve, dispatcher):
    notes = Notes()
    serve(mails_that_note(notes))

    def program():
        with dispatcher() as dispatch:
            dispatch("orders", "order.paid", 1)

    aside(program)

    assert notes.wait_for(1) == [1]


def test_what_a_program_has_left_is_delivered_by_the_next_process_of_the_service(serve, dispatcher):
    notes = Notes()
    serve(mails_that_note(notes)).stop()

    def program():
        with dispatcher(settings={"events_linger": 0}) as dispatch:
            dispatch("orders", "order.paid", 1)

    aside(program)
    serve(Orders)
    serve(mails_that_note(notes, start="earliest"))

    assert notes.wait_for(1) == [1]


def test_best_effort_events_of_a_program_reach_handlers_that_are_listed(serve, dispatcher):
    notes = Notes()
    serve(mails_that_note(notes, reliable_delivery=False))

    dispatcher(reliable=False)("orders", "order.paid", 1)

    assert notes.wait_for(1) == [1]


def test_a_dispatcher_that_was_stopped_says_so(dispatcher):
    dispatch = dispatcher()
    dispatch.stop()

    with pytest.raises(RuntimeError, match="was stopped"):
        dispatch("orders", "order.paid")


def test_calls_of_an_operator_that_make_no_sense_are_told(serve, cluster):
    serve(Orders)

    with pytest.raises(BadRequest, match="either to_time or to_seq"):
        cluster["events:orders"].rewind("mails")
    with pytest.raises(BadRequest, match="no group 'mails'"):
        cluster["events:orders"].requeue("mails")


# --- answers that come late, or twice --------------------------------------------------------------------------------


def test_answers_that_come_twice_or_for_nothing_do_no_harm(serve, cluster):
    notes = Notes()
    serve(Orders)
    mails = serve(mails_that_note(notes), elsewhere=True)
    cluster.orders.tell_all("order.paid", 5)
    notes.wait_for(5)

    [handler] = mails.entrypoints
    consumer = handler._consumer
    [peer] = consumer.links
    answers = [Ack(*key, seq) for key, kept in consumer._answers._kept.items() for seq in kept.seqs]
    assert len(answers) == 5
    for answer in answers:
        for again in (answer, Ack(answer.group, answer.origin, answer.seq + 1000), Ack(answer.group, "nowhere", 1)):
            peer.send(envelope.encode(again))
            peer.send(envelope.encode(Nack(again.group, again.origin, again.seq, 0.0, {"exc_type": "Late"})))
    cluster.orders.tell_all("order.paid", 5)

    assert notes.wait_for(10) == [*range(5), *range(5)]
    until(lambda: cluster["events:orders"].stats()["journals"][0]["groups"][0]["waiting"] == 0)
    assert cluster["events:orders"].dead_letters() == []


@pytest.mark.parametrize("returns", ["itself", "another"])
def test_an_event_that_was_handled_while_its_publisher_was_away_does_not_come_again(serve, connect, monkeypatch, returns):
    gate, notes = Gate(), Notes()

    class Mails:
        name = "mails"
        notes_ = notes
        gate_ = gate

        @event_handler("orders", "order.paid")
        def send(self, payload):
            self.notes_.append(payload)
            self.gate_()

    first = serve(Orders, elsewhere=True)
    mails = serve(Mails, elsewhere=True)
    connect().orders.tell("order.paid", 1)
    gate.wait_for(1)
    if returns == "another":
        # It is there already, with a journal of its own, and takes over what the first one leaves.
        second = serve(Orders, elsewhere=True)
    # As one that is killed: it does not wait for answers, and hears none.
    first.kill()
    gate.open()
    [handler] = mails.entrypoints
    until(lambda: not handler._consumer.in_hand)

    if returns == "itself":
        second = serve(Orders, elsewhere=True)
    source = source_of(second)
    if returns == "another":
        monkeypatch.setattr("zmqservices.cluster.events.orphans.ORPHAN_INTERVAL", 0.1)
        source.orphans.look()
        until(lambda: source._owner.empty_orphans)
    until(lambda: source.is_empty)
    connect().orders.tell("order.paid", 2)

    assert notes.wait_for(2) == [1, 2]


def source_of(container):
    return next(dependency._source for dependency in container.dependencies)


def test_of_best_effort_members_that_are_gone_no_counter_is_left(serve):
    notes = Notes()

    class Caches:
        name = "caches"
        notes_ = notes

        @event_handler("orders", "order.paid", reliable_delivery=False)
        def pool(self, payload):
            self.notes_.append(payload)

        @event_handler("orders", "order.paid", handler_type=BROADCAST, reliable_delivery=False)
        def drop(self, payload):
            self.notes_.append(payload)

    orders = serve(Orders, elsewhere=True)
    source = source_of(orders)
    for count in (2, 4, 6):
        caches = serve(Caches, elsewhere=True)
        source.dispatch("order.paid", count, None, None, None, False)
        notes.wait_for(count)
        assert len(source.best_effort._topics) == 2

        caches.stop()

        until(lambda: not source.best_effort._topics and not source.best_effort.consumer_groups)


def test_the_first_answer_counts_whoever_gives_it(serve, cluster):
    gate, notes = Gate(), Notes()

    class Mails:
        name = "mails"
        notes_ = notes
        gate_ = gate

        @event_handler("orders", "order.paid")
        def send(self, payload):
            self.notes_.append(payload)
            self.gate_()

    serve(Orders, events_ack_wait=0.3)
    silent = serve(Mails, elsewhere=True)
    cluster.orders.tell("order.paid", 1)
    gate.wait_for(1)
    # It says nothing any more, as a process whose hub is stuck.
    [handler] = silent.entrypoints
    handler._consumer.send_alive = lambda: None
    serve(Mails, elsewhere=True)
    gate.wait_for(2)
    gate.open()

    until(lambda: cluster["events:orders"].stats()["journals"][0]["groups"][0]["waiting"] == 0)
    assert notes.lines == [1, 1]


def test_a_handler_that_takes_longer_than_the_wait_keeps_its_event_while_its_hub_turns(serve, cluster):
    gate, notes = Gate(), Notes()

    class Mails:
        name = "mails"
        notes_ = notes
        gate_ = gate

        @event_handler("orders", "order.paid")
        def send(self, payload):
            self.notes_.append(payload)
            self.gate_()

    serve(Orders, events_ack_wait=1.5)
    serve(Mails, elsewhere=True)
    serve(Mails, elsewhere=True)
    cluster.orders.tell("order.paid", 1)
    gate.wait_for(1)
    gevent.sleep(3.2)  # What is waited for is that nothing happens in more than twice that.
    gate.open()

    until(lambda: cluster["events:orders"].stats()["journals"][0]["groups"][0]["waiting"] == 0)
    assert notes.lines == [1]


def test_a_container_that_is_killed_gives_its_events_to_others_while_its_process_lives_on(serve, cluster):
    gate, notes = Gate(), Notes()

    class Mails:
        name = "mails"
        notes_ = notes
        gate_ = gate
        context = Context()

        @event_handler("orders", "order.paid")
        def send(self, payload):
            self.notes_.append(id(self.context.container))
            self.gate_()

    # In the publisher's own process: its link stands after the container's end.
    serve(Orders)
    first = serve(Mails)
    cluster.orders.tell("order.paid", 1)
    gate.wait_for(1)
    serve(Mails, elsewhere=True)

    first.kill()

    assert len(set(notes.wait_for(2))) == 2


def test_events_are_delivered_again_from_a_point_in_time(serve, cluster):
    notes = Notes()
    serve(Orders)
    serve(mails_that_note(notes))
    cluster.orders.tell_all("order.paid", 3)
    notes.wait_for(3)
    until(lambda: cluster["events:orders"].stats()["journals"][0]["groups"][0]["waiting"] == 0)

    cluster["events:orders"].rewind("mails.send:order.*", to_time=0.0)

    assert notes.wait_for(6) == [0, 1, 2, 0, 1, 2]


def test_a_group_is_not_forgotten_while_it_has_members(serve, cluster):
    serve(Orders)
    mails = serve(mails_that_note(Notes()))

    with pytest.raises(BadRequest, match="has 1 members"):
        cluster["events:orders"].forget("mails.send:order.*")

    mails.stop()
    assert cluster["events:orders"].forget("mails.send:order.*") is True
    assert cluster["events:orders"].forget("mails.send:order.*") is False


def test_best_effort_events_reach_reliable_handlers_without_a_promise(serve, dispatcher):
    notes = Notes()

    class Shop:
        name = "shop"
        dispatch = EventDispatcher(reliable=False)

        @rpc
        def sell(self, count):
            for number in range(count):
                self.dispatch("sold", number)

    class Mails:
        name = "mails"
        notes_ = notes

        @event_handler("shop", "sold")
        def send(self, payload):
            self.notes_.append(payload)

    shop = serve(Shop)
    serve(Mails)
    [server] = [entrypoint for entrypoint in shop.entrypoints if entrypoint.method_name == "sell"]
    shop.spawn_worker(server, (20,), {})

    assert sorted(notes.wait_for(20)) == list(range(20))
