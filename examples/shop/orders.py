"""Stores orders in a database, with SQLAlchemy. An event is dispatched for each new order."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from examples.shop.errors import NotFound
from zmqservices.contrib.sqlalchemy import Database
from zmqservices.events import EventDispatcher
from zmqservices.rpc import rpc


class Base(DeclarativeBase):
    pass


class Line(Base):
    __tablename__ = "lines"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[str] = mapped_column(ForeignKey("orders.id"), index=True)
    product: Mapped[str] = mapped_column(String(50))
    quantity: Mapped[int]


class Order(Base):
    __tablename__ = "orders"
    # Other services remember ids, so an id must never be used twice. A new database would count from 1 again.
    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=lambda: uuid4().hex)
    lines: Mapped[list[Line]] = relationship(order_by=Line.id)

    def to_dict(self) -> dict[str, Any]:
        lines = [{"product": line.product, "quantity": line.quantity} for line in self.lines]
        return {"id": self.id, "lines": lines}


class DatabaseWithTables(Database):
    """Creates missing tables. An application whose tables change would run migrations before it starts."""

    def setup(self) -> None:
        super().setup()
        self.declarative_base.metadata.create_all(self.engine)


class Orders:
    name = "orders"

    db = DatabaseWithTables(Base)
    dispatch = EventDispatcher()

    @rpc
    def create(self, lines: list[dict[str, Any]]) -> dict[str, Any]:
        """Store an order and dispatch `order_created`. Not idempotent: a second call creates a second order."""
        with self.db.get_session() as session:
            order = Order(lines=[Line(**line) for line in lines])
            session.add(order)
            session.flush()
            created = order.to_dict()
        # The order is committed before the event is dispatched, so that no event tells of an order that is rolled back. A crash
        # between these two steps leaves an order without an event. When `dispatch` has returned, the event is on disk.
        self.dispatch("order_created", created)
        return created

    @rpc(expected_exceptions=NotFound, idempotent=True)
    def get(self, id: str) -> dict[str, Any]:
        """Return an order. Raises NotFound."""
        order = self.db.session.get(Order, id)
        if order is None:
            raise NotFound(f"there is no order {id!r}")
        return order.to_dict()
