"""Extensions: declared on a service class, and cloned and bound for each container.

An extension is declared once, at import, on a service class. When a container is made, every declaration is
*bound*: a clone of it, made with the very same arguments, belongs to that container alone. The hooks below
say when each of them is called.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import types
import warnings
import weakref
from collections.abc import Collection, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, overload

from gevent.event import Event

from zmqservices.exceptions import ConfigurationError, IncorrectSignature
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

#: The attribute of a function that holds the entrypoints it was decorated with.
ENTRYPOINT_EXTENSIONS_ATTR = "nameko_entrypoints"


class Extension:
    """The base of everything that a service class declares.

    `__init__` runs twice with the same argument objects: at the declaration, and for the clone of each
    container. Keep it free of effects; `setup` is the place for work. Attributes that hold extensions are
    sub-extensions: they are bound and driven along with their owner.
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
        """Called once while the container starts, side by side with all others; none starts before."""

    def start(self) -> None:
        """Called once every extension of the container is set up. From here on it may cause work."""

    def stop(self) -> None:
        """Called when the container stops: entrypoints first, others when the workers are over. May block."""

    def kill(self) -> None:
        """Called instead of `stop` when the container dies: give up at once. Errors are logged.

        Entrypoints are asked first of all, and once more with all the others.
        """

    def bind(self: E, container: Container) -> E:
        """A clone of this declaration that belongs to `container`, sub-extensions included.

        Raises RuntimeError on an extension that is bound already.
        """
        if self.is_bound():
            raise RuntimeError("Cannot `bind` a bound extension.")
        args, kwargs = self.__declared_with
        clone = type(self)(*args, **kwargs)
        # Weak, for the container owns its extensions and not the reverse.
        clone.container = weakref.proxy(container)
        for name, extension in inspect.getmembers(self, is_extension):
            setattr(clone, name, extension.bind(container))
        return clone

    def is_bound(self) -> bool:
        """Whether this is a container's clone rather than a declaration."""
        return self.container is not None

    def __repr__(self) -> str:
        if not self.is_bound():
            return f"<{type(self).__name__} [unbound] at 0x{id(self):x}>"
        return f"<{type(self).__name__} of {_service_name_of(self)} at 0x{id(self):x}>"


class SharedExtension(Extension):
    """An extension that a container has once: declarations with one `sharing_key` share the first bound."""

    @property
    def sharing_key(self) -> Any:
        """Declarations with equal keys share one extension; the key is the class unless a subclass returns another."""
        return type(self)

    def bind(self: E, container: Container) -> E:
        """The container's one instance for the `sharing_key`, made at the first time."""
        key = self.sharing_key  # type: ignore[attr-defined]
        shared: E | None = container.shared_extensions.get(key)
        if shared is None:
            shared = super().bind(container)
            container.shared_extensions[key] = shared
        return shared


class DependencyProvider(Extension):
    """Gives a service's methods an object to work with, and follows each worker's life.

    The order for every worker: `get_dependency`, `worker_setup`, the method, (the result leaves for the
    caller), `worker_result`, `worker_teardown`. Providers are asked in the order of their attribute names,
    and in reverse order on the way out. Hooks that no class overrides cost nothing.
    """

    #: The attribute of the service class that the provider is assigned to.
    attr_name: str | None = None

    if TYPE_CHECKING:
        # What a type checker sees: the provider on the class, and on an instance whatever is injected there.
        @overload
        def __get__(self: E, instance: None, owner: type) -> E: ...
        @overload
        def __get__(self, instance: object, owner: type) -> Any: ...
        def __get__(self, instance: object, owner: type) -> Any: ...

    def bind(self: D, container: Container, attr_name: str) -> D:  # type: ignore[override]
        """A clone for `container`, injected as `attr_name`."""
        clone = super().bind(container)
        clone.attr_name = attr_name
        self.attr_name = attr_name
        return clone

    def get_dependency(self, worker_ctx: WorkerContext) -> Any:
        """Called before each worker's method: return what `self.<attr_name>` shall be.

        An error here is answered to the caller, and the workers after this one are not affected.
        """

    def worker_setup(self, worker_ctx: WorkerContext) -> None:
        """Called once all dependencies are injected, before the method. Errors: as in `get_dependency`."""

    def worker_result(
        self, worker_ctx: WorkerContext, result: object = None, exc_info: ExcInfo | None = None
    ) -> None:
        """Called once the outcome of the method is on its way to the caller. An error here is logged.

        Also called when the method was never reached because another provider failed, if this one was
        injected.
        """

    def worker_teardown(self, worker_ctx: WorkerContext) -> None:
        """Called last, whatever happened, if this provider was injected: give back what was taken.

        An error here is logged.
        """


class ProviderCollector:
    """A mixin for an extension that serves others: it stops only when the last of them has left."""

    _providers: set[Any]

    def __init__(self, *args: object, **kwargs: object) -> None:
        self._providers = set()
        self._had_providers = False
        self._last_provider_left = Event()
        super().__init__(*args, **kwargs)

    def register_provider(self, provider: object) -> None:
        """Called by a provider, usually in its `setup`, that wants to be served."""
        self._had_providers = True
        self._providers.add(provider)
        self._last_provider_left.clear()

    def unregister_provider(self, provider: object) -> None:
        """Called by a provider, usually in its `stop`, once it needs nothing more."""
        self._providers.discard(provider)
        if not self._providers and self._had_providers:
            self._last_provider_left.set()

    def wait_for_providers(self) -> None:
        """Block until every registered provider has left; return at once when there never was one."""
        if self._had_providers:
            self._last_provider_left.wait()

    def stop(self) -> None:
        """Called when the container stops; returns when the last provider has left."""
        self.wait_for_providers()


class EntrypointOptions(TypedDict, total=False):
    """The options that every entrypoint takes: `def __init__(self, ..., **kwargs: Unpack[EntrypointOptions])`."""

    expected_exceptions: type[BaseException] | tuple[type[BaseException], ...]
    sensitive_arguments: str | tuple[str, ...]


class Entrypoint(Extension):
    """What makes a service's method run: a call, an event, a clock.

    `expected_exceptions` are errors that are the caller's business: logged as warnings without alarm.
    `sensitive_arguments` names arguments (`"password"`, `"user.card[0]"`) to be shown as asterisks by
    `utils.get_redacted_args`.
    """

    #: The name of the decorated method; None on the declaration.
    method_name: Any = None

    #: Whether the entrypoint does something with what generator methods give; without that their body would never run.
    takes_generators: bool = True
    #: Whether the entrypoint awaits what `async def` methods give. None here does: workers are greenlets.
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
            raise TypeError(_unknown_option(type(self), next(iter(kwargs))))
        # A list is meant as well as a tuple, but `isinstance` takes only the latter.
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
        # Looked up each time, since a test may have replaced it.
        if shape is None or shape.function is not getattr(shape.owner, self.method_name):
            shape = self._call_shape = CallShape.of_method(self.container.service_cls, self.method_name)
        if not shape.fits(args, kwargs):
            raise IncorrectSignature(shape.why_not(args, kwargs))

    def listed(self) -> dict[str, Any] | None:
        """What `zmqservices inspect` shows of a bound entrypoint: its `kind` and `what` it runs for; None for nothing."""
        return {"kind": type(self).__name__, "what": ""}

    def details(self) -> dict[str, Any]:
        """What else `zmqservices info` and `inspect` tell of a bound entrypoint at this moment: plain values by their names."""
        return {}

    @classmethod
    def decorator(cls, /, *args: Any, **kwargs: Any) -> Any:
        """Use as `@name` or `@name(options)`; the decorated function itself is left as it is."""
        if len(args) == 1 and not kwargs and isinstance(args[0], (types.FunctionType, *DESCRIPTORS)):
            return _register(cls, (), {}, args[0])
        return partial(_register, cls, args, kwargs)

    def __repr__(self) -> str:
        if not self.is_bound():
            return super().__repr__()
        return f"<{type(self).__name__} [{_service_name_of(self)}.{self.method_name}] at 0x{id(self):x}>"


def _register(cls: type[Entrypoint], args: tuple[Any, ...], kwargs: dict[str, Any], function: F) -> F:
    entrypoint = cls(*args, **kwargs)
    _check_function(entrypoint, function)
    register_entrypoint(function, entrypoint)
    return function


#: The types that other decorators make of a function in a class body.
DESCRIPTORS = (staticmethod, classmethod, property, functools.cached_property, functools.partialmethod)


def _check_function(entrypoint: Entrypoint, function: object) -> None:
    """Raise ConfigurationError for a declaration that could never run."""
    kind = type(entrypoint).__name__
    plain = function.__func__ if isinstance(function, staticmethod) else function
    if not isinstance(plain, types.FunctionType):
        raise ConfigurationError(_no_method(kind, function))
    name = plain.__qualname__
    is_async = inspect.iscoroutinefunction(plain) or inspect.isasyncgenfunction(plain)
    if is_async and not entrypoint.takes_coroutines:
        raise ConfigurationError(
            f"{kind} on {name}, an async def: workers are greenlets, and nobody would await it; write a plain def, whose "
            "calls wait without await"
        )
    if inspect.isgeneratorfunction(plain) and not entrypoint.takes_generators:
        raise ConfigurationError(
            f"{kind} on {name}, a generator: nobody would iterate over it, so its body would never run; return a list "
            "in place of yield"
        )


def _no_method(kind: str, function: object) -> str:
    if isinstance(function, classmethod):
        return no_class_method(kind, getattr(function.__func__, "__qualname__", repr(function.__func__)))
    return (
        f"{kind} on {f'a {type(function).__name__}' if isinstance(function, DESCRIPTORS) else f'{function!r:.80}'}: "
        "a method is needed, a plain def in the class"
    )


def no_class_method(kind: str, name: str) -> str:
    """The error text for an entrypoint on a class method."""
    return f"{kind} on {name}, a class method: workers call methods of instances; leave @classmethod out"


def register_entrypoint(fn: object, entrypoint: Entrypoint) -> None:
    """Note on `fn` that `entrypoint` shall run it."""
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
    """Whether `obj` is an entrypoint. (A method that has some carries them as ENTRYPOINT_EXTENSIONS_ATTR.)"""
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
        return "a container that is gone"


def _unknown_option(cls: type, name: str) -> str:
    known = {
        parameter
        for base in cls.__mro__
        if "__init__" in vars(base)
        for parameter, kind in inspect.signature(vars(base)["__init__"]).parameters.items()
        if parameter != "self" and kind.kind not in (kind.VAR_KEYWORD, kind.VAR_POSITIONAL)
    }
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; it takes {', '.join(sorted(known))}"
    return f"{cls.__name__} has no option {name!r}{hint}"
