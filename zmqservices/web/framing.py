"""The framing of HTTP/1.1 messages (RFC 9112): the head of a request, the chunks of its body, the head of a response.

Internal. Services use `zmqservices.web.handlers`.

Rule 1: pure. Lines go in, a RequestHead or BadFraming comes out.
Rule 2: nothing is repaired. If the RFC allows both to repair and to refuse a message, it is refused: a proxy in front may have
chosen differently, and would see another request (request smuggling).
Rule 3: texts of a peer are cut before they are quoted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from zmqservices.exceptions import ZmqServicesError

#: The most bytes of a request line (at least 8000 by RFC 9112, 3).
MAX_REQUEST_LINE = 8190
#: The most characters of a host and its port that are checked for IDNA. A name has at most 253.
MAX_HOST = 260
#: The most bytes of the line that begins a chunk, with its extensions, and of all extensions of one body.
MAX_CHUNK_LINE, MAX_EXTENSIONS = 1024, 16 * 1024
#: The most characters of a peer's text that are quoted.
QUOTED = 80

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # nosec B105  # a pattern
# Bytes from 128 on are not allowed in a target, but clients such as curl send them, and they leave its end clear.
_REQUEST_LINE = re.compile(rf"({_TOKEN}) ([!\"$-~\x80-\xff]+) HTTP/([0-9])\.([0-9])\r\n")
# The tab is the only control character in a value. A line that begins with white space (obs-fold) has no name.
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

#: The headers for the framing of a response. A method may only give a Content-Length.
LENGTH, ENCODING = "content-length", "transfer-encoding"


class BadFraming(ValueError):
    """A message is malformed. `status` is the status of the response."""

    def __init__(self, text: str, status: int = 400) -> None:
        self.status = status
        super().__init__(text)


class BadAnswer(ZmqServicesError):
    """A response cannot be sent, because its head or its length is wrong."""


class RequestHead(NamedTuple):
    """The head of a request. `fields`: its header fields in order, with the names as they were sent.

    `length`: bytes of its body; None for a chunked body. `keeps_open`: whether another request may follow on the connection.
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
        """Whether the body is chunked."""
        return self.length is None


def read_head(line: bytes, lines: Iterable[bytes]) -> RequestHead:
    """Parse the first line and the header lines, each with its line end. Raises BadFraming.

    `lines` is not read if the first line is malformed.
    """
    text = line.decode("latin-1")
    match = _REQUEST_LINE.fullmatch(text)
    if match is None:
        raise BadFraming(f"{cut(text)} is no request line")
    method, target, major, minor = match.groups()
    if major != "1":
        raise BadFraming(f"HTTP/{major}.{minor} is not spoken here", 505)
    if not method.isupper():
        # Routes ignore case, but methods are case-sensitive (RFC 9110, 9.1).
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
    """Parse header fields (section 5), or those of a trailer section (7.1.2). Raises BadFraming."""
    fields = []
    for line in lines:
        match = _FIELD.fullmatch(line.decode("latin-1"))
        if match is None:
            raise BadFraming(f"{cut(line.decode('latin-1'))} is no header line")
        fields.append((match[1], match[2].strip(" \t")))
    return fields


def _host(values: Sequence[str], version: tuple[int, int]) -> str | None:
    """Section 3.2: exactly one Host header, unless the client is too old to know it."""
    if not values:
        if version > (1, 0):
            raise BadFraming("a request needs a Host header")
        return None
    if len(values) > 1 or not _HOST_VALUE.fullmatch(values[0]) or not _is_readable(values[0]):
        raise BadFraming(f"Host {cut(', '.join(values))} is not a host and its port")
    return values[0]


def _is_readable(host: str) -> bool:
    """Whether the IDNA labels of a host can be decoded. Reading a request's URL decodes them."""
    host = host.lower()
    if "xn--" not in host:
        return True
    if len(host) > MAX_HOST:
        # Longer than any name, and decoding it takes long.
        return False
    try:
        host.partition(":")[0].encode("ascii").decode("idna")
    except UnicodeError:
        return False
    return True


def _target(method: str, target: str, host: str | None) -> tuple[str, str | None]:
    """Sections 3.2.1 to 3.2.4: the path and the host that the target means."""
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
    """Sections 6.1 to 6.3: bytes of the body; None for a chunked body."""
    if encodings:
        if version == (1, 0):
            raise BadFraming("Transfer-Encoding has no meaning in HTTP/1.0")
        if lengths:
            raise BadFraming("Content-Length and Transfer-Encoding say two things about where the body ends")
        codings = ",".join(encodings).lower()
        if codings != "chunked":
            # Unless "chunked" is the last coding and occurs once, the end of the body is unknown.
            is_delimited = re.fullmatch(rf"(?:{_TOKEN}[ \t]*,[ \t]*)+chunked", codings) and codings.count("chunked") == 1
            raise BadFraming(f"Transfer-Encoding {cut(codings)} is not understood", 501 if is_delimited else 400)
        return None
    if not lengths:
        return 0
    if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
        raise BadFraming(f"Content-Length {cut(', '.join(lengths))} is not one whole number")
    return int(lengths[0])


def _expectation(values: Sequence[str], version: tuple[int, int]) -> bool:
    """RFC 9110, 10.1.1: whether the client waits for `100 Continue` before it sends its body."""
    if not values or version < (1, 1):
        return False
    if [value.lower() for value in values] != ["100-continue"]:
        raise BadFraming(f"Expect {cut(', '.join(values))} cannot be met", 417)
    return True


def _list(values: Sequence[str]) -> set[str]:
    return {one.strip(" \t") for value in values for one in value.lower().split(",")} if values else set()


def chunk_size(line: bytes) -> tuple[int, int]:
    """Section 7.1: the bytes of the chunk that this line begins, and the bytes of its extensions. Raises BadFraming."""
    match = _CHUNK.fullmatch(line)
    if match is None:
        raise BadFraming(f"{cut(line.decode('latin-1'))} begins no chunk")
    return int(match[1], 16), len(match[2])


def check_answer(status: str, headers: Iterable[tuple[str, str]]) -> int | None:
    """The Content-Length that the application gave, or None. Raises BadAnswer if the head cannot be sent."""
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
    """A quotation of `value` for errors and logs: bounded, and with control characters escaped."""
    if not isinstance(value, str):
        return f"of the type {type(value).__name__}"
    return repr(value) if len(value) <= most else f"{value[:most]!r} (and {len(value) - most} more)"
