"""Nodes that answer HELLO with their records, as a service process does, but in the process of the test."""

import threading
from contextlib import closing

import zmq

from discovery.security import zap
from zmqservices.wire import envelope
from zmqservices.wire.messages import Bye, Error, Hello, Ping, Pong, Welcome


class AnsweringNode:
    """Listens at `endpoint` and welcomes whoever asks. `tell` says something new; `close` is an end without a word.

    `keys`: those of a node that encrypts its connections, and shows `certificate` or its own.
    """

    def __init__(self, node, *records, host="127.0.0.1", port=0, namespace="default", info=None, keys=None, certificate=None):
        self.node = node
        self.namespace = namespace
        self._records = list(records)
        #: What a WELCOME says instead of records; for nodes of other releases.
        self._info = info
        #: The BYEs that clients gave back.
        self.byes = []
        self.hellos = []
        self.pings = 0
        self._clients = []
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self.keys, self.certificate = keys, certificate
        if keys is not None:
            zap.ZapHandler(self._context)
            zap.secure_server(self._socket, keys)
        self._socket.bind(f"tcp://{host}:{port}")
        self.endpoint = self._socket.last_endpoint.decode()
        self.port = int(self.endpoint.rpartition(":")[2])
        self._inner, self._outer = self._context.socket(zmq.PAIR), self._context.socket(zmq.PAIR)
        self._inner.bind("inproc://tell")
        self._outer.connect("inproc://tell")
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()

    def list(self, *records):
        """From now on these are its records."""
        self._records = list(records)
        self.tell(None)

    def tell(self, message):
        """Sends a message to all clients; None is a WELCOME."""
        self._outer.send_pyobj(message)

    def close(self):
        if not self._context.closed:
            self._outer.send_pyobj("end")
            self._thread.join()
            self._outer.close()
            self._context.term()

    def _welcome(self):
        info = self._info or {"services": {}, "records": [record.to_dict() for record in self._records]}
        if self.keys is not None:
            info["certificate"] = self.certificate or self.keys.signed
        return Welcome(1, 0, self.node, self.namespace, info)

    def _run(self):
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._inner, zmq.POLLIN)
        with closing(self._socket), closing(self._inner):
            while True:
                ready = dict(poller.poll())
                if self._inner in ready:
                    message = self._inner.recv_pyobj()
                    if message == "end":
                        return
                    for client in self._clients:
                        self._send(client, message or self._welcome())
                if self._socket in ready:
                    self._take(*self._socket.recv_multipart())

    def _take(self, client, body):
        message = envelope.decode(body)
        match message:
            case Hello():
                self.hellos.append(message)
                self._clients.append(client)
                if message.namespace == self.namespace or (message.info or {}).get("records") == "all":
                    self._send(client, self._welcome())
                else:
                    self._send(client, Error(None, {"code": "protocol", "value": f"this node is in {self.namespace!r}"}))
            case Ping(token):
                self.pings += 1
                self._send(client, Pong(token))
            case Bye():
                self.byes.append(message)

    def _send(self, client, message):
        self._socket.send_multipart([client, envelope.encode(message)])
