"""The candidacy of an instance for leading its service in one thing; for extensions.

Internal. Extensions use `zmqservices.leadership.Candidacy`.
"""

from __future__ import annotations

from gevent.event import Event

from zmqservices.extensions import Extension
from zmqservices.membership import Membership

#: Seconds between two checks whether a registry has answered; only at the start.
CHECK_INTERVAL = 0.02


class Candidacy(Extension):
    """The part of an extension that does something for the whole service; see `zmqservices.leadership`."""

    membership = Membership()

    def __init__(self) -> None:
        super().__init__()
        self._name: str | None = None

    def campaign(self, name: str) -> None:
        """Make this instance a candidate for leading `name`. The service is listed in the directory if it was not.

        Raises ConfigurationError if the directory is a fixed list, to which nothing can be added.
        """
        self._registration = self.membership.registration()
        self._registration.campaign(name)
        self._name = name
        self.membership.before_leaving(self.resign)

    def resign(self) -> None:
        """Withdraw the candidacy. If this instance was the leader, another one takes over."""
        name, self._name = self._name, None
        if name is not None:
            self._registration.resign(name)

    def wait_until_known(self, interrupted: Event) -> None:
        """Return when a leader is known, or when `interrupted` is set."""
        while not (interrupted.is_set() or self.is_known()):
            interrupted.wait(CHECK_INTERVAL)

    def is_known(self) -> bool:
        """Whether a registry has answered and lists a leader."""
        return self._name is not None and self._registration.has_leader(self._name)

    def is_leader(self) -> bool:
        """Whether this instance leads now."""
        return self._name is not None and self._registration.is_leader(self._name)

    def token(self) -> int | None:
        """The fencing token while this instance leads; otherwise None, and always None if the directory has no locks.

        Each new leader's token is higher than those of all former ones.
        """
        return None if self._name is None else self._registration.fencing_token(self._name)

    def stop(self) -> None:
        self.resign()

    def kill(self) -> None:
        self.resign()
