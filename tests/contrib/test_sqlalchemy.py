"""Sessions for services, on SQLite and on PostgreSQL."""

import gevent
import pytest
from sqlalchemy import Integer, String, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from zmqservices.contrib.sqlalchemy import Database, DatabaseSession
from zmqservices.exceptions import ConfigurationError, RemoteError
from zmqservices.rpc import rpc
from zmqservices.standalone.rpc import ServiceRpcProxy
from zmqservices.testing.services import dummy, entrypoint_hook, worker_factory


class Base(DeclarativeBase):
    pass


class Product(Base):
    __tablename__ = "products"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    title: Mapped[str] = mapped_column(String(50), unique=True)


class Products:
    name = "products"

    db = Database(Base)
    session = DatabaseSession(Base)

    @rpc
    def add(self, title):
        with self.db.get_session() as session:
            product = Product(title=title)
            session.add(product)
            session.flush()
            return product.id

    @rpc
    def add_and_fail(self, title):
        with self.db.get_session() as session:
            session.add(Product(title=title))
            session.flush()
            raise ValueError("rolled back")

    @rpc
    def add_and_forget(self, title):
        self.db.session.add(Product(title=title))
        self.db.session.flush()
        self.session.execute(text("select 1"))

    @rpc
    def add_by_session(self, title):
        self.session.add(Product(title=title))
        self.session.commit()

    @rpc
    def titles(self):
        return list(self.session.scalars(select(Product.title).order_by(Product.title)))

    @rpc
    def slowly(self):
        self.session.execute(text("select 1"))
        gevent.sleep(0.01)
        return self.session.scalar(text("select 2"))


@pytest.fixture(params=["sqlite", "postgresql"])
def uri(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/products.db"
    return request.getfixturevalue("postgresql_url")


@pytest.fixture
def container(serve, uri):
    container = serve(Products, DB_URIS={"products:Base": uri})
    engine = next(provider.engine for provider in container.dependencies)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    yield container
    container.stop()


@pytest.fixture
def products(container):
    with ServiceRpcProxy("products", timeout=20) as proxy:
        yield proxy


def test_a_block_is_a_transaction(products):
    assert [products.add("tea"), products.add("coffee")] == [1, 2]
    with pytest.raises(RemoteError, match="rolled back"):
        products.add_and_fail("milk")

    assert products.titles() == ["coffee", "tea"]


def test_what_a_worker_does_not_commit_is_rolled_back(products):
    products.add_and_forget("tea")

    assert products.titles() == []


def test_a_session_may_be_injected(products):
    products.add_by_session("tea")

    assert products.titles() == ["tea"]


def test_a_commit_that_fails_is_the_callers_error_and_the_next_call_is_as_good(products):
    products.add("tea")

    with pytest.raises(RemoteError, match="IntegrityError"):
        products.add("tea")

    assert products.add("coffee") == 2 or products.titles() == ["coffee", "tea"]


def test_every_worker_has_a_connection(products):
    calls = [products.slowly.call_async() for _ in range(40)]

    assert {call.result() for call in calls} == {2}


def test_connections_are_given_back(products, container):
    for _ in range(30):
        products.titles()
    (pool,) = {provider.engine.pool for provider in container.dependencies if isinstance(provider, DatabaseSession)}

    container.stop()

    assert pool.checkedout() == 0
    assert [provider.engine for provider in container.dependencies] == [None, None]


@pytest.mark.parametrize("uri", ["postgresql"], indirect=True)
def test_a_database_that_was_away_is_no_error_of_the_next_call(products, container):
    products.add("tea")
    engine = next(provider.engine for provider in container.dependencies)
    with engine.connect() as connection:
        connection.execute(text("select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()"))

    assert products.titles() == ["tea"]


# --- without a database ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings, said", [
    ({}, r"DB_URIS has no 'products:Base'; it is None, and a mapping such as \{'products:Base': 'sqlite:///file.db'\}"),
    ({"DB_URIS": {"other:Base": "sqlite://"}}, "DB_URIS has no 'products:Base'"),
    ({"DB_URIS": "sqlite://"}, "it is 'sqlite://'"),
    ({"DB_URIS": {"products:Base": "nonsense"}}, r"DB_URIS\['products:Base'\] is 'nonsense'"),
])  # fmt: skip
def test_settings_that_make_no_sense(container_factory, settings, said):
    with pytest.raises(ConfigurationError, match=said):
        container_factory(Products, settings).start()


def test_options_of_the_declaration_come_before_those_of_the_settings(container_factory):
    class Service:
        name = "service"
        db = Database(Base, {"expire_on_commit": False}, {"echo": False})

        @dummy
        def look(self):
            return self.db.session.expire_on_commit, self.db.session.autoflush, self.db.session.get_bind().echo

    settings = {
        "DB_URIS": {"service:Base": "sqlite://"},
        "DB_ENGINE_OPTIONS": {"echo": True},
        "DB_SESSION_OPTIONS": {"expire_on_commit": True, "autoflush": False},
    }
    container = container_factory(Service, settings)
    container.start()

    with entrypoint_hook(container, "look") as look:
        assert look() == (False, False, False)


def test_a_unit_test_needs_no_database():
    service = worker_factory(Products)
    service.session.scalars.return_value = iter(["tea"])

    assert service.titles() == ["tea"]


def test_a_block_that_cannot_commit_closes_its_session(container_factory, tmp_path):
    class Service:
        name = "service"
        db = Database(Base)

        @dummy
        def twice(self):
            Base.metadata.create_all(self.db.session.get_bind())
            with self.db.get_session(close_on_exit=True) as session:
                session.add_all([Product(title="tea"), Product(title="tea")])

    container = container_factory(Service, {"DB_URIS": {"service:Base": f"sqlite:///{tmp_path}/a.db"}})
    container.start()

    with entrypoint_hook(container, "twice") as twice, pytest.raises(IntegrityError):
        twice()

    (database,) = container.dependencies
    assert database.engine.pool.checkedout() == 0
    container.stop()
