"""`dns://NAME:PORT` and `dns+srv://_SERVICE._PROTO.NAME`: the nodes that DNS names, each of which is asked for its own records.

Internal. DNS knows only addresses: A and AAAA records with the port of the URL, or SRV records with their own ports. Everything
else about an instance comes from its node, see `discovery.greeting`. Sources of the rules: RFC 1035, RFC 2308 (negative answers),
RFC 2782 (SRV), RFC 7766 (TCP).

Rule 1: an answer is valid for its TTL, within bounds. After a connection was lost the name is looked up again at once.
Rule 2: a DNS server that fails says nothing about the nodes, so the last good answer stays.
Rule 3: an answer without addresses counts once DNS has given no others for KEEP_EMPTY seconds.
Rule 4: a connected node is used, whether or not DNS still names it.
Rule 5: with SECURITY the URL names the keys that nodes may hold, and DNS is not trusted: a false address leads to no node that
could prove one of these keys.
"""

from discovery.backends.dns.factory import open_dns, open_dns_srv

__all__ = ["open_dns", "open_dns_srv"]
