"""Runs services in tests: as plain objects with mocked dependencies, or hosted, with methods called or waited for.

    service = worker_factory(Orders)                         # a plain object with mocked dependencies
    service.stock.take.return_value = 3

    with entrypoint_hook(container, "place") as place:       # hosted, called without the network
        place({"tea": 1})

    with entrypoint_waiter(container, "ordered") as result:  # hosted, waiting for an event, a timer, a call
        dispatch("orders", "placed", {"id": 1})
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock

import gevent
from gevent.event import Event

from zmqservices.exceptions import ContainerBeingKilled, ExtensionNotFound
from zmqservices.extensions import DependencyProvider, Entrypoint
from zmqservices.probes import ExcInfo, Probe, watching
from zmqservices.testing.utils import get_extension
from zmqservices.testing.waiting import WaitResult

if TYPE_CHECKING:
    from zmqservices.containers import ServiceContainer
    from zmqservices.worker_context import WorkerContext

__all__ = [
    "EntrypointWaiterTimeout",
    "MockDependencyProvider",
    "Once",
    "dummy",
    "entrypoint_hook",
    "entrypoint_waiter",
    "once",
    "replace_dependencies",
    "restrict_entrypoints",
    "worker_factory",
]


# --- a service as a plain object -------------------------------------------------------------------------------------


def worker_factory(service_cls: type, /, **dependencies: object) -> Any:
    """An instance of `service_cls` with the given dependencies, and a MagicMock for each of the others.

    Raises ExtensionNotFound for a name that is no dependency of the class.
    """
    providers = {
        name for name, _ in inspect.getmembers(service_cls, lambda member: isinstance(member, DependencyProvider))
    }
    _refuse_unknown("dependency", set(dependencies) - providers, service_cls, providers)
    service = service_cls()
    for name in providers:
        setattr(service, name, dependencies[name] if name in dependencies else MagicMock(name=name))
    return service


def _refuse_unknown(kind: str, unknown: set[str], owner: object, known: set[Any]) -> None:
    if unknown:
        there = ", ".join(sorted(known)) or "none"
        names = ", ".join(repr(name) for name in sorted(unknown))
        raise ExtensionNotFound(f"no {kind} {names} is declared on {owner}; it has {there}")


# --- a container before it starts ------------------------------------------------------------------------------------


class MockDependencyProvider(DependencyProvider):
    """Injects the object `dependency`, or a MagicMock if none is given."""

    def __init__(self, attr_name: str, dependency: object = None) -> None:
        super().__init__()
        self.attr_name = attr_name
        self.dependency = MagicMock(name=attr_name) if dependency is None else dependency

    def get_dependency(self, worker_ctx: WorkerContext) -> Any:
        return self.dependency


def replace_dependencies(container: ServiceContainer, /, *dependencies: str, **dependency_map: object) -> Any:
    """Inject other objects: a MagicMock for each name in `dependencies`, and the given object for each keyword.

    Returns the mock if exactly one name was given, and otherwise an iterator of the mocks in the order of the names; objects
    given by keyword are not among them. Only this container is changed. Raises RuntimeError once it has started, and
    ExtensionNotFound for a name that is no dependency. Sub-extensions of a replaced dependency still run.
    """
    _refuse_started(container, "replace dependencies")
    both = set(dependencies) & set(dependency_map)
    if both:
        raise RuntimeError(f"{', '.join(sorted(both))}: named twice, by position and by keyword")
    providers = {provider.attr_name: provider for provider in container.dependencies}
    stand_ins = [MagicMock(name=name) for name in dependencies]
    wanted = {**dependency_map, **dict(zip(dependencies, stand_ins, strict=True))}
    _refuse_unknown("dependency", set(wanted) - set(providers), container, set(providers))
    for name, stand_in in wanted.items():
        container.dependencies.remove(providers[name])
        replacement = MockDependencyProvider(name)
        # Set here, so that None can be injected as well.
        replacement.dependency = stand_in
        container.dependencies.add(replacement)
    return stand_ins[0] if len(stand_ins) == 1 else iter(stand_ins)


def restrict_entrypoints(container: ServiceContainer, *entrypoints: str) -> None:
    """Keep only the entrypoints of the named methods. All others are as if they had never been declared.

    Raises RuntimeError once the container has started, and ExtensionNotFound for a method without entrypoint.
    """
    _refuse_started(container, "restrict entrypoints")
    methods = {entrypoint.method_name for entrypoint in container.entrypoints}
    _refuse_unknown("entrypoint", set(entrypoints) - methods, container, methods)
    for entrypoint in list(container.entrypoints):
        if entrypoint.method_name not in entrypoints:
            container.entrypoints.remove(entrypoint)


def _refuse_started(container: ServiceContainer, what: str) -> None:
    if container.started:
        raise RuntimeError(f"You must {what} before the container is started; {container} has been.")


# --- a container at work ---------------------------------------------------------------------------------------------


class EntrypointWaiterTimeout(Exception):
    """The awaited call has not come, or has not ended, in time."""


class _Outcome(Probe):
    """Records the outcome of the first call for which `is_wanted` is true, and the end of its teardown."""

    def __init__(self, is_wanted: Callable[[Any, Any, ExcInfo | None], Any]) -> None:
        self._is_wanted = is_wanted
        self._worker_ctx: Any = None
        self.result = WaitResult()
        self.is_over = Event()

    def worker_result(self, worker_ctx: WorkerContext, result: object, exc_info: ExcInfo | None) -> None:
        if self.result.has_result:
            return
        try:
            is_wanted = self._is_wanted(worker_ctx, result, exc_info)
        except Exception:
            # The test's own callback failed: raise its error where the test waits.
            self.result.send(None, sys.exc_info())
            self.is_over.set()
            return
        if is_wanted:
            self._worker_ctx = worker_ctx
            self.result.send(result, exc_info)

    def worker_ended(self, worker_ctx: WorkerContext, result: object, exc_info: ExcInfo | None) -> None:
        if worker_ctx is self._worker_ctx:
            self.is_over.set()


@contextmanager
def entrypoint_waiter(
    container: ServiceContainer,
    method_name: str,
    timeout: float | None = 30,
    callback: Callable[[Any, Any, ExcInfo | None], Any] | None = None,
) -> Iterator[WaitResult]:
    """A `with` block that ends only when an entrypoint has run the method, and its worker has been torn down.

    Yields a result. After the block, its `get()` returns the method's result or raises its error. With
    `callback(worker_ctx, result, exc_info)`, only a call for which that is true counts. If the block raises, its error is
    raised at once. EntrypointWaiterTimeout is raised `timeout` seconds after the block began (None: never). Waiters may be
    nested, also for several containers. Raises RuntimeError for a method without entrypoint.
    """
    if get_extension(container, Entrypoint, method_name=method_name) is None:
        raise RuntimeError(f"{container.service_name} has no entrypoint {method_name!r} to wait for")

    def is_wanted(worker_ctx: WorkerContext, result: object, exc_info: ExcInfo | None) -> Any:
        return worker_ctx.entrypoint.method_name == method_name and (
            callback is None or callback(worker_ctx, result, exc_info)
        )

    outcome = _Outcome(is_wanted)
    text = f"Timeout on {container.service_name}.{method_name} after {timeout} seconds"
    with watching(container, outcome), gevent.Timeout(timeout, EntrypointWaiterTimeout(text)):
        yield outcome.result
        outcome.is_over.wait()


entrypoint_waiter.Timeout = EntrypointWaiterTimeout  # type: ignore[attr-defined]


@contextmanager
def entrypoint_hook(
    container: ServiceContainer, method_name: str, context_data: dict[str, Any] | None = None, timeout: float | None = 30
) -> Iterator[Callable[..., Any]]:
    """A `with` block that yields a function, which runs the method as its entrypoint would, but without the network.

    The function returns the method's result, or raises its error, once the worker is torn down. Arguments and results stay Python
    objects. The container need not have been started. Raises ExtensionNotFound if the method has no entrypoint,
    EntrypointWaiterTimeout after `timeout` seconds, and the container's error if the container dies meanwhile.
    """
    entrypoint = get_extension(container, Entrypoint, method_name=method_name)
    if entrypoint is None:
        raise ExtensionNotFound(f"no entrypoint {method_name!r} is found on {container}")

    def hook(*args: object, **kwargs: object) -> Any:
        mine: list[Any] = []
        outcome = _Outcome(lambda worker_ctx, result, exc_info: worker_ctx in mine)
        text = f"Timeout on {container.service_name}.{method_name} after {timeout} seconds"
        with watching(container, outcome), gevent.Timeout(timeout, EntrypointWaiterTimeout(text)):
            is_alive = not container._died.ready()
            data = dict(context_data) if context_data else None
            mine.append(container.spawn_worker(entrypoint, args, kwargs, context_data=data))
            if is_alive:
                _wait_for_either(outcome.is_over, container)
            outcome.is_over.wait()
        return outcome.result.get()

    yield hook


def _wait_for_either(is_over: Event, container: ServiceContainer) -> None:
    """Return when the call is over. Raises the container's error if the container dies first."""
    died = container._died
    gevent.wait([is_over, died], count=1)
    if not is_over.is_set():
        died.get()
        raise ContainerBeingKilled(f"{container} was killed while the call was under way")


# --- entrypoints -----------------------------------------------------------------------------------------------------


class Once(Entrypoint):
    """Runs the method once, with the arguments of the decorator, when the container starts."""

    def __init__(self, /, *args: Any, expected_exceptions: Any = (), sensitive_arguments: Any = (), **kwargs: Any) -> None:
        options = {"sensitive_variables": kwargs.pop("sensitive_variables")} if "sensitive_variables" in kwargs else {}
        super().__init__(expected_exceptions, sensitive_arguments, **options)
        self.args, self.kwargs = args, kwargs

    def start(self) -> None:
        self.container.spawn_worker(self, self.args, self.kwargs)


once = Once.decorator

#: An entrypoint that nothing but a test runs.
dummy = Entrypoint.decorator
