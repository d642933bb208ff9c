"""`consul://[TOKEN@]HOST:PORT[,HOST:PORT...]/PREFIX`: a directory in Consul's store of keys and values.

Internal. A record is a key that a session of this process holds (`acquire`); a note is a key that no session holds.
`discovery.backends.keyspace` says which key each has below PREFIX/. The session has a TTL and the behavior `delete`: when it
ends, Consul deletes all its keys. PREFIX/cluster holds a random number; another number means that Consul has lost its data.

Any agent answers, over HTTP. Sources of the rules: "HTTP API: KV Store, Sessions, Blocking Queries, Status, Consistency Modes"
and "Sessions and distributed locks" at developer.hashicorp.com/consul.

Rule 1: each service and each source of the interest has a blocking query. An answer holds all records under the prefix; the
changes are its difference from the answer before. If the index of an answer is lower than the one before, the next query asks
with index 0. Its answer comes at once and holds everything again.
Rule 2: a blocking query takes a connection, and an agent allows 200 connections from one address. A client of many services
therefore asks for all records.
Rule 3: a lost connection is not a lost session. The next attempt renews the session, through whichever agent it reaches. If
Consul no longer knows the session, a new one begins and all records are written again.
Rule 4: a lock is a key that the session holds. Its fencing token is the index of the change that acquired it.
"""

from discovery.backends.consul.factory import open_consul

__all__ = ["open_consul"]
