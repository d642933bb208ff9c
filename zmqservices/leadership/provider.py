"""The dependency that tells a method whether its instance leads.

Internal. Services use `zmqservices.leadership`.
"""

from __future__ import annotations

from zmqservices.extensions import DependencyProvider
from zmqservices.leadership.candidacy import Candidacy
from zmqservices.leadership.watch import LeadershipWatch
from zmqservices.worker_context import WorkerContext


class LeadershipStatus:
    """The injected object. Its attributes always show the present state."""

    def __init__(self, candidacy: Candidacy) -> None:
        self._candidacy = candidacy

    @property
    def is_leader(self) -> bool:
        """Whether this instance leads now. Ask again before each step that only the leader may do."""
        return self._candidacy.is_leader()

    @property
    def token(self) -> int | None:
        """The fencing token while this instance leads; otherwise None, and always None if the directory has no locks.

        Each new leader's token is higher than those of all former ones.
        """
        return self._candidacy.token()


class Leadership(DependencyProvider):
    """Makes the instance a candidate for leading its service, and injects a `LeadershipStatus`.

    Each name has a separate leader among the instances of the service in the namespace.

        leader = Leadership()

        @rpc
        def clean(self):
            if self.leader.is_leader:
                self.store.clean(token=self.leader.token)
    """

    def __init__(self, name: str = "leader") -> None:
        super().__init__()
        self.watch = LeadershipWatch(name)

    def get_dependency(self, worker_ctx: WorkerContext) -> LeadershipStatus:
        return LeadershipStatus(self.watch.candidacy)
