"""The connection to a node that is asked for its own records, for a directory that knows only addresses.

To the merge it looks like a connection to a registry that lists the records of one node. Used on the directory's own thread.
"""

from __future__ import annotations

import dataclasses
import os

import zmq

from discovery import greeting, protocol, sockets
from discovery.client.connection import SUBSCRIBING, UP, DirectoryListener, Post
from discovery.client.node_proof import NodeProof
from discovery.client.socket_connection import SocketConnection
from discovery.exceptions import DirectoryProtocolError, SecurityError
from discovery.model import Record, quoted
from discovery.native import Log

_log = Log(__name__)

#: Seconds between two checks of the connections to quiet nodes. ZeroMQ's own heartbeat finds the end of a connection, so a node
#: with an open connection is alive. All are checked at the same moment, so that a client of many nodes wakes rarely.
LOOK_INTERVAL = 2.0
#: Seconds until the next attempt after a node has refused to answer: it will probably refuse again.
REFUSED_PAUSE = 10.0
#: Seconds until the next round: any number above 0, since all of one round happens at one time.
NEXT_ROUND = 0.001
#: The most warnings about skipped records, for each node.
MAX_SKIP_WARNINGS = 10


class NodeConnection(SocketConnection):
    """The connection to the node at one address. Its records get this address, whatever address the node itself names.

    `proof`: checks the node's key and certificate in a closed cluster.
    """

    def __init__(
        self,
        address: str,
        namespace: str | None,
        listener: DirectoryListener,
        longest_pause: float,
        post: Post,
        proof: NodeProof | None = None,
    ) -> None:
        super().__init__(address, listener, longest_pause)
        self._node, self._namespace = os.urandom(6).hex(), namespace
        self._proof = proof
        self.is_own_word = proof is not None
        self._post = post
        self._records: dict[str, Record] = {}
        self._skipped: set[str] = set()
        #: Why the node is not believed any more; the connection ends in the next round.
        self._disbelieved = ""

    def accept_also(self, named: tuple[bytes, ...]) -> None:
        """In a closed cluster: the node may also hold one of these keys."""
        if self._proof is not None:
            self._proof.accept_also(named)

    def _new_socket(self) -> zmq.Socket[bytes]:
        return sockets.node_socket() if self._proof is None else sockets.node_socket(self._proof.keys, self._proof.key)

    def _begin(self, now: float) -> None:
        self._disbelieved = ""
        if self._proof is not None:
            self._proof.lists.forget()
        self._greet()

    def _greet(self, renews: bool = False) -> None:
        shown = more = None
        if self._proof is not None:
            shown, more = self._proof.shown(), self._proof.lists.told()
        self._say(greeting.hello(self._node, self._namespace, shown, renews, more))

    def _say(self, frame: bytes) -> None:
        if self._socket is not None:
            sockets.try_send(self._socket, [frame])

    def send(self, message: protocol.Message) -> bool:
        """Returns True and sends nothing: a node keeps no records or notes of other nodes."""
        if self.state != UP:
            return False
        if isinstance(message, protocol.Register | protocol.Withdraw | protocol.PutNotes):
            request = message.request
            self._post(lambda now: self._acknowledge(request, now))
        return True

    def _acknowledge(self, request: int, now: float) -> None:
        if self.state == UP:
            self._listener.on_message(self, protocol.Ack(request), now)

    def _foreign(self, now: float) -> None:
        if self._proof is None:
            self.close(now, "what listens there does not answer as a node does, or encrypts its connections (SECURITY)")
            return
        has_proven = self.state == SUBSCRIBING
        is_last = has_proven or not self._proof.try_next_key()
        why = "it does not answer as a node does" if has_proven else self._proof.problem
        if is_last:
            self._warn(now, "node at %s is not used: %s", self.address, why)
        self.close(now, why)
        if not is_last:
            self.goes_on, self.retry_at = True, now

    def _silent(self, now: float) -> None:
        if self._disbelieved:
            self._refuse(self._disbelieved, now)
            return
        self.last_contact = now
        self._deadline = _next_look(now)
        if self._proof is not None and self._proof.is_stale():
            self._look_at_keys(self._proof, now)

    def _look_at_keys(self, proof: NodeProof, now: float) -> None:
        """Checks the node again after the keys, or the lists of revoked certificates, have changed."""
        why = proof.refusal()
        if why:
            self._disbelieve(why, now)
        else:
            proof.holds()
            if proof.must_show():
                self._greet(renews=True)

    def _take_frames(self, frames: list[bytes], now: float) -> None:
        if len(frames) != 1:
            raise DirectoryProtocolError(f"a message of {len(frames)} frames")
        self.last_contact = now
        for word in greeting.read(frames[0], self._skip):
            match word:
                case greeting.Reply(frame):
                    self._say(frame)
                case greeting.NodeRefusal(reason):
                    self._refuse(reason, now)
                    return
                case greeting.NodeRecords(node, records, certificate, info):
                    try:
                        if self._proof is not None:
                            self._proof.lists.takes(info)
                            self._proof.believe(certificate)
                            records = self._proof.own(records, self._skip)
                    except SecurityError as exc:
                        self._disbelieve(str(exc), now)
                        return
                    self._disbelieved = ""
                    if self._proof is not None and self._proof.lists.is_due:
                        self._greet(renews=True)
                    self._take_records(node, [self._reached(record) for record in records], now)
        if self.state == UP:
            self._deadline = _next_look(now)

    def _disbelieve(self, reason: str, now: float) -> None:
        """Stop using the records of the node, because its proof is missing or no longer valid."""
        if self._disbelieved:
            return
        if self.state == UP and self._records:
            # A view outlives the connections that it came over, so these records leave it first. In the next round nothing of
            # the node is left, and the connection ends.
            self._warn(now, "node at %s is not used: %s", self.address, reason)
            self._take_records(self.boot_id or "", [], now)
            self._disbelieved = reason
            self._deadline = now + NEXT_ROUND
        else:
            self._refuse(reason, now)

    def _refuse(self, reason: str, now: float) -> None:
        self._warn(now, "node at %s is not used: %s", self.address, reason)
        self.close(now, f"it is not used: {reason}", REFUSED_PAUSE)

    def _reached(self, record: Record) -> Record:
        if "rpc" not in record.endpoints:
            return record
        return dataclasses.replace(record, endpoints={**record.endpoints, "rpc": self.address})

    def _take_records(self, node: str, records: list[Record], now: float) -> None:
        former, self._records = self._records, {record.instance: record for record in records}
        if self.state == SUBSCRIBING:
            self.state = UP
            self.error = None
            self.failures = 0
            self.boot_id = node
            entries = [(record, 0.0, False) for record in records]
            self._listener.on_up(self, [protocol.Snapshot(0, node, False, 0, 1, entries, [])], now)
            return
        for record in records:
            if record != former.get(record.instance):
                self._listener.on_message(self, protocol.Update(0, node, record, 0.0, False), now)
        for instance in former.keys() - self._records.keys():
            self._listener.on_message(self, protocol.Drop(0, node, instance, *former[instance].rank, False), now)

    def _skip(self, reason: str) -> None:
        if reason not in self._skipped and len(self._skipped) < MAX_SKIP_WARNINGS:
            self._skipped.add(reason)
            _log.warning("skipped a record of the node at %s: %s", self.address, quoted(reason, 300))


def _next_look(now: float) -> float:
    return (now // LOOK_INTERVAL + 1) * LOOK_INTERVAL
