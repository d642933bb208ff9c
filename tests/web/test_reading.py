"""How long a client may take for its request: pure, with a socket that takes as long as it is told."""

import io

import pytest

from zmqservices.web import reading
from zmqservices.web.framing import BadFraming
from zmqservices.web.reading import GRACE, SocketReader, header_lines


class SlowSocket:
    """Gives what it has, `pace` seconds and one piece at a time; `clock` is wound by it."""

    def __init__(self, pieces, pace):
        self.clock = 0.0
        self.pieces, self.pace = list(pieces), pace
        self.timeout = None

    def settimeout(self, timeout):
        self.timeout = timeout

    def recv_into(self, buffer):
        if self.timeout is not None and self.timeout < self.pace:
            self.clock += self.timeout
            raise TimeoutError
        self.clock += self.pace
        piece = self.pieces.pop(0) if self.pieces else b""
        buffer[: len(piece)] = piece
        return len(piece)


@pytest.fixture
def read(monkeypatch):
    """`read(pieces, pace, ...)`: a reader of such a socket, and the socket."""

    def make(pieces, pace, idle_timeout=75.0, head_timeout=20.0, rate=240):
        sock = SlowSocket(pieces, pace)
        sock.settimeout(idle_timeout)
        monkeypatch.setattr(reading, "monotonic", lambda: sock.clock)
        reader = SocketReader(sock, idle_timeout, head_timeout, rate)
        reader.begin_request()
        return io.BufferedReader(reader), reader, sock

    return make


def bytewise(data):
    return [bytes([byte]) for byte in data]


def test_a_head_of_one_byte_a_second_is_cut_at_its_deadline(read):
    rfile, reader, sock = read(bytewise(b"GET / HTTP/1.1 and so on for ever and ever"), pace=1.0)

    with pytest.raises(TimeoutError):
        rfile.readline()

    assert sock.clock == pytest.approx(21.0)
    assert not reader.is_idle


def test_silence_before_a_request_does_not_count(read):
    rfile, reader, sock = read([b"GET / HTTP/1.1\r\n"], pace=70.0)

    assert rfile.readline() == b"GET / HTTP/1.1\r\n"
    assert sock.timeout == 75.0


def test_silence_and_half_a_request_are_told_apart(read):
    rfile, reader, _ = read([b"GET"], pace=80.0)

    with pytest.raises(TimeoutError):
        rfile.readline()

    assert reader.is_idle


def test_each_request_has_its_own_deadline(read):
    rfile, reader, _ = read(bytewise(b"GET /\r\nGET /\r\n"), pace=2.0)

    for _ in range(2):
        reader.begin_request()
        assert rfile.readline() == b"GET /\r\n"


def test_a_body_of_one_byte_a_second_is_cut_after_its_grace(read):
    rfile, reader, sock = read([b"x"] * 1000, pace=1.0)
    reader.begin_body()

    with pytest.raises(TimeoutError):
        rfile.read(1000)

    assert GRACE <= sock.clock < GRACE + 2


def test_a_body_at_the_least_rate_may_have_any_length(read):
    rfile, reader, sock = read([b"x" * 240] * 1000, pace=1.0)
    reader.begin_body()

    assert len(rfile.read(240_000)) == 240_000
    assert sock.clock == 1000.0


def test_a_quick_start_does_not_allow_a_slow_end(read):
    rfile, reader, sock = read([b"x" * 8000] * 100 + [b"x"] * 1000, pace=0.9)
    reader.begin_body()

    with pytest.raises(TimeoutError):
        rfile.read(10_000_000)

    assert sock.clock < 100 * 0.9 + GRACE + 2


def test_time_in_which_the_service_does_not_read_does_not_count(read):
    rfile, reader, sock = read([b"x" * 8192] * 3, pace=0.1)
    reader.begin_body()

    for _ in range(3):
        assert len(rfile.read(8192)) == 8192
        sock.clock += 1000.0


@pytest.mark.parametrize("limits", [{"head_timeout": None}, {"rate": 0}])
def test_limits_that_are_off(read, limits):
    rfile, reader, sock = read([b"x"] * 1000, pace=1.0, **limits)
    if "rate" in limits:
        reader.begin_body()

    assert len(rfile.read(1000)) == 1000
    assert sock.timeout == 75.0


def test_another_protocol_has_its_own_limits(read):
    rfile, reader, sock = read([b"x"] * 100, pace=1.0)
    rfile.read(1)
    reader.be_patient()

    assert len(rfile.read(99)) == 99


@pytest.mark.parametrize(
    "data, error",
    [
        (b"A: b\r\nC: d\r\n\r\nmore", None),
        (b"\r\nmore", None),
        (b"", ConnectionError),
        (b"A: b\r\n", ConnectionError),
        (b"A: b", ConnectionError),
        (b"A: b\r\n" * 101 + b"\r\n", BadFraming),
        (b"A: " + b"b" * 65536 + b"\r\n\r\n", BadFraming),
        (b"A: " + b"b" * 655360, BadFraming),
        (b"A: b\r\n" * 100 + b"\r\nmore", None),
    ],
)
def test_the_lines_of_a_header_section(data, error):
    rfile = io.BufferedReader(io.BytesIO(data))

    if error is None:
        assert b"".join(header_lines(rfile)) + b"\r\nmore" == data
        assert rfile.read() == b"more"
    else:
        with pytest.raises(error):
            list(header_lines(rfile))
