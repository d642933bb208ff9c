"""What the factories and the sessions of all engines do alike.

Internal.
"""

from __future__ import annotations

import importlib
import itertools
import random
from collections.abc import Callable
from typing import TypeVar

from discovery.backend import Capabilities, Kind, Options
from discovery.backends.tls import tls_context
from discovery.backends.urls import EngineUrl
from discovery.client.engine_seed import EngineSeed
from discovery.client.engine_session import EngineSession
from discovery.client.patience import Patience
from discovery.exceptions import DirectoryConfigurationError, EngineError, EngineOverdueError
from discovery.model import shown_url

#: Host and port of one server.
Server = tuple[str, int]
Opened = TypeVar("Opened")

_attempts = itertools.count(random.randrange(1000))


def require_library(url: str, module: str, engine: str, extra: str) -> None:
    """Raises DirectoryConfigurationError, which names the extra, unless `module` can be imported."""
    try:
        importlib.import_module(module)
    except ImportError as exc:
        library = module.partition(".")[0]
        raise DirectoryConfigurationError(
            f"the directory URL is {shown_url(url)!r}, and {library}, by which {engine} is reached, is not installed; "
            f"`pip install {extra}` brings it"
        ) from exc


def engine_kind(
    url: EngineUrl, session: Callable[[str | None], EngineSession], options: Options, patience: Patience
) -> Kind:
    """The directory of an engine. `session` makes a session for a namespace (None: for all), which waits with this patience.

    DirectoryConfigurationError for a certificate file that the URL names and that cannot be read.
    """
    # The result is not used: a missing file must be reported now, not by the first attempt.
    tls_context(url)
    seed = EngineSeed(url.name, session, options.ttl, options.keys, patience)
    capabilities = Capabilities(locks=True, servers=url.servers, carries_revocations=True)
    return Kind(url.name, (seed,), capabilities, options.ttl / 3, locks=seed.locks)


def servers_in_turn(servers: tuple[Server, ...]) -> tuple[Server, ...]:
    """All servers; each call begins with the next one, so that the attempts of a process spread over all of them."""
    first = next(_attempts) % len(servers)
    return servers[first:] + servers[:first]


def open_first(servers: tuple[Server, ...], open_at: Callable[[Server], Opened]) -> Opened:
    """What `open_at` returns for the first server that answers. EngineError, with the reason of each server, if none does.

    It is an EngineOverdueError if some server was reached and did not answer in time.
    """
    errors: list[EngineError] = []
    for server in servers:
        try:
            return open_at(server)
        except EngineError as exc:
            errors.append(exc)
    kind = EngineOverdueError if any(isinstance(exc, EngineOverdueError) for exc in errors) else EngineError
    raise kind("; ".join(dict.fromkeys(map(str, errors))))
