"""A TCP forwarder between a directory and its engine. Tests cut its connections."""

import socket
import threading


class Forwarder:
    """Forwards connections of its port to another port, and can cut them."""

    def __init__(self, port):
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        #: Held while one connection is made: it is cut whole, or after.
        self._guard = threading.Lock()
        self._connections = []
        self._may_connect = True
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            with self._guard:
                self._forward(near)

    def _forward(self, near):
        try:
            if not self._may_connect:
                raise OSError
            pair = near, socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            near.close()
            return
        pumps = [threading.Thread(target=self._pump, args=ends) for ends in (pair, pair[::-1])]
        for pump in pumps:
            pump.start()
        self._connections.append((pair, pumps))

    def _pump(self, source, target):
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass
        self._end([source, target])

    @staticmethod
    def _end(sockets):
        for one in sockets:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def cut(self, may_connect=True):
        """Ends all connections. `may_connect`: new ones are forwarded."""
        with self._guard:
            self._may_connect = may_connect
            connections, self._connections = self._connections, []
        for pair, pumps in connections:
            self._end(pair)
            for pump in pumps:
                pump.join()
            for one in pair:
                one.close()

    def mend(self):
        """New connections are forwarded again."""
        self._may_connect = True

    def close(self):
        self._end([self._listener])
        self._accepting.join()
        self._listener.close()
        self.cut()
