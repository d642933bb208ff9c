"""Ends the services of a process: gracefully at the first signal, at once at a second Ctrl-C."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from zmqservices.cli.announce import Announcement
from zmqservices.cli.log_setup import process_label
from zmqservices.cli.parent_pipe import ParentPipe
from zmqservices.cli.readiness import Readiness
from zmqservices.cli.short_errors import short_errors

if TYPE_CHECKING:
    from zmqservices.runners import ServiceRunner

_log = logging.getLogger(__name__)

#: Seconds in which killed services must end; then the process ends anyway.
KILL_TIMEOUT = 3.0
#: The exit code of a process whose services were killed.
KILLED = 130


class Killed(BaseException):
    """Thrown into the main greenlet if services still run after they were killed."""


class Shutdown:
    """Runs a `ServiceRunner` until a signal: the first signal stops it gracefully, a second Ctrl-C kills it."""

    def __init__(self, runner: ServiceRunner, with_traceback: bool, readiness: Readiness) -> None:
        import gevent
        from gevent.event import Event

        self.runner = runner
        self.is_stopping = False
        self.is_killed = False
        self._is_started = False
        self._main = gevent.getcurrent()
        self._over = Event()
        self._handlers: list[Any] = []
        self._with_traceback = with_traceback
        self._announcement: Announcement | None = None
        self._readiness = readiness
        self._port_watcher: Any = None

    def listen(self, parent_pipe: ParentPipe) -> None:
        """Install the signal handlers. The services also stop when their supervisor ends."""
        import signal

        import gevent

        from zmqservices.cli.signals import stop_signals

        self._handlers = [gevent.signal_handler(number, self.stop) for number in stop_signals()]
        self._handlers.append(gevent.signal_handler(signal.SIGINT, self.interrupted))
        parent_pipe.on_cut(self.stop)

    def restore_signals(self) -> None:
        """Remove the signal handlers."""
        for handler in self._handlers:
            handler.cancel()

    def run(self, on_started: Callable[[list[str]], None] | None) -> int:
        """Start the runner and wait for its end. Returns the exit code."""
        try:
            return self._run(on_started)
        except Killed:
            return KILLED
        finally:
            # A killed process does not wait for the directory; its leases expire.
            if self._announcement is not None and not self.is_killed:
                self._announcement.conceal()
            self._become_unready()
            self._over.set()

    def _run(self, on_started: Callable[[list[str]], None] | None) -> int:
        self._announcement = Announcement(self.runner)
        self._start()
        self._is_started = True
        if self.is_stopping:
            self._stop()
        else:
            names = list(self.runner.service_names)
            self._announcement.announce()
            self._become_ready()
            click.echo(f"{process_label()}Services started: {', '.join(names)}", err=True)
            sys.stderr.flush()
            if on_started:
                on_started(names)
            _relax_collector()
        return self._wait()

    def _become_ready(self) -> None:
        import gevent

        self._readiness.open()
        if self._readiness.listener is not None:
            self._port_watcher = gevent.get_hub().loop.io(self._readiness.listener.fileno(), 1)
            self._port_watcher.start(self._readiness.accept)

    def _become_unready(self) -> None:
        if self._port_watcher is not None:
            self._port_watcher.close()
            self._port_watcher = None
        self._readiness.stopping()

    def _start(self) -> None:
        with short_errors(self._with_traceback):
            try:
                self.runner.start()
            except BaseException as error:
                if isinstance(error, Exception):
                    logging.disable(logging.INFO)  # The sentence of the error is enough.
                try:
                    self.runner.kill()
                finally:
                    logging.disable(logging.NOTSET)
                raise

    def _wait(self) -> int:
        try:
            self.runner.wait()
        except Exception:
            _log.exception("a service died, and the others were stopped")
            return 1
        return KILLED if self.is_killed else 0

    def interrupted(self) -> None:
        """Ctrl-C was pressed."""
        if self.is_stopping:
            self.kill()
        else:
            click.echo("Stopping when the running calls have ended; press Ctrl-C again to kill them", err=True)
            self.stop()

    def stop(self) -> None:
        """Stop gracefully: now, or once the services have come up if they are still starting."""
        if self.is_stopping:
            return
        self.is_stopping = True
        self._become_unready()
        if self._is_started:
            self._stop()

    def _stop(self) -> None:
        try:
            self.runner.stop()
        except Exception:
            _log.exception("the services could not be stopped, and are killed")
            self.kill()

    def kill(self) -> None:
        """Stop without waiting for running calls, and end the process even if services hang."""
        import gevent

        self.is_stopping = self.is_killed = True
        with gevent.Timeout(KILL_TIMEOUT, False):
            self.runner.kill()
        if not self._over.wait(KILL_TIMEOUT):
            gevent.get_hub().loop.run_callback(self._end)

    def _end(self) -> None:
        # The hub runs this, so the main greenlet is waiting somewhere and can be interrupted.
        if not self._over.is_set():
            self._main.throw(Killed())


def _relax_collector() -> None:
    from zmqservices.process.collector import spare_what_lives  # Imported here: a supervisor does not need it.

    spare_what_lives()
