"""The blocking queries of one client: which prefixes are watched, and which answers have come."""

from __future__ import annotations

import select
import time
from collections.abc import Callable

from discovery.backends.consul.agent import ConsulAgent, key_path
from discovery.backends.http_connection import HttpConnection
from discovery.exceptions import EngineOverdueError
from discovery.native import Wakeup, native_lock, original

_poll: Callable[[], select.poll] = original("select", "poll")

#: Seconds after which a blocking query is answered although nothing has changed. Consul adds up to a sixteenth, at random.
WAIT = 60.0
#: The shortest time in seconds between two queries for the same prefix.
SHORTEST_PAUSE = 0.01
#: Blocking queries of one client for single services and sources. A client of more has two, for all records.
MAX_QUERIES = 24


class BlockingQuery:
    """A blocking query for one prefix, or for the one key of a lock.

    `index`: of the answer before. `seen`: the keys of that answer, each with its own index.
    """

    def __init__(self, place: str, index: int, seen: dict[str, int], is_lock: bool = False) -> None:
        self.place = place
        self.index = index
        self.seen = seen
        self.is_lock = is_lock
        self.connection: HttpConnection | None = None
        #: When the query was sent; None while none waits for its answer.
        self.asked_at: float | None = None
        self.next_at = 0.0

    def answered(self, now: float) -> None:
        """The answer has come; the query may be sent again after a pause."""
        self.asked_at, self.next_at = None, now + SHORTEST_PAUSE

    def close(self) -> None:
        """Closes its connection."""
        if self.connection is not None:
            self.connection.close()


def widened(queries: list[BlockingQuery], prefixes: tuple[str, ...]) -> list[BlockingQuery]:
    """The queries that replace these: one for each of `prefixes` in place of too many below them.

    Returns the queries themselves while there are MAX_QUERIES below the prefixes at most. A new query begins with index 0, so its
    first answer comes at once: the difference from what the replaced queries have seen is what changed since.
    """
    wide = [query for query in queries if query.place in prefixes]
    narrow = [query for query in queries if query.place.startswith(prefixes) and query not in wide]
    if not wide and len(narrow) <= MAX_QUERIES:
        return queries
    added = [] if wide else [BlockingQuery(prefix, 0, {}) for prefix in prefixes]
    for query in wide or added:
        for one in narrow:
            query.seen.update({key: one.seen[key] for key in one.seen if key.startswith(query.place)})
    return [query for query in queries if query not in narrow] + added


class BlockingQueries:
    """All queries of one session. One thread waits for answers in `wait`; another one may add and remove queries."""

    def __init__(self) -> None:
        self._guard = native_lock()
        self._queries: list[BlockingQuery] = []
        #: Removed queries, whose connections the waiting thread closes.
        self._removed: list[BlockingQuery] = []
        self._wakeup = Wakeup()

    def __len__(self) -> int:
        return len(self._queries)

    def add(self, prefix: str, index: int, seen: dict[str, int]) -> None:
        """Watches a prefix from this index on."""
        with self._guard:
            self._queries.append(BlockingQuery(prefix, index, seen))

    def widen(self, prefixes: tuple[str, ...]) -> None:
        """Watches these prefixes whole if there are too many queries below them."""
        with self._guard:
            former, self._queries = self._queries, widened(self._queries, prefixes)
            self._removed += [query for query in former if query not in self._queries]

    def add_lock(self, key: str, index: int) -> None:
        """Watches the key of a lock, unless it is watched already."""
        with self._guard:
            if all(query.place != key for query in self._queries):
                self._queries.append(BlockingQuery(key, index, {}, is_lock=True))
        self.wake()

    def remove(self, place: str) -> None:
        """Does not watch this prefix or lock any more."""
        with self._guard:
            self._removed += [query for query in self._queries if query.place == place]
            self._queries = [query for query in self._queries if query.place != place]
        self.wake()

    def clear(self) -> None:
        """Removes all queries."""
        with self._guard:
            self._removed += self._queries
            self._queries = []

    def saw(self, query: BlockingQuery, seen: dict[str, int]) -> dict[str, int]:
        """Notes the keys of an answer, and returns those of the answer before."""
        with self._guard:
            before, query.seen = query.seen, seen
        return before

    def wake(self) -> None:
        """Has `wait` return."""
        self._wakeup.wake()

    def wait(self, agent: ConsulAgent) -> list[BlockingQuery]:
        """Sends the queries that are due, waits, and returns those whose connections have something to read.

        EngineOverdueError if an answer is overdue.
        """
        self._close_removed()
        with self._guard:
            queries = list(self._queries)
        _send(queries, agent, time.monotonic())
        return self._wait(queries, agent)

    def _wait(self, queries: list[BlockingQuery], agent: ConsulAgent) -> list[BlockingQuery]:
        now = time.monotonic()
        asked = {query.connection.fileno(): query for query in queries if query.asked_at is not None and query.connection}
        poll = _poll()
        poll.register(self._wakeup.fd, select.POLLIN)
        for fd in asked:
            poll.register(fd, select.POLLIN)
        late = WAIT * 17 / 16 + agent.patience.seconds
        deadlines = [now + late if query.asked_at is None else query.asked_at + late for query in queries]
        pauses = [query.next_at for query in queries if query.asked_at is None]
        until = min([*deadlines, *pauses, now + WAIT])
        ready = {fd for fd, _ in poll.poll(max(0, int((until - now) * 1000) + 1))}
        if self._wakeup.fd in ready:
            self._wakeup.clear()
        if any(query.asked_at is not None and query.asked_at + late < time.monotonic() for query in queries):
            agent.patience.was_overdue()
            raise EngineOverdueError(f"{agent.name} did not answer a blocking query within {late:g} s")
        with self._guard:
            # A query that was removed meanwhile is not read.
            return [query for fd, query in asked.items() if fd in ready and query in self._queries]

    def close(self) -> None:
        """Closes all connections. Called by the waiting thread."""
        self.clear()
        self._close_removed()
        self._wakeup.close()

    def _close_removed(self) -> None:
        with self._guard:
            removed, self._removed = self._removed, []
        for query in removed:
            query.close()


def _send(queries: list[BlockingQuery], agent: ConsulAgent, now: float) -> None:
    for query in queries:
        if query.asked_at is None and query.next_at <= now:
            if query.connection is None:
                query.connection = agent.connection()
            what = "" if query.is_lock else "recurse&"
            query.connection.ask("GET", key_path(query.place, f"{what}index={query.index}&wait={WAIT:g}s"))
            query.asked_at = now
