"""The extensions and the calls that the tests of zmqservices.hosting use."""

import gevent
from gevent.event import AsyncResult

from zmqservices.extensions import DependencyProvider, Entrypoint


class Entry(Entrypoint):
    """An entrypoint that only a test fires."""


entry = Entry.decorator


class Recorder(DependencyProvider):
    """Notes which of its hooks were called, in a list that providers may share."""

    def __init__(self, name="recorder", calls=None):
        self.name = name
        self.calls = [] if calls is None else calls

    def get_dependency(self, worker_ctx):
        self.calls.append((self.name, "get"))
        return self.calls

    def worker_setup(self, worker_ctx):
        self.calls.append((self.name, "setup"))

    def worker_result(self, worker_ctx, result=None, exc_info=None):
        self.calls.append((self.name, "result", result, exc_info and exc_info[0]))

    def worker_teardown(self, worker_ctx):
        self.calls.append((self.name, "teardown"))


def entrypoint_of(container, method_name):
    return next(one for one in container.entrypoints if one.method_name == method_name)


class Call:
    """One submitted call and its outcome."""

    def __init__(self, container, method_name, *args, how="submit", **options):
        self.outcome = AsyncResult()
        start = getattr(container, how)
        kwargs = options.pop("kwargs", {})
        self.context = start(
            entrypoint_of(container, method_name), args, kwargs, handle_result=self._handle, **options
        )

    def _handle(self, worker_ctx, result, exc_info):
        self.outcome.set((result, exc_info))
        return result, exc_info

    @property
    def is_answered(self):
        return self.outcome.ready()

    def result(self):
        result, exc_info = self.outcome.get(timeout=30)
        if exc_info is not None:
            raise exc_info[1]
        return result

    def error(self):
        exc_info = self.outcome.get(timeout=30)[1]
        assert exc_info is not None, "the call succeeded"
        return exc_info[1]


def run_in_hub(function):
    """Call `function` in the hub's greenlet, as the network's drain calls `flush`, and return what it returns."""
    done = AsyncResult()

    def call():
        try:
            done.set(function())
        except BaseException as exc:
            done.set_exception(exc)

    gevent.get_hub().loop.run_callback(call)
    return done.get(timeout=30)


def until(claim, timeout=30):
    """Let the loop turn until `claim()` holds."""
    with gevent.Timeout(timeout, AssertionError(f"{claim} did not come true in {timeout} s")):
        while not claim():
            gevent.sleep(0.001)
