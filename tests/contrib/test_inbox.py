"""Events that have their effect once, however often they are delivered: on SQLite and on PostgreSQL."""

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from tests.contrib.shop import Base, Mail, Mails, Orders
from tests.hosting.stage import until
from zmqservices.contrib.inbox import Inbox, inbox_table
from zmqservices.contrib.sqlalchemy import Database
from zmqservices.events import EventDispatcher, event_handler
from zmqservices.exceptions import ConfigurationError
from zmqservices.rpc import rpc
from zmqservices.standalone.rpc import ServiceRpcProxy
from zmqservices.testing.services import dummy, entrypoint_hook, worker_factory

INBOX = inbox_table(Base.metadata)


class Direct:
    """Dispatches without an outbox."""

    name = "orders"
    dispatch = EventDispatcher()

    @rpc
    def pay(self, order):
        self.dispatch("order.paid", {"order": order})


@pytest.mark.parametrize("orders", [Direct, Orders])
def test_an_event_that_is_replayed_has_its_effect_once(shop, orders):
    shop.start(Mails, orders)
    shop.orders.pay(1)
    until(lambda: shop.mails() == [1])

    with ServiceRpcProxy("events:orders", shop.settings, timeout=60) as publisher:
        publisher.rewind("mails.note:order.paid", to_seq=0)
    until(lambda: len(Mails.told) == 2)
    shop.orders.pay(2)

    until(lambda: shop.mails()[-1:] == [2])
    assert shop.mails() == [1, 2]


def test_a_delivery_that_fails_leaves_no_note_behind(shop):
    Mails.failing.add(1)
    shop.start(Mails, Direct)

    shop.orders.pay(1)

    until(lambda: shop.mails() == [1])
    assert Mails.told == [1, 1]


def test_each_handler_has_its_own_notes(shop):
    class Both(Mails):
        @event_handler("orders", "order.*")
        def note_also(self, payload):
            self.note(payload)

    shop.start(Both, Direct)

    shop.orders.pay(1)

    until(lambda: shop.mails() == [1, 1])


def test_an_event_that_was_dispatched_without_a_promise_is_new(shop):
    class Casual(Direct):
        dispatch = EventDispatcher(reliable=False)

    shop.start(Mails, Casual)

    shop.orders.pay(1)

    until(lambda: shop.mails() == [1])


class Hooks:
    """Is told of things by others, who say what they are called."""

    name = "mails"
    db = Database(Base)
    inbox = Inbox(Base)

    @dummy
    def hear(self, order, id=None, then=None):
        with self.db.get_session() as session:
            if self.inbox.is_new(session, id):
                session.add(Mail(order=order))
            if then:
                raise then

    @dummy
    def prune(self, older_than):
        with self.db.get_session() as session:
            return self.inbox.prune(session, older_than)


def test_names_of_ones_own_do_as_well_and_are_forgotten_in_time(shop):
    (container,) = shop.start(Hooks)
    with entrypoint_hook(container, "hear") as hear, entrypoint_hook(container, "prune") as prune:
        with pytest.raises(ValueError):
            hear(1, "a", then=ValueError("rolled back"))
        hear(1, "a")
        hear(1, "a")
        hear(2, "b")

        assert shop.mails() == [1, 2]
        assert [prune(60), prune(0), prune(0)] == [0, 2, 0]
        hear(3, "a")

    assert shop.mails() == [1, 2, 3]


def test_a_worker_that_handles_no_event_must_name_it(shop):
    (container,) = shop.start(Hooks)

    with entrypoint_hook(container, "hear") as hear, pytest.raises(RuntimeError, match=r"mails\.hear\..* handles no event"):
        hear(1)


def test_a_database_that_is_not_known_is_told():
    class Dialect:
        name = "oracle"

    class Connection:
        dialect = Dialect

    notes = Inbox(Base).get_dependency(type("Ctx", (), {"service_name": "a", "entrypoint": type("E", (), {"method_name": "b"})}))

    with pytest.raises(ConfigurationError, match="'oracle'; postgresql or sqlite is needed"):
        notes.is_new(Connection(), "a")


def test_a_session_whose_tables_have_databases_of_their_own():
    engine = create_engine("sqlite://")
    INBOX.create(engine)
    notes = Inbox(Base).get_dependency(type("Ctx", (), {"service_name": "a", "entrypoint": type("E", (), {"method_name": "b"})}))

    with Session(binds={INBOX: engine}) as session:
        assert [notes.is_new(session, "1"), notes.is_new(session, "1"), notes.is_new(session, "2")] == [True, False, True]
    engine.dispose()


def test_a_unit_test_needs_no_database():
    service = worker_factory(Mails)
    service.inbox.is_new.return_value = False
    session = service.db.get_session.return_value.__enter__.return_value

    service.note({"order": 1})

    assert not session.add.called
