"""An injected dispatcher in native threads: handed over to the hub, so that an event is dispatched once."""

import threading

import gevent
import pytest

from tests.stage import aside, until
from zmqservices.events import EventDispatcher, event_handler
from zmqservices.exceptions import UnserializableValueError
from zmqservices.rpc import rpc


@pytest.fixture
def orders(serve, connect):
    class Orders:
        name = "orders"
        dispatch = EventDispatcher()
        casually = EventDispatcher(reliable=False)
        threads = set()

        @rpc
        def place(self, number, how):
            gevent.get_hub().threadpool.apply(self.tell, (number, how))

        def tell(self, number, how):
            self.threads.add(threading.get_native_id())
            getattr(self, how)("order.placed", number)

    class Mails:
        name = "mails"
        heard = []

        @event_handler("orders", "order.placed")
        def on_placed(self, number):
            self.heard.append(number)

    serve(Mails)
    serve(Orders, max_workers=20)
    proxy = connect().orders
    proxy.service_class, proxy.heard = Orders, Mails.heard
    return proxy


@pytest.mark.parametrize("how", ["dispatch", "casually"])
def test_each_event_that_a_native_thread_dispatches_is_handled_once(orders, how):
    calls = [orders.place.call_async(number, how) for number in range(20)]
    for call in calls:
        call.result()

    until(lambda: len(orders.heard) >= 20)

    assert sorted(orders.heard) == list(range(20))
    assert threading.get_native_id() not in orders.service_class.threads


def test_what_cannot_be_dispatched_is_told_to_the_native_thread(serve):
    class Orders:
        name = "orders"
        dispatch = EventDispatcher()

        @rpc
        def nothing(self):
            pass

    container = serve(Orders)
    source = next(one for one in container.dependencies)._source

    with pytest.raises(UnserializableValueError):
        aside(source.dispatch, "order.placed", object(), None, None, None, True)
    assert aside(source.dispatch_all, [("order.placed", b"", None, "msgpack", None)] * 3) == [None] * 3
    assert source.journals.own.journal.last_seq == 3
