"""The things that tests of calls play with: waiting for a claim, threads that know no hub, providers that tell."""

import threading

import gevent
from gevent.event import AsyncResult, Event

from zmqservices.exceptions import RemoteUnavailable
from zmqservices.extensions import DependencyProvider
from zmqservices.rpc import RpcProxy, rpc


def until(claim, timeout=30):
    """Let the loop turn until `claim()` holds."""
    with gevent.Timeout(timeout, AssertionError(f"{claim} did not come true in {timeout} s")):
        while not claim():
            gevent.sleep(0.001)


class Aside:
    """A function that runs in a thread of the operating system, where no gevent hub is."""

    def __init__(self, function, *args):
        self._outcome = AsyncResult()
        self._bell = gevent.get_hub().loop.async_()
        self._bell.start(self._on_message)
        self._told = []
        self.thread = threading.Thread(target=self._run, args=(function, *args), daemon=True)
        self.thread.start()

    def _run(self, function, *args):
        try:
            self._told.append((function(*args), None))
        except BaseException as exc:
            self._told.append((None, exc))
        self._bell.send()

    def _on_message(self):
        self._bell.close()
        value, exc = self._told[0]
        if exc is None:
            self._outcome.set(value)
        else:
            self._outcome.set_exception(exc)

    @property
    def is_over(self):
        return self._outcome.ready()

    def get(self, timeout=30):
        """What the function returned or raised."""
        try:
            return self._outcome.get(timeout=timeout)
        finally:
            self.thread.join(1)


def aside(function, *args):
    """Run `function` in such a thread, and return what it returns."""
    return Aside(function, *args).get()


def linked(service, method="fine"):
    """The proxy, once a call has come through: what its next call takes is not spent on making the link."""

    def answers():
        try:
            getattr(service, method).with_timeout(30)()
        except RemoteUnavailable:
            return False  # A client that waits for a service for part of a second may have no link yet.
        return True

    until(answers)
    return service


class Context(DependencyProvider):
    """Injects the worker's own context."""

    def get_dependency(self, worker_ctx):
        return worker_ctx


class Gate(DependencyProvider):
    """Holds methods until it is opened: `self.gate()` returns only then. Counts them meanwhile."""

    def __init__(self):
        self.opened = Event()
        self.inside = 0
        self.ended = []
        self.torn_down = 0

    def bind(self, container, attr_name):
        # One gate for the declaration and its bound clone: the test holds the one, methods the other.
        bound = super().bind(container, attr_name)
        bound.__dict__.update(opened=self.opened, declared=self)
        return bound

    def get_dependency(self, worker_ctx):
        return self.pass_through

    def pass_through(self):
        gate = self.declared
        gate.inside += 1
        try:
            self.opened.wait()
            gate.ended.append("passed")
        except BaseException as exc:
            gate.ended.append(type(exc).__name__)
            raise
        finally:
            gate.inside -= 1

    def worker_teardown(self, worker_ctx):
        self.declared.torn_down += 1

    def open(self):
        self.opened.set()

    def wait_for(self, count):
        until(lambda: self.inside == count)


def make_words():
    """A service `words` with a gate of its own: `wait` answers when the gate is opened, `echo` and `fail` at once."""

    class Words:
        name = "words"
        gate = Gate()

        @rpc
        def echo(self, value):
            return value

        @rpc
        def wait(self):
            self.gate()
            return "waited"

        @rpc
        def fail(self):
            raise ValueError("no")

    return Words


class AsksGated:
    """Calls `gated.wait` on behalf of its own caller."""

    name = "middle"
    below = RpcProxy("gated")

    @rpc
    def ask(self):
        return self.below.wait()
