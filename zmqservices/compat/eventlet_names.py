"""The names of eventlet that tests and extensions of Nameko applications use, implemented on gevent.

Internal. `zmqservices.compat.install` is public.

After `zmqservices.compat.install(eventlet=True)`, `import eventlet` finds them. They behave as in eventlet. Every other name
raises an ImportError that says what to use.

Rule 1: only names whose behaviour gevent can provide, and nothing that drives eventlet's own hub.
Rule 2: eventlet's names of errors also catch gevent's errors: `except eventlet.Timeout` catches the timeouts of zmqservices.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import gevent
from gevent import GreenletExit, getcurrent, monkey, sleep, socket
from gevent.event import AsyncResult
from gevent.lock import BoundedSemaphore, Semaphore
from gevent.pool import Pool
from gevent.queue import Empty, Full, LifoQueue, PriorityQueue, Queue

# --- time limits -----------------------------------------------------------------------------------------------------


class Timeout(gevent.Timeout):
    """A timeout that starts when it is created, as in eventlet. The end of a `with` block cancels it, and so does `cancel`."""

    def __init__(self, seconds: float | None = None, exception: object = None) -> None:
        super().__init__(seconds, None if exception is True else exception)
        self.start()


def with_timeout(seconds: float | None, function: Callable[..., Any], *args: object, **kwargs: object) -> Any:
    """The function's result, or `timeout_value` if it takes longer; without `timeout_value`, Timeout is raised."""
    has_value, value = "timeout_value" in kwargs, kwargs.pop("timeout_value", None)
    limit = Timeout(seconds)
    try:
        return function(*args, **kwargs)
    except Timeout as exc:
        if exc is limit and has_value:
            return value
        raise
    finally:
        limit.cancel()


# --- greenlets -------------------------------------------------------------------------------------------------------


def _error_of(throw_args: tuple[Any, ...]) -> Any:
    """The error in `(error,)`, `(class, error)` or `(class, error, traceback)`; GreenletExit for an empty tuple."""
    given = [each for each in throw_args[:2] if each is not None]
    return given[-1] if given else GreenletExit


class GreenThread(gevent.Greenlet):
    """A greenlet with eventlet's `wait`, `link`, `kill` and `cancel`."""

    def wait(self) -> Any:
        """Return the function's result, or raise its error; raises GreenletExit if the greenlet was killed."""
        value = self.get()
        if isinstance(value, GreenletExit):
            raise value
        return value

    def link(self, func: Callable[..., Any], *args: object, **kwargs: object) -> bool:
        """Call `func(self, *args, **kwargs)` when the greenlet ends, or at once if it has ended."""
        super().link(lambda ended: func(ended, *args, **kwargs))
        return True

    def kill(self, *throw_args: object) -> None:
        """Raise an error in the greenlet (GreenletExit by default), and wait for its end."""
        super().kill(_error_of(throw_args))

    def cancel(self, *throw_args: object) -> None:
        """Kill the greenlet, unless it has started."""
        if self.gr_frame is None:
            self.kill(*throw_args)


def spawn(function: Callable[..., Any], *args: object, **kwargs: object) -> GreenThread:
    """Run the function in a new greenlet."""
    return GreenThread.spawn(function, *args, **kwargs)


def spawn_after(seconds: float, function: Callable[..., Any], *args: object, **kwargs: object) -> GreenThread:
    """Run the function in a new greenlet, after `seconds`."""
    return GreenThread.spawn_later(seconds, function, *args, **kwargs)


def kill(greenlet: Any, *throw_args: Any) -> None:
    """Raise an error in a greenlet and wait for its end."""
    greenlet.kill(_error_of(throw_args))


class GreenPool(Pool):
    """A pool of at most `size` greenlets; `spawn` waits while the pool is full."""

    greenlet_class = GreenThread

    def __init__(self, size: int = 1000) -> None:
        super().__init__(size)

    spawn_n = Pool.spawn

    def waitall(self) -> None:
        """Wait until all greenlets have ended."""
        self.join()

    def running(self) -> int:
        """The number of running greenlets."""
        return len(self)

    def free(self) -> int:
        """The number of greenlets that could start at once."""
        return int(self.free_count())

    def starmap(self, function: Callable[..., Any], arguments: Iterable[Any]) -> Iterator[Any]:
        """The results of `function(*each)`, in order. The calls run concurrently."""
        yield from self.imap(lambda each: function(*each), arguments)


class GreenPile:
    """Runs functions concurrently. Spawn them, then iterate to get the results in the order of spawning."""

    def __init__(self, size_or_pool: Any = 1000) -> None:
        self.pool = size_or_pool if isinstance(size_or_pool, GreenPool) else GreenPool(size_or_pool)
        self._spawned: deque[Any] = deque()

    def spawn(self, function: Callable[..., Any], *args: object, **kwargs: object) -> None:
        """Spawn one more function."""
        self._spawned.append(self.pool.spawn(function, *args, **kwargs))

    def __iter__(self) -> GreenPile:
        return self

    def __next__(self) -> Any:
        if not self._spawned:
            raise StopIteration
        return self._spawned.popleft().wait()


# --- events ----------------------------------------------------------------------------------------------------------

NOT_USED: Any = type("NotUsed", (), {"__repr__": lambda self: "NOT_USED"})()


class Event:
    """Delivers one value or one error to all waiters; `reset` allows another one."""

    def __init__(self) -> None:
        self._outcome: AsyncResult = AsyncResult()

    def send(self, result: object = None, exc: object = None) -> None:
        """Wake all waiters: they get the result, or raise `exc` (an error, or the arguments of `throw`)."""
        assert not self._outcome.ready(), "Trying to re-send() an already-triggered event."
        if exc is None:
            self._outcome.set(result)
        else:
            error = _error_of(exc if isinstance(exc, tuple) else (exc,))
            self._outcome.set_exception(error() if isinstance(error, type) else error)

    def send_exception(self, *throw_args: object) -> None:
        """Wake all waiters with an error."""
        self.send(None, throw_args)

    def wait(self, timeout: float | None = None) -> Any:
        """Wait for the result and return it, or raise the error. Returns None after `timeout` seconds."""
        self._outcome.wait(timeout)
        return self._outcome.get() if timeout is None or self._outcome.ready() else None

    def ready(self) -> bool:
        """Whether a result or an error was sent."""
        return bool(self._outcome.ready())

    def has_result(self) -> bool:
        """Whether a result was sent."""
        return bool(self._outcome.successful())

    def has_exception(self) -> bool:
        """Whether an error was sent."""
        return self.ready() and not self.has_result()

    def poll(self, notready: object = None) -> Any:
        """As `wait`, but returns `notready` at once if nothing was sent."""
        return self.wait() if self.ready() else notready

    def reset(self) -> None:
        """Forget the outcome, so that another one can be sent."""
        assert self._outcome.ready(), "Trying to re-reset() a fresh event."
        self._outcome = AsyncResult()


# --- greenlet-locals -------------------------------------------------------------------------------------------------


class local:
    """Attributes that each greenlet has separately, and that end with it."""

    def __init__(self) -> None:
        object.__setattr__(self, "_local__greens", weakref.WeakKeyDictionary())

    def __getattribute__(self, name: str) -> Any:
        greens = object.__getattribute__(self, "__dict__").get("_local__greens")
        if name == "_local__greens":
            return greens
        if name == "__dict__":
            return greens.setdefault(getcurrent(), {})
        mine = greens.get(getcurrent(), {})
        return mine[name] if name in mine else object.__getattribute__(self, name)

    def __setattr__(self, name: str, value: object) -> None:
        vars(self)[name] = value

    def __delattr__(self, name: str) -> None:
        if name not in vars(self):
            raise AttributeError(name)
        del vars(self)[name]


def get_ident() -> int:
    """A number that is unique among the present greenlets."""
    return id(getcurrent())


# --- sockets, threads, the standard library --------------------------------------------------------------------------


def listen(address: object, family: int = socket.AF_INET, backlog: int = 50, reuse_addr: bool = True, **_: object) -> Any:
    """A listening socket."""
    listener = socket.socket(family, socket.SOCK_STREAM)
    if reuse_addr:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(address)
    listener.listen(backlog)
    return listener


def connect(address: object, family: int = socket.AF_INET, bind: object = None) -> Any:
    """A connected socket."""
    connected = socket.socket(family, socket.SOCK_STREAM)
    if bind is not None:
        connected.bind(bind)
    connected.connect(address)
    return connected


def execute(function: Callable[..., Any], *args: object, **kwargs: object) -> Any:
    """Run a function that blocks in a native thread, and wait for it."""
    return gevent.get_hub().threadpool.apply(function, args, kwargs)


#: The modules that eventlet can patch, and gevent's names for them.
PATCHES = {"os": "os", "select": "select", "socket": "socket", "subprocess": "subprocess", "thread": "thread", "time": "time"}


def monkey_patch(**on: bool) -> None:
    """Patch the standard library so that it cooperates with greenlets: all of it, or only the named modules."""
    wanted = on.pop("all", not any(on.values()))
    asked = {PATCHES[name]: bool(on.get(name, wanted)) for name in PATCHES}
    missing = [name for name, is_asked in asked.items() if is_asked and not monkey.is_module_patched(name)]
    if missing:
        monkey.patch_all(**asked, ssl=asked["socket"], queue=asked["thread"], signal=False, sys=False)


def is_monkey_patched(module: Any) -> bool:
    """Whether a module of the standard library, given itself or by name, is patched to cooperate with greenlets."""
    name = module if isinstance(module, str) else module.__name__
    return bool(monkey.is_module_patched(name))


# --- what `import eventlet` finds --------------------------------------------------------------------------------------

_SPAWNING = {
    "GreenThread": GreenThread, "getcurrent": getcurrent, "kill": kill, "sleep": sleep, "spawn": spawn, "spawn_n": spawn,
    "spawn_after": spawn_after, "spawn_after_local": spawn_after,
}  # fmt: skip
_QUEUES = {
    "Empty": Empty, "Full": Full, "LifoQueue": LifoQueue, "LightQueue": Queue, "PriorityQueue": PriorityQueue, "Queue": Queue,
}  # fmt: skip
#: The modules that can be imported, and the names in each.
MODULES: dict[str, dict[str, Any]] = {
    "eventlet": {
        **_SPAWNING, "Event": Event, "GreenPile": GreenPile, "GreenPool": GreenPool, "Queue": Queue, "Semaphore": Semaphore,
        "Timeout": Timeout, "connect": connect, "listen": listen, "monkey_patch": monkey_patch, "with_timeout": with_timeout,
        "GreenletExit": GreenletExit,
    },
    "eventlet.corolocal": {"local": local, "get_ident": get_ident},
    "eventlet.event": {"Event": Event, "NOT_USED": NOT_USED},
    "eventlet.greenpool": {"GreenPile": GreenPile, "GreenPool": GreenPool},
    "eventlet.greenthread": _SPAWNING,
    "eventlet.patcher": {"is_monkey_patched": is_monkey_patched, "monkey_patch": monkey_patch},
    "eventlet.queue": _QUEUES,
    "eventlet.semaphore": {"BoundedSemaphore": BoundedSemaphore, "Semaphore": Semaphore},
    "eventlet.timeout": {"Timeout": Timeout, "with_timeout": with_timeout},
    "eventlet.tpool": {"execute": execute},
}  # fmt: skip

#: What to use instead of names that are missing here.
REMOVED = {
    "eventlet.backdoor": "`zmqservices run --backdoor-port` opens one",
    "eventlet.debug": "GEVENT_MONITOR_THREAD_ENABLE=true reports what blocks the hub",
    "eventlet.green": "run in a patched process (`zmqservices run`, `zmqservices test`) and import the standard library's module",
    "eventlet.hubs": "the hub is gevent's: gevent.get_hub()",
    "eventlet.import_patched": "patch the process as `zmqservices run` and `zmqservices test` do",
    "eventlet.serve": "use gevent.server.StreamServer",
    "eventlet.websocket": "use zmqservices.web.websocket, or gevent-websocket",
    "eventlet.wrap_ssl": "use gevent.ssl",
    "eventlet.wsgi": "use @http of zmqservices.web.handlers, or gevent.pywsgi",
}
OTHERWISE = "this eventlet is a handful of names on gevent (docs/moving-from-nameko.rst has a table); use gevent's own"


def sentence(name: str) -> str:
    """A sentence that says what to use instead of a missing name, such as "eventlet.wsgi.server"."""
    while name:
        if name in REMOVED:
            return REMOVED[name]
        name = name.rpartition(".")[0]
    return OTHERWISE
