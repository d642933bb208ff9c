"""Who the peers of a closed cluster are, and what each of them may do here.

A peer proves a key in the handshake and shows the certificate for that key in its first message. Both are looked at once for each
connection, and so is each of its questions: verdicts are kept with the connection.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from discovery.security.certificates import Certificate
from discovery.security.keys import Keys
from discovery.security.permissions import Permission, Verb, may_serve
from discovery.security.signing import KEY_LENGTH
from discovery.security.verdicts import SKEW
from zmqservices.security.policy import Policy
from zmqservices.transport import UnusableEndpoint

#: The field of HELLO and WELCOME that has a certificate.
CERTIFICATE = "certificate"

#: The field of a HELLO that shows another certificate on a connection that stands: nothing begins anew.
RENEWS = "renews"

#: Verdicts that are kept for one connection. A peer chooses the names that it asks for, so there must be a bound.
MOST_VERDICTS = 1000


class Identity:
    """The holder of a certificate at the other end of a connection."""

    __slots__ = ("certificate", "name", "signed", "_guard", "_verdicts", "_generation")

    def __init__(self, certificate: Certificate, guard: Authorizer, signed: object = None) -> None:
        self.certificate = certificate
        #: The certificate as it was shown.
        self.signed = signed
        self.name = certificate.name
        self._guard = guard
        self._generation = guard.generation
        self._verdicts: dict[tuple[str, str], Permission] = {}

    def may_call(self, service: str, method: str) -> Permission:
        """Whether it may call this method here."""
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
        """Whether it may have the events of `source` whose type fits the pattern of a subscription, in which `#` is any words."""
        verdict = self._guard.policy.allows(self.certificate, Verb.HANDLE, source, pattern)
        words = [word for word in pattern.split(".") if word != "#"]
        if verdict and words and len(words) < pattern.count(".") + 1:
            # "paid.#" means "paid" as well, which "paid.*" of a certificate does not.
            verdict = self._guard.policy.allows(self.certificate, Verb.HANDLE, source, ".".join(words))
        return verdict

    def may_join(self, source: str, pattern: str, group: str, is_shared: bool) -> Permission:
        """Whether it may be a member of a consumer group. `is_shared`: a member takes events that others do not get then.

        The group of a service, `SERVICE.METHOD:PATTERN`, is for those who serve it; a group of the whole source is for all
        who may handle its events, and so is a group of no service in which every member gets a copy.
        """
        verdict = self.may_handle(source, pattern)
        if not verdict or group == f"{source}:{pattern}":
            return verdict
        owner = owner_of(group)
        if not owner and not is_shared:
            return verdict
        serves = may_serve(self.certificate, owner)
        if serves:
            return verdict
        return Permission(False, f"the group {group[:200]!r} belongs to the service {owner[:200]!r}: {serves.rule}")


class Authorizer:
    """This node's keys and policy. `clock` says seconds since 1970."""

    def __init__(self, keys: Keys, policy: Policy | None = None, clock: Callable[[], float] = time.time) -> None:
        self.keys = keys
        self.policy = policy or Policy()
        #: Grows with each new policy: verdicts from before it are void.
        self.generation = 0
        self.clock = clock

    @property
    def info(self) -> dict[str, Any]:
        """What a HELLO or a WELCOME says of this node."""
        return {CERTIFICATE: self.keys.signed}

    def identify(self, info: Mapping[Any, Any] | None, key: bytes) -> Identity:
        """The peer that has proven `key` and sent `info`. Raises `discovery.security.Refusal`."""
        signed = (info or {}).get(CERTIFICATE)
        return Identity(self.keys.trust.believed(signed, key, self.clock()), self, signed)

    def confirm(self, identity: Identity) -> None:
        """Raise Refusal where a peer that was identified earlier is not believed any more."""
        self.keys.trust.confirm(identity.signed, self.clock())

    def replace_policy(self, policy: Policy) -> None:
        """From now on this policy holds, for the connections that stand as well."""
        self.policy = policy
        self.generation += 1


def owner_of(group: str) -> str:
    """The service that a group belongs to by its name, `SERVICE.METHOD:PATTERN`; "" where it belongs to none."""
    return group.partition(":")[0].rpartition(".")[0]


def public_key_of(text: str | None) -> bytes | None:
    """The public key in a record, if it has one. Raises UnusableEndpoint for what is none."""
    if text is None:
        return None
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != KEY_LENGTH:
        raise UnusableEndpoint(f"its public key is {text[:80]!r}; {2 * KEY_LENGTH} hex digits are needed")
    return key
