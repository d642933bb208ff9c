"""`etcd://[USER:PASSWORD@]HOST:PORT[,HOST:PORT...]/PREFIX`: a directory in etcd, version 3.4 or newer.

Internal. A record is a key with a lease of its ttl; a note is a key without a lease. `discovery.backends.keyspace` says which
key each has below /PREFIX/.

All requests are calls of gRPC, see `grpc`. etcd's JSON gateway is not used: for large answers it takes ten times as much of
etcd's time. Sources of the rules: "API reference", "etcd API: Watch, Lease, Txn", "Role-based access control" at
etcd.io/docs/v3.4.

Rule 1: the watch of a range begins at the revision after the one at which the range was read, so no change is missed. If etcd
has compacted that revision away, this one range is read again.
Rule 2: a transaction writes a note only if the key's revision has not changed since it was compared. So the note of the highest
rank stays. Lists of revoked certificates are written in the same way.
Rule 3: a lock is a key that is created only if it is not there, with a lease. Its fencing token is the revision that created it.
Rule 4: any member will do. The watch asks for a member that sees a leader, and reads are linearizable, so a minority of the
cluster is never believed.
Rule 5: a client reads and watches one prefix for each key of its interest, and all notes. Whatever it reads together, it reads
at one revision. It watches a lock only while another process holds it.
"""

from discovery.backends.etcd.factory import open_etcd

__all__ = ["open_etcd"]
