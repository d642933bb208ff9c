"""Events that are dispatched if, and only if, the application's transaction commits: on SQLite and on PostgreSQL."""

import json
import subprocess
import sys

import gevent
import pytest

from tests.contrib.conftest import ROOT
from tests.contrib.shop import Base, Mails, Orders
from tests.hosting.stage import until
from zmqservices.contrib.outbox import Outbox, outbox_table
from zmqservices.events import event_handler
from zmqservices.exceptions import ConfigurationError, MessageTooLarge, RemoteError
from zmqservices.extensions import DependencyProvider
from zmqservices.rpc import rpc
from zmqservices.standalone.rpc import ServiceRpcProxy
from zmqservices.testing.services import worker_factory

OUTBOX = outbox_table(Base.metadata)


def test_what_is_committed_is_dispatched_once(shop):
    shop.start(Mails, Orders)

    shop.orders.pay(1)

    until(lambda: shop.mails() == [1] and not shop.outbox())
    assert Mails.told == [1]


def test_what_is_rolled_back_is_not_dispatched(shop):
    shop.start(Mails, Orders)

    with pytest.raises(RemoteError, match="rolled back"):
        shop.orders.fail(1)
    shop.orders.pay(2)

    until(lambda: shop.mails() == [2])
    assert Mails.told == [2]
    assert shop.orders.payments() == [2]


def test_it_is_relayed_at_the_commit_and_not_by_the_poll(shop):
    class Patient(Orders):
        outbox = Outbox(Base, poll_interval=1000)

    shop.start(Mails, Patient)

    for order in (1, 2, 3):
        shop.orders.pay(order)
        until(lambda order=order: shop.mails()[-1:] == [order])


def test_many_go_in_the_order_of_their_recording(shop):
    shop.start(Mails, Orders, max_workers=1)

    shop.orders.pay(1, count=130)

    until(lambda: len(Mails.told) >= 130, timeout=60)
    assert Mails.told == list(range(1, 131))
    until(lambda: not shop.outbox())


def test_a_stop_relays_what_was_committed(shop):
    (orders,) = shop.start(Orders)
    shop.orders.pay(1, count=150)

    orders.stop()

    assert shop.outbox() == []


def test_context_data_and_call_ids_travel_and_the_id_of_the_outbox_goes_no_further(shop):
    class Listens:
        name = "listens"
        seen = []

        @event_handler("orders", "#")
        def note(self, payload):
            pass

    class Look(DependencyProvider):
        def get_dependency(self, worker_ctx):
            Listens.seen.append((worker_ctx.event, dict(worker_ctx.data), worker_ctx.call_id_stack))

    Listens.look = Look()
    shop.start(Listens, Orders)

    with ServiceRpcProxy("orders", shop.settings, context_data={"language": "da"}, timeout=60) as orders:
        orders.pay(1, key="k")

    until(lambda: Listens.seen)
    event, data, stack = Listens.seen[0]
    assert (event.id, len(event.id), event.key, event.type, event.source) == (event.outbox_id, 32, "k", "order.paid", "orders")
    assert data == {"language": "da"}
    assert [call.rsplit(".", 1)[0] for call in stack[-2:]] == ["orders.pay", "listens.note"]


def test_plain_connections_do_as_well(shop):
    class Plain(Orders):
        outbox = Outbox(Base, poll_interval=0.02)

        @rpc
        def pay(self, order):
            with self.db.session.get_bind().begin() as connection:
                self.outbox.record(connection, "order.paid", {"order": order})

    shop.start(Mails, Plain)

    shop.orders.pay(1)

    until(lambda: shop.mails() == [1])


def test_many_processes_relay_each_event_once(shop):
    shop.start(Mails, Orders)
    shop.start(Orders, elsewhere=True)
    shop.start(Orders, elsewhere=True)

    calls = [shop.orders.pay.call_async(first, count=5) for first in range(0, 100, 5)]
    for call in calls:
        call.result()

    until(lambda: len(shop.mails()) >= 100 and not shop.outbox(), timeout=60)
    assert sorted(Mails.told) == list(range(100))


@pytest.mark.parametrize("moment, deliveries", [("commit", 1), ("relay", 2)])
def test_a_killed_process_loses_nothing_and_another_one_goes_on(shop, moment, deliveries):
    shop.start(Mails)
    done = shop.run_dying(moment)

    assert done.returncode == -9, done.stderr
    assert len(shop.outbox()) == 1
    shop.start(Orders)

    until(lambda: len(Mails.told) >= deliveries and not shop.outbox(), timeout=60)
    assert Mails.told == [1] * deliveries
    assert shop.mails() == [1]


def test_an_event_that_can_never_be_sent_is_refused_at_once(shop):
    class Large(Orders):
        @rpc
        def pay(self, size):
            with self.db.get_session() as session:
                self.outbox(session, "order.paid", "x" * size)

    (large,) = shop.start(Large, max_message_size=5000, max_headers_size=2000)

    with pytest.raises(RemoteError, match="MessageTooLarge"):
        shop.orders.pay(6000)
    provider = next(one for one in large.dependencies if isinstance(one, Outbox))
    with pytest.raises(MessageTooLarge, match="max_headers_size is 2,000"), provider.engine.begin() as connection:
        provider.record(connection, "order.paid", 7, None, {"name": "x" * 3000})
    assert shop.outbox() == []


def test_one_that_has_become_too_large_stands_in_nobodys_way(shop, caplog):
    class Sleepy(Orders):
        outbox = Outbox(Base, adopt_after=0.1)

        @rpc
        def pay(self, size):
            with self.db.get_session() as session:
                self.outbox(session, "order.paid", {"order": 7, "text": "x" * size})

    (sleepy,) = shop.start(Sleepy)
    provider = next(one for one in sleepy.dependencies if isinstance(one, Outbox))
    provider._relay = lambda: 0
    shop.orders.pay(6000)
    sleepy.stop()
    shop.start(Mails, Orders, max_message_size=5000)
    shop.orders.pay(8)

    until(lambda: shop.mails() == [8] and shop.outbox() and shop.outbox()[0].error)
    assert "can never be dispatched" in caplog.text
    assert "max_message_size is 5,000" in shop.outbox()[0].error


def test_a_database_without_the_table_is_told_and_waited_for(shop, caplog):
    OUTBOX.drop(shop.engine)
    shop.start(Mails, Orders)
    until(lambda: "tries again" in caplog.text)

    OUTBOX.create(shop.engine)
    shop.orders.pay(1)

    until(lambda: shop.mails() == [1])


@pytest.mark.parametrize("options", [{"adopt_after": 0}, {"poll_interval": "1"}, {"poll_interval": True}])
def test_settings_that_make_no_sense(options):
    (name,) = options

    with pytest.raises(ConfigurationError, match=rf"Outbox\({name}=.*seconds above 0 are needed"):
        Outbox(Base, **options)


def test_a_unit_test_needs_no_database():
    service = worker_factory(Orders)

    service.pay(1)

    session = service.db.get_session.return_value.__enter__.return_value
    service.outbox.assert_called_once_with(session, "order.paid", {"order": 1}, key=None)


def test_a_process_of_the_command_line_relays_while_it_serves_and_when_it_stops(shop, tmp_path):
    shop.settings["rpc_wait_for_service"] = 30
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps(shop.settings))  # JSON is YAML.
    shop.start(Mails, elsewhere=True)
    command = [sys.executable, "-m", "zmqservices", "run", "tests.contrib.shop:Orders", "--config", str(config)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        payers = [gevent.spawn(shop.orders.pay, 10 * number + 1, 10) for number in range(8)]
        gevent.joinall(payers, raise_error=True)
        until(lambda: sorted(shop.mails()) == list(range(1, 81)), timeout=60)
        shop.orders.pay(81, 10)
    finally:
        process.terminate()
        said, _ = gevent.get_hub().threadpool.apply(process.communicate, kwds={"timeout": 40})

    assert process.returncode == 0, said
    assert shop.outbox() == []
    assert "Traceback" not in said
