"""Puts servers up and takes them down: a subject's environment, its broker, its server."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from bench import subjects, venvs
from bench.processes import Child, ChildFailed, free_port
from bench.subject import Broker, Subject, interpreter_flags
from bench.venvs import Unavailable


class Place:
    """Where a server will stand: everything is there but the server itself."""

    def __init__(self, subject: Subject, python: str, broker: Broker | None, folder: Path, processes: int = 1) -> None:
        self.subject = subject
        self.python = python
        self.broker = broker
        self.address = broker.address if broker is not None else f"127.0.0.1:{free_port()}"
        self._folder = folder
        self._processes = processes

    def start(self) -> GroupState:
        """Start the server; returns at once."""
        return GroupState(self, self._processes, self._folder)

    def broker_pids(self) -> list[int]:
        return self.broker.pids() if self.broker is not None else []


class GroupState(Place):
    """A server that stands, or is just being started."""

    def __init__(self, place: Place, processes: int, folder: Path) -> None:
        self.subject, self.python, self.broker, self.address = place.subject, place.python, place.broker, place.address
        command = [self.python, *interpreter_flags(), *self.subject.command(self.address, processes)]
        self.server = Child(command, folder / "server.log", self.subject.environ(self.address))

    def server_pids(self) -> list[int]:
        """The server's processes; with several, the supervisor that started them too."""
        return self.server.pids()


class Stage:
    """All servers of a run. Use as a context; everything is down after it."""

    def __init__(self, folder: Path = venvs.CACHE / "run") -> None:
        self.folder = folder
        self._stack = ExitStack()
        self._standing: dict[tuple[str, int], GroupState] = {}
        self._brokers: dict[tuple[str, str], Broker | None] = {}
        self._reasons: dict[tuple[str, int], str] = {}

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def standing(self, name: str, processes: int = 1) -> GroupState:
        """The server of that subject, put up at the first call. Raises Unavailable, the same each time."""
        key = (name, processes)
        if key in self._reasons:
            raise Unavailable(self._reasons[key])
        if key not in self._standing:
            try:
                standing = self.place(name, f"{processes}", processes).start()
                self._stack.callback(standing.server.stop)
                if processes > 1:
                    # Else clients would find the first of them and be measured before the others are there.
                    standing.server.wait_for_text(standing.subject.said_when_up(), processes)
            except (Unavailable, ChildFailed, OSError) as exc:
                self._reasons[key] = str(exc)
                raise Unavailable(str(exc)) from exc
            self._standing[key] = standing
        return self._standing[key]

    def place(self, name: str, purpose: str, processes: int = 1) -> Place:
        """A place for another server of that subject. The broker in it is shared by places of the same purpose.

        Raises Unavailable, and ChildFailed for a broker that does not start.
        """
        subject = subjects.find(name)
        if processes > 1 and not subject.scales:
            raise Unavailable(f"{name} is measured with one server process only")
        python = venvs.interpreter(subject)
        folder = self.folder / f"{name}-{purpose}"
        return Place(subject, python, self._broker(subject, purpose, folder), folder, processes)

    def _broker(self, subject: Subject, purpose: str, folder: Path) -> Broker | None:
        # Ours finds its server through a registry, so servers for different purposes must not share one.
        key = (subject.name, purpose)
        if key not in self._brokers:
            made = subject.broker(folder)
            self._brokers[key] = None if made is None else self._stack.enter_context(made)
        return self._brokers[key]
