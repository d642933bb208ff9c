"""The URLs of engines: `scheme://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]...][/PREFIX][?OPTION=VALUE&...]`."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

from discovery.client.seeds import split_tcp
from discovery.exceptions import DirectoryConfigurationError

#: The prefix under which an engine keeps the directory by default.
DEFAULT_PREFIX = "zmqservices"
MAX_SERVERS = 16
#: Characters of a prefix, before anything is encoded.
LONGEST_PREFIX = 200


@dataclass(frozen=True, slots=True)
class EngineUrl:
    """The parts of the URL. `name`: the URL without the password, for logs and errors."""

    name: str
    servers: tuple[tuple[str, int], ...]
    prefix: str
    user: str
    password: str = field(repr=False)
    options: dict[str, str]


def parse_engine_url(
    url: str, default_port: int, mend: str, known: tuple[str, ...], has_users: bool = True
) -> EngineUrl:
    """The parts of a URL. DirectoryConfigurationError, which ends with `mend` and shows no password, for one that makes no sense.

    `has_users`: False if everything before an @ is a secret, like a token of Consul.
    """
    scheme, _, rest = url.partition("://")
    rest, question, query = rest.partition("?")
    authority, _, path = rest.partition("/")
    credentials, at, hosts = authority.rpartition("@")
    user, _, password = credentials.partition(":")
    if not has_users:
        user, password = "", credentials.removeprefix(":")
    shown = f"{scheme}://{user + '@' if at and has_users else ''}{hosts}"
    prefix = path.strip("/") or DEFAULT_PREFIX
    servers = tuple(_server(host.strip(), default_port, shown, mend) for host in hosts.split(","))
    options = dict(parse_qsl(query, keep_blank_values=True))
    unknown = sorted(options.keys() - set(known))
    if unknown:
        allowed = f"{', '.join(known)} are known" if known else "none is known"
        raise DirectoryConfigurationError(f"the directory URL {shown}/{prefix} has the option {unknown[0]!r}; {allowed}")
    if len(servers) > MAX_SERVERS or len(prefix) > LONGEST_PREFIX or not all(prefix.split("/")):
        raise DirectoryConfigurationError(
            f"the directory URL is {shown}/{prefix:.300}; {mend}, with {MAX_SERVERS} servers and a prefix of "
            f"{LONGEST_PREFIX} characters at most"
        )
    return EngineUrl(f"{shown}/{prefix}", servers, prefix, unquote(user), unquote(password), options)


def truth(text: str, url: EngineUrl) -> bool:
    """The value of an option that is yes or no. DirectoryConfigurationError for another text."""
    if text.lower() in ("", "1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise DirectoryConfigurationError(f"an option of the directory URL {url.name} is {text!r}; yes or no is needed")


def _server(host: str, default_port: int, shown: str, mend: str) -> tuple[str, int]:
    is_bare = host.endswith("]") or ":" not in host
    try:
        return split_tcp(f"tcp://{host}:{default_port}" if is_bare else f"tcp://{host}")
    except DirectoryConfigurationError as exc:
        raise DirectoryConfigurationError(f"the directory URL is {shown!r}, and {host!r} is no server; {mend}") from exc


def unreachable(reason: object) -> str:
    """For the text of an error after the name of a server: it has no address, or no connection was made."""
    what = getattr(reason, "strerror", None) or reason
    return f"cannot be reached: {what}; is it running, and are the URL's host and port right?"
