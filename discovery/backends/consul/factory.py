"""Opens `consul:` URLs."""

from __future__ import annotations

from discovery.backend import Kind, Options
from discovery.backends.consul import agent
from discovery.backends.consul.session import ConsulSession
from discovery.backends.consul.ttl_session import TtlSession
from discovery.backends.opening import engine_kind, require_library
from discovery.backends.tls import OPTIONS
from discovery.backends.urls import parse_engine_url
from discovery.client.patience import Patience

EXTRA = "zmqservices[consul]"
DEFAULT_PORT = 8500
_MEND = "consul://[TOKEN@]HOST:PORT[,HOST:PORT...]/PREFIX is needed"


def open_consul(url: str, options: Options) -> Kind:
    """The factory of `consul:`. DirectoryConfigurationError if h11 is missing, or a file that the URL names."""
    require_library(url, "h11", "Consul", EXTRA)
    parsed = parse_engine_url(url, DEFAULT_PORT, _MEND, OPTIONS, has_users=False)
    patience = Patience(agent.TIMEOUT)
    resumed: dict[str | None, TtlSession] = {}

    def session(namespace: str | None) -> ConsulSession:
        resumable = resumed.setdefault(namespace, TtlSession(options.ttl))
        return ConsulSession(parsed, namespace, resumable, patience, options.believes, options.keys is not None)

    return engine_kind(parsed, session, options, patience)
