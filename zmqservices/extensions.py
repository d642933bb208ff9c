"""Extensions: they are declared on a service class, and cloned and bound for each container.

An extension is declared once on a service class, when its module is imported. When a container is made, each declaration is
*bound*: a clone, made with the same arguments, belongs to that container only. The docstring of each hook below says when it is
called.
"""

from __future__ import annotations

import inspect
import types
import warnings
import weakref
from collections.abc import Collection, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, overload

from gevent.event import Event

from zmqservices.exceptions import IncorrectSignature
from zmqservices.utils.declarations import DESCRIPTORS, check_function, unknown_option
from zmqservices.utils.signatures import CallShape
from zmqservices.worker_context import Container, ExcInfo, WorkerContext

__all__ = [
    "ENTRYPOINT_EXTENSIONS_ATTR",
    "DependencyProvider",
    "Entrypoint",
    "EntrypointOptions",
    "Extension",
    "ProviderCollector",
    "SharedExtension",
    "is_dependency",
    "is_entrypoint",
    "is_extension",
    "iter_extensions",
    "register_entrypoint",
]

E = TypeVar("E", bound="Extension")
D = TypeVar("D", bound="DependencyProvider")
P = TypeVar("P", bound="Entrypoint")
F = TypeVar("F")

#: The attribute of a function that has the entrypoints with which it was decorated.
ENTRYPOINT_EXTENSIONS_ATTR = "nameko_entrypoints"


class Extension:
    """The base of all extensions of a service class.

    `__init__` runs at the declaration, and again with the same argument objects for the clone of each container. It should have
    no side effects; do work in `setup`. Attributes that are extensions are sub-extensions: they are bound, started and stopped
    together with their owner.
    """

    #: The container of a bound extension (a weak proxy); None on the declaration.
    container: Container = None  # type: ignore[assignment]

    __declared_with: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, /, *args: object, **kwargs: object) -> Any:
        instance = super().__new__(cls)
        instance.__declared_with = (args, kwargs)
        return instance

    def __init__(self, /, *args: object, **kwargs: object) -> None:
        super().__init__()

    def setup(self) -> None:
        """Called once while the container starts, concurrently with all others. No extension starts before all are set up."""

    def start(self) -> None:
        """Called after every extension of the container is set up. From here on it may cause work."""

    def stop(self) -> None:
        """Called when the container stops: entrypoints first, others after the workers have ended. May block."""

    def kill(self) -> None:
        """Called instead of `stop` when the container dies: stop at once. Errors are logged.

        For entrypoints it is called first, and once more together with all the others.
        """

    def bind(self: E, container: Container) -> E:
        """A clone of this declaration, including sub-extensions, that belongs to `container`.

        Raises RuntimeError if this extension is already bound.
        """
        if self.is_bound():
            raise RuntimeError("Cannot `bind` a bound extension.")
        args, kwargs = self.__declared_with
        clone = type(self)(*args, **kwargs)
        # Weak, because the container owns its extensions.
        clone.container = weakref.proxy(container)
        for name, extension in inspect.getmembers(self, is_extension):
            setattr(clone, name, extension.bind(container))
        return clone

    def is_bound(self) -> bool:
        """Whether this is a container's clone, and not a declaration."""
        return self.container is not None

    def __repr__(self) -> str:
        if not self.is_bound():
            return f"<{type(self).__name__} [unbound] at 0x{id(self):x}>"
        return f"<{type(self).__name__} of {_service_name_of(self)} at 0x{id(self):x}>"


class SharedExtension(Extension):
    """An extension that a container has only once: declarations with equal `sharing_key` share one clone."""

    @property
    def sharing_key(self) -> Any:
        """Declarations with equal keys share one clone. The key is the class, unless a subclass returns another key."""
        return type(self)

    def bind(self: E, container: Container) -> E:
        """The container's clone for the `sharing_key`. It is made at the first call."""
        key = self.sharing_key  # type: ignore[attr-defined]
        shared: E | None = container.shared_extensions.get(key)
        if shared is None:
            shared = super().bind(container)
            container.shared_extensions[key] = shared
        return shared


class DependencyProvider(Extension):
    """Injects an object into each worker, and is told of the steps of each worker.

    The order for each worker: `get_dependency`, `worker_setup`, the method, (the result is sent to the caller), `worker_result`,
    `worker_teardown`. Before the method, providers are called in the order of their attribute names, and afterwards in reverse
    order. Hooks that no class overrides cost nothing.
    """

    #: The name of the provider's attribute on the service class.
    attr_name: str | None = None

    if TYPE_CHECKING:
        # For type checkers: the attribute is the provider on the class, and the injected object on an instance.
        @overload
        def __get__(self: E, instance: None, owner: type) -> E: ...
        @overload
        def __get__(self, instance: object, owner: type) -> Any: ...
        def __get__(self, instance: object, owner: type) -> Any: ...

    def bind(self: D, container: Container, attr_name: str) -> D:  # type: ignore[override]
        """A clone for `container`, whose object is injected as `attr_name`."""
        clone = super().bind(container)
        clone.attr_name = attr_name
        self.attr_name = attr_name
        return clone

    def get_dependency(self, worker_ctx: WorkerContext) -> Any:
        """Called before each worker's method: return the object for `self.<attr_name>`.

        An error here is sent to the caller. Other workers are not affected.
        """

    def worker_setup(self, worker_ctx: WorkerContext) -> None:
        """Called after all dependencies are injected, before the method. Errors have the same effect as in `get_dependency`."""

    def worker_result(
        self, worker_ctx: WorkerContext, result: object = None, exc_info: ExcInfo | None = None
    ) -> None:
        """Called after the outcome of the method was sent to the caller. An error here is logged.

        It is also called if the method did not run because another provider failed, provided that this one was injected.
        """

    def worker_teardown(self, worker_ctx: WorkerContext) -> None:
        """Called last, in any case, if this provider was injected: release what the worker used. An error here is logged.
        """


class ProviderCollector:
    """A mixin for an extension that serves providers: it stops only after the last provider has unregistered."""

    _providers: set[Any]

    def __init__(self, *args: object, **kwargs: object) -> None:
        self._providers = set()
        self._had_providers = False
        self._last_provider_left = Event()
        super().__init__(*args, **kwargs)

    def register_provider(self, provider: object) -> None:
        """Called by a provider that wants to be served, usually in its `setup`."""
        self._had_providers = True
        self._providers.add(provider)
        self._last_provider_left.clear()

    def unregister_provider(self, provider: object) -> None:
        """Called by a provider that needs nothing more, usually in its `stop`."""
        self._providers.discard(provider)
        if not self._providers and self._had_providers:
            self._last_provider_left.set()

    def wait_for_providers(self) -> None:
        """Block until every registered provider has unregistered. Returns at once if there never was one."""
        if self._had_providers:
            self._last_provider_left.wait()

    def stop(self) -> None:
        """Called when the container stops. Returns once the last provider has unregistered."""
        self.wait_for_providers()


class EntrypointOptions(TypedDict, total=False):
    """The options that every entrypoint takes: `def __init__(self, ..., **kwargs: Unpack[EntrypointOptions])`."""

    expected_exceptions: type[BaseException] | tuple[type[BaseException], ...]
    sensitive_arguments: str | tuple[str, ...]


class Entrypoint(Extension):
    """Runs a method of the service: for a call, an event, or a tick of a timer.

    `expected_exceptions`: errors that are the caller's fault; they are logged as warnings. `sensitive_arguments`: names of
    arguments (`"password"`, `"user.card[0]"`) that `utils.get_redacted_args` replaces by asterisks.
    """

    #: The name of the decorated method; None on the declaration.
    method_name: Any = None

    #: Whether the entrypoint iterates over the result of generator methods. Otherwise their body would never run.
    takes_generators: bool = True
    #: Whether the entrypoint awaits the result of `async def` methods. None of this package does, because workers are greenlets.
    takes_coroutines: bool = False

    _call_shape: CallShape | None = None

    def __init__(
        self,
        expected_exceptions: type[BaseException] | tuple[type[BaseException], ...] = (),
        sensitive_arguments: str | tuple[str, ...] = (),
        **kwargs: Any,
    ) -> None:
        if "sensitive_variables" in kwargs:
            warnings.warn(
                "`sensitive_variables` is called `sensitive_arguments` now", DeprecationWarning, stacklevel=4
            )
            sensitive_arguments = kwargs.pop("sensitive_variables")
        if kwargs:
            raise TypeError(unknown_option(type(self), next(iter(kwargs))))
        # A list is accepted as well, but `isinstance` needs a tuple.
        if not isinstance(expected_exceptions, type):
            expected_exceptions = tuple(expected_exceptions)
        self.expected_exceptions = expected_exceptions
        self.sensitive_arguments = sensitive_arguments
        super().__init__()

    def bind(self: P, container: Container, method_name: str) -> P:  # type: ignore[override]
        """A clone for `container` that runs `method_name`."""
        clone = super().bind(container)
        clone.method_name = method_name
        return clone

    def check_signature(self, args: Collection[Any], kwargs: dict[str, Any] | None) -> None:
        """Raise IncorrectSignature unless the method can be called with these arguments."""
        shape = self._call_shape
        # Looked up each time, because a test may replace the method.
        if shape is None or shape.function is not getattr(shape.owner, self.method_name):
            shape = self._call_shape = CallShape.of_method(self.container.service_cls, self.method_name)
        if not shape.fits(args, kwargs):
            raise IncorrectSignature(shape.why_not(args, kwargs))

    def listed(self) -> dict[str, Any] | None:
        """The description of a bound entrypoint for `zmqservices inspect`: its `kind`, and `what` it runs for.

        None to show nothing.
        """
        return {"kind": type(self).__name__, "what": ""}

    def details(self) -> dict[str, Any]:
        """Further present details of a bound entrypoint for `zmqservices info` and `inspect`: plain values by name."""
        return {}

    @classmethod
    def decorator(cls, /, *args: Any, **kwargs: Any) -> Any:
        """Use as `@name` or `@name(options)`. The decorated function is not changed."""
        if len(args) == 1 and not kwargs and isinstance(args[0], (types.FunctionType, *DESCRIPTORS)):
            return _register(cls, (), {}, args[0])
        return partial(_register, cls, args, kwargs)

    def __repr__(self) -> str:
        if not self.is_bound():
            return super().__repr__()
        return f"<{type(self).__name__} [{_service_name_of(self)}.{self.method_name}] at 0x{id(self):x}>"


def _register(cls: type[Entrypoint], args: tuple[Any, ...], kwargs: dict[str, Any], function: F) -> F:
    entrypoint = cls(*args, **kwargs)
    check_function(type(entrypoint).__name__, function, entrypoint.takes_generators, entrypoint.takes_coroutines)
    register_entrypoint(function, entrypoint)
    return function


def register_entrypoint(fn: object, entrypoint: Entrypoint) -> None:
    """Record on `fn` that `entrypoint` runs it."""
    plain = fn.__func__ if isinstance(fn, staticmethod) else fn
    entrypoints = getattr(plain, ENTRYPOINT_EXTENSIONS_ATTR, None)
    if entrypoints is None:
        entrypoints = set()
        setattr(plain, ENTRYPOINT_EXTENSIONS_ATTR, entrypoints)
    entrypoints.add(entrypoint)


def is_extension(obj: object) -> bool:
    """Whether `obj` is an extension."""
    return isinstance(obj, Extension)


def is_dependency(obj: object) -> bool:
    """Whether `obj` is a dependency provider."""
    return isinstance(obj, DependencyProvider)


def is_entrypoint(obj: object) -> bool:
    """Whether `obj` is an entrypoint. (The entrypoints of a method are in its attribute ENTRYPOINT_EXTENSIONS_ATTR.)"""
    return isinstance(obj, Entrypoint)


def iter_extensions(extension: Extension) -> Iterator[Extension]:
    """All sub-extensions of `extension`, the deepest first."""
    for _name, inner in inspect.getmembers(extension, is_extension):
        yield from iter_extensions(inner)
        yield inner


def _service_name_of(extension: Extension) -> str:
    try:
        return str(extension.container.service_name)
    except ReferenceError:
        return "a container that no longer exists"
