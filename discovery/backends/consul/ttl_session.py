"""Consul's own session with this process: a TTL that is renewed, and the keys that end with it."""

from __future__ import annotations

import json
from typing import Any

from discovery.backends.consul.agent import ConsulAgent, SessionEndedError
from discovery.client.locks import TRUSTED, EngineLock, Held, lock_time
from discovery.exceptions import EngineRefusal
from discovery.native import original

_sleep = original("time", "sleep")

#: The shortest TTL of a session, unless the servers' `session_ttl_min` says otherwise.
SHORTEST_SESSION = 10.0
#: How long Consul gives nobody a key whose session has ended. Consul wants more than 0; our fencing tokens replace the delay.
LOCK_DELAY = "1ms"
#: Attempts to acquire a key that another session holds, and seconds between them.
ATTEMPTS, PAUSE = 20, 0.05


class TtlSession:
    """A session that outlives connections. `wanted`: the TTL in seconds that is asked for.

    An attempt that was given up may wait for an answer for many seconds more. What it learns then does not change what the
    present attempt knows, except for the records that Consul may have written late.
    """

    def __init__(self, wanted: float) -> None:
        self.id: str | None = None
        #: Seconds: the TTL that Consul granted.
        self.seconds = 0.0
        #: When the last renewal that Consul answered was sent, by `lock_time`.
        self.renewed = 0.0
        #: The keys of each record of this process.
        self.own: dict[str, set[str]] = {}
        #: The fencing tokens of the locks that it holds, by owner.
        self.tokens: dict[str, int] = {}
        #: The instances that an attempt has written after it was given up. The present attempt writes or deletes them once more.
        self.late: set[str] = set()
        #: The number of the present attempt.
        self.attempt = 0
        self._wanted = wanted

    def take_up(self) -> int:
        """Called by each new attempt. Returns its number."""
        self.attempt += 1
        return self.attempt

    def was_written(self, instance: str, keys: set[str], attempt: int) -> None:
        """Called when an attempt's write of a record under these keys has ended, or failed."""
        if attempt != self.attempt:
            self.own[instance] = self.own.get(instance, set()) | keys
            self.late.add(instance)

    @property
    def is_empty(self) -> bool:
        """Whether it holds neither records nor locks."""
        return not (self.own or self.tokens)

    def used(self) -> float:
        """The part of its time, from 0 to 1 and more, that has passed since the last renewal."""
        return (lock_time() - self.renewed) / self.seconds

    def forget(self) -> None:
        """Called when Consul has ended the session."""
        self.id = None
        self.own.clear()
        self.tokens.clear()

    def begin(self, agent: ConsulAgent) -> str:
        """The id of the session. Begins one if there is none."""
        if self.id is not None:
            return self.id
        for seconds in (max(1.0, self._wanted), max(SHORTEST_SESSION, self._wanted)):
            body: dict[str, Any] = {"Name": "zmqservices", "TTL": f"{seconds:g}s", "Behavior": "delete", "LockDelay": LOCK_DELAY}
            # Only the TTL ends it: an agent that other agents consider dead may still reach this process.
            body["NodeChecks"] = []
            asked = lock_time()
            answer = agent.request("PUT", "/v1/session/create", json.dumps(body).encode(), (400, 500))
            if answer.status == 200:
                self.id = str(agent.mapping(answer)["ID"])
                self.seconds, self.renewed = seconds, asked
                return self.id
            if b"must be between" not in answer.body:
                break
        raise agent.failed(agent.sentence(answer))

    def renew(self, agent: ConsulAgent) -> bool:
        """Renews the session. False, and the session is forgotten, if Consul does not know it any more."""
        asked, session = lock_time(), self.id
        if agent.request("PUT", f"/v1/session/renew/{session}", b"", (404,)).status == 404:
            self._ended(session)
            return False
        self.renewed = asked
        return True

    def end(self, agent: ConsulAgent) -> None:
        """Ends the session, and with it all its keys."""
        session, self.id = self.id, None
        agent.request("PUT", f"/v1/session/destroy/{session}")

    def acquire(self, agent: ConsulAgent, key: str, value: bytes) -> None:
        """Puts a key into the session. A key that a former session of this process holds is deleted first."""
        for _ in range(ATTEMPTS):
            if self._put(agent, key, value):
                return
            held = agent.get(key)
            if held is not None and held.session not in ("", self.id):
                agent.delete(key)
            else:
                _sleep(PAUSE)  # The session that held it has just ended; Consul gives the key to nobody for a moment.
        raise EngineRefusal(f"{key!r} at {agent.name} is held by another session all the time")

    def take_lock(self, agent: ConsulAgent, key: str, lock: EngineLock) -> Held | int:
        """Puts the key of a lock into the session, unless another session holds it: then the index of that key is returned."""
        self.begin(agent)
        owner = lock.owner.encode()
        held = agent.get(key)
        if held is None or not held.session:
            self._put(agent, key, owner)
            held = agent.get(key)
        if held is None or held.session != self.id or held.value != owner:
            self.tokens.pop(lock.owner, None)
            return 0 if held is None else held.index
        return Held(self.tokens.setdefault(lock.owner, held.index), self.renewed + self.seconds * TRUSTED)

    def release_lock(self, agent: ConsulAgent, key: str, lock: EngineLock) -> None:
        """Deletes the key of a lock if it is ours."""
        self.tokens.pop(lock.owner, None)
        held = agent.get(key)
        if held is not None and held.value == lock.owner.encode():
            agent.delete(key, f"cas={held.index}")

    def _put(self, agent: ConsulAgent, key: str, value: bytes) -> bool:
        session = self.id
        try:
            return agent.put(key, value, f"acquire={session}")
        except SessionEndedError:
            self._ended(session)
            raise

    def _ended(self, session: str | None) -> None:
        # The present attempt may have another one by now.
        if session == self.id:
            self.forget()
