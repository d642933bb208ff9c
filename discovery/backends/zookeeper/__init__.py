"""`zookeeper://[USER:PASSWORD@]HOST:PORT[,HOST:PORT...]/PREFIX`: a directory in ZooKeeper, version 3.5 or newer.

Internal. A record is an ephemeral node, a note a persistent one. Every part of a path is percent-encoded, every value is msgpack:

    /PREFIX/NAMESPACE/records/SERVICE/INSTANCE;INCARNATION.VERSION
    /PREFIX/NAMESPACE/subscribers/SOURCE/INSTANCE;INCARNATION.VERSION
    /PREFIX/NAMESPACE/notes/KEY;STAMP.DIGEST
    /PREFIX/NAMESPACE/locks/NAME
    /PREFIX/@revoked/AUTHORITY;NUMBER.DIGEST      a list of revoked certificates, for all namespaces (none is named `@revoked`)

A record has a node under its service, and one more under each source that it subscribes to. So a client reads and watches only
the services and sources of its interest.

A lock is an ephemeral node that is created only if it is not there. The transaction that created it (czxid) is its fencing token.
There is no queue of sequential nodes: a process asks for a lock when it is its turn, see `zmqservices.cluster.leadership`.

It uses kazoo, with a handler of its own (`handler` says why). Sources of the rules: "ZooKeeper Programmer's Guide" (sessions,
watches, consistency guarantees, access control) at zookeeper.apache.org.

Rule 1: a node is written once. A change creates another node and deletes the former one, so a watch for the children of a
service shows every change: a client needs one watch for each service, not one for each instance.
Rule 2: a lost connection (SUSPENDED) is not a lost session (LOST). The next attempt takes the session up, and its ephemeral nodes
are still there. Only if the server says that the session has expired does a new one begin, with all records created again.
Rule 3: watches end with the connection. Each attempt reads everything again, after a `sync`, since any member may lag behind.
Rule 4: the server reports changes in their order. Whatever was read is handed on only when nothing is left to read, so a change
never appears without the changes before it.
"""

from discovery.backends.zookeeper.factory import open_zookeeper

__all__ = ["open_zookeeper"]
