"""A stand-in for an agent of Consul, written after its documented HTTP API: the parts of it that the directory uses.

    python consul_agent.py PORT [--session-ttl-min SECONDS] [--token TOKEN=KEY_PREFIX] [--cert FILE --key FILE]

KV store (GET with recurse, with keys and as blocking query, PUT with cas and acquire, DELETE with cas), sessions (TTL, the
behaviors release and delete, lock delay), status, and ACL tokens that may write below one prefix. It keeps all in memory, as
an agent with `-dev` does. Two things are not Consul's: after `PUT /stand-in/restore` all indexes begin anew, as after a
snapshot was restored, and `GET /stand-in/served` counts the answers to reads and the keys in them.
"""

import argparse
import base64
import http.server
import json
import posixpath
import ssl
import threading
import time
import urllib.parse
import uuid

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds_of(text):
    """The seconds of a duration in Go's format, such as 10s or 1.5m."""
    for unit in ("ms", "s", "m", "h"):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * UNITS[unit]
    raise ValueError(text)


class Store:
    """All keys and sessions. `changed` is held while something is looked at or changed, and notified of each change."""

    def __init__(self):
        self.changed = threading.Condition()
        self.index = 10
        self.keys = {}
        self.deleted = {}
        self.sessions = {}
        self.delayed = {}

    def next_index(self):
        self.index += 1
        self.changed.notify_all()
        return self.index

    def index_of(self, key, is_prefix):
        """The latest change below a prefix, deletions among them; of the whole store where there was none."""
        found = [item["ModifyIndex"] for name, item in self.keys.items() if name == key or (is_prefix and name.startswith(key))]
        found += [index for name, index in self.deleted.items() if name == key or (is_prefix and name.startswith(key))]
        return max(found, default=self.index)

    def put(self, key, value, session=None):
        index = self.next_index()
        item = self.keys.setdefault(key, {"Key": key, "Flags": 0, "LockIndex": 0, "CreateIndex": index})
        if session is not None and item.get("Session") != session:
            item["Session"] = session
            item["LockIndex"] += 1
        item.update(Value=base64.b64encode(value).decode() or None, ModifyIndex=index)
        self.deleted.pop(key, None)

    def delete(self, key):
        if self.keys.pop(key, None) is not None:
            self.deleted[key] = self.next_index()

    def acquire(self, key, value, session):
        held = self.keys.get(key, {}).get("Session")
        if held not in (None, session) or (held is None and self.delayed.get(key, 0.0) > time.monotonic()):
            return False
        self.put(key, value, session)
        return True

    def end(self, identity):
        """End a session and release or delete its keys."""
        session = self.sessions.pop(identity)
        for key in [key for key, item in self.keys.items() if item.get("Session") == identity]:
            if session["Behavior"] == "delete":
                self.delete(key)
            else:
                del self.keys[key]["Session"]
                self.keys[key]["ModifyIndex"] = self.next_index()
            self.delayed[key] = time.monotonic() + session["delay"]

    def expire(self):
        """Ends sessions. Consul ends none before its TTL is over, and each after twice the TTL at the latest."""
        while True:
            time.sleep(0.05)
            with self.changed:
                now = time.monotonic()
                for identity in [one for one, session in self.sessions.items() if session["until"] < now]:
                    self.end(identity)

    def restore(self):
        self.index = 1
        self.deleted.clear()
        for item in self.keys.values():
            item["ModifyIndex"] = self.next_index()


class Refused(Exception):
    def __init__(self, status, text):
        super().__init__(text)
        self.status = status


class Agent(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    store = Store()
    tokens = {}
    shortest = 10.0
    #: Answers to reads, and the keys in them.
    served = [0, 0]

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.answer()

    do_PUT = do_DELETE = do_GET

    def answer(self):
        path, _, query = self.path.partition("?")
        self.options = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        self.body = self.rfile.read(int(self.headers.get("content-length", 0)))
        try:
            with self.store.changed:
                status, document, index = self.routed(path)
        except Refused as refusal:
            status, document, index = refusal.status, str(refusal).encode(), None
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        if index is not None:
            self.send_header("X-Consul-Index", str(index))
        self.end_headers()
        self.wfile.write(data)

    def routed(self, path):
        plain = urllib.parse.unquote(path)
        if posixpath.normpath(plain) != plain.rstrip("/"):
            raise Refused(301, "")  # Go sends whoever asks for a/../b to b.
        if path.startswith("/v1/kv/"):
            return self.kv(urllib.parse.unquote(path.removeprefix("/v1/kv/")))
        if path == "/v1/session/create":
            return 200, self.create_session(json.loads(self.body)), None
        if path.startswith("/v1/session/"):
            return self.session(*path.removeprefix("/v1/session/").split("/"))
        if path == "/v1/status/leader":
            return 200, "127.0.0.1:8300", None
        if path == "/stand-in/served":
            return 200, list(self.served), None
        if path == "/stand-in/restore":
            self.store.restore()
            return 200, True, None
        return 404, b"", None

    # --- ACL ---

    def may(self, what, key=""):
        if not self.tokens:
            return True
        token = self.headers.get("X-Consul-Token")
        if token is None:
            return False
        if token not in self.tokens:
            raise Refused(403, "ACL not found")
        return what.startswith("session") or key.startswith(self.tokens[token])

    def need(self, what, key=""):
        if not self.may(what, key):
            who = "anonymous token" if self.headers.get("X-Consul-Token") is None else "token with AccessorID '0123'"
            raise Refused(403, f"Permission denied: {who} lacks permission '{what}' on \"{key}\"")

    # --- sessions ---

    def create_session(self, asked):
        self.need("session:write")
        ttl = seconds_of(asked["TTL"])
        if not self.shortest <= ttl <= 86400:
            text = f"Invalid Session TTL '{int(ttl * 1e9)}', must be between [{self.shortest:g}s=24h0m0s]"
            raise Refused(500, text)
        identity = str(uuid.uuid4())
        self.store.next_index()
        self.store.sessions[identity] = {
            "Behavior": asked.get("Behavior", "release"), "ttl": ttl, "until": time.monotonic() + 2 * ttl,
            "delay": seconds_of(asked.get("LockDelay", "15s")),
        }  # fmt: skip
        return {"ID": identity}

    def session(self, verb, identity):
        self.need("session:write")
        session = self.store.sessions.get(identity)
        if verb == "renew":
            if session is None:
                raise Refused(404, f"Session id '{identity}' not found")
            session["until"] = time.monotonic() + 2 * session["ttl"]
            return 200, [{"ID": identity, "TTL": f"{session['ttl']:g}s"}], None
        if session is not None:
            self.store.end(identity)
        return 200, True, None

    # --- keys ---

    def kv(self, key):
        store, options = self.store, self.options
        if self.command == "GET":
            return self.get(key, "recurse" in options or "keys" in options)
        self.need("key:write", key)
        item = store.keys.get(key)
        if "cas" in options and int(options["cas"]) != (0 if item is None else item["ModifyIndex"]):
            return 200, False, None
        if self.command == "DELETE":
            store.delete(key)
            return 200, True, None
        if "acquire" in options:
            if options["acquire"] not in store.sessions:
                raise Refused(500, f'rpc error making call: invalid session "{options["acquire"]}"')
            return 200, store.acquire(key, self.body, options["acquire"]), None
        store.put(key, self.body)
        return 200, True, None

    def get(self, key, is_prefix):
        store = self.store
        if not is_prefix:
            self.need("key:read", key)
        wanted = int(self.options.get("index", 0))
        if wanted:
            until = time.monotonic() + seconds_of(self.options.get("wait", "5m")) * 17 / 16
            # An index that is ahead of ours is that of another time: it is answered when ours has changed, or in the end.
            while 0 < (left := until - time.monotonic()) and store.index_of(key, is_prefix) == wanted:
                store.changed.wait(left)
        names = sorted(name for name in store.keys if name.startswith(key)) if is_prefix else [key] if key in store.keys else []
        names = [name for name in names if self.may("key:read", name)]
        index = store.index_of(key, is_prefix)
        self.served[:] = self.served[0] + 1, self.served[1] + len(names)
        if not names:
            return 404, b"", index
        return 200, names if "keys" in self.options else [store.keys[name] for name in names], index


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--session-ttl-min", type=float, default=10.0)
    parser.add_argument("--token", action="append", default=[])
    parser.add_argument("--cert")
    parser.add_argument("--key")
    arguments = parser.parse_args()
    Agent.tokens = dict(token.split("=", 1) for token in arguments.token)
    Agent.shortest = arguments.session_ttl_min
    server = http.server.ThreadingHTTPServer(("127.0.0.1", arguments.port), Agent)
    server.daemon_threads = True
    if arguments.cert:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=arguments.cert)
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(arguments.cert, arguments.key)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=Agent.store.expire, daemon=True).start()
    server.serve_forever()


if __name__ == "__main__":
    main()
