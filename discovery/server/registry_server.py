"""A registry: a ROUTER socket in a thread of its own around a table of leases.

It sends subscribers each change of interest to them at once, and a heartbeat each second (see `discovery.server.feed`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import zmq

from discovery import protocol, sockets
from discovery.accepting import CHANGED, AcceptGuard
from discovery.exceptions import DirectoryConfigurationError, DirectoryError, DirectoryProtocolError
from discovery.model import DEFAULT_TTL
from discovery.native import Log, NativeEvent, NativeThread, Wakeup
from discovery.notes import NoteStore
from discovery.security import exposure, zap
from discovery.security.keys import Keys
from discovery.security.renewal import KeysFolderWatch, learn, lists_of
from discovery.server.admission import Admission, NotAdmitted, request_of
from discovery.server.feed import ChangeFeed
from discovery.server.handshakes import FailedHandshakes
from discovery.server.limits import RegistryLimits
from discovery.server.table import CHECK_INTERVAL, Table

_log = Log(__name__)

#: Seconds between two heartbeats to every subscriber.
HEARTBEAT_INTERVAL = 1.0
#: Seconds between two checks whether clients that have not subscribed are still connected.
CHECK_CLIENTS_INTERVAL = 10.0
#: Messages handled before leases are checked again, and seconds in which waiting snapshots and changes are sent in between.
BATCH, TURNS = 500, 0.01
#: Seconds after which leases are checked even while more messages wait; the time until then extends them.
CHECK_LEASES_WITHIN = 1.0
#: Milliseconds in which a stopping registry sends its last messages, and seconds in which clients may read earlier ones.
LINGER_MS = 300
READ_WITHIN = 0.25
#: Seconds between two warnings about frames that are not messages.
WARN_INTERVAL = 60.0
#: Seconds between two warnings about forbidden requests.
FORBIDDEN_INTERVAL = 1.0
#: Keys of connections that may have ended, beyond the number of those that stand, before they are dropped.
SPARE_KEYS = 1000
#: Seconds between two searches for expired notes.
EXPIRE_NOTES_INTERVAL = 60.0


#: Seconds by which a note may be dated ahead of the registry's clock. One dated later would win over honest notes.
NOTE_AHEAD = 60.0
#: Seconds by which a rank, in microseconds since 1970, may be ahead. A higher one could not be replaced until then.
RANK_AHEAD = 86_400.0


def _check_rank(rank: tuple[int, int]) -> None:
    most = int((time.time() + RANK_AHEAD) * 1e6)
    if max(rank) > most:
        raise DirectoryError(f"incarnation {rank[0]} and version {rank[1]}: the most is {most}, microseconds a day from now")


class RegistryServer:
    """One registry. `start` binds `bind` in a thread of its own, which calls `on_bound(error or None)`."""

    def __init__(
        self,
        bind: str,
        *,
        ttl: float = DEFAULT_TTL,
        preserve: bool = True,
        on_bound: Callable[[Exception | None], None] | None = None,
        keys: Keys | None = None,
        insecure: bool = False,
        limits: RegistryLimits | None = None,
    ) -> None:
        self._limits = limits = limits or RegistryLimits()
        host = bind.removeprefix("tcp://").rpartition(":")[0]
        objection = exposure.objection(host, "this registry", bind, keys is not None, insecure)
        if objection:
            raise DirectoryConfigurationError(objection)
        self._warning = exposure.warning(host, "this registry", bind, keys is not None)
        self._keys = keys
        #: What peers may ask for; None where all may ask for everything.
        self._admission = None if keys is None else Admission(keys)
        self.bind = bind
        self.boot_id = os.urandom(8).hex()
        #: The address at which it listens, once bound; a port 0 has become a number by then.
        self.url = ""
        self.error: Exception | None = None
        self.junk = 0
        #: Requests that were refused because the peer must not make them.
        self.forbidden = 0
        self._forbade_at = -FORBIDDEN_INTERVAL
        self._ttl = ttl
        self._preserve = preserve
        self._on_bound = on_bound
        self._watch = None if keys is None else KeysFolderWatch(keys)
        #: The generation of the keys that clients were told of.
        self._told = 0 if keys is None else keys.generation
        #: The key of each connection on which a certificate was shown.
        self._keys_of: dict[bytes, bytes] = {}
        self._bound = NativeEvent()
        self._is_stopping = False
        self._wakeup = Wakeup()
        self._thread = NativeThread(self._run, "discovery-registry")
        self._notes = NoteStore(
            NOTE_AHEAD, limits.max_notes_of_connection, limits.max_notes, limits.max_notes_of_namespace,
            limits.max_notes_of_signer,
        )  # fmt: skip
        self._warned_at = -WARN_INTERVAL

    def start(self) -> None:
        """Returns at once; see `wait_bound`."""
        self._thread.start()

    def wait_bound(self, timeout: float) -> None:
        """Returns once it listens; DirectoryError when it cannot, or did not within `timeout` seconds."""
        if not self._bound.wait(timeout):
            raise DirectoryError(f"the registry did not bind {self.bind} within {timeout:g} s")
        if self.error is not None:
            raise DirectoryError(f"cannot listen at {self.bind}: {self.error}") from self.error

    @property
    def is_serving(self) -> bool:
        """Whether it listens and its thread runs."""
        return self._bound.is_set() and self.error is None and not self._thread.join(0, blocking=True)

    def stop(self, timeout: float = 1.0, blocking: bool = False) -> bool:
        """Stops listening; clients notice at once. True when its thread ended within `timeout` seconds."""
        self._is_stopping = True
        self._wakeup.wake()
        return self._thread.is_current() or self._thread.join(timeout, blocking)

    # --- everything below runs in the registry's own thread ---

    def _run(self) -> None:
        socket: zmq.Socket[bytes] | None = None
        failed_handshakes: FailedHandshakes | None = None
        try:
            socket = sockets.registry_socket(self.bind, self._keys, self._limits.handshakes_per_second)
            socket.bind(self.bind)
            self.url = socket.getsockopt_string(zmq.LAST_ENDPOINT)
            if self._keys is not None:
                failed_handshakes = FailedHandshakes(socket, self.url)
        except (zmq.ZMQError, OSError) as exc:
            self.error = exc
        self._bound.set()
        try:
            if self._on_bound is not None:
                self._on_bound(self.error)
            if socket is not None and self.error is None:
                self._serve(socket, failed_handshakes)
        finally:
            if failed_handshakes is not None:
                failed_handshakes.close()
            if socket is not None:
                socket.close(LINGER_MS)
            self._wakeup.close()

    def _serve(self, socket: zmq.Socket[bytes], failed_handshakes: FailedHandshakes | None) -> None:
        _log.info("registry %s serves at %s", self.boot_id, self.url)
        if self._warning:
            _log.warning("%s", self._warning)
        now = time.monotonic()
        limits = self._limits
        self._table = Table(
            now, self._ttl, self._preserve, limits.max_records, limits.max_records_of_connection, limits.max_record_bytes,
            limits.max_record_bytes_of_connection,
        )  # fmt: skip
        self._feed = feed = ChangeFeed(
            self.boot_id, self._table, self._notes, lambda peer, frame: sockets.try_send(socket, [peer, frame]), limits=limits
        )
        tick = min(CHECK_INTERVAL, self._ttl / 10)
        poller = zmq.Poller()
        poller.register(socket, zmq.POLLIN)
        poller.register(self._wakeup.fd, zmq.POLLIN)
        if failed_handshakes is not None:
            poller.register(failed_handshakes.monitor, zmq.POLLIN)
        heartbeat_at, expired_at, warming = now, now, True
        expire_notes_at, look_at = now, now + CHECK_CLIENTS_INTERVAL
        accepting = AcceptGuard(self.url, _log.warning)
        accepting_at: float | None = now
        wait = CHANGED
        while True:
            ready = dict(poller.poll(0 if feed.has_turns else int(wait * 1000) + 1))
            if self._wakeup.fd in ready:
                self._wakeup.clear()
            if self._is_stopping:
                self._wait_until_read(socket)
                break
            # Messages before leases: after a pause of this process, renewals wait in the socket.
            is_drained = socket not in ready or self._take_messages(socket)
            now = time.monotonic()
            if failed_handshakes is not None and failed_handshakes.monitor in ready:
                failed_handshakes.look(now)
            if is_drained or now - expired_at > CHECK_LEASES_WITHIN:
                expired_at = now
                feed.push(self._table.expire(now))
            feed.take_turns(TURNS)
            if accepting_at is not None and now >= accepting_at:
                pause = accepting.check()
                accepting_at = None if pause is None else now + pause
                wait = tick if pause is None else min(tick, pause)
            if now >= heartbeat_at or warming is not self._table.is_warming(now):
                warming = self._table.is_warming(now)
                heartbeat_at = now + HEARTBEAT_INTERVAL
                feed.heartbeat(warming)
                if self._watch is not None:
                    self._watch.look()
                    self._tell_revoked()
            if now >= look_at:
                look_at = now + CHECK_CLIENTS_INTERVAL
                feed.check_clients(warming)
            if now >= expire_notes_at:
                expire_notes_at = now + EXPIRE_NOTES_INTERVAL
                self._notes.expire(time.time())
        _log.info("registry %s at %s stopped", self.boot_id, self.url)

    def _wait_until_read(self, socket: zmq.Socket[bytes]) -> None:
        # ZeroMQ drops messages that a client has received and not yet read when the connection ends (clients use IMMEDIATE).
        # Without this wait the last changes would be lost to a client whose thread is late.
        self._feed.heartbeat(self._table.is_warming(time.monotonic()))  # This also removes disconnected subscribers.
        self._feed.take_turns(TURNS)
        while self._feed.subscribers and (left := self._feed.pushed_at + READ_WITHIN - time.monotonic()) > 0:
            if socket.poll(int(left * 1000) + 1):
                self._take_messages(socket)

    def _take_messages(self, socket: zmq.Socket[bytes]) -> bool:
        """Handles messages that wait; True when none are left."""
        for _ in range(BATCH):
            message = sockets.receive_message(socket, most=2)
            if message is None:
                return True
            first, frames = message
            now = time.monotonic()
            try:
                if len(frames) != 2:
                    raise DirectoryProtocolError(f"a message of {len(frames) - 1} frames; one is needed")
                decoded = protocol.decode(frames[1])
                if self._admission is not None and not self._admits(self._admission, frames[0], first, decoded):
                    continue
                self._handle(frames[0], decoded, now, len(frames[1]))
            except Exception as exc:
                # Whatever a peer sent, the registry must go on serving all others.
                self._refuse_junk(frames[0], sockets.address_of(first), exc, now)
        return False

    def _admits(self, admission: Admission, peer: bytes, first: zmq.Frame, message: protocol.Message) -> bool:
        """Whether the message is to be handled. If not, its sender was answered."""
        key = zap.key_of(first)
        try:
            if isinstance(message, protocol.Present):
                admission.present(key, message.certificate)
                self._present(peer, key)
                return False
            if isinstance(message, protocol.Revoked):
                admission.certificate(key)
                self._learn(message)
                return False
            if isinstance(message, protocol.Register):
                message.record = admission.register(key, message.record)
            elif isinstance(message, protocol.Renew):
                others = admission.renew(key, message)
                if others:
                    self._feed.answer(peer, protocol.Unknown(others))
            elif isinstance(message, protocol.Withdraw):
                admission.withdraw(key, message)
            elif isinstance(message, protocol.PutNotes):
                message.notes, refused = admission.put(key, message.notes)
                if refused:
                    self._forbid(peer, sockets.address_of(first), message.request, refused)
                    return bool(message.notes)
            else:
                admission.certificate(key)
        except NotAdmitted as exc:
            self._forbid(peer, sockets.address_of(first), request_of(message), str(exc))
            return False
        return True

    def _forbid(self, peer: bytes, address: str, request: int, why: str) -> None:
        self.forbidden += 1
        now = time.monotonic()
        if now - self._forbade_at > FORBIDDEN_INTERVAL:
            self._forbade_at = now
            _log.warning("refused %d request(s) so far that are forbidden; the last from %s: %s", self.forbidden, address, why)
        self._feed.answer(peer, protocol.Refused(request, f"forbidden: {why}"))

    def _present(self, peer: bytes, key: bytes) -> None:
        if len(self._keys_of) > 2 * len(self._feed.clients) + SPARE_KEYS:
            self._keys_of = {one: known for one, known in self._keys_of.items() if one in self._feed.clients}
        self._keys_of[peer] = key
        assert self._keys is not None
        lists = lists_of(self._keys)
        if lists:
            self._feed.answer(peer, protocol.Revoked(lists))

    def _learn(self, message: protocol.Revoked) -> None:
        assert self._keys is not None
        if learn(self._keys, message.lists):
            self._tell_revoked()

    def _tell_revoked(self) -> None:
        """After a change of the keys: tell all clients what is revoked, and cut off those that are not believed any more."""
        keys, admission = self._keys, self._admission
        if keys is None or admission is None or self._told == keys.generation:
            return
        self._told = keys.generation
        lists = lists_of(keys)
        for peer, key in list(self._keys_of.items()):
            try:
                admission.certificate(key)
            except NotAdmitted as exc:
                del self._keys_of[peer]
                _log.warning("cut off a client: %s", exc)
                self._feed.cut_off(peer, f"forbidden: {exc}")
                continue
            if lists and peer in self._feed.clients:
                self._feed.answer(peer, protocol.Revoked(lists))

    def _handle(self, peer: bytes, message: protocol.Message, now: float, size: int) -> None:
        handle = self._HANDLERS.get(type(message))
        if handle is None:
            raise DirectoryProtocolError(f"{type(message).__name__} is not for a registry")
        handle(self, peer, message, now, size)

    def _subscribe(self, peer: bytes, message: protocol.Subscribe, now: float, size: int) -> None:
        self._feed.subscribe(peer, message, now)

    def _extend(self, peer: bytes, message: protocol.Extend, now: float, size: int) -> None:
        self._feed.extend(peer, message, now)

    def _read(self, peer: bytes, message: protocol.Read, now: float, size: int) -> None:
        self._feed.read(peer, message)

    def _register(self, peer: bytes, message: protocol.Register, now: float, size: int) -> None:
        try:
            most = self._limits.max_record_size
            if size > most + protocol.REGISTRATION_ROOM:
                raise DirectoryError(f"a record of {size} bytes; this registry's max_record_size is {most}")
            _check_rank(message.record.rank)
            changes = self._table.register(message.record, now, size, peer)
        except DirectoryError as exc:
            self._feed.answer(peer, protocol.Refused(message.request, str(exc)))
            return
        self._feed.push(changes)
        self._feed.answer(peer, protocol.Ack(message.request))

    def _renew(self, peer: bytes, message: protocol.Renew, now: float, size: int) -> None:
        unknown = []
        for instance, incarnation, version, *_ in message.leases:
            known, changes = self._table.renew(instance, (incarnation, version), now)
            self._feed.push(changes)
            if not known:
                unknown.append(instance)
        if unknown:
            self._feed.answer(peer, protocol.Unknown(unknown))

    def _withdraw(self, peer: bytes, message: protocol.Withdraw, now: float, size: int) -> None:
        rank = (message.incarnation, message.version)
        try:
            _check_rank(rank)
        except DirectoryError as exc:
            self._feed.answer(peer, protocol.Refused(message.request, str(exc)))
            return
        self._feed.push(self._table.withdraw(message.namespace, message.instance, rank, now, message.signed))
        self._feed.answer(peer, protocol.Ack(message.request))

    def _put_notes(self, peer: bytes, message: protocol.PutNotes, now: float, size: int) -> None:
        wall = time.time()
        notes, reasons = message.notes, []
        most_bytes = self._limits.max_note_size
        if most_bytes < protocol.MAX_NOTE:
            notes = [note for note in notes if protocol.size_of(note) <= most_bytes]
            if len(notes) < len(message.notes):
                too_large = len(message.notes) - len(notes)
                reasons.append(f"{too_large} note(s) of more bytes than this registry's max_note_size, which is {most_bytes}")
        ahead = [note for note in notes if note.age(wall) < -NOTE_AHEAD]
        news = self._notes.take(notes, wall, peer)
        self._feed.push_notes(news)
        if ahead:
            most = -min(note.age(wall) for note in ahead)
            reasons.append(f"{len(ahead)} note(s) dated up to {most:.0f} s ahead of this registry's clock; set the clocks")
        if self._notes.refused:
            reasons.append(
                f"{self._notes.refused} note(s) beyond the {self._notes.most_of_writer} that one connection may have written"
            )
        answer = protocol.Refused(message.request, ", and ".join(reasons)) if reasons else protocol.Ack(message.request)
        self._feed.answer(peer, answer)

    _HANDLERS: dict[type[Any], Callable[..., None]] = {
        protocol.Subscribe: _subscribe,
        protocol.Extend: _extend,
        protocol.Register: _register,
        protocol.Renew: _renew,
        protocol.Withdraw: _withdraw,
        protocol.PutNotes: _put_notes,
        protocol.Read: _read,
    }

    def _refuse_junk(self, peer: bytes, address: str, exc: Exception, now: float) -> None:
        self.junk += 1
        try:
            self._feed.answer(peer, protocol.Refused(0, str(exc)[:500]))
        except Exception as failure:
            _log.warning("could not refuse a message from %s: %.200s", address, failure)
        if now - self._warned_at > WARN_INTERVAL:
            self._warned_at = now
            _log.warning("refused %d message(s) so far; the last from %s: %s", self.junk, address, str(exc)[:500])
