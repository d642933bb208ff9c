"""Sends large bytes without a copy: ZeroMQ reads them in place, and reports on a separate socket when it has read them.

Meanwhile pyzmq keeps the bytes alive, and a thread of pyzmq waits for the reports to release them. If gevent has patched the
standard library, that thread would be a greenlet, and its wait would stop the hub for ever. So this module gives pyzmq a native
thread, and sockets that block it. Bytes that are still being sent when the process ends are never released, because ZeroMQ's
threads read them until the end.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
from typing import Any

import zmq
from gevent.monkey import is_module_patched
from zmq.utils import garbage

from zmqservices.utils.native_threads import allocate_lock, start_thread

_log = logging.getLogger(__name__)

#: Frames of at least this many bytes are not copied. Copying a shorter frame is quicker than releasing it, which takes time in
#: two threads.
UNCOPIED = 256 * 1024


def frame(payload: bytes) -> bytes | zmq.Frame:
    """The frame to send for `payload`: one that is read in place, or `payload` itself if it is short or the process is ending."""
    if len(payload) < UNCOPIED:
        return payload
    # Under a lock, because two threads at once would make two of the socket of which pyzmq needs one.
    with _making:
        collector = garbage.gc
        if type(collector) is garbage.GarbageCollector and is_module_patched("threading") and not collector.is_alive():
            # The same object is changed, because pyzmq may already hold it.
            collector._lock = allocate_lock()
            collector._context = None
            collector.__class__ = _Collector
        try:
            return zmq.Frame(payload, copy=False)
        except Exception:
            return payload  # The interpreter is ending: nothing would release the frame.


_making = allocate_lock()


def _renew_lock() -> None:
    global _making
    _making = allocate_lock()


os.register_at_fork(after_in_child=_renew_lock)


def _keep_what_is_under_way() -> None:
    # Runs before pyzmq's own exit handler, which would free the bytes and end the thread to which ZeroMQ's threads report.
    collector = garbage.gc
    if not (collector.is_alive() and collector.refs):
        return
    import ctypes

    atexit.unregister(collector._atexit)
    collector._stay_down = True
    for kept in (collector, *(sent.obj for sent in list(collector.refs.values()))):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))


atexit.register(_keep_what_is_under_way)


class _Collector(garbage.GarbageCollector):
    """pyzmq's collector with another thread."""

    @property
    def context(self) -> zmq.Context[Any]:
        # pyzmq would take a context of `zmq.green`, whose sockets need a hub in each thread. Making a hub imports modules, and
        # with import locks that gevent has patched the second thread died, and other imports hung.
        if self._context is None:
            self._context = zmq.Context()
        return self._context

    @context.setter
    def context(self, context: zmq.Context[Any] | None) -> None:
        self._context = context

    def start(self) -> None:
        if self.thread is not None and self.pid != os.getpid():
            self._clear()
        self.pid = os.getpid()
        self.refs = {}
        thread = self.thread = _Thread(self)  # type: ignore[assignment]
        thread.start()


class _Thread:
    """Releases frames that were sent. Has those methods of a `threading.Thread` that the collector needs."""

    def __init__(self, collector: _Collector) -> None:
        self._collector = collector
        self._is_over = False
        self._ready, self._over = allocate_lock(), allocate_lock()
        self._ready.acquire()
        self._over.acquire()

    def start(self) -> None:
        """Start the thread. Returns once it listens."""
        start_thread(self._run)
        self._ready.acquire()

    def is_alive(self) -> bool:
        return not self._is_over

    def join(self) -> None:
        self._over.acquire()

    def _run(self) -> None:
        try:
            try:
                socket = self._collector.context.socket(zmq.PULL)
                socket.set(zmq.LINGER, 0)
                # Unbounded, because otherwise ZeroMQ's thread would wait for this one.
                socket.set(zmq.RCVHWM, 0)
                socket.bind(self._collector.url)
            finally:
                self._ready.release()
            refs = self._collector.refs
            while (word := socket.recv()) != b"DIE":
                sent = refs.pop(int.from_bytes(word, sys.byteorder), None)
                if sent is not None and sent.event is not None:
                    try:
                        sent.event.set()
                    except Exception:
                        _log.exception("a frame that was sent could not be released")
                sent = None
            socket.close()
        finally:
            self._is_over = True
            self._over.release()
