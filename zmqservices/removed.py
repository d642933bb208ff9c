"""Names of Nameko's that have no counterpart here: asking for one raises an ImportError that says what to use.

Internal.

    __getattr__ = gone(__name__, {"Publisher": "there is no broker to publish to; use zmqservices.events.EventDispatcher"})

Other names stay what they are without it, an AttributeError.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

#: For names about a broker that nobody has foreseen one by one.
NO_BROKER = (
    "there is no AMQP and no broker here; calls are zmqservices.rpc, events are zmqservices.events "
    "(docs/moving-from-nameko.rst has a table)"
)


def gone(module: str, names: Mapping[str, str], all_others: str | None = None) -> Callable[[str], Any]:
    """A `__getattr__` for `module`: each of `names` raises ImportError with its sentence, which says what to use.

    With `all_others`, every further public name raises that one.
    """

    def __getattr__(name: str) -> Any:
        sentence = names.get(name, None if name.startswith("_") else all_others)
        if sentence is None:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        raise ImportError(f"{module} has no {name}: {sentence}", name=f"{module}.{name}")

    return __getattr__
