"""What the clients of a closed registry may do, and who is told of revoked certificates, and of certificates of registries.

Rule 1: a client whose certificate has been revoked is cut off at once.
"""

from __future__ import annotations

import time

import zmq

from discovery import protocol, sockets
from discovery.native import Log
from discovery.security import zap
from discovery.security.keys import Keys
from discovery.security.renewal import KeysFolderWatch, learn, lists_of, registries_of, warn_of_end
from discovery.server.admission import Admission, NotAdmitted, request_of
from discovery.server.feed import ChangeFeed

_log = Log(__name__)

#: Seconds between two warnings about forbidden requests.
FORBIDDEN_INTERVAL = 1.0
#: Keys of connections that have ended may stay, up to this number beyond the open ones, before they are dropped.
SPARE_KEYS = 1000


class RequestGuard:
    """Checks the requests of all clients of a registry with `keys`. Used on the registry's thread."""

    def __init__(self, keys: Keys, admission: Admission, feed: ChangeFeed) -> None:
        self._keys = keys
        self._admission = admission
        self._feed = feed
        self._watch = KeysFolderWatch(keys)
        warn_of_end(keys, time.time())
        #: Requests that were refused because the client must not make them.
        self.forbidden = 0
        self._forbade_at = -FORBIDDEN_INTERVAL
        #: The generation of the keys that clients were told of.
        self._told = keys.generation
        #: Whether the log has told that the certificate of this registry itself is not valid.
        self._has_told_own = False
        #: The key of each connection on which a certificate was shown.
        self._keys_of: dict[bytes, bytes] = {}

    def look(self) -> None:
        """Reads the folder of keys again if it has changed, and tells the clients. To be called every second or so."""
        self._watch.look()
        self._tell_revoked()

    def admits(self, peer: bytes, first: zmq.Frame, message: protocol.Message) -> bool:
        """Whether the message is to be handled. Removes what its sender must not ask for. If False, the sender was answered.

        `first`: the first frame of the message, which knows the key and the address of the connection.
        """
        admission = self._admission
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
        for message in self._revoked():
            self._feed.answer(peer, message)

    def _learn(self, message: protocol.Revoked) -> None:
        if learn(self._keys, message.lists, message.registries):
            self._tell_revoked()

    def _revoked(self) -> list[protocol.Revoked]:
        return protocol.Revoked.apart(lists_of(self._keys), registries_of(self._keys))

    def _tell_revoked(self) -> None:
        """After a change of the keys: tells all clients what is revoked, and cuts off those whose certificates are.

        Also tells them the certificates of the registries, so that a registry may get another key.
        """
        if self._told == self._keys.generation:
            return
        self._told = self._keys.generation
        self._look_at_own()
        messages = self._revoked()
        for peer, key in list(self._keys_of.items()):
            try:
                self._admission.certificate(key)
            except NotAdmitted as exc:
                del self._keys_of[peer]
                _log.warning("cut off a client: %s", exc)
                self._feed.cut_off(peer, f"forbidden: {exc}")
                continue
            for message in messages if peer in self._feed.clients else ():
                self._feed.answer(peer, message)

    def _look_at_own(self) -> None:
        refusal = self._keys.refusal_of(self._keys.signed)
        if refusal and not self._has_told_own:
            _log.warning("clients leave this registry: %s; give it other keys, and restart it", refusal)
        self._has_told_own = bool(refusal)
