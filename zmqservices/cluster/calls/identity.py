"""Authentication and authorization of peers in a closed cluster.

A peer proves a key in the handshake, and shows the certificate for that key in its first message. Both are checked once for each
connection. Verdicts on what the peer asks for are kept with the connection.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from discovery.greeting import CERTIFICATE
from discovery.security.certificates import Certificate
from discovery.security.keys import Keys
from discovery.security.permissions import Permission, Verb, may_serve
from discovery.security.signing import KEY_LENGTH
from discovery.security.verdicts import SKEW
from zmqservices.security.policy import Policy
from zmqservices.transport import UnusableEndpoint

#: The most verdicts that are kept for one connection. There must be a bound, because a peer chooses the names that it asks for.
MOST_VERDICTS = 1000


class Identity:
    """The holder of a certificate at the other end of a connection."""

    __slots__ = ("certificate", "name", "signed", "_guard", "_verdicts", "_generation")

    def __init__(self, certificate: Certificate, guard: Authorizer, signed: object = None) -> None:
        self.certificate = certificate
        #: The certificate in the form in which the peer sent it.
        self.signed = signed
        self.name = certificate.name
        self._guard = guard
        self._generation = guard.generation
        self._verdicts: dict[tuple[str, str], Permission] = {}

    def may_call(self, service: str, method: str) -> Permission:
        """Whether the peer may call this method here."""
        if self._generation != self._guard.generation:
            self._generation = self._guard.generation
            self._verdicts.clear()
        verdict = self._verdicts.get((service, method))
        if verdict is None:
            if len(self._verdicts) >= MOST_VERDICTS:
                self._verdicts.clear()
            verdict = self._guard.policy.may_call(self.certificate, service, method)
            self._verdicts[service, method] = verdict
        if self.certificate.ends + SKEW < self._guard.clock():
            return Permission(False, f"its certificate {self.certificate.serial} has ended")
        return verdict

    def may_handle(self, source: str, pattern: str) -> Permission:
        """Whether the peer may get the events of `source` whose types match `pattern`, in which `#` stands for any words."""
        verdict = self._guard.policy.allows(self.certificate, Verb.HANDLE, source, pattern)
        words = [word for word in pattern.split(".") if word != "#"]
        if verdict and words and len(words) < pattern.count(".") + 1:
            # "paid.#" also matches "paid", which "paid.*" of a certificate does not allow.
            verdict = self._guard.policy.allows(self.certificate, Verb.HANDLE, source, ".".join(words))
        return verdict

    def may_join(self, source: str, pattern: str, group: str, is_shared: bool) -> Permission:
        """Whether the peer may be a member of a consumer group. `is_shared`: each event goes to only one of the members.

        A group of a service, `SERVICE.METHOD:PATTERN`, is open to peers that may serve it. A group of the whole source is open
        to all that may handle its events, and so is a group of no service in which every member gets a copy.
        """
        verdict = self.may_handle(source, pattern)
        if not verdict or group == f"{source}:{pattern}":
            return verdict
        if not owner_of(group) and not is_shared:
            return verdict
        owns = self._may_act_for(group)
        return owns if not owns else verdict

    def may_answer(self, group: str) -> Permission:
        """Whether it may be among those who answer for the events of a group, be it a member now or not."""
        return self._may_act_for(group) if owner_of(group) else Permission(True, "the group belongs to no service")

    def _may_act_for(self, group: str) -> Permission:
        owner = owner_of(group)
        serves = may_serve(self.certificate, owner)
        if serves:
            return serves
        return Permission(False, f"the group {group[:200]!r} belongs to the service {owner[:200]!r}: {serves.rule}")


class Authorizer:
    """This node's keys and policy. `clock` returns seconds since 1970."""

    def __init__(self, keys: Keys, policy: Policy | None = None, clock: Callable[[], float] = time.time) -> None:
        self.keys = keys
        self.policy = policy or Policy()
        #: Grows with each new policy. Verdicts of an older generation are not used.
        self.generation = 0
        self.clock = clock

    @property
    def info(self) -> dict[str, Any]:
        """The fields of a HELLO or WELCOME that identify this node."""
        return {CERTIFICATE: self.keys.signed}

    def identify(self, info: Mapping[Any, Any] | None, key: bytes) -> Identity:
        """Identify the peer that has proven `key` and sent `info`. Raises `discovery.security.Refusal`."""
        signed = (info or {}).get(CERTIFICATE)
        return Identity(self.keys.trust.believed(signed, key, self.clock()), self, signed)

    def confirm(self, identity: Identity) -> None:
        """Raise Refusal if the certificate of an identified peer is no longer valid."""
        self.keys.trust.confirm(identity.signed, self.clock())

    def replace_policy(self, policy: Policy) -> None:
        """Use this policy from now on, also for existing connections."""
        self.policy = policy
        self.generation += 1


def owner_of(group: str) -> str:
    """The service to which a group named `SERVICE.METHOD:PATTERN` belongs; "" if it belongs to none."""
    return group.partition(":")[0].rpartition(".")[0]


def public_key_of(text: str | None) -> bytes | None:
    """The public key in a record; None without one. Raises UnusableEndpoint for a malformed key."""
    if text is None:
        return None
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != KEY_LENGTH:
        raise UnusableEndpoint(f"its public key is {text[:80]!r}; {2 * KEY_LENGTH} hex digits are needed")
    return key
