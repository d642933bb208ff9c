"""A DNS name as a seed: which addresses are connected to, and how long an answer of DNS counts."""

from __future__ import annotations

import random
import resource
import time
from collections.abc import Callable

from discovery.backends.dns.lookup import CANCEL_WITHIN, SHORTEST_VALID, Lookup, NoAddress, NoAnswer
from discovery.client.connection import DirectoryConnection, DirectoryListener, Post
from discovery.client.node_connection import NodeConnection
from discovery.client.node_proof import NodeProof
from discovery.client.seeds import Done
from discovery.native import Log, NativeThread, end_hub
from discovery.security.keys import Keys

_log = Log(__name__)

#: Seconds until a name is looked up again after a failure.
FAILED_PAUSE = 2.0
#: Seconds for which an answer without addresses does not replace the answer before.
KEEP_EMPTY = 60.0
#: The most addresses of one name that are used, and the descriptors that this process must be allowed for each of them: a
#: connection takes four, and two thirds are left for other purposes. Every node connects to every other one.
MAX_ADDRESSES, DESCRIPTORS_PER_ADDRESS = 512, 12


def most_addresses() -> int:
    """How many addresses of one name are used, given the descriptors that this process may open."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_ADDRESSES if limit == resource.RLIM_INFINITY else min(MAX_ADDRESSES, limit // DESCRIPTORS_PER_ADDRESS)


class DnsSeed:
    """Looks the name up whenever the client is about to connect and the last answer is not valid any more.

    `named`: the public keys that the nodes may hold; used with `keys`.
    """

    hint = ""
    is_partial = True

    def __init__(
        self,
        url: str,
        lookup: Lookup,
        clock: Callable[[], float] = time.monotonic,
        keys: Keys | None = None,
        named: tuple[bytes, ...] = (),
    ) -> None:
        self.url = url
        self._keys, self._named = keys, named
        self.valid_for = SHORTEST_VALID
        self._lookup = lookup
        self._clock = clock
        self._thread: NativeThread | None = None
        self._addresses: list[str] = []
        self._found_at = float("-inf")
        self._has_warned = False
        self._salt = random.random()

    def prepare(self, done: Done) -> None:
        """Looks the name up in a separate thread, unless that was done less than a second ago."""
        if self._addresses and self._clock() - self._found_at < SHORTEST_VALID:
            done(self._addresses, None)
            return
        thread = NativeThread(lambda: self._look_up(done), "discovery-resolver")
        try:
            thread.start()
        except RuntimeError as exc:
            done([], f"{self.url} was not looked up: {exc}")
        else:
            self._thread = thread

    def _look_up(self, done: Done) -> None:
        try:
            done(*self._outcome())
        finally:
            end_hub()

    def _outcome(self) -> tuple[list[str], str | None]:
        try:
            addresses, self.valid_for = self._lookup.addresses()
        except NoAddress as exc:
            if self._clock() - self._found_at < KEEP_EMPTY or not self._addresses:
                return self._last_good(str(exc))
            self._addresses = []
            return [], None
        except NoAnswer as exc:
            return self._last_good(str(exc))
        most = most_addresses()
        if len(addresses) > most:
            self._warn(f"it has {len(addresses)} addresses, of which {most} are used; see `ulimit -n`")
            # Different clients use different addresses, and each client uses the same ones as before.
            addresses = sorted(addresses, key=lambda address: hash((self._salt, address)))[:most]
        else:
            self._has_warned = False
        self._addresses, self._found_at = addresses, self._clock()
        return self._addresses, None

    def _last_good(self, error: str) -> tuple[list[str], str | None]:
        self.valid_for = FAILED_PAUSE
        if not self._addresses:
            return [], error
        self._warn(f"{error}; the last good answer stands")
        return self._addresses, None

    def _warn(self, text: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            _log.warning("directory %s: %s", self.url, text)

    def connection(
        self, address: str, namespace: str | None, listener: DirectoryListener, longest_pause: float, post: Post
    ) -> NodeConnection:
        """The connection to the node at one address."""
        proof = None if self._keys is None else NodeProof(self._keys, self._named)
        return NodeConnection(address, namespace, listener, longest_pause, post, proof)

    def also_reaches(self, connection: DirectoryConnection) -> None:
        """A node behind several names may hold a key of any of them."""
        if isinstance(connection, NodeConnection):
            connection.accept_also(self._named)

    def close(self, timeout: float) -> None:
        """Ends a look-up that is under way."""
        self._lookup.cancel()
        if self._thread is not None:
            self._thread.join(max(timeout, 2 * CANCEL_WITHIN), blocking=True)
