"""Small helpers for tests of services."""

from __future__ import annotations

import socket
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar
from unittest.mock import NonCallableMock

import gevent
from gevent.queue import Queue

from zmqservices.compat.eventlet_names import Timeout
from zmqservices.extensions import Entrypoint
from zmqservices.removed import removed_names

if TYPE_CHECKING:
    from zmqservices.containers import ServiceContainer
    from zmqservices.runners import ServiceRunner

__all__ = [
    "ANY_PARTIAL",
    "AnyInstanceOf",
    "DummyProvider",
    "MockCallArgs",
    "ResourcePipeline",
    "assert_stops_raising",
    "find_free_port",
    "get_container",
    "get_extension",
    "unpack_mock_call",
    "wait_for_call",
    "wait_for_worker_idle",
]

_NO_RABBIT = "there is no broker; to see what a lost connection does, use zmqservices.testing.network"
__getattr__ = removed_names(__name__, {"get_rabbit_connections": _NO_RABBIT, "reset_rabbit_connections": _NO_RABBIT})

Resource = TypeVar("Resource")


# --- finding things --------------------------------------------------------------------------------------------------


def get_extension(container: ServiceContainer, extension_cls: type, **match_attrs: object) -> Any:
    """The first extension of `container` of that class with the given attributes; None if there is none."""
    for extension in container.extensions:
        if isinstance(extension, extension_cls) and all(
            getattr(extension, name) == value for name, value in match_attrs.items()
        ):
            return extension
    return None


def get_container(runner: ServiceRunner, service_cls: type) -> Any:
    """The container of `runner` that hosts `service_cls`; None if there is none."""
    return next((container for container in runner.containers if container.service_cls is service_cls), None)


def find_free_port(host: str = "127.0.0.1") -> int:
    """A port of `host` that is free at this moment. It is not reserved."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


# --- waiting ---------------------------------------------------------------------------------------------------------


@contextmanager
def wait_for_call(timeout: float, mock_method: NonCallableMock) -> Iterator[Any]:
    """Wait until the mock `mock_method` was called, and then enter the block. Raises Timeout after `timeout` seconds.

    `zmqservices.testing.waiting.wait_for_call` waits at the end of a block, for any object.
    """
    with Timeout(timeout):
        while not mock_method.called:
            gevent.sleep(0.001)
    yield mock_method


def wait_for_worker_idle(container: ServiceContainer, timeout: float = 10) -> None:
    """Return when `container` runs no worker. Deprecated: use `entrypoint_waiter`, which waits for a certain call."""
    warnings.warn("use `entrypoint_waiter`, which waits for a certain call", DeprecationWarning, stacklevel=2)
    with Timeout(timeout):
        container.pool.waitall()


def assert_stops_raising(
    fn: Callable[[], Any],
    exception_type: type[BaseException] | tuple[type[BaseException], ...] = Exception,
    timeout: float = 10,
    interval: float = 0.1,
) -> None:
    """Call `fn` every `interval` seconds until it raises no error.

    Raises Timeout after `timeout` seconds, with the last error as its cause. An error that is no `exception_type` is raised at
    once.
    """
    last: BaseException | None = None
    limit = Timeout(timeout)
    try:
        with limit:
            while True:
                try:
                    fn()
                    return
                except exception_type as exc:
                    if exc is limit:
                        raise
                    last = exc
                gevent.sleep(interval)
    except gevent.Timeout as exc:
        if exc is limit and last is not None:
            raise limit from last
        raise


# --- mocks -----------------------------------------------------------------------------------------------------------


class MockCallArgs(NamedTuple):
    """The arguments that a mock was called with."""

    positional: tuple[Any, ...]
    keyword: dict[str, Any]


def unpack_mock_call(call: Iterable[Any]) -> MockCallArgs:
    """The arguments of a call of a mock: `args, kwargs = unpack_mock_call(mock.call_args)`."""
    # In an item of `mock_calls`, a name stands before the arguments.
    return MockCallArgs(*tuple(call)[-2:])


class AnyInstanceOf:
    """Equals every instance of a class: `mock.assert_called_with(AnyInstanceOf(Order))`."""

    def __init__(self, cls: object) -> None:
        self.cls = cls

    def __eq__(self, other: object) -> bool:
        return isinstance(self.cls, type) and isinstance(other, self.cls)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<AnyInstanceOf-{getattr(self.cls, '__name__', self.cls)}>"


ANY_PARTIAL = AnyInstanceOf(partial)


class DummyProvider(Entrypoint):
    """An entrypoint that nothing runs, for tests that need one without a service class."""

    def __init__(self, method_name: str | None = None) -> None:
        super().__init__()
        self.method_name = method_name


#: Put into the trash as its last item.
_STOP = object()


class ResourcePipeline(Generic[Resource]):
    """Makes up to `size` resources ahead of their use and destroys used ones, in separate greenlets.

        with ResourcePipeline(create, destroy).run() as pipeline:
            with pipeline.get() as resource: ...

    An error of `create` is raised by the `get` that would have got the resource, an error of `destroy` at the end of `run`.
    """

    def __init__(self, create: Callable[[], Resource], destroy: Callable[[Resource], Any], size: int = 3) -> None:
        if size < 1:
            raise RuntimeError(f"size is {size!r}; at least one resource must be kept ready")
        self.create, self.destroy, self.size = create, destroy, size
        #: (resource, error) of each resource that was made and is not used yet.
        self.ready: Any = Queue(maxsize=size)
        #: Resources that were used and are not destroyed yet.
        self.trash: Any = Queue()

    @contextmanager
    def run(self) -> Iterator[ResourcePipeline[Resource]]:
        """Make resources during the block. All of them are destroyed at its end."""
        maker, destroyer = gevent.spawn(self._make), gevent.spawn(self._empty_trash)
        try:
            yield self
        finally:
            maker.kill()
            while not self.ready.empty():
                resource, error = self.ready.get()
                if error is None:
                    self.trash.put(resource)
            self.trash.put(_STOP)
            for error in destroyer.get():
                raise error

    def _make(self) -> None:
        while True:
            try:
                made = self.create(), None
            except Exception as exc:
                made = None, exc  # type: ignore[assignment]
            self._put(made)

    def _put(self, made: tuple[Resource | None, Exception | None]) -> None:
        try:
            self.ready.put(made)
        except BaseException:
            # The pipeline ended while this greenlet waited for room.
            if made[1] is None:
                self.trash.put(made[0])
            raise

    def _empty_trash(self) -> list[Exception]:
        """Destroy used resources, one after the other, until the end. Returns the errors."""
        failed = []
        while (resource := self.trash.get()) is not _STOP:
            try:
                self.destroy(resource)
            except Exception as exc:
                failed.append(exc)
        return failed

    @contextmanager
    def get(self) -> Iterator[Resource]:
        """A resource for use within the block. Waits until one is ready."""
        resource, error = self.ready.get()
        if error is not None:
            raise error
        try:
            yield resource
        finally:
            self.trash.put(resource)
