"""`dns://NAME:PORT` and `dns+srv://_SERVICE._PROTO.NAME`: the nodes that DNS names, each asked for its own records.

DNS knows addresses alone (A and AAAA records with the port of the URL, or SRV records with ports of their own). What else there
is to know of an instance, each node says itself; see `discovery.greeting`. The names are looked up through dnspython, in native
threads and over sockets as they are without gevent. Sources of the rules: RFC 1035, RFC 2308 (negative answers), RFC 2782 (SRV),
RFC 7766 (TCP).

Rule 1: an answer is valid for its TTL, within bounds. After a connection was lost the name is looked up again at once.
Rule 2: a server that fails says nothing of the nodes: the last good answer stays for as long as it takes.
Rule 3: an answer without addresses is believed when it has stayed so for KEEP_EMPTY seconds.
Rule 4: a node that is connected is used, whether or not DNS still names it.
Rule 5: with SECURITY the URL names the keys that nodes may hold, and DNS is trusted with nothing: a false address leads to nobody
who could prove one of them.
"""

from __future__ import annotations

import random
import resource
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from discovery.backend import Capabilities, Kind, Options
from discovery.backends.dns_url import DnsUrl, parse_dns_url, refuse_unless_safe
from discovery.client.connection import DirectoryListener, Post
from discovery.client.node_connection import NodeConnection
from discovery.client.node_proof import NodeProof
from discovery.client.seeds import Done, tcp_address
from discovery.exceptions import DirectoryConfigurationError
from discovery.native import Log, NativeThread, end_hub, getaddrinfo, original
from discovery.security.keys import Keys

if TYPE_CHECKING:
    import dns.message
    import dns.resolver

_log = Log(__name__)

EXTRA = "zmqservices[dns]"
#: Bounds of the seconds for which an answer is valid, whatever its TTL.
SHORTEST_VALID, LONGEST_VALID = 1.0, 30.0
#: Seconds until a name is looked up again after a failure.
FAILED_PAUSE = 2.0
#: Seconds for which an answer without addresses does not replace the one before.
KEEP_EMPTY = 60.0
#: Seconds that one question to one server may take, and all that a look-up needs.
QUESTION_TIMEOUT, LOOK_UP_TIMEOUT = 2.0, 5.0
#: Addresses of one name that are used, and the descriptors for each of them that this process must be allowed: a connection
#: takes four, and two thirds are left for others. Each node costs every other one a connection.
MAX_ADDRESSES, DESCRIPTORS_PER_ADDRESS = 512, 12
#: Seconds between two looks whether the directory was stopped, while a server is waited for.
_LOOK = 0.25


def open_dns(url: str, options: Options) -> Kind:
    """The factory of `dns:`."""
    return _open(parse_dns_url(url, has_port=True), options)


def open_dns_srv(url: str, options: Options) -> Kind:
    """The factory of `dns+srv:`."""
    return _open(parse_dns_url(url, has_port=False), options)


def _open(url: DnsUrl, options: Options) -> Kind:
    refuse_unless_safe(url, options.keys)
    try:
        lookup = Lookup(url)
    except ImportError as exc:
        raise DirectoryConfigurationError(
            f"the directory URL is {url.url!r}, and dnspython, by which names are looked up, is not installed; "
            f"`pip install {EXTRA}` brings it"
        ) from exc
    # The route to a peer, or else to a server of DNS, is the route to the peers.
    named = ((url.name, url.port),) if url.port and not url.servers else ()
    capabilities = Capabilities(
        can_announce=False, stores_notes=False, needs_fixed_port=True, servers=named + lookup.servers
    )
    seed = DnsSeed(url.url, lookup, keys=options.keys, named=url.keys)
    # In a closed cluster a node proves what it says by the connection: on disk nothing of that is left.
    return Kind(url.url, (seed,), capabilities, options.ttl / 3, keeps_records=options.keys is None)


class NoAddress(Exception):
    """DNS answered, and there is no address. The text says what was asked."""


class NoAnswer(Exception):
    """DNS did not answer. The text says why."""


class Lookup:
    """Asks for the addresses of one name. ImportError without dnspython. One thread at a time may use it; `cancel` any."""

    def __init__(self, url: DnsUrl) -> None:
        import dns.exception
        import dns.resolver

        self._url = url
        self._is_cancelled = False
        self._deadline = 0.0
        #: The names, with A or AAAA, that had addresses. Without an answer about one of them, too few would be believed.
        self._had: set[tuple[str, str]] = set()
        try:
            self._resolver = dns.resolver.Resolver(configure=not url.servers)
        except dns.resolver.NoResolverConfiguration as exc:
            raise DirectoryConfigurationError(
                f"the directory URL is {url.url!r}, and /etc/resolv.conf names no server of DNS: {exc}; ?server=IP:PORT names one"
            ) from exc
        listed = url.servers or tuple((str(one), self._resolver.port) for one in self._resolver.nameservers)
        server_class = _server_class()
        self._resolver.nameservers = [server_class(*one, self._has_ended) for one in listed]
        self._resolver.timeout = QUESTION_TIMEOUT
        #: The servers that tell something of the way to the peers. One of this host's own does not, unless the URL names it.
        self.servers = url.servers or tuple(one for one in listed if not one[0].startswith("127.") and one[0] != "::1")

    def cancel(self) -> None:
        """Ends a look-up that is under way, within `_LOOK` seconds."""
        self._is_cancelled = True

    def _has_ended(self) -> bool:
        return self._is_cancelled

    def addresses(self) -> tuple[list[str], float]:
        """All `tcp://IP:PORT`, and the seconds for which they are valid. NoAddress or NoAnswer where there are none."""
        self._deadline = time.monotonic() + LOOK_UP_TIMEOUT
        found, ttl = self._from_srv() if not self._url.port else self._from_hosts(self._url.name, self._url.port, True)
        return sorted(found), min(max(ttl, SHORTEST_VALID), LONGEST_VALID)

    def _from_srv(self) -> tuple[set[str], float]:
        answer = self._ask(self._url.name, "SRV", True)
        if answer is None or answer.rrset is None:
            raise NoAddress(f"DNS has no SRV record of {self._url.name}; the name may be wrong, or no node behind it is ready")
        found: set[str] = set()
        ttl = float(answer.chaining_result.minimum_ttl)
        failure: Exception | None = None
        for entry in answer.rrset:
            if str(entry.target) == ".":
                continue  # The service is decidedly not available, RFC 2782 says.
            target = str(entry.target)
            try:
                more, valid = self._from_hosts(target, entry.port, False)
            except (NoAddress, NoAnswer) as exc:
                if isinstance(exc, NoAnswer) and any(name == target for name, _ in self._had):
                    raise
                failure = exc
            else:
                found |= more
                ttl = min(ttl, valid)
        if not found:
            raise failure or NoAddress(f"the SRV records of {self._url.name} name no host")
        return found, ttl

    def _from_hosts(self, name: str, port: int, search: bool) -> tuple[set[str], float]:
        found: set[str] = set()
        ttl = LONGEST_VALID
        failure: NoAnswer | None = None
        for kind in ("A", "AAAA"):
            try:
                answer = self._ask(name, kind, search)
            except NoAnswer as exc:
                if (name, kind) in self._had:
                    raise
                failure = failure or exc  # Some servers fail for a kind of which they have no record.
                continue
            if answer is None:
                break
            if answer.rrset is not None:
                self._had.add((name, kind))
                found |= {tcp_address(str(entry.address), port) for entry in answer.rrset}
                ttl = min(ttl, float(answer.chaining_result.minimum_ttl))
        if not found:
            raise failure or NoAddress(f"DNS has no address of {name}; the name may be wrong, or no node behind it is ready")
        return found, ttl

    def _ask(self, name: str, kind: str, search: bool) -> dns.resolver.Answer | None:
        """The answer, perhaps without records; None where DNS has no such name. NoAnswer where no server answers."""
        import dns.exception
        import dns.resolver

        left = self._deadline - time.monotonic()
        if left <= 0:
            raise NoAnswer(f"{kind} records of {name} could not be looked up within {LOOK_UP_TIMEOUT:g} s")
        try:
            return self._resolver.resolve(name, kind, raise_on_no_answer=False, search=search, lifetime=left)
        except dns.resolver.NXDOMAIN:
            return None
        except dns.exception.DNSException as exc:
            raise NoAnswer(
                f"{kind} records of {name} could not be looked up: {exc!s:.300}; a server of DNS that answers is needed, in "
                "/etc/resolv.conf or as ?server=IP:PORT"
            ) from exc


def _server_class() -> Any:
    import dns.exception
    import dns.message
    import dns.nameserver

    class NativeServer(dns.nameserver.Do53Nameserver):
        """A server that is asked over sockets that gevent has not patched: a thread of ours shall have no hub."""

        def __init__(self, address: str, port: int, has_ended: Callable[[], bool]) -> None:
            super().__init__(address, port)
            self._has_ended = has_ended

        def query(
            self,
            request: dns.message.QueryMessage,
            timeout: float,
            source: str | None,
            source_port: int,
            max_size: bool,
            one_rr_per_rrset: bool = False,
            ignore_trailing: bool = False,
        ) -> dns.message.Message:
            deadline = time.monotonic() + timeout
            ask = self._over_tcp if max_size else self._over_udp
            kind = socket.SOCK_STREAM if max_size else socket.SOCK_DGRAM
            family, _, _, _, place = getaddrinfo(self.address, self.port, 0, kind, 0, socket.AI_NUMERICHOST)[0]
            with original("socket", "socket")(family, kind) as link:
                link.settimeout(timeout)
                try:
                    link.connect(place)
                    return ask(link, request, deadline)
                except TimeoutError as exc:
                    raise dns.exception.Timeout(timeout=timeout) from exc

        def _over_udp(self, link: socket.socket, request: dns.message.QueryMessage, deadline: float) -> dns.message.Message:
            link.send(request.to_wire())
            while True:
                wire = self._receive(link, 65535, deadline)
                try:
                    response = dns.message.from_wire(wire, raise_on_truncation=True)
                except dns.message.Truncated as exc:
                    if request.is_response(exc.message()):
                        raise
                    continue
                except dns.exception.DNSException:
                    continue  # Anybody can send us a datagram.
                if request.is_response(response):
                    return response

        def _over_tcp(self, link: socket.socket, request: dns.message.QueryMessage, deadline: float) -> dns.message.Message:
            link.sendall(request.to_wire(prepend_length=True))
            length = int.from_bytes(self._exactly(link, 2, deadline))
            response = dns.message.from_wire(self._exactly(link, length, deadline))
            if not request.is_response(response):
                raise OSError("the server answered another question")
            return response

        def _exactly(self, link: socket.socket, length: int, deadline: float) -> bytes:
            found = b""
            while len(found) < length:
                part = self._receive(link, length - len(found), deadline)
                if not part:
                    raise OSError("the server closed the connection")
                found += part
            return found

        def _receive(self, link: socket.socket, most: int, deadline: float) -> bytes:
            while True:
                left = deadline - time.monotonic()
                if self._has_ended():
                    raise OSError("the directory was stopped")
                if left <= 0:
                    raise TimeoutError
                link.settimeout(min(left, _LOOK))
                try:
                    return link.recv(most)
                except TimeoutError:
                    continue

    return NativeServer


def most_addresses() -> int:
    """How many addresses of one name are used, by the descriptors that this process may open."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_ADDRESSES if limit == resource.RLIM_INFINITY else min(MAX_ADDRESSES, limit // DESCRIPTORS_PER_ADDRESS)


class DnsSeed:
    """Looks the name up whenever it is to be prepared and the last answer is no longer valid."""

    hint = ""
    is_partial = True

    def __init__(
        self,
        url: str,
        lookup: Lookup,
        clock: Callable[[], float] = time.monotonic,
        keys: Keys | None = None,
        named: tuple[bytes, ...] = (),
    ) -> None:
        self.url = url
        self._keys, self._named = keys, named
        self.valid_for = SHORTEST_VALID
        self._lookup = lookup
        self._clock = clock
        self._thread: NativeThread | None = None
        self._addresses: list[str] = []
        self._found_at = float("-inf")
        self._has_warned = False
        self._salt = random.random()

    def prepare(self, done: Done) -> None:
        """Looks the name up in a thread of its own, unless that was done less than a second ago."""
        if self._addresses and self._clock() - self._found_at < SHORTEST_VALID:
            done(self._addresses, None)
            return
        thread = NativeThread(lambda: self._look_up(done), "discovery-resolver")
        try:
            thread.start()
        except RuntimeError as exc:
            done([], f"{self.url} was not looked up: {exc}")
        else:
            self._thread = thread

    def _look_up(self, done: Done) -> None:
        try:
            done(*self._outcome())
        finally:
            end_hub()

    def _outcome(self) -> tuple[list[str], str | None]:
        try:
            addresses, self.valid_for = self._lookup.addresses()
        except NoAddress as exc:
            if self._clock() - self._found_at < KEEP_EMPTY or not self._addresses:
                return self._last_good(str(exc))
            self._addresses = []
            return [], None
        except NoAnswer as exc:
            return self._last_good(str(exc))
        most = most_addresses()
        if len(addresses) > most:
            self._warn(f"it has {len(addresses)} addresses, of which {most} are used; see `ulimit -n`")
            # Not all clients shall use the same ones, and each the same as before.
            addresses = sorted(addresses, key=lambda address: hash((self._salt, address)))[:most]
        else:
            self._has_warned = False
        self._addresses, self._found_at = addresses, self._clock()
        return self._addresses, None

    def _last_good(self, error: str) -> tuple[list[str], str | None]:
        self.valid_for = FAILED_PAUSE
        if not self._addresses:
            return [], error
        self._warn(f"{error}; the last good answer stands")
        return self._addresses, None

    def _warn(self, text: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            _log.warning("directory %s: %s", self.url, text)

    def connection(
        self, address: str, namespace: str | None, listener: DirectoryListener, longest_pause: float, post: Post
    ) -> NodeConnection:
        """The connection to the node at one address."""
        proof = None if self._keys is None else NodeProof(self._keys, self._named)
        return NodeConnection(address, namespace, listener, longest_pause, post, proof)

    def close(self, timeout: float) -> None:
        """Ends a look-up under way."""
        self._lookup.cancel()
        if self._thread is not None:
            self._thread.join(max(timeout, 2 * _LOOK), blocking=True)
