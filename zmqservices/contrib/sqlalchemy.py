"""Database sessions for services. Needs SQLAlchemy 2; the extra is `sqlalchemy`.

    class Products:
        name = "products"
        db = Database(Base)

        @rpc
        def add(self, title):
            with self.db.get_session() as session:      # committed at the end, rolled back on an error
                session.add(Product(title=title))

    # config.yaml
    # DB_URIS:
    #   "products:Base": postgresql+psycopg://user@host/products
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from zmqservices.exceptions import ConfigurationError
from zmqservices.extensions import DependencyProvider
from zmqservices.worker_context import WorkerContext

# The only import of SQLAlchemy: the outbox and the inbox import its names from here.
try:
    import sqlalchemy as sql
    from sqlalchemy import create_engine
    from sqlalchemy.dialects import postgresql, sqlite
    from sqlalchemy.engine import Engine, make_url
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError
    from sqlalchemy.orm import Session as AnySession
    from sqlalchemy.orm import scoped_session, sessionmaker
except ImportError as error:
    raise ImportError("SQLAlchemy 2 is not installed; `pip install zmqservices[sqlalchemy]` brings it") from error

__all__ = [
    "DB_ENGINE_OPTIONS_KEY", "DB_SESSION_OPTIONS_KEY", "DB_URIS_KEY",
    "AnySession", "Database", "DatabaseSession", "DeclarativeClass", "EngineProvider", "SQLAlchemyError", "Session", "Sessions",
    "make_url", "postgresql", "scoped_session", "sql", "sqlite",
]  # fmt: skip

#: The setting with the URL of the database for each service and declarative base: `{"SERVICE:BASE": URL}`.
DB_URIS_KEY = "DB_URIS"
#: Settings with options for `create_engine` and `sessionmaker`. Options of the declaration take precedence.
DB_ENGINE_OPTIONS_KEY = "DB_ENGINE_OPTIONS"
DB_SESSION_OPTIONS_KEY = "DB_SESSION_OPTIONS"


class DeclarativeClass(Protocol):
    """A declarative base, such as a subclass of `sqlalchemy.orm.DeclarativeBase`. Its name is part of the key in DB_URIS."""

    __name__: str
    metadata: sql.MetaData


class Session(AnySession):
    """A session that, as a context manager, commits at the end of the block, or rolls back when it raises."""

    def __enter__(self) -> Any:
        return self

    def __exit__(self, kind: object, exc: object, traceback: object) -> None:
        try:
            if kind is None:
                self.commit()
        finally:
            # Closing rolls back all that is not committed.
            self.close()


class Sessions:
    """The sessions of one worker, which `Database` injects."""

    def __init__(self, make: sessionmaker[Session]) -> None:
        self._make = make
        self._session: Session | None = None
        self._given: list[Session] = []

    @property
    def session(self) -> Session:
        """The worker's session, made at its first use. Whatever is not committed when the worker ends is rolled back."""
        if self._session is None:
            self._session = self.get_session()
        return self._session

    def get_session(self, **options: object) -> Session:
        """A new session for a `with` block. It is closed when the worker ends, if not before.

        `close_on_exit`, an option of nameko-sqlalchemy, has no effect: sessions are always closed at the end of their block.
        """
        options.pop("close_on_exit", None)
        self._given.append(self._make(**options))
        return self._given[-1]

    def close(self) -> None:
        """Close all sessions, and then raise the first error."""
        failed: list[Exception] = []
        for session in self._given:
            try:
                session.close()
            except Exception as exc:
                failed.append(exc)
        if failed:
            raise failed[0]


class EngineProvider(DependencyProvider):
    """The base of the database providers. It makes one engine per container.

    `engine_options` are passed to `create_engine`, `session_options` to `sessionmaker`. By default, a connection is tested before
    it is used, so that a restart of the database causes no error, and there are `max_workers` connections, so that no worker
    waits for a connection of another.
    """

    def __init__(
        self,
        declarative_base: DeclarativeClass,
        session_options: Mapping[str, Any] | None = None,
        engine_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.declarative_base = declarative_base
        self.session_options = dict(session_options or {})
        self.engine_options = dict(engine_options or {})
        self.engine: Engine | None = None

    def setup(self) -> None:
        config = self.container.config
        self.db_uri = self._uri(config)
        options = {**(config.get(DB_ENGINE_OPTIONS_KEY) or {}), **self.engine_options}
        options.setdefault("pool_pre_ping", True)
        if make_url(self.db_uri).get_backend_name() != "sqlite" and "poolclass" not in options:
            options.setdefault("pool_size", self.container.max_workers)
        engine = self.engine = create_engine(self.db_uri, **options)
        session_options = {**(config.get(DB_SESSION_OPTIONS_KEY) or {}), **self.session_options}
        self.Session = sessionmaker(bind=engine, class_=Session, **session_options)

    def _uri(self, config: Mapping[str, Any]) -> str:
        key = f"{self.container.service_name}:{self.declarative_base.__name__}"
        uris = config.get(DB_URIS_KEY)
        uri = uris.get(key) if isinstance(uris, Mapping) else None
        if not uri:
            raise ConfigurationError(
                f"{DB_URIS_KEY} has no {key!r}; it is {uris!r}, and a mapping such as {{{key!r}: 'sqlite:///file.db'}} is needed"
            )
        try:
            make_url(uri)
        except ArgumentError as exc:
            raise ConfigurationError(f"{DB_URIS_KEY}[{key!r}] is {uri!r}; {exc}") from exc
        return str(uri)

    def stop(self) -> None:
        engine, self.engine = self.engine, None
        if engine is not None:
            engine.dispose()

    def kill(self) -> None:
        self.stop()


class Database(EngineProvider):
    """Injects `Sessions`: `self.db.session` for the worker's own, `with self.db.get_session()` for a transaction."""

    def setup(self) -> None:
        super().setup()
        self._of_workers: dict[Any, Sessions] = {}

    def get_dependency(self, worker_ctx: WorkerContext) -> Sessions:
        sessions = self._of_workers[worker_ctx] = Sessions(self.Session)
        return sessions

    def worker_teardown(self, worker_ctx: WorkerContext) -> None:
        self._of_workers.pop(worker_ctx).close()


class DatabaseSession(EngineProvider):
    """Injects a session. Whatever is not committed when the worker ends is rolled back."""

    def setup(self) -> None:
        super().setup()
        self._of_workers: dict[Any, Session] = {}

    def get_dependency(self, worker_ctx: WorkerContext) -> Session:
        session = self._of_workers[worker_ctx] = self.Session()
        return session

    def worker_teardown(self, worker_ctx: WorkerContext) -> None:
        self._of_workers.pop(worker_ctx).close()
