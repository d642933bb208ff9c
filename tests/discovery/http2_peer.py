"""A server of HTTP/2 that answers as a test wants, and the answers of gRPC."""

import socket
import threading
from contextlib import suppress

import h2.config
import h2.connection
import h2.events
import h2.exceptions


class Peer:
    """A server of HTTP/2 that answers the first request with `answer(connection, stream)`, or of nothing known with `raw`."""

    def __init__(self, answer=None, raw=b""):
        self._answer, self._raw = answer, raw
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.server = self._listener.getsockname()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        # What the client sends when it has had enough is of no interest.
        with suppress(OSError, h2.exceptions.ProtocolError), self._listener, self._listener.accept()[0] as connection:
            connection.sendall(self._raw)
            http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
            http.initiate_connection()
            while data := connection.recv(65536):
                if self._answer is None:
                    continue
                for event in http.receive_data(data):
                    if isinstance(event, h2.events.RequestReceived):
                        self._answer(http, event.stream_id)
                connection.sendall(http.data_to_send())

    def close(self):
        self._thread.join()


def headers(*more, end=False, status="200"):
    fields = [(":status", status), ("content-type", "application/grpc"), *more]
    return lambda http, stream: http.send_headers(stream, fields, end_stream=end)


def message(data):
    def answer(http, stream):
        headers()(http, stream)
        http.send_data(stream, data)

    return answer
