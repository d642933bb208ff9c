"""Which records a client asks for: records of some services, and records that subscribe to events of some sources.

Internal. Programs use `services` of `open_directory`, and `Directory.add_interest`.

    service:maths          the records of the service maths
    subscribers:orders     the records with a subscription whose `source` is orders

These texts are the *keys* of a record, and a client's interest is a set of them. An interest only grows.

Rule 1: no sockets, no threads, no clock here.
Rule 2: registries, engines and clients match records by `keys_of` alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from discovery.exceptions import DirectoryError
from discovery.model import LONGEST_NAME, Record, is_name, quoted

#: A set of keys, or None: every record.
Interest = frozenset[str] | None
EVERYTHING: Interest = None
NOTHING: frozenset[str] = frozenset()

#: What a caller of `open_directory` writes for all services.
ALL_SERVICES = "*"
_SERVICE, _SUBSCRIBERS = "service:", "subscribers:"
#: Characters of a key.
LONGEST_KEY = LONGEST_NAME + len(_SUBSCRIBERS)
#: The most keys of one client. A client that needs more asks for everything.
MAX_INTEREST = 2000
#: The most sources that one record may subscribe to.
MAX_SOURCES = 1000


def service_key(name: str) -> str:
    """The key of the records of a service."""
    return _SERVICE + name


def subscribers_key(source: str) -> str:
    """The key of the records that subscribe to events of `source`."""
    return _SUBSCRIBERS + source


def keys(services: Iterable[str] = (), sources: Iterable[str] = ()) -> frozenset[str]:
    """The keys of these services, and of the subscribers of these sources. DirectoryError for what cannot be a name."""
    return frozenset([*map(service_key, _names(services)), *map(subscribers_key, _names(sources))])


def _names(names: Iterable[str]) -> list[str]:
    if isinstance(names, str):
        raise DirectoryError(f"services are {names!r}; a list of names is needed, such as [{names!r}]")
    found = list(names)
    for name in found:
        if not is_name(name):
            raise DirectoryError(f"{quoted(name)} is asked for; a name has 1 to {LONGEST_NAME} characters")
    return found


def of_services(services: Iterable[str]) -> Interest:
    """The interest in these services; the text `*` is EVERYTHING."""
    return EVERYTHING if services == ALL_SERVICES else keys(services)


def split(key: str) -> tuple[bool, str]:
    """(True, service) for the key of a service, (False, source) for the key of subscribers."""
    return (True, key[len(_SERVICE) :]) if key.startswith(_SERVICE) else (False, key[len(_SUBSCRIBERS) :])


def is_of_service(key: str) -> bool:
    """Whether this is the key of a service. Each record has one of these."""
    return key.startswith(_SERVICE)


def is_key(value: object) -> bool:
    """Whether this is a key. A kind of key that only a later version knows matches nothing here, and is no error."""
    if not isinstance(value, str) or len(value) > LONGEST_KEY:
        return False
    kind, colon, name = value.partition(":")
    return bool(kind and colon and name)


def sources_of(record: Record) -> set[str]:
    """The sources that a record subscribes to."""
    return _sources_in(record.subscriptions)


def _sources_in(subscriptions: Sequence[object]) -> set[str]:
    found = (item.get("source") for item in subscriptions if isinstance(item, dict))
    return {source for source in found if isinstance(source, str) and 0 < len(source) <= LONGEST_NAME}


def keys_of(record: Record) -> tuple[str, ...]:
    """The keys under which a record is found."""
    return keys_in(record.service, record.subscriptions)


def keys_in(service: str, subscriptions: Sequence[object]) -> tuple[str, ...]:
    """The keys of a record with these two fields."""
    own = _SERVICE + service
    if not subscriptions:
        return (own,)
    return (own, *(_SUBSCRIBERS + source for source in sorted(_sources_in(subscriptions))))


def wants(interest: Interest, record: Record) -> bool:
    """Whether a record belongs to an interest."""
    if interest is None or _SERVICE + record.service in interest:
        return True
    return bool(record.subscriptions) and not interest.isdisjoint(keys_of(record))


def covers(whole: Interest, part: Interest) -> bool:
    """Whether all records of `part` belong to `whole`."""
    return whole is None or (part is not None and part <= whole)


def grown(interest: Interest, more: Interest) -> Interest:
    """Both interests together; EVERYTHING if that is more than MAX_INTEREST keys."""
    if interest is None or more is None:
        return EVERYTHING
    together = interest | more
    return together if len(together) <= MAX_INTEREST else EVERYTHING
