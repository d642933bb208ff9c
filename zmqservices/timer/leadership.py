"""A duty of the whole service: something that one of its instances does, and another when that one is gone.

What it promises. The instances list in the directory that they stand ready; the eldest of those that are listed has the
duty. While all of them see the same list, one has it. It changes hands

- when its holder stops: at once, and only after what it was doing is over;
- when its holder's process dies: when its lease runs out (`DIRECTORY_TTL`, 10 s), or at once where the registry hears of it.

What it does not promise. There is no consensus: while instances see different lists (parted networks; a registry that has
just been started; a process that was frozen and does not know yet that it was given up), two may hold the duty. For the
length of a change of hands, nobody may. While no registry can be reached the last list holds, so nothing changes hands; a
process that was started while none could be reached holds no duty before one answers. What must happen exactly once needs a
lock or a unique key where its effect is kept.
"""

from __future__ import annotations

from gevent.event import Event

from zmqservices.extensions import Extension
from zmqservices.membership import Membership

__all__ = ["Duty"]

#: Seconds between two looks at whether a registry has answered; only at the start.
LOOK = 0.02


class Duty(Extension):
    """Part of an extension that does something for the whole service."""

    membership = Membership()

    def __init__(self) -> None:
        super().__init__()
        self._name: str | None = None

    def claim(self, name: str) -> None:
        """This instance stands ready for the duty `name` from now on; the service is listed where it was not.

        Raises ConfigurationError where the directory lists nobody but whom it was told of beforehand.
        """
        self._registration = self.membership.registration()
        self._registration.claim(name)
        self._name = name
        self.membership.before_leaving(self.give_up)

    def give_up(self) -> None:
        """It stands ready no longer."""
        name, self._name = self._name, None
        if name is not None:
            self._registration.give_up(name)

    def wait_until_known(self, cut_short: Event) -> None:
        """Return when it is known whose the duty is, or when `cut_short` is set."""
        while not (cut_short.is_set() or self.is_known()):
            cut_short.wait(LOOK)

    def is_known(self) -> bool:
        """Whether a registry has answered, and lists this instance too."""
        return self._name is not None and self._registration.is_known(self._name)

    def is_ours(self) -> bool:
        """Whether this instance has the duty now."""
        return self._name is not None and self._registration.is_on_duty(self._name)

    def stop(self) -> None:
        self.give_up()

    def kill(self) -> None:
        self.give_up()
