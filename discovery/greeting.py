"""The question to a node behind a bare address: which instances are yours? See HELLO and WELCOME in docs/protocol.rst.

Internal.

Rule 1: no sockets, no threads, no clock here.
Rule 2: the fields of HELLO, WELCOME and ERROR that are read here are the same in every version of the protocol.
Rule 3: a node lists its own records only. A record that names another node is ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from discovery import protocol
from discovery.exceptions import DirectoryProtocolError
from discovery.model import Record, quoted

#: The version in the HELLO. A node that speaks another version answers with an error.
MAJOR, MINOR = 1, 0
HELLO, WELCOME, ERROR, PING, PONG, BYE, BATCH = 1, 2, 5, 10, 11, 12, 13
#: The key of `info` under which a HELLO asks for records, and a WELCOME lists them.
RECORDS = "records"
#: The value of RECORDS in a HELLO that may be answered by a node of any namespace.
OF_ALL_NAMESPACES = "all"
#: The keys of `info` for a certificate, and for a HELLO that only shows another one on a connection whose calls go on.
CERTIFICATE, RENEWS = "certificate", "renews"
#: The most records of one node.
MOST_RECORDS = 1000


@dataclass(frozen=True, slots=True)
class NodeRecords:
    """I am `node`, these are my instances, and this is my certificate, if I have one."""

    node: str
    records: list[Record]
    certificate: object = None
    #: All other fields of the WELCOME.
    info: dict[Any, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class NodeRefusal:
    """I do not answer this; `reason` says why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Reply:
    """The node asks for this answer: a PONG, or its BYE back."""

    frame: bytes


Word = NodeRecords | NodeRefusal | Reply


def hello(
    node: str,
    namespace: str | None,
    certificate: bytes | None = None,
    renews: bool = False,
    more: dict[str, Any] | None = None,
) -> bytes:
    """The question of `node`, for the records of a namespace (None: of whichever the other node is of).

    `certificate`: in a closed cluster, the own certificate. `renews`: this HELLO only shows a newer certificate, or newer lists
    of revoked ones. `more`: further fields of `info`.
    """
    info: dict[str, Any] = {RECORDS: OF_ALL_NAMESPACES if namespace is None else True}
    if certificate is not None:
        info[CERTIFICATE] = certificate
    if renews:
        info[RENEWS] = True
    info |= more or {}
    return protocol.pack([HELLO, MAJOR, MINOR, node, namespace or "", info])


def read(frame: bytes, skip: Callable[[str], None]) -> list[Word]:
    """The message in a frame of a node, if it is one of these; DirectoryProtocolError for anything that is no message.

    `skip` is called with a sentence for each record that cannot be used; the others are taken.
    """
    body = protocol.unpack(frame)
    messages = body[1] if isinstance(body, list) and len(body) > 1 and body[0] == BATCH else [body]
    if not isinstance(messages, list):
        raise DirectoryProtocolError(f"a batch of {quoted(messages)}")
    words = (_word(message, skip) for message in messages)
    return [word for word in words if word is not None]


def _word(message: object, skip: Callable[[str], None]) -> Word | None:
    if not isinstance(message, list) or not message or type(message[0]) is not int:
        raise DirectoryProtocolError(f"a message is {quoted(message)}; an array that begins with its kind is needed")
    kind, *fields = message
    if kind == WELCOME:
        return _welcome(fields, skip)
    if kind == ERROR and fields and fields[0] is None:
        error = fields[1] if len(fields) > 1 and isinstance(fields[1], dict) else {}
        return NodeRefusal(f"{quoted(error.get('code'))}: {quoted(error.get('value'), 200)}")
    if kind == PING and fields:
        return Reply(protocol.pack([PONG, fields[0]]))
    if kind == BYE:
        return Reply(protocol.pack([BYE, *fields[:1]]))
    return None


def _welcome(fields: list[Any], skip: Callable[[str], None]) -> Word:
    major, _, node, namespace, info, *_ = [*fields, None, None, None, None, None]
    if major != MAJOR:
        return NodeRefusal(f"it speaks version {quoted(major, 20)} of the protocol, and this process {MAJOR}")
    if not isinstance(node, str) or not isinstance(namespace, str):
        raise DirectoryProtocolError(f"a WELCOME of node {quoted(node)} in namespace {quoted(namespace)}")
    info = info if isinstance(info, dict) else {}
    listed = info.get(RECORDS)
    if not isinstance(listed, list):
        return NodeRecords(node, list(_of_former_release(node, namespace, info.get("services"))), info.get(CERTIFICATE), info)
    if len(listed) > MOST_RECORDS:
        raise DirectoryProtocolError(f"a WELCOME with {len(listed)} records; {MOST_RECORDS} are the most")
    records = []
    for entry in listed:
        try:
            record = Record.from_dict(entry)
            if record.node != node or record.namespace != namespace:
                raise DirectoryProtocolError(f"node {quoted(node)} lists a record of node {quoted(record.node)}")
        except DirectoryProtocolError as exc:
            skip(str(exc))
        else:
            records.append(record)
    return NodeRecords(node, records, info.get(CERTIFICATE), info)


def _of_former_release(node: str, namespace: str, services: object) -> list[Record]:
    """The records of a node of an earlier release, which lists only its services, their instances, and idempotent methods."""
    records = []
    for service, entry in services.items() if isinstance(services, dict) else ():
        told = entry if isinstance(entry, dict) else {}
        fields = {
            "service": service,
            "node": node,
            "namespace": namespace,
            "endpoints": {"rpc": ""},
            "state": "DRAINING" if told.get("draining") else "UP",
            "methods": {name: {"idempotent": True} for name in told.get("idempotent") or () if isinstance(name, str)},
        }
        for instance in told.get("instances") or [f"{node}-{service}"[:255]]:
            try:
                records.append(Record.from_dict({**fields, "instance": instance}))
            except DirectoryProtocolError:
                continue
    return records
