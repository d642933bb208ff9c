"""Looks names up in DNS, through dnspython, in native threads and over sockets that gevent has not patched.

dnspython is imported here only.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from discovery.backends.dns.url import DnsUrl
from discovery.client.seeds import tcp_address
from discovery.exceptions import DirectoryConfigurationError
from discovery.native import getaddrinfo, original

if TYPE_CHECKING:
    import dns.message
    import dns.resolver

#: Bounds, in seconds, of the time for which an answer is valid, whatever its TTL.
SHORTEST_VALID, LONGEST_VALID = 1.0, 30.0
#: Seconds for one question to one server, and for a whole look-up.
QUESTION_TIMEOUT, LOOK_UP_TIMEOUT = 2.0, 5.0
#: Seconds between two checks whether the directory was stopped, while a server is waited for.
CANCEL_WITHIN = 0.25


class NoAddress(Exception):
    """DNS has answered, and there is no address. The text says what was asked for."""


class NoAnswer(Exception):
    """DNS has not answered. The text says why."""


class Lookup:
    """Looks up the addresses of one name. One thread at a time uses it; any may `cancel`. ImportError without dnspython."""

    def __init__(self, url: DnsUrl) -> None:
        import dns.exception
        import dns.resolver

        self._url = url
        self._is_cancelled = False
        self._deadline = 0.0
        #: (name, A or AAAA) that had addresses. A later answer without them counts only if it covers all of these.
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
        #: The servers whose route is also the route to the peers: not those on this host, unless the URL names them.
        self.servers = url.servers or tuple(one for one in listed if not one[0].startswith("127.") and one[0] != "::1")

    def cancel(self) -> None:
        """Ends a look-up that is under way, within CANCEL_WITHIN seconds."""
        self._is_cancelled = True

    def _has_ended(self) -> bool:
        return self._is_cancelled

    def addresses(self) -> tuple[list[str], float]:
        """All addresses, as `tcp://IP:PORT`, and the seconds for which they are valid. Raises NoAddress or NoAnswer."""
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
                continue  # By RFC 2782, this means that the service is not available.
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
                failure = failure or exc  # Some servers fail for a kind of record that they do not have.
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
        """The answer, which may have no records; None if DNS has no such name. NoAnswer if no server answers."""
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
        """A DNS server, reached over sockets that gevent has not patched, so that our thread gets no hub."""

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
                    continue  # Any host can send us a datagram.
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
                link.settimeout(min(left, CANCEL_WITHIN))
                try:
                    return link.recv(most)
                except TimeoutError:
                    continue

    return NativeServer
