"""A real DNS server over UDP and TCP, whose answers a test can change."""

import socket
import threading

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from tests.ports import free_port


class DnsServer:
    """Answers at `address`. `set` changes what it answers, `rcode` makes it fail, `is_silent` makes it say nothing."""

    def __init__(self, host="127.0.0.1"):
        self.host, self.port = host, free_port()
        self.address = f"{self.host}:{self.port}"
        #: All questions so far, each (name, kind, "udp" or "tcp").
        self.questions = []
        self.rcode = None
        self.is_silent = False
        #: Whether answers over UDP are cut, so that clients ask once more over TCP.
        self.is_truncating = False
        self._records = {}
        self._is_over = False
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind((self.host, self.port))
        self._tcp = socket.create_server((self.host, self.port))
        self._threads = [threading.Thread(target=run) for run in (self._serve_udp, self._serve_tcp)]
        for thread in self._threads:
            thread.start()

    def set(self, name, kind, *values, ttl=1):
        """From now on `name` has these records of a kind; an empty list of a name that exists has none."""
        self._records[f"{name}.", kind] = (ttl, values)

    def remove(self, name):
        """From now on the name does not exist."""
        for key in [key for key in self._records if key[0] == f"{name}."]:
            del self._records[key]

    def _answer(self, wire, way):
        query = dns.message.from_wire(wire)
        (question,) = query.question
        name, kind = question.name.to_text(), dns.rdatatype.to_text(question.rdtype)
        self.questions.append((name.rstrip("."), kind, way))
        if self.is_silent:
            return None
        response = dns.message.make_response(query)
        if self.rcode is not None:
            response.set_rcode(self.rcode)
        elif way == "udp" and self.is_truncating:
            response.flags |= dns.flags.TC
        elif not any(key[0] == name for key in self._records):
            response.set_rcode(dns.rcode.NXDOMAIN)
        else:
            self._add(response, name, kind)
        return response

    def _add(self, response, name, kind):
        alias = self._records.get((name, "CNAME"))
        if alias is not None:
            response.answer.append(dns.rrset.from_text(name, alias[0], "IN", "CNAME", *alias[1]))
            self._add(response, alias[1][0], kind)
        ttl, values = self._records.get((name, kind), (1, ()))
        if values:
            response.answer.append(dns.rrset.from_text(name, ttl, "IN", kind, *values))

    def _serve_udp(self):
        while True:
            wire, client = self._udp.recvfrom(4096)
            if self._is_over:
                return
            response = self._answer(wire, "udp")
            if response is not None:
                self._udp.sendto(response.to_wire(), client)

    def _serve_tcp(self):
        while True:
            connection, _ = self._tcp.accept()
            with connection:
                if self._is_over:
                    return
                with connection.makefile("rb") as stream:
                    length = int.from_bytes(stream.read(2))
                    response = self._answer(stream.read(length), "tcp")
                if response is not None:
                    connection.sendall(response.to_wire(prepend_length=True))

    def close(self):
        self._is_over = True
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"end", (self.host, self.port))
        socket.create_connection((self.host, self.port)).close()
        for thread in self._threads:
            thread.join()
        self._udp.close()
        self._tcp.close()
