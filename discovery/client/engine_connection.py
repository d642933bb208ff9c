"""An engine's session as a connection that the thread of a directory uses like one to a registry.

Internal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import zmq

from discovery import protocol
from discovery.client.connection import CONNECTING, UP, WAITING, DirectoryConnection, DirectoryListener, Post, pause_after
from discovery.client.engine_attempt import EngineAttempt, EngineThreads, Extended, News
from discovery.client.engine_session import Contents, EngineSession
from discovery.client.locks import EngineLocks
from discovery.client.patience import Patience
from discovery.client.revocation_exchange import RevocationExchange
from discovery.exceptions import EngineError, EngineOverdueError
from discovery.interest import Interest, grown
from discovery.native import Log
from discovery.security.keys import Keys

_log = Log(__name__)

NEVER = float("inf")
#: Seconds of warm-up after an engine has lost its data. Instances need this long to announce themselves again; until then
#: a record that the engine does not list is kept.
WARM_UP = 10.0
#: Seconds after which a session counts as a success. One that fails earlier will probably fail again, for instance because the
#: engine has no space for a record, and each session reads everything. So the pauses grow as if it had not come up.
STEADY = 10.0


class EngineConnection(DirectoryConnection):
    """The counterpart of `RegistryConnection` for an engine. Used on the directory's own thread only."""

    def __init__(
        self,
        address: str,
        session: Callable[[], EngineSession],
        listener: DirectoryListener,
        longest_pause: float,
        post: Post,
        threads: EngineThreads,
        locks: EngineLocks,
        keys: Keys | None,
        patience: Patience,
    ) -> None:
        super().__init__(address, listener, longest_pause)
        self._patience = patience
        self._revocations = None if keys is None else RevocationExchange(keys, address)
        self._locks = locks
        self._session = session
        self._post = post
        self._threads = threads
        self._attempt: EngineAttempt | None = None
        self._warm_at = NEVER
        self._has_warned = False
        self._up_at = 0.0
        #: How many sessions in a row have failed soon after they had come up.
        self._short = 0

    def open(self, now: float) -> None:
        """Begins an attempt. Called once `retry_at` has come."""
        self.state = CONNECTING
        self.opened_at = now
        self.asked = self._listener.interest
        self._attempt = EngineAttempt(self.address, self._session(), self.asked, self._hand_over, self._threads, self._locks)
        self._locks.changed = self._attempt.tend
        try:
            self._attempt.start()
        except RuntimeError as exc:
            self.close(now, f"no thread for it: {exc}")

    def _close(self) -> None:
        if self._attempt is not None:
            self._attempt.end()
            self._attempt = None
        self._warm_at = NEVER

    def register_with(self, poller: zmq.Poller) -> None:
        """Registers nothing: the threads of an attempt post their news to the directory's thread."""

    def next_deadline(self) -> float:
        """The time at which `check` or `open` is next needed."""
        return self.retry_at if self.state == WAITING else self._warm_at

    def send(self, message: protocol.Message) -> bool:
        """Gives a message to the attempt. False while the connection is not up."""
        if self._attempt is None or self.state != UP:
            return False
        self._attempt.take(message)
        return True

    def extend(self, keys: Interest, now: float) -> None:
        """Asks the attempt for these keys. For everything a new session begins."""
        if keys is None or self._attempt is None:
            self.close(now, "everything is asked for from now on")
            return
        self.asked = grown(self.asked, keys)
        self._attempt.extend(keys)

    def handle(self, ready: dict[Any, int], now: float) -> None:
        """Does nothing: no socket was registered."""

    def check(self, now: float) -> None:
        """Ends the warm-up, and offers new revocations to the engine. Called at least once a second."""
        if self._revocations is not None and self.state == UP:
            self._offer(self._revocations.due())
        if now >= self._warm_at:
            self._warm_at = NEVER
            self.is_warming = False
            self._listener.on_message(self, protocol.Heartbeat(0, str(self.boot_id), False), now)

    def _hand_over(self, attempt: EngineAttempt, news: News) -> None:
        """Called by the threads of an attempt."""
        self._post(lambda now: self._take(news, now) if attempt is self._attempt else None)

    def _take(self, news: News, now: float) -> None:
        if isinstance(news, EngineError):
            if not self._has_warned:
                self._has_warned = True
                _log.warning("cannot use directory %s: %s", self.address, news)
            rest = self._patience.pause() if isinstance(news, EngineOverdueError) else 0.0
            if self._attempt is not None and self._attempt.has_records:
                # Their leases must not run out meanwhile.
                rest = min(rest, self._longest_pause)
            if self.state == UP:
                self._short = self._short + 1 if now - self._up_at < STEADY else 0
                rest = max(rest, pause_after(self._short, self._longest_pause) if self._short else 0.0)
            self.close(now, str(news), rest)
            return
        self.last_contact = now
        if isinstance(news, Contents):
            self._up(news, now)
        elif isinstance(news, Extended):
            for record in news.records:
                self._listener.on_message(self, protocol.Update(0, "", record, 0.0, False), now)
            self.answered = grown(self.answered, news.keys)
            self._listener.on_extended(self, now)
        elif self.state == UP:
            for message in news:
                if isinstance(message, protocol.Revoked):
                    self._on_revoked(message.lists)
                else:
                    self._listener.on_message(self, message, now)

    def _unreadable(self, instance: str, reason: str) -> None:
        """Called on the thread that decodes a record of a block first."""
        self._listener.on_unreadable(
            instance, lambda: _log.warning("passed over a record of directory %s: %.300s", self.address, reason)
        )

    def _on_revoked(self, lists: list[bytes]) -> None:
        if self._revocations is not None:
            for signed in lists:
                self._offer(self._revocations.came(signed))

    def _offer(self, lists: list[bytes]) -> None:
        if lists:
            self.send(protocol.Revoked(lists))

    def _up(self, contents: Contents, now: float) -> None:
        # A cluster that has lost its data has no records yet. Every instance announces itself again within one renewal.
        self.is_warming = self.boot_id not in (None, contents.cluster)
        self._warm_at = now + WARM_UP if self.is_warming else NEVER
        self.boot_id = contents.cluster
        self.asked = self.answered = contents.interest
        self.state = UP
        self._up_at = now
        self.error = None
        self.failures = 0
        self._has_warned = False
        entries = [(record, 0.0, False) for record in contents.records]
        for block in contents.blocks:
            block.contents.on_bad = self._unreadable
        part = protocol.Snapshot(0, contents.cluster, self.is_warming, 0, 1, entries, contents.notes, blocks=contents.blocks)
        if self._revocations is not None:
            # Before the records: some of them may belong to revoked nodes.
            self._offer(self._revocations.opened(contents.revoked))
        self._listener.on_up(self, [part], now)
