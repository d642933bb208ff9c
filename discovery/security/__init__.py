"""Who may do what in a closed cluster: keys, certificates, and the rules that are read from them.

Internal.

An authority signs a certificate for each node. It says the node's name, its public key, and what the node may do. Nothing here
opens a socket, and nothing imports the library for signatures before a signature is made or checked.
"""

from discovery.exceptions import SecurityError
from discovery.security.certificates import Certificate, SignedCertificate
from discovery.security.keys import Keys
from discovery.security.permissions import Permission, Verb, allows
from discovery.security.revocations import Revocations
from discovery.security.verdicts import Refusal, Trust

__all__ = [
    "Certificate",
    "Keys",
    "Permission",
    "Refusal",
    "Revocations",
    "SecurityError",
    "SignedCertificate",
    "Trust",
    "Verb",
    "allows",
]
