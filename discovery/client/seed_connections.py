"""The registries that a client looks for: one site per seed, with a link to each address that it stands for.

Used on the directory's own thread only.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from discovery.client.registry_connection import WAITING, Link, Listener
from discovery.native import Log
from discovery.client.published import RegistryStatus
from discovery.client.seeds import Seed

_log = Log(__name__)

#: Seconds until a name that stands for nothing new is looked up again.
NOTHING_NEW = 10.0
#: Seconds before the first new look-up of a name that was not found; it doubles, with jitter.
FIRST_PAUSE = 0.2
NEVER = float("inf")


class Site:
    """One seed and its links."""

    def __init__(self, seed: Seed) -> None:
        self.seed = seed
        self.links: dict[str, Link] = {}
        self.is_preparing = False
        self.retry_at = float("-inf")
        self.failures = 0
        self.error: str | None = None

    def due_at(self) -> float:
        """When its next attempt is to be made; NEVER while none is needed."""
        if self.is_preparing:
            return NEVER
        if not self.links:
            return self.retry_at
        waiting = [link.retry_at for link in self.links.values() if link.state == WAITING]
        return max(self.retry_at, min(waiting)) if waiting else NEVER


class Sites:
    """All sites of a directory. `post` hands a function to the directory's thread, from whatever thread."""

    def __init__(
        self,
        seeds: list[Seed],
        namespace: str | None,
        listener: Listener,
        longest_pause: float,
        post: Callable[[Callable[[float], None]], None],
        forget: Callable[[str], None],
    ) -> None:
        self.sites = [Site(seed) for seed in seeds]
        self._namespace = namespace
        self._listener = listener
        self._longest_pause = longest_pause
        self._post = post
        self._forget = forget
        self._is_closed = False

    def links(self) -> list[Link]:
        """The links to all addresses known by now."""
        return [link for site in self.sites for link in site.links.values()]

    def is_first_look(self) -> bool:
        """True while some seed has not yet found its first address."""
        return any(site.is_preparing and not site.links and not site.failures for site in self.sites)

    def next_attempt(self) -> float:
        """When `attempt` has something to do."""
        return NEVER if self._is_closed else min(site.due_at() for site in self.sites)

    def attempt(self, now: float) -> None:
        """Begins what is due, at the seed each time: its name may stand for other addresses by now."""
        for site in self.sites:
            if not self._is_closed and now >= site.due_at():
                site.is_preparing = True
                site.seed.prepare(self._prepared_later(site))

    def statuses(self) -> tuple[RegistryStatus, ...]:
        """How it stands with each."""
        statuses = []
        for site in self.sites:
            if not site.links:
                statuses.append(RegistryStatus(site.seed.url, None, WAITING, None, False, site.error))
            for link in site.links.values():
                told = (link.address, link.state, link.boot_id, link.is_warming, link.error)
                statuses.append(RegistryStatus(site.seed.url, *told))
        return tuple(statuses)

    def end_attempts(self) -> None:
        """From here on nothing new is begun."""
        self._is_closed = True

    def close(self, now: float, timeout: float) -> None:
        """Ends all connections, and then the registry that is hosted here, if any."""
        self._is_closed = True
        for link in self.links():
            link.close(now, "the directory stopped")
        for site in self.sites:
            site.seed.close(timeout)

    def _prepared_later(self, site: Site) -> Callable[[list[str], str | None], None]:
        return lambda addresses, error: self._post(lambda now: self._prepared(site, addresses, error, now))

    def _prepared(self, site: Site, addresses: list[str], error: str | None, now: float) -> None:
        site.is_preparing = False
        if self._is_closed:
            return
        if error is not None:
            self._not_found(site, error, now)
            return
        site.error, site.failures, site.retry_at = None, 0, float("-inf")
        self._forget_former(site, addresses)
        # Two names of one registry: it is asked once.
        others = {link.address for other in self.sites if other is not site for link in other.links.values()}
        for address in addresses:
            if address not in others:
                self._open(site, address, now)
        if not site.links:
            site.retry_at = now + NOTHING_NEW

    def _not_found(self, site: Site, error: str, now: float) -> None:
        if site.error is None:
            _log.warning("cannot reach registry %s: %s", site.seed.url, error)
        site.failures += 1
        site.error = error
        pause = min(self._longest_pause, FIRST_PAUSE * 2 ** min(site.failures, 10))
        site.retry_at = now + random.uniform(0.25, 1.0) * pause

    def _forget_former(self, site: Site, addresses: list[str]) -> None:
        former = [a for a, link in site.links.items() if a not in addresses and link.state == WAITING]
        for address in former:
            del site.links[address]
            self._forget(address)

    def _open(self, site: Site, address: str, now: float) -> None:
        link = site.links.get(address)
        if link is None:
            link = site.links[address] = Link(
                address, self._namespace, self._listener, self._longest_pause, site.seed.hint
            )
        if link.state == WAITING and now >= link.retry_at:
            link.open(now)
