"""The policy file of a process: rules that add to its peers' certificates. Pure but for `load`.

    deny:
      - who: batch-*
        calls: [orders.delete]
    allow:
      - who: [frontend, admin-*]
        calls: [orders, users.get_*]
        handles: [payments]

Rule 1: `deny` is looked at first, then the peer's certificate, then `allow`. Anything that none of them allows is forbidden.
Rule 2: a rule that this release does not understand is an error. It is never skipped.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from discovery.security.certificates import Certificate, is_pattern
from discovery.security.permissions import Permission, Verb, allows, matches, needed_to_call
from zmqservices.exceptions import ConfigurationError

DENY, ALLOW, WHO = "deny", "allow", "who"
#: The verbs of a rule: those that a process can decide when a peer asks. Only certificates say who may serve and register.
VERBS = {verb.value: verb for verb in (Verb.CALL, Verb.HANDLE, Verb.ADMINISTER)}


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, for peers whose name matches a pattern of `who`. `label` says where it stands in the file."""

    label: str
    who: tuple[str, ...]
    patterns: tuple[tuple[Verb, tuple[str, ...]], ...]

    def fits(self, name: str, verb: Verb, target: str, part: str) -> str | None:
        """The pattern that matches a peer's name and what it asks for; None if none does."""
        if not any(matches(pattern, name) for pattern in self.who):
            return None
        patterns = dict(self.patterns).get(verb, ())
        return next((one for one in patterns if matches(one, target, part)), None)


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of one file. With an empty policy, certificates alone decide."""

    deny: tuple[Rule, ...] = ()
    allow: tuple[Rule, ...] = ()
    source: str = field(default="", compare=False)

    def allows(self, certificate: Certificate, verb: Verb, name: str, part: str = "") -> Permission:
        """Whether the holder of the certificate may do this; see `discovery.security.permissions.allows` for the arguments."""
        for rule in self.deny:
            pattern = rule.fits(certificate.name, verb, name, part)
            if pattern is not None:
                return Permission(False, f"{rule.label}: {certificate.name!r} is denied {verb.value} {pattern!r}")
        own = allows(certificate, verb, name, part)
        if own:
            return own
        for rule in self.allow:
            pattern = rule.fits(certificate.name, verb, name, part)
            if pattern is not None:
                return Permission(True, f"{rule.label}: {certificate.name!r} is allowed {verb.value} {pattern!r}")
        return Permission(False, own.rule + (f", and no rule of {self.source} allows it" if self.source else ""))

    def may_call(self, certificate: Certificate, service: str, method: str) -> Permission:
        """Whether the holder may call the method. Operators' methods need the permission to administer their source, or nodes."""
        return self.allows(certificate, *needed_to_call(service), method)


def load(path: str) -> Policy:
    """The policy in a YAML file. Raises ConfigurationError, which quotes the mistake."""
    from zmqservices import configuration

    return parse(configuration.load(path), path)


def parse(found: object, source: str = "the policy") -> Policy:
    """The policy in a YAML document, as plain values. Raises ConfigurationError, which quotes the mistake."""
    if not isinstance(found, Mapping):
        raise ConfigurationError(f"{source} is {found!r:.80}; a map with {DENY!r} and {ALLOW!r} is needed")
    _refuse_others(found, (DENY, ALLOW), source)
    name = os.path.basename(source)
    deny, allow = (_rules(found.get(part) or [], f"{name}, {part}") for part in (DENY, ALLOW))
    return Policy(deny, allow, name)


def _rules(found: object, label: str) -> tuple[Rule, ...]:
    if not isinstance(found, list):
        raise ConfigurationError(f"{label} is {found!r:.80}; a list of rules is needed")
    return tuple(_rule(one, f"{label} {number}") for number, one in enumerate(found, 1))


def _rule(found: object, label: str) -> Rule:
    if not isinstance(found, Mapping):
        raise ConfigurationError(f"{label} is {found!r:.80}; a map with {WHO!r} and one of {', '.join(VERBS)} is needed")
    _refuse_others(found, (WHO, *VERBS), label)
    patterns = tuple(
        (verb, _patterns(found[word], f"{word} of {label}")) for word, verb in VERBS.items() if word in found
    )
    if WHO not in found or not patterns:
        has = ", ".join(map(str, found)) or "nothing"
        raise ConfigurationError(f"{label} needs {WHO!r} and one of {', '.join(VERBS)}; it has {has}")
    return Rule(label, _patterns(found[WHO], f"{WHO} of {label}"), patterns)


def _patterns(found: object, label: str) -> tuple[str, ...]:
    listed = [found] if isinstance(found, str) else found
    if not isinstance(listed, list) or not listed or not all(map(is_pattern, listed)):
        raise ConfigurationError(f"{label} is {found!r:.80}; a pattern, or a list of patterns such as ['orders.*'], is needed")
    return tuple(listed)


def _refuse_others(found: Mapping[object, object], known: tuple[str, ...], label: str) -> None:
    for word in found:
        if word not in known:
            close = difflib.get_close_matches(str(word), known, n=1)
            mend = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
            raise ConfigurationError(f"{label} has {word!r:.80}; {mend}")
