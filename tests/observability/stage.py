"""A probe that notes all that it hears, and waiting for what it hears."""

import functools

from gevent.event import Event

from zmqservices.probes import HOOKS, Probe


class Notes(Probe):
    """`seen` has a tuple for each call of a hook: its name and its arguments."""

    def __init__(self):
        self.seen = []
        self._changed = Event()
        for name in HOOKS:
            setattr(self, name, functools.partial(self._note, name))

    def _note(self, name, *args):
        self.seen.append((name, *args))
        self._changed.set()

    def of(self, name):
        """The arguments of each call of this hook."""
        return [seen[1:] for seen in self.seen if seen[0] == name]

    def wait(self, name, count=1, timeout=10):
        """Wait until the hook was called so often, and return the arguments of these calls."""
        while len(self.of(name)) < count:
            self._changed.clear()
            assert self._changed.wait(timeout), f"{name} was called {len(self.of(name))} times, and not {count}: {self.seen}"
        return self.of(name)
