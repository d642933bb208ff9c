"""Nameko's names that have no counterpart here. Importing one raises an ImportError that says what to use instead.

Internal.

    __getattr__ = removed_names(__name__, {"Publisher": "there is no broker; use zmqservices.events.EventDispatcher"})

Other missing names raise AttributeError as usual.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

#: The sentence for names of brokers that have no other sentence.
NO_BROKER = (
    "there is no AMQP and no broker here; calls are zmqservices.rpc, events are zmqservices.events "
    "(docs/moving-from-nameko.rst has a table)"
)


def removed_names(module: str, names: Mapping[str, str], all_others: str | None = None) -> Callable[[str], Any]:
    """A `__getattr__` for `module`: each of `names` raises ImportError with its sentence.

    With `all_others`, every other public name raises ImportError with that sentence.
    """

    def __getattr__(name: str) -> Any:
        sentence = names.get(name, None if name.startswith("_") else all_others)
        if sentence is None:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        raise ImportError(f"{module} has no {name}: {sentence}", name=f"{module}.{name}")

    return __getattr__
