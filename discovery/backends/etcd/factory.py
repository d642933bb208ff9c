"""Opens `etcd:` URLs."""

from __future__ import annotations

from discovery.backend import Kind, Options
from discovery.backends.etcd import member
from discovery.backends.etcd.leases import EtcdLeases
from discovery.backends.etcd.session import EtcdSession
from discovery.backends.opening import engine_kind, require_library
from discovery.backends.tls import OPTIONS
from discovery.backends.urls import parse_engine_url
from discovery.client.patience import Patience

EXTRA = "zmqservices[etcd]"
DEFAULT_PORT = 2379
_MEND = "etcd://HOST:PORT[,HOST:PORT...]/PREFIX is needed"


def open_etcd(url: str, options: Options) -> Kind:
    """The factory of `etcd:`. DirectoryConfigurationError if h2 is missing, or a file that the URL names."""
    require_library(url, "h2.connection", "etcd", EXTRA)
    parsed = parse_engine_url(url, DEFAULT_PORT, _MEND, OPTIONS)

    leases: dict[str | None, EtcdLeases] = {}
    patience = Patience(member.TIMEOUT)

    def session(namespace: str | None) -> EtcdSession:
        leases[namespace] = EtcdLeases(leases.get(namespace))
        return EtcdSession(parsed, namespace, leases[namespace], patience, options.believes, options.keys is not None)

    return engine_kind(parsed, session, options, patience)
