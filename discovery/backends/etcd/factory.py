"""Opens `etcd:` URLs."""

from __future__ import annotations

from discovery.backend import Kind, Options
from discovery.backends.etcd.session import EtcdSession
from discovery.backends.opening import engine_kind, require_library
from discovery.backends.tls import OPTIONS
from discovery.backends.urls import parse_engine_url

EXTRA = "zmqservices[etcd]"
DEFAULT_PORT = 2379
_MEND = "etcd://HOST:PORT[,HOST:PORT...]/PREFIX is needed"


def open_etcd(url: str, options: Options) -> Kind:
    """The factory of `etcd:`. DirectoryConfigurationError if urllib3 or h2 is missing, or a file that the URL names."""
    for module in ("urllib3", "h2.connection"):
        require_library(url, module, "etcd", EXTRA)
    parsed = parse_engine_url(url, DEFAULT_PORT, _MEND, OPTIONS)

    def session(namespace: str | None) -> EtcdSession:
        return EtcdSession(parsed, namespace, options.believes, options.keys is not None)

    return engine_kind(parsed, session, options)
