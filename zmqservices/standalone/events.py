"""Dispatches events from a plain Python program, such as a web worker or a script.

    dispatch = event_dispatcher({"DIRECTORY": "tcp://10.0.0.5:4190"})
    dispatch("orders", "order.paid", {"number": 17})

Thread-safe. Keep one dispatcher for the life of the process: it opens a journal at the first event of each service. At the end of
the program it waits up to `events_linger` seconds until its last events are handled; the others stay in the journal.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Mapping
from contextvars import copy_context
from functools import partial
from typing import Any

import gevent
import gevent.event
from gevent._hub_local import get_hub_if_exists

from zmqservices import configuration, constants
from zmqservices.cluster.node import Node
from zmqservices.cluster.settings import Settings
from zmqservices.events.dispatcher import check_type
from zmqservices.events.headers import encoded
from zmqservices.exceptions import ConfigurationError
from zmqservices.membership import own_serializer, serializers_of
from zmqservices.standalone.collected import let_go_of
from zmqservices.transport.sockets import forked_error
from zmqservices.utils.native_threads import allocate_lock, reentrant_lock, start_thread

__all__ = ["StandaloneDispatcher", "event_dispatcher", "get_event_exchange"]


class DispatchJob:
    """An action that a plain thread hands to the hub of another thread, and waits for."""

    def __init__(self, action: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._action, self._args = action, args
        self._over = allocate_lock()
        self._over.acquire()
        self._error: BaseException | None = None

    def run(self) -> None:
        """Called in a greenlet of the hub."""
        try:
            self._action(*self._args)
        except BaseException as exc:
            self._error = exc
        finally:
            self._over.release()

    def wait(self) -> None:
        """Called by the plain thread; raises what the action raised."""
        self._over.acquire()
        if self._error is not None:
            raise self._error


class Post:
    """A node on one hub, from which events are dispatched. Only greenlets of that hub may call `dispatch`."""

    def __init__(self, settings: Settings) -> None:
        self.node = Node.join(settings)
        self.reactor = self.node.reactor

    def dispatch(self, service: str, *event: Any) -> None:
        """As `Source.dispatch`, for the source named `service`."""
        self.node.publisher.open(service).dispatch(*event)

    def close(self) -> None:
        """Wait until dispatched events are handled, at most `events_linger` seconds, and close."""
        self.node.publisher.linger = self.node.settings.events.linger
        self.node.leave()


class Thread:
    """A native thread whose hub runs a Post, for all threads that have no hub."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._post: Any = None
        self._begun = DispatchJob(lambda: None, ())
        self._ended = DispatchJob(lambda: None, ())
        self._stop: Any = None
        start_thread(self._run)
        self._begun.wait()

    def _run(self) -> None:
        try:
            self._post = Post(self._settings)
            self._stop = gevent.event.Event()
        except BaseException as exc:
            self._begun._action = _raiser(exc)
            self._begun.run()
            return
        self._begun.run()
        # Keeps the loop alive while no greenlet runs here.
        held = gevent.get_hub().loop.async_()
        held.start(lambda: None)
        try:
            self._stop.wait()
            self._post.close()
        finally:
            held.close()
            self._ended.run()
            gevent.get_hub().destroy()

    def dispatch(self, *args: object) -> None:
        # In a copy of this thread's context, so that a trace continues there.
        job = DispatchJob(partial(copy_context().run, self._post.dispatch), args)
        self._post.reactor.post(gevent.spawn, job.run)
        job.wait()

    def close(self) -> None:
        self._post.reactor.post(self._stop.set)
        self._ended.wait()


def _raiser(exc: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise exc

    return fail


class Posts:
    """The posts of one dispatcher: one for each hub on which it is used, and one thread for all threads without a hub."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = allocate_lock()
        self._stopping = allocate_lock()
        self._posts: dict[Any, Post | Thread] = {}
        self._pid = os.getpid()
        self._stopped = False

    def post(self) -> Post | Thread:
        """The post for the current thread. Raises ForkedProcessError in a fork, RuntimeError once stopped."""
        hub = get_hub_if_exists()
        post = self._posts.get(hub)
        if post is None or os.getpid() != self._pid:
            if os.getpid() != self._pid:
                raise forked_error(self._pid)
            with self._lock:
                if self._stopped:
                    raise RuntimeError("this event dispatcher was stopped and can no longer be used; make a new one")
                post = self._posts.get(hub)
                if post is None:
                    _open.add(self)
                    # Under a lock that blocks the thread: the first event connects, and all others wait for that.
                    post = self._posts[hub] = Thread(self._settings) if hub is None else Post(self._settings)
        return post

    def stop(self) -> None:
        """Return when the last events are handled, or `events_linger` is over."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            self._stopped = True
            posts, self._posts = self._posts, {}
        here = get_hub_if_exists()
        # The thread first, under a lock, so that a second call of `stop` waits as well.
        with self._stopping:
            for post in posts.values():
                if isinstance(post, Thread):
                    post.close()
        for hub, post in posts.items():
            if isinstance(post, Thread):
                continue
            if hub is here:
                post.close()
            else:
                # The node belongs to another thread's hub and can only be closed there.
                post.reactor.post(gevent.spawn, post.close)
        _open.discard(self)


class StandaloneDispatcher:
    """What `event_dispatcher` returns. Call it to dispatch an event. `stop` closes it, and so does the end of a `with` block.

    Several threads may enter `with` blocks of one dispatcher: the last one that leaves its block stops it.
    """

    def __init__(self, config: Mapping[str, Any], reliable: bool, context_data: Mapping[str, Any] | None) -> None:
        self._serializer = own_serializer(config, serializers_of(config))
        self._is_reliable = reliable
        self._headers = dict(context_data) if context_data else None
        settings = Settings.read(config)
        self._posts = Posts(settings)
        self._entered = 0
        self._lock = reentrant_lock()
        self._never_stopped: Any = None

    def __call__(self, service_name: str, event_type: str, event_data: object = None, key: str | None = None) -> None:
        """Dispatch an event of `service_name`; see `zmqservices.events.dispatcher.Dispatcher`."""
        check_type(event_type)
        if not isinstance(service_name, str) or not service_name or "\0" in service_name:
            raise ValueError(f"the service's name is {service_name!r}; a text is needed")
        body, name = encoded(self._serializer, event_data)
        headers = dict(self._headers) if self._headers else None
        if self._never_stopped is None:
            self._never_stopped = let_go_of(self, self._posts.stop, "an event dispatcher")
        self._posts.post().dispatch(service_name, event_type, body, headers, name, key, self._is_reliable)

    dispatch = __call__

    def stop(self) -> None:
        """Return when the last events are handled, or `events_linger` is over."""
        if self._never_stopped is not None:
            self._never_stopped.detach()
        self._posts.stop()

    def __enter__(self) -> StandaloneDispatcher:
        with self._lock:
            self._entered += 1
        return self

    def __exit__(self, *exc_info: object) -> None:
        with self._lock:
            self._entered -= 1
            if self._entered:
                return
        self.stop()


#: The posts of dispatchers that were used and not stopped. At the interpreter's end they send their last events.
_open: set[Posts] = set()


def _stop_all() -> None:
    for posts in list(_open):
        posts.stop()


atexit.register(_stop_all)


def event_dispatcher(
    nameko_config: Mapping[str, Any] | None = None,
    *,
    reliable: bool = True,
    context_data: Mapping[str, Any] | None = None,
    **publisher_options: object,
) -> StandaloneDispatcher:
    """Make a function `dispatch(service_name, event_type, event_data, key=None)`.

    `nameko_config`: a mapping, or None for the process's own configuration. With `reliable=False` (or Nameko's
    `delivery_mode=NON_PERSISTENT`) events are not written to the journal. `context_data` is sent as context with every event.
    Nameko's other options were for a broker and have no effect.
    """
    if not isinstance(reliable, bool):
        raise ConfigurationError(f"event_dispatcher(reliable={reliable!r}): True or False is needed")
    config = configuration.config if nameko_config is None else nameko_config
    reliable = reliable and publisher_options.get("delivery_mode") != constants.NON_PERSISTENT
    return StandaloneDispatcher(config, reliable, context_data)


def get_event_exchange(service_name: str, config: Mapping[str, Any] | None = None) -> Any:
    """Raises ConfigurationError, which says what to use instead: there are no exchanges."""
    raise ConfigurationError(
        f"there is no exchange for the events of {service_name!r}, since there is no broker; "
        "dispatch with `event_dispatcher(config)(service, type, data)`, handle with `@event_handler(service, type)`"
    )
