"""Where an HTTP/1.1 message begins and ends (RFC 9112): the head of a request, the chunks of its body, the head of an answer.

Internal. Services use `zmqservices.web.handlers`.

Rule 1: pure; lines in, a RequestHead or BadFraming out.
Rule 2: nothing is repaired. Where the RFC lets a server choose between repairing and refusing, it is refused: a proxy in front
may have chosen otherwise, and would see another request (request smuggling).
Rule 3: whatever a peer sent is cut before it is quoted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from zmqservices.exceptions import ZmqServicesError

#: Bytes of a request line (RFC 9112, 3: 8000 at least).
MAX_REQUEST_LINE = 8190
#: Characters of a host and its port that are looked at for IDNA; a name has 253 at most.
MAX_HOST = 260
#: Bytes of the line that begins a chunk, its extensions included; and of all extensions of one body.
MAX_CHUNK_LINE, MAX_EXTENSIONS = 1024, 16 * 1024
#: Characters of what a peer sent that are quoted at most.
QUOTED = 80

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # nosec B105  # a pattern
# Bytes from 128 on are no part of a target, but clients send them (curl does), and they mislead nobody about its end.
_REQUEST_LINE = re.compile(rf"({_TOKEN}) ([!\"$-~\x80-\xff]+) HTTP/([0-9])\.([0-9])\r\n")
# A tab is the one control character that a value may have; a line that begins with white space (obs-fold) has no name.
_FIELD = re.compile(rf"({_TOKEN}):([ -~\t\x80-\xff]*)\r\n")
_HOST = r"(?:\[[0-9A-Fa-f:.vV]+(?:%25[A-Za-z0-9._~\-]+)?\]|[A-Za-z0-9._~!$&'()*+,;=%\-]*)(?::[0-9]{0,5})?"
_HOST_VALUE = re.compile(_HOST)
_ABSOLUTE = re.compile(rf"[Hh][Tt][Tt][Pp][Ss]?://({_HOST})((?:[/?].*)?)")
_AUTHORITY = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~\-]+):[0-9]{1,5}")
_LENGTH = re.compile(r"[0-9]{1,18}")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})((?:[ \t]*;[ -~\t\x80-\xff]*)?)\r\n")

_NAME = re.compile(_TOKEN)
_VALUE = re.compile(r"[ -~\t\x80-\xff]*")
_STATUS = re.compile(r"[2-9][0-9][0-9](?: [ -~\t\x80-\xff]*)?")

#: What an answer says of its own framing; a method may give a Content-Length, and no other.
LENGTH, ENCODING = "content-length", "transfer-encoding"


class BadFraming(ValueError):
    """A message is none; `status` is what its sender is told."""

    def __init__(self, text: str, status: int = 400) -> None:
        self.status = status
        super().__init__(text)


class BadAnswer(ZmqServicesError):
    """An answer cannot be sent as it is."""


class RequestHead(NamedTuple):
    """The head of a request. `fields`: its header fields in their order, names as they were sent.

    `length`: bytes of its body, None where that is chunked. `keeps_open`: the connection may carry another request.
    """

    method: str
    target: str
    version: tuple[int, int]
    host: str | None
    fields: list[tuple[str, str]]
    length: int | None
    keeps_open: bool
    asks_to_continue: bool

    @property
    def is_chunked(self) -> bool:
        """Whether the body comes in chunks."""
        return self.length is None


def read_head(line: bytes, lines: Iterable[bytes]) -> RequestHead:
    """The head of a request from its first line and its header lines, each with its end. Raises BadFraming.

    `lines` is not looked at where the first line is at fault already.
    """
    text = line.decode("latin-1")
    match = _REQUEST_LINE.fullmatch(text)
    if match is None:
        raise BadFraming(f"{cut(text)} is no request line")
    method, target, major, minor = match.groups()
    if major != "1":
        raise BadFraming(f"HTTP/{major}.{minor} is not spoken here", 505)
    if not method.isupper():
        # Routes know no case, and methods do (RFC 9110, 9.1).
        raise BadFraming(f"the method {cut(method)} is not known; methods are written in capitals", 501)
    version = (1, int(minor))
    fields = read_fields(lines)
    singles: dict[str, list[str]] = {}
    for name, value in fields:
        lowered = name.lower()
        if lowered in _LOOKED_AT:
            singles.setdefault(lowered, []).append(value)
    host = _host(singles.get("host", ()), version)
    target, host = _target(method, target, host)
    options = _list(singles.get("connection", ()))
    return RequestHead(
        method, target, version, host, fields,
        _length(singles.get(LENGTH, ()), singles.get(ENCODING, ()), version),
        "close" not in options and (version > (1, 0) or "keep-alive" in options),
        _expectation(singles.get("expect", ()), version),
    )  # fmt: skip


_LOOKED_AT = frozenset(("host", "connection", "expect", LENGTH, ENCODING))


def read_fields(lines: Iterable[bytes]) -> list[tuple[str, str]]:
    """Header fields (5), or those of a trailer section (7.1.2). Raises BadFraming."""
    fields = []
    for line in lines:
        match = _FIELD.fullmatch(line.decode("latin-1"))
        if match is None:
            raise BadFraming(f"{cut(line.decode('latin-1'))} is no header line")
        fields.append((match[1], match[2].strip(" \t")))
    return fields


def _host(values: Sequence[str], version: tuple[int, int]) -> str | None:
    """3.2: one and no more, unless the client is too old to know it."""
    if not values:
        if version > (1, 0):
            raise BadFraming("a request needs a Host header")
        return None
    if len(values) > 1 or not _HOST_VALUE.fullmatch(values[0]) or not _is_readable(values[0]):
        raise BadFraming(f"Host {cut(', '.join(values))} is not a host and its port")
    return values[0]


def _is_readable(host: str) -> bool:
    """Whether what a host has of IDNA can be decoded, as by whoever asks for a request's URL."""
    host = host.lower()
    if "xn--" not in host:
        return True
    if len(host) > MAX_HOST:
        # Longer than any name, and to decode it takes a while.
        return False
    try:
        host.partition(":")[0].encode("ascii").decode("idna")
    except UnicodeError:
        return False
    return True


def _target(method: str, target: str, host: str | None) -> tuple[str, str | None]:
    """3.2.1 to 3.2.4: the path that is meant, and the host."""
    if method == "CONNECT":
        if not _AUTHORITY.fullmatch(target):
            raise BadFraming(f"CONNECT {cut(target)}: a host and its port are needed")
        raise BadFraming("this is no proxy", 501)
    if target[0] == "/":
        return target, host
    if target == "*":
        if method != "OPTIONS":
            raise BadFraming(f"{cut(method)} * means nothing; only OPTIONS asks about the server as a whole")
        return target, host
    match = _ABSOLUTE.fullmatch(target)
    if match is None or not match[1] or match[1][0] == ":" or not _is_readable(match[1]):
        raise BadFraming(f"the target {cut(target)} is neither a path nor a URL")
    path = match[2]
    if path[:1] != "/":
        path = "*" if method == "OPTIONS" and not path else "/" + path
    return path, match[1]


def _length(lengths: Sequence[str], encodings: Sequence[str], version: tuple[int, int]) -> int | None:
    """6.1 to 6.3: bytes of the body; None where it is chunked."""
    if encodings:
        if version == (1, 0):
            raise BadFraming("Transfer-Encoding has no meaning in HTTP/1.0")
        if lengths:
            raise BadFraming("Content-Length and Transfer-Encoding say two things about where the body ends")
        codings = ",".join(encodings).lower()
        if codings != "chunked":
            # Where the last is not "chunked", and once, nobody knows where the body ends.
            is_delimited = re.fullmatch(rf"(?:{_TOKEN}[ \t]*,[ \t]*)+chunked", codings) and codings.count("chunked") == 1
            raise BadFraming(f"Transfer-Encoding {cut(codings)} is not understood", 501 if is_delimited else 400)
        return None
    if not lengths:
        return 0
    if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
        raise BadFraming(f"Content-Length {cut(', '.join(lengths))} is not one whole number")
    return int(lengths[0])


def _expectation(values: Sequence[str], version: tuple[int, int]) -> bool:
    """RFC 9110, 10.1.1: whether the client waits for a word before it sends its body."""
    if not values or version < (1, 1):
        return False
    if [value.lower() for value in values] != ["100-continue"]:
        raise BadFraming(f"Expect {cut(', '.join(values))} cannot be met", 417)
    return True


def _list(values: Sequence[str]) -> set[str]:
    return {one.strip(" \t") for value in values for one in value.lower().split(",")} if values else set()


def chunk_size(line: bytes) -> tuple[int, int]:
    """7.1: bytes of the chunk that this line begins, and those of its extensions, which nobody needs. Raises BadFraming."""
    match = _CHUNK.fullmatch(line)
    if match is None:
        raise BadFraming(f"{cut(line.decode('latin-1'))} begins no chunk")
    return int(match[1], 16), len(match[2])


def check_answer(status: str, headers: Iterable[tuple[str, str]]) -> int | None:
    """The Content-Length that an application gave for its answer, if it did. Raises BadAnswer where the head cannot be sent."""
    if not isinstance(status, str) or not _STATUS.fullmatch(status):
        raise BadAnswer(f"the status of an answer is {cut(status)}; a number from 200 to 999 and a reason in latin-1 are needed")
    length = None
    for name, value in headers:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise BadAnswer(f"the name of a header is {cut(name)}; letters, digits and dashes are needed")
        if not isinstance(value, str) or not _VALUE.fullmatch(value):
            raise BadAnswer(
                f"the header {cut(name)} is {cut(value)}; a text in latin-1 without line ends is needed (urllib.parse.quote "
                "encodes others)"
            )
        lowered = name.lower()
        if lowered == LENGTH:
            if length is not None or not _LENGTH.fullmatch(value):
                raise BadAnswer(f"Content-Length is {cut(value)}; one whole number is needed, or leave it to the server")
            length = int(value)
        elif lowered == ENCODING:
            raise BadAnswer("Transfer-Encoding is said by the server, which sends the body; leave it out")
    return length


def cut(value: object, most: int = QUOTED) -> str:
    """`value` as it may be quoted: a bounded part of it, and nothing in it that moves a terminal's cursor."""
    if not isinstance(value, str):
        return f"of the type {type(value).__name__}"
    return repr(value) if len(value) <= most else f"{value[:most]!r} (and {len(value) - most} more)"
