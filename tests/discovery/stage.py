"""Helpers of the directory's tests: records, registries that are cleaned up, and waiting for a view."""

import threading
import time
from contextlib import contextmanager

import zmq

from discovery import Record, open_directory, protocol
from discovery.server.registry_server import RegistryServer

#: Seconds; a claim about what happens at last, never about how fast.
AT_LAST = 45.0


def record(instance="one", service="maths", **fields):
    """An ordinary record."""
    return Record(service=service, instance=instance, **fields)


@contextmanager
def registries(count=1, **options):
    """Registries on ports of their own; what is left of them is stopped."""
    servers = []
    try:
        for _ in range(count):
            servers.append(start_registry(**options))
        yield servers
    finally:
        for server in servers:
            server.stop()


def start_registry(bind="tcp://127.0.0.1:0", **options):
    """A registry that listens."""
    server = RegistryServer(bind, **options)
    server.start()
    server.wait_bound(AT_LAST)
    return server


def eventually(claim, timeout=AT_LAST):
    """Returns as soon as the claim holds; for what nobody tells of. AssertionError when it never does."""
    deadline = time.monotonic() + timeout
    while not (found := claim()):
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.005)
    return found


class House:
    """Opens directories and stops them all."""

    def silent_holder(self, address, held):
        return silent_holder(address, held)

    def __init__(self, url, **options):
        self.url = url
        self.options = options
        self._directories = []

    def open(self, start=True, url=None, **options):
        directory = open_directory(url or self.url, **{**self.options, **options})
        self._directories.append(directory)
        if start:
            directory.start()
        return directory

    def close(self):
        for directory in self._directories:
            directory.stop()


class Watch:
    """Every view that a directory called back with, and a way to wait for one."""

    def __init__(self, directory):
        self.views = []
        self._news = threading.Condition()
        self.end = directory.subscribe(self._told)

    def _told(self, view):
        with self._news:
            self.views.append(view)
            self._news.notify_all()

    def wait(self, is_right, timeout=AT_LAST):
        """The first view of which the claim holds; AssertionError when none came."""
        found = []

        def look():
            found.extend(view for view in self.views if is_right(view))
            return bool(found)

        with self._news:
            assert self._news.wait_for(look, timeout), f"never seen; the last was {self.views[-1:]}"
        return found[0]

    def wait_now(self, is_right, timeout=AT_LAST):
        """As `wait`, but the claim must hold of the newest view."""
        with self._news:
            right = self._news.wait_for(lambda: self.views and is_right(self.views[-1]), timeout)
            assert right, f"never seen; the last was {self.views[-1:]}"
            return self.views[-1]


def knows(*instances):
    """A claim: a view has exactly these."""
    return lambda view: set(view.records) == set(instances)


class RawClient:
    """A DEALER that sends any message or bytes."""

    def __init__(self, address):
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.connect(address)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self._context.destroy(linger=0)

    def ask(self, message):
        """The next answer to a message, or to junk given as bytes."""
        self.socket.send(message if isinstance(message, bytes) else protocol.encode(message))
        return self.next()

    def next(self, timeout=AT_LAST):
        assert self.socket.poll(timeout * 1000), "no answer came"
        return protocol.decode(self.socket.recv())

    def next_but_heartbeats(self):
        while isinstance(message := self.next(), protocol.Heartbeat):
            pass
        return message


@contextmanager
def silent_holder(address, held):
    """Registers a record and never renews it."""
    with RawClient(address) as client:
        assert client.ask(protocol.Register(1, held)) == protocol.Ack(1)
        yield
