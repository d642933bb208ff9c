"""The handler that ZeroMQ asks about each encrypted handshake (ZAP, RFC 27), in a native thread.

Internal.

A CURVE server without such a handler would let everybody in. ZAP_ENFORCE_DOMAIN makes it refuse instead, also when this thread
has ended. The handler lets in every peer that proves a key, a limited number in a second, and notes the key on the connection as
its User-Id. The certificate, which comes with the first message, says what the holder of the key may do.

The handler has a separate thread, so that handshakes do not wait for a busy hub.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import zmq

from discovery.native import Log, NativeThread
from discovery.security.keys import Keys
from discovery.security.signing import KEY_LENGTH

_log = Log(__name__)

ENDPOINT = "inproc://zeromq.zap.01"
DOMAIN = b"zmqservices"
#: Handshakes that one process lets through in a second. Further peers are told to try again later.
PER_SECOND = 500
#: After a quiet time, this many times as many are let through at once.
BURST = 4
#: Seconds between two log lines about handshakes that were put off.
LOG_INTERVAL = 60.0
OK, LATER, REFUSED, BROKEN = b"200", b"300", b"400", b"500"


class HandshakePace:
    """A token bucket. Pure: `now` is an argument."""

    def __init__(self, per_second: float, burst: float, now: float) -> None:
        self._per_second, self._burst = per_second, burst
        self._tokens, self._at = burst, now

    def takes(self, now: float) -> bool:
        """Takes a token. False if there is none."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._per_second)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def verdict(request: list[bytes], pace: HandshakePace, now: float) -> tuple[bytes, bytes, bytes]:
    """Status code, text and user id for the frames of a ZAP request. Pure."""
    if len(request) < 6 or request[0] != b"1.0":
        return BROKEN, b"not a request of ZAP 1.0", b""
    if request[2] != DOMAIN or request[5] != b"CURVE" or len(request) != 7 or len(request[6]) != KEY_LENGTH:
        return REFUSED, b"CURVE with a key of its own is needed", b""
    if not pace.takes(now):
        return LATER, b"too many handshakes; try again", b""
    return OK, b"", request[6].hex().encode()


class ZapHandler:
    """Answers for all servers of one context, and ends with the context."""

    def __init__(self, context: Any, per_second: int = PER_SECOND, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._per_second = per_second
        self._pace = HandshakePace(per_second, BURST * per_second, clock())
        self._put_off = 0
        self._logged_at = clock() - LOG_INTERVAL
        self._socket = context.socket(zmq.REP)
        self._socket.linger = 0
        self._socket.bind(ENDPOINT)
        NativeThread(self._run, "zmqservices-zap").start()

    def _run(self) -> None:
        try:
            while True:
                request = self._socket.recv_multipart()
                self._socket.send_multipart(self._answer(request))
        except zmq.ContextTerminated:
            pass
        except Exception:
            # From here on every handshake is refused.
            _log.exception("the handler of handshakes ended; no new connection is accepted")
        finally:
            self._socket.close()

    def _answer(self, request: list[bytes]) -> list[bytes]:
        now = self._clock()
        status, text, user = verdict(request, self._pace, now)
        if status == LATER:
            self._put_off += 1
            if now - self._logged_at >= LOG_INTERVAL:
                self._logged_at = now
                _log.warning(
                    "put off %d handshakes so far: more than %d came in a second (handshakes_per_second)",
                    self._put_off, self._per_second,
                )  # fmt: skip
        return [b"1.0", request[1] if len(request) > 1 else b"", status, text, user, b""]


def key_of(frame: Any) -> bytes:
    """The key that was proven on the connection of this frame; empty if there is none. `frame`: received without copying."""
    try:
        return bytes.fromhex(frame.get("User-Id"))
    except (KeyError, ValueError, zmq.ZMQError):
        return b""


def secure_server(socket: Any, keys: Keys) -> None:
    """Make a socket speak only CURVE. To be called before it binds; its context needs a `ZapHandler`."""
    socket.set(zmq.CURVE_SERVER, 1)
    socket.set(zmq.CURVE_SECRETKEY, keys.pair.private)
    socket.set(zmq.ZAP_DOMAIN, DOMAIN)
    socket.set(zmq.ZAP_ENFORCE_DOMAIN, 1)


def secure_client(socket: Any, keys: Keys, server_key: bytes) -> None:
    """Make the next connection of a socket accept only the holder of `server_key`."""
    socket.set(zmq.CURVE_PUBLICKEY, keys.pair.public)
    socket.set(zmq.CURVE_SECRETKEY, keys.pair.private)
    socket.set(zmq.CURVE_SERVERKEY, server_key)
