"""An engine, such as etcd, as one of the places at which a client looks for the directory.

Internal.
"""

from __future__ import annotations

from collections.abc import Callable

from discovery.client.connection import DirectoryConnection, DirectoryListener, Post
from discovery.client.engine_attempt import EngineThreads
from discovery.client.engine_connection import EngineConnection
from discovery.client.engine_session import EngineSession
from discovery.client.locks import EngineLocks
from discovery.client.patience import Patience
from discovery.client.seeds import Done
from discovery.security.keys import Keys

#: Seconds that the threads of a session get to end when a directory stops, however little time `stop` was given.
SHORTEST_JOIN = 0.5


class EngineSeed:
    """An engine at one URL. `url` has no password in it. `session` makes a session for a namespace (None: for all).

    `seconds`: the lease of a lock.
    `keys`: the keys of this node. Its lists of revoked certificates are told to other nodes through the engine.
    `patience`: with which the sessions wait.
    """

    hint = ""
    valid_for = float("inf")
    is_partial = False

    def __init__(
        self,
        url: str,
        session: Callable[[str | None], EngineSession],
        seconds: float,
        keys: Keys | None,
        patience: Patience,
    ) -> None:
        self.url = url
        self._keys = keys
        self._patience = patience
        self.session = session
        self.locks = EngineLocks(seconds)
        self._threads = EngineThreads()

    def prepare(self, done: Done) -> None:
        """Returns at once: the session itself finds the servers."""
        done([self.url], None)

    def connection(
        self, address: str, namespace: str | None, listener: DirectoryListener, longest_pause: float, post: Post
    ) -> EngineConnection:
        """The connection to this engine."""
        return EngineConnection(
            address, lambda: self.session(namespace), listener, longest_pause, post, self._threads, self.locks, self._keys,
            self._patience,
        )  # fmt: skip

    def also_reaches(self, connection: DirectoryConnection) -> None:
        """Does nothing: one connection to an engine is enough."""

    def close(self, timeout: float) -> None:
        """Waits until the threads of all attempts have ended, at most `timeout` seconds and at least SHORTEST_JOIN.

        In a patched process each thread has a gevent hub, and an interpreter that exits beside such a thread may crash.
        """
        self._threads.join(max(timeout, SHORTEST_JOIN))
