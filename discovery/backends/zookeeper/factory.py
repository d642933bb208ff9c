"""Opens `zookeeper:` URLs."""

from __future__ import annotations

from discovery.backend import Kind, Options
from discovery.backends.opening import engine_kind, require_library
from discovery.backends.tls import OPTIONS
from discovery.backends.urls import parse_engine_url
from discovery.backends.zookeeper import connection
from discovery.backends.zookeeper.session import ResumableSession, ZooKeeperSession
from discovery.client.patience import Patience
from discovery.exceptions import DirectoryConfigurationError

EXTRA = "zmqservices[zookeeper]"
DEFAULT_PORT = 2181
#: Who may read and write the nodes that a client creates, by the word in the URL.
ACCESS = ("private", "readable", "open")
_MEND = "zookeeper://HOST:PORT[,HOST:PORT...]/PREFIX is needed"


def open_zookeeper(url: str, options: Options) -> Kind:
    """The factory of `zookeeper:`. DirectoryConfigurationError if kazoo is missing, or a file that the URL names."""
    require_library(url, "kazoo.client", "ZooKeeper", EXTRA)
    parsed = parse_engine_url(url, DEFAULT_PORT, _MEND, ("access", *OPTIONS))
    access = parsed.options.get("access", "private" if parsed.user else "open")
    if access not in ACCESS or (access != "open" and not parsed.user):
        raise DirectoryConfigurationError(
            f"the option access of the directory URL {parsed.name} is {access!r}; open is needed, or private or readable with "
            "a user and a password"
        )
    patience = Patience(connection.TIMEOUT)
    resumed: dict[str | None, ResumableSession] = {}

    def session(namespace: str | None) -> ZooKeeperSession:
        resumable = resumed.setdefault(namespace, ResumableSession())
        is_closed = options.keys is not None
        return ZooKeeperSession(parsed, access, options.ttl, namespace, resumable, patience, options.believes, is_closed)

    return engine_kind(parsed, session, options, patience)
