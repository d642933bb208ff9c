"""The watch of etcd: one call that watches several ranges of keys, to which more are added while it runs.

It is the call `etcdserverpb.Watch/Watch` of gRPC, which both sides keep open. Sources of the rules: "etcd API: Watch API" at
etcd.io/docs/v3.4.

Rule 1: one thread reads, in `answers`; any thread may `ask`.
Rule 2: etcd tells the changes of one range in their order. It tells the changes of all ranges in their order, too, unless this
process reads so slowly that etcd holds some back.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator

from discovery.backends.etcd.grpc import GrpcConnection
from discovery.backends.etcd.messages import Answer, Range, decode_answer, encode_create
from discovery.backends.stream import EngineStream
from discovery.exceptions import EngineError

_PATH = "/etcdserverpb.Watch/Watch"


class WatchConnection:
    """An open connection to one member.

    `seconds`: the time for the server's first answer. `longest`: the most bytes of one answer. `opened` is called with the
    stream before the connection is made, so that another thread can cut it.
    """

    def __init__(
        self,
        server: tuple[str, int],
        context: ssl.SSLContext | None,
        token: str | None,
        seconds: float,
        longest: int,
        opened: Callable[[EngineStream], object],
    ) -> None:
        self._seconds = seconds
        self._grpc = GrpcConnection(server, context, "the watch", seconds, longest, opened)
        try:
            self._grpc.begin(_PATH, token)
        except BaseException:
            self._grpc.close()
            raise

    def ask(self, watch: int, span: Range, revision: int) -> None:
        """Watches these keys from this revision on. `watch` is the number of the range in the answers: unique, and not 0."""
        self._grpc.send(encode_create(watch, span, revision))

    def answers(self) -> Iterator[Answer]:
        """Yields the answers until the connection ends or is cut. EngineError says why it ended."""
        seconds: float | None = self._seconds
        while True:
            for message in self._grpc.receive(seconds):
                try:
                    answer = decode_answer(message)
                except ValueError as exc:
                    raise EngineError(f"{self._grpc.name} sent no answer of a watch: {exc}") from exc
                yield answer
                seconds = None
            if self._grpc.is_over:
                raise EngineError(f"{self._grpc.name} ended the watch: {self._grpc.text or 'it said no more'}")

    def close(self) -> None:
        """Closes the connection. Called by the thread that reads."""
        self._grpc.close()
