"""The connections of a client: for each seed, one to every address that it resolves to.

Used on the directory's own thread only.
"""

from __future__ import annotations

from collections.abc import Callable

from discovery.client.connection import UP, WAITING, DirectoryConnection, DirectoryListener, Post, pause_after
from discovery.client.published import RegistryStatus
from discovery.client.seeds import NEVER, Seed
from discovery.native import Log

_log = Log(__name__)

#: Seconds until a name is looked up again that resolved to no new address.
NOTHING_NEW = 10.0


class SeedConnection:
    """One seed and its connections, by address."""

    def __init__(self, seed: Seed) -> None:
        self.seed = seed
        self.connections: dict[str, DirectoryConnection] = {}
        self.is_preparing = False
        self.retry_at = float("-inf")
        #: When the seed's last answer is no longer valid.
        self.renew_at = NEVER
        self.failures = 0
        self.error: str | None = None

    def due_at(self) -> float:
        """The time of the next attempt; NEVER while none is needed."""
        if self.is_preparing:
            return NEVER
        if not self.connections:
            return self.retry_at
        waiting = [connection.retry_at for connection in self.connections.values() if connection.state == WAITING]
        return max(self.retry_at, min([*waiting, self.renew_at]))

    def awaits_first_answers(self) -> bool:
        """Whether some address of a partial seed has neither answered nor failed yet."""
        if not self.seed.is_partial:
            return False
        awaited = any(
            each.goes_on or (each.state != WAITING and not each.failures)
            for each in self.connections.values()
            if each.state != UP
        )
        return awaited or (self.is_preparing and not self.connections and not self.failures)


class SeedConnections:
    """The seeds of a directory with their connections. `post` hands a function to the directory's thread, from any thread.

    `address_removed` is called with each address that a seed no longer resolves to.
    """

    def __init__(
        self,
        seeds: list[Seed],
        namespace: str | None,
        listener: DirectoryListener,
        longest_pause: float,
        post: Post,
        address_removed: Callable[[str], None],
    ) -> None:
        self.by_seed = [SeedConnection(seed) for seed in seeds]
        self._namespace = namespace
        self._listener = listener
        self._longest_pause = longest_pause
        self._post = post
        self._address_removed = address_removed
        self._is_closed = False

    def connections(self) -> list[DirectoryConnection]:
        """The connections to all addresses known by now."""
        return [connection for seed_connection in self.by_seed for connection in seed_connection.connections.values()]

    def has_unresolved_seeds(self) -> bool:
        """Whether some seed is still looking for its first address."""
        return any(seed.is_preparing and not seed.connections and not seed.failures for seed in self.by_seed)

    def is_whole(self) -> bool:
        """Whether some registry has answered, and no address of a partial seed is still missing."""
        return any(connection.state == UP for connection in self.connections()) and not any(
            seed_connection.awaits_first_answers() for seed_connection in self.by_seed
        )

    def next_attempt(self) -> float:
        """The time at which `attempt` is next needed."""
        return NEVER if self._is_closed else min(seed_connection.due_at() for seed_connection in self.by_seed)

    def attempt(self, now: float) -> None:
        """Begins the attempts that are due. Each begins with the seed, since its name may resolve to other addresses now."""
        for seed_connection in self.by_seed:
            if not self._is_closed and now >= seed_connection.due_at():
                seed_connection.is_preparing = True
                seed_connection.seed.prepare(self._prepared_later(seed_connection))

    def statuses(self) -> tuple[RegistryStatus, ...]:
        """The state of each connection, and of each seed without one."""
        statuses = []
        for seed_connection in self.by_seed:
            if not seed_connection.connections:
                statuses.append(RegistryStatus(seed_connection.seed.url, None, WAITING, None, False, seed_connection.error))
            for connection in seed_connection.connections.values():
                told = (connection.address, connection.state, connection.boot_id, connection.is_warming, connection.error)
                statuses.append(RegistryStatus(seed_connection.seed.url, *told))
        return tuple(statuses)

    def end_attempts(self) -> None:
        """Begins no new attempts from now on."""
        self._is_closed = True

    def close(self, now: float, timeout: float) -> None:
        """Closes all connections, and then the registry that this process hosts, if any."""
        self._is_closed = True
        for connection in self.connections():
            connection.close(now, "the directory stopped")
        for seed_connection in self.by_seed:
            seed_connection.seed.close(timeout)

    def _prepared_later(self, seed_connection: SeedConnection) -> Callable[[list[str], str | None], None]:
        return lambda addresses, error: self._post(lambda now: self._prepared(seed_connection, addresses, error, now))

    def _prepared(self, seed_connection: SeedConnection, addresses: list[str], error: str | None, now: float) -> None:
        seed_connection.is_preparing = False
        if self._is_closed:
            return
        if error is not None:
            self._not_found(seed_connection, error, now)
            return
        seed_connection.error, seed_connection.failures, seed_connection.retry_at = None, 0, float("-inf")
        seed_connection.renew_at = now + seed_connection.seed.valid_for
        self._remove_former(seed_connection, addresses)
        # Two seeds may resolve to one registry: one connection is enough.
        others = {
            connection.address: connection
            for other in self.by_seed
            if other is not seed_connection
            for connection in other.connections.values()
        }
        for address in addresses:
            if address in others:
                seed_connection.seed.also_reaches(others[address])
            else:
                self._open(seed_connection, address, now)
        if not seed_connection.connections:
            seed_connection.retry_at = now + NOTHING_NEW

    def _not_found(self, seed_connection: SeedConnection, error: str, now: float) -> None:
        if seed_connection.error is None:
            _log.warning("cannot reach registry %s: %s", seed_connection.seed.url, error)
        seed_connection.failures += 1
        seed_connection.error = error
        seed_connection.retry_at = now + pause_after(seed_connection.failures, self._longest_pause)

    def _remove_former(self, seed_connection: SeedConnection, addresses: list[str]) -> None:
        former = [
            address
            for address, connection in seed_connection.connections.items()
            if address not in addresses and connection.state == WAITING
        ]
        for address in former:
            del seed_connection.connections[address]
            self._address_removed(address)

    def _open(self, seed_connection: SeedConnection, address: str, now: float) -> None:
        connection = seed_connection.connections.get(address)
        if connection is None:
            connection = seed_connection.seed.connection(
                address, self._namespace, self._listener, self._longest_pause, self._post
            )
            seed_connection.connections[address] = connection
        if connection.state == WAITING and now >= connection.retry_at:
            connection.open(now)
