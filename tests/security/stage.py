"""Certificates and folders for tests of security."""

from dataclasses import replace

from discovery.security.certificates import Certificate, issue
from discovery.security.signing import new_authority_keys, new_node_keys

NOW = 1_800_000_000.0


def certificate_of(pair, **fields):
    """A certificate of the holder of `pair`, for an hour from NOW."""
    return replace(Certificate("orders", pair.public, "a1", NOW, NOW + 3600), **fields)


class Stage:
    """An authority and a node whose certificate holds."""

    def __init__(self):
        self.authority = new_authority_keys()
        self.node = new_node_keys()

    def signed(self, **fields):
        return issue(certificate_of(self.node, **fields), self.authority).to_bytes()
