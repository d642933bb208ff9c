"""The framing of HTTP messages, without a socket: compared with h11, and cases that the table does not have."""

import time

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.at_random import examples
from tests.web.rfc9112 import CASES
from zmqservices.web.framing import BadAnswer, BadFraming, check_answer, chunk_size, cut, read_fields, read_head

PIECES = [
    b"GET", b"POST", b"HEAD", b"OPTIONS", b" ", b"/", b"*", b"/a?b", b"http://h/", b"HTTP/1.1", b"HTTP/1.0", b"\r\n",
    b"\n", b"\r", b"Host: h\r\n", b"Host:", b"Content-Length: 3\r\n", b"Content-Length:", b"3", b"+3", b", 3",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding:", b"chunked", b"gzip, ", b"Connection: close\r\n",
    b"Connection: keep-alive\r\n", b"X", b":", b"\t", b"\0", b"\x0b", b"\x0c", b"\x85", b"\xa0", b"\xff", b"_",
    b"Expect: 100-continue\r\n",
]  # fmt: skip
START = b"GET / HTTP/1.1\r\nHost: h\r\n"


def ours(data):
    """The head of a request that is all of `data`."""
    lines = data.split(b"\n")
    lines = [line + b"\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
    end = lines.index(b"\r\n", 1) if b"\r\n" in lines[1:] else len(lines)
    if end == len(lines):
        raise BadFraming("there is no end")
    return read_head(lines[0], lines[1:end])


def theirs(data):
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    event = connection.next_event()
    return event if isinstance(event, h11.Request) else None


def is_taken_by_h11(data):
    try:
        return theirs(data) is not None
    except h11.RemoteProtocolError:
        return False


heads = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=12).map(lambda pieces: START + b"".join(pieces) + b"\r\n\r\n"),
    st.lists(st.sampled_from(PIECES), max_size=16).map(lambda pieces: b"".join(pieces) + b"\r\n\r\n"),
    st.tuples(st.integers(0, len(START)), st.binary(max_size=4)).map(
        lambda change: START[: change[0]] + change[1] + START[change[0] :] + b"\r\n"
    ),
)


@settings(max_examples=examples(500), deadline=None)
@given(heads)
def test_whatever_h11_refuses_is_refused_and_the_rest_is_read_alike(data):
    try:
        head = ours(data)
    except BadFraming:
        return
    if any(byte > 127 for byte in head.target.encode("latin-1")):
        # The one thing in which we take more: targets as curl sends them.
        return

    assert is_taken_by_h11(data)
    request = theirs(data)
    assert (head.method, head.version) == (request.method.decode(), tuple(map(int, request.http_version.split(b"."))))
    lengths = [value for name, value in request.headers if name == b"content-length"]
    is_chunked = (b"transfer-encoding", b"chunked") in [(name, value.lower()) for name, value in request.headers]
    assert head.length == (None if is_chunked else int(lengths[0]) if lengths else 0)
    assert [(name.lower().encode(), value.encode("latin-1")) for name, value in head.fields] == list(request.headers)


@settings(max_examples=examples(300), deadline=None)
@given(st.binary(max_size=200), st.lists(st.binary(max_size=50), max_size=5))
def test_any_bytes_are_a_head_or_bad_framing(line, lines):
    for read in (lambda: read_head(line, lines), lambda: read_head(START[:16], lines), lambda: chunk_size(line)):
        try:
            read()
        except BadFraming as exc:
            assert len(str(exc)) < 700


def test_h11_refuses_no_case_of_the_table_that_we_take():
    for section, what, data, expected in CASES:
        if expected[0] < 400 and "\u00e4" not in data.decode("latin-1"):
            assert is_taken_by_h11(data.lstrip(b"\r\n")), (section, what)


@pytest.mark.parametrize(
    "line",
    [
        b"X:" + b" " * 60_000 + b"\0\r\n",
        b"X: a" + b" " * 60_000 + b"\0\r\n",
        b"X" * 60_000 + b"\r\n",
        b"X: " + b"\t a" * 20_000 + b"\0\r\n",
    ],
)
def test_no_line_is_scanned_more_than_a_few_times(line):
    began = time.process_time()
    with pytest.raises(BadFraming):
        read_fields([line])
    with pytest.raises(BadFraming):
        read_head(b"POST / HTTP/1.1\r\n", [b"Host: a\r\n", b"Transfer-Encoding: " + b"a," * 30_000 + b"\r\n"])
    with pytest.raises(BadFraming):
        chunk_size(b"3" + b" " * 60_000 + b"\r\n")

    # Quadratic, it would be tens of seconds.
    assert time.process_time() - began < 2.0


@pytest.mark.parametrize(
    "line, size",
    [(b"0\r\n", 0), (b"a\r\n", 10), (b"1F;x=y\r\n", 31), (b"000000000000001\r\n", 1), (b"fffffffffffffff\r\n", 16**15 - 1)],
)
def test_the_size_of_a_chunk(line, size):
    assert chunk_size(line)[0] == size


@pytest.mark.parametrize(
    "status, headers, text",
    [
        (200, [], "the status of an answer is of the type int"),
        ("199 No", [], "a number from 200 to 999"),
        ("200 OK\r\n", [], "a number from 200 to 999"),
        ("200 OK", [("X", 3)], "the header 'X' is of the type int"),
        ("200 OK", [(b"X", "y")], "the name of a header is of the type bytes"),
        ("200 OK", [("X", "\u20ac" * 1000)], "(and 920 more)"),
        ("200 OK", [("Content-Length", "-1")], "Content-Length is '-1'"),
        ("200 OK", [("Transfer-Encoding", "chunked")], "leave it out"),
    ],
)
def test_an_answer_that_cannot_be_sent(status, headers, text):
    with pytest.raises(BadAnswer) as caught:
        check_answer(status, headers)

    assert text in str(caught.value)
    assert len(str(caught.value)) < 700


def test_quoted_text_is_cut_first():
    assert cut("\x1b[2J") == "'\\x1b[2J'"
    assert cut("x" * 100) == "'" + "x" * 80 + "' (and 20 more)"
    assert cut(["x"] * 10**6) == "of the type list"
