"""Leader election: one instance of a service does something for all of them.

`Leadership` tells the methods of a service whether their instance leads, and `@leadership_gained` and `@leadership_lost` run a
method when that changes. `Candidacy` is the same for extensions; `@timer(cluster=True)` uses it.

How it works. Each instance that can do the work lists itself in the directory as a candidate. The candidate that has been listed
for longest is the leader. If only etcd, ZooKeeper or Consul keeps the directory, it also needs a lock there before it leads.
Leadership changes

- when the leader stops: at once, and only after its work in progress is over;
- when the leader's process dies: when its lease expires (`DIRECTORY_TTL`, 10 s), or at once if the registry notices.

Guarantees with these three: two instances never lead at the same time, if the rates of their clocks differ by less than a tenth.
A leader that hears nothing from the servers stops leading after nine tenths of its lease; then no instance leads until they
answer. Work that a leader began before it was cut off or suspended may still end after another one leads. Its fencing token is
lower than that of the new leader, so a store that remembers the highest token refuses it.

Guarantees with registries: while all instances see the same list, there is exactly one leader. There is no consensus protocol,
and no token. While instances see different lists (a network partition, a registry that has just been started, a process that was
suspended and has not noticed that its lease has expired), two instances may lead. While no registry can be reached the last list
is used, so leadership does not change; a process that was started meanwhile leads nothing until a registry answers. Work that
must happen exactly once needs a lock or a unique key in the database that it writes to.

While leadership changes, no instance may lead.
"""

from zmqservices.leadership.candidacy import Candidacy
from zmqservices.leadership.changes import LeadershipGained, LeadershipLost, leadership_gained, leadership_lost
from zmqservices.leadership.provider import Leadership, LeadershipStatus

__all__ = [
    "Candidacy",
    "Leadership",
    "LeadershipGained",
    "LeadershipLost",
    "LeadershipStatus",
    "leadership_gained",
    "leadership_lost",
]
