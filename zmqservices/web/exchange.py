"""The exchange between a worker, which runs a method, and the connection's greenlet, which waits for the response.

Internal. Services use `zmqservices.web.handlers`.

The worker produces a streamed body piece by piece before it is torn down, so that a generator may use the dependencies until its
end. The connection takes the pieces. The worker waits while the connection is slow, and stops when it is closed.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import gevent
from gevent.event import AsyncResult, Event
from werkzeug.wrappers import Request, Response

from zmqservices.exceptions import WorkerCancelled
from zmqservices.web.protocol import HANDLER, BodyBroken

#: The key of the environment for the body that a worker produces. It is ended with the request, even if it was not read.
BODY = "zmqservices.web.body"

#: The most pieces that are produced ahead of the connection.
PIECES_AHEAD = 4


class HttpExchange:
    """One request that a worker handles."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.body: Body | None = None
        self._outcome: AsyncResult = AsyncResult()

    @property
    def is_answered(self) -> bool:
        """Whether the request has an outcome."""
        return self._outcome.ready()

    def wait(self) -> tuple[Any, BaseException | None]:
        """Called in the connection's greenlet: wait for the outcome, and return `(response, None)` or `(None, error)`."""
        outcome: tuple[Any, BaseException | None] = self._outcome.get()
        return outcome

    def fail(self, exc: BaseException) -> None:
        """Make this error the outcome, unless there is an outcome already. Never blocks."""
        if not self._outcome.ready():
            self._outcome.set((None, exc))

    def answer(self, response: Response) -> None:
        """Called in the worker's greenlet with the outcome.

        For a streamed body, returns at its end, or raises the error that ended it.
        """
        if not response.is_streamed:
            self._outcome.set((response, None))
            return
        produced = response.response
        try:
            if self.request.method == "HEAD":
                # Nobody gets the body, so it is not produced. An iterator, because its length is not known.
                response.response = iter(())
                self._outcome.set((response, None))
            else:
                self._stream(response, response.iter_encoded())
        finally:
            close = getattr(produced, "close", None)
            if close is not None:
                close()

    def _stream(self, response: Response, pieces: Iterator[bytes]) -> None:
        # If the generator fails before its first piece, the whole request fails.
        first = next(pieces, b"")
        environ = self.request.environ
        body = self.body = environ[BODY] = Body(environ.get(HANDLER))
        response.response = body
        with body:
            self._outcome.set((response, None))
            body.put(first)
            for piece in pieces:
                body.put(piece)


class Body:
    """A streamed body: the worker puts pieces (inside a `with` block), and the connection iterates over them."""

    def __init__(self, handler: object) -> None:
        self._handler = handler
        self._pieces: deque[bytes] = deque()
        # One event for each direction, because a waiter does not notice an event that is cleared before its turn.
        self._filled = Event()
        self._taken = Event()
        self._worker: Any = None
        self._is_over = False
        self._error: BaseException | None = None
        self._abandoned: str | None = None

    # --- in the worker's greenlet ------------------------------------------------------------------------------------

    def __enter__(self) -> Body:
        self._worker = gevent.getcurrent()
        return self

    def __exit__(self, exc_type: object, exc: BaseException | None, traceback: object) -> None:
        self._worker = None
        self._is_over = True
        self._error = exc
        self._filled.set()

    def put(self, piece: bytes) -> None:
        """Add a piece. Blocks while the client is slow. Raises WorkerCancelled once the connection takes no more."""
        while len(self._pieces) >= PIECES_AHEAD and self._abandoned is None:
            self._taken.clear()
            self._taken.wait()
        if self._abandoned is not None:
            raise WorkerCancelled(self._abandoned)
        if piece:
            self._pieces.append(piece)
            self._filled.set()

    # --- elsewhere ---------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[bytes]:
        with Departure(self._handler, self.abandon):
            while True:
                while not self._pieces and not self._is_over:
                    self._filled.clear()
                    self._filled.wait()
                if not self._pieces:
                    break
                yield self._pieces.popleft()
                self._taken.set()
        if self._error is not None:
            raise BodyBroken from self._error

    def close(self) -> None:
        """The connection takes no more pieces."""
        self.abandon("its client went away")

    def abandon(self, why: str) -> None:
        """Stop the worker that produces the body."""
        if self._is_over or self._abandoned is not None:
            return
        self._abandoned = why
        self._taken.set()
        gevent.get_hub().loop.run_callback(self._interrupt)

    def _interrupt(self) -> None:
        # Called in the hub's greenlet. Only affects a worker that still produces this body.
        if self._worker is not None:
            self._worker.throw(WorkerCancelled(self._abandoned))


class Departure:
    """During the block, calls `left(why)` if the client closes the connection, which nothing else reads meanwhile."""

    def __init__(self, handler: object, left: Callable[[str], object]) -> None:
        self._socket: Any = getattr(handler, "socket", None)
        self._left = left
        self._watcher: Any = None

    def __enter__(self) -> None:
        if self._socket is not None:
            self._watcher = gevent.get_hub().loop.io(self._socket.fileno(), 1)
            self._watcher.start(self._look)

    def __exit__(self, *exc_info: object) -> None:
        self._stop()

    def _look(self) -> None:
        try:
            # The socket inside gevent's socket never blocks.
            is_gone = not self._socket._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            is_gone = True
        # Either the client is gone, or its next request waits. In both cases further watching is no use.
        self._stop()
        if is_gone:
            self._left("its client went away")

    def _stop(self) -> None:
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.stop()
            watcher.close()
