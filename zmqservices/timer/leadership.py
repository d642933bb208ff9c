"""Leader election for extensions: one instance of a service does something for all of them, such as a cluster-wide timer.

How it works. Each instance that can do the work lists itself in the directory as a candidate. The candidate that has been
listed for longest is the leader. While all instances see the same list, there is exactly one leader. Leadership changes

- when the leader stops: at once, and only after its work in progress is over;
- when the leader's process dies: when its lease expires (`DIRECTORY_TTL`, 10 s), or at once if the registry notices.

What is not promised. There is no consensus protocol. While instances see different lists (a network partition, a registry that
has just been started, a process that was suspended and has not noticed that its lease has expired), two instances may lead.
While leadership changes, none may. While no registry can be reached the last list is used, so leadership does not change; a
process that was started meanwhile leads nothing until a registry answers. Work that must happen exactly once needs a lock or a
unique key in the database that it writes to.
"""

from __future__ import annotations

from gevent.event import Event

from zmqservices.extensions import Extension
from zmqservices.membership import Membership

__all__ = ["Leadership"]

#: Seconds between two checks whether a registry has answered; only at the start.
CHECK_INTERVAL = 0.02


class Leadership(Extension):
    """A part of an extension that does something for the whole service; see the module."""

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

    def stop(self) -> None:
        self.resign()

    def kill(self) -> None:
        self.resign()
