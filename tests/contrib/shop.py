"""What the tests of the outbox and the inbox play with: orders that are paid, and mails about them; also a program of its own.

    python -m tests.contrib.shop SETTINGS commit|relay      pays an order, and is killed at that moment
"""

import json
import os
import signal
import sys

import gevent
from sqlalchemy import Integer, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from zmqservices.containers import ServiceContainer
from zmqservices.contrib.inbox import Inbox
from zmqservices.contrib.outbox import Outbox
from zmqservices.contrib.sqlalchemy import Database
from zmqservices.events import event_handler
from zmqservices.rpc import rpc
from zmqservices.standalone.rpc import ServiceRpcProxy


class Base(DeclarativeBase):
    pass


class Payment(Base):
    __tablename__ = "payments"
    order: Mapped[int] = mapped_column(Integer, primary_key=True)


class Mail(Base):
    __tablename__ = "mails"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    order: Mapped[int] = mapped_column(Integer)


class Orders:
    name = "orders"
    db = Database(Base)
    # A process that a busy machine holds up must not be taken for a dead one: only those that die are adopted soon.
    outbox = Outbox(Base, poll_interval=0.05)

    @rpc
    def pay(self, first, count=1, key=None):
        with self.db.get_session() as session:
            for order in range(first, first + count):
                session.add(Payment(order=order))
                self.outbox(session, "order.paid", {"order": order}, key=key)

    @rpc
    def fail(self, order):
        with self.db.get_session() as session:
            session.add(Payment(order=order))
            self.outbox(session, "order.paid", {"order": order})
            session.flush()
            raise ValueError("rolled back")

    @rpc
    def payments(self):
        return list(self.db.session.scalars(select(Payment.order).order_by(Payment.order)))


class Mails:
    name = "mails"
    db = Database(Base)
    inbox = Inbox(Base)

    #: Orders that it was told of, in the order of deliveries.
    told = []
    #: Orders of which the first delivery fails after its effect, before the commit.
    failing = set()

    @event_handler("orders", "order.paid")
    def note(self, payload):
        order = payload["order"]
        self.told.append(order)
        with self.db.get_session() as session:
            if self.inbox.is_new(session):
                session.add(Mail(order=order))
            if order in self.failing:
                self.failing.discard(order)
                session.flush()
                raise ValueError("rolled back")


def die(*args):
    os.kill(os.getpid(), signal.SIGKILL)


class DiesAfterCommit(Outbox):
    """The process ends when its transaction has committed, and nothing has been relayed."""

    def _committed(self, session):
        die()


class DiesAfterRelay(Outbox):
    """The process ends when the journal has the event, and the outbox has it still."""

    def _remove(self, ids):
        die()


OUTBOXES = {"commit": DiesAfterCommit, "relay": DiesAfterRelay}


def main(settings, moment):
    class Dying(Orders):
        outbox = OUTBOXES[moment](Base, adopt_after=0.5)

    ServiceContainer(Dying, settings).start()
    with ServiceRpcProxy("orders", settings, timeout=60) as orders:
        orders.pay(1)
        gevent.sleep(20)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2])
