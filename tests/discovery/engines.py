"""Helpers of the engines' tests: prefixes, sessions, and error texts."""

import itertools
from contextlib import closing

import pytest

from discovery import Options
from discovery.backend import factory_for
from discovery.exceptions import EngineError
from discovery.record_blocks import unpacked
from tests.discovery.forwarder import Forwarder
from tests.discovery.stage import eventually, record

_numbers = itertools.count()


def new_prefix():
    """A prefix that no other test uses."""
    return f"test-{next(_numbers)}"


def session_of(url, namespace="default", ttl=1.0):
    """A session like that of another process."""
    return seed_of(url, namespace, ttl).session(namespace)


def seed_of(url, namespace="default", ttl=1.0):
    """The seed that makes the sessions of one process."""
    (seed,) = factory_for(url)(url, Options(namespace, None, ttl)).seeds
    return seed


def records_of(contents):
    """All records that a session has read."""
    return [*contents.records, *unpacked(entry[0] for block in contents.blocks for entry in block.entries)]


def instances_of(contents):
    """The instances of all records that a session has read, sorted."""
    return sorted(record.instance for record in records_of(contents))


def error_of(directory):
    """The sentence that a user sees once the first attempt failed."""
    return eventually(lambda: directory.view().registries[0]["error"])


def withdraws_after_a_cut(url, port):
    """The connection is cut under a withdrawal of a client that does not read its own service; the next session makes up."""
    with closing(Forwarder(port)) as forwarder:
        seed = seed_of(url.replace(f":{port}/", f":{forwarder.port}/"), ttl=60.0)
        first = seed.session("default")
        first.open(frozenset())
        first.put_record(record(ttl=60.0))
        forwarder.cut(may_connect=False)
        with pytest.raises(EngineError):
            first.delete_record("default", "one")
        first.close()
        forwarder.mend()

        with closing(seed.session("default")) as second:
            second.open(frozenset())
            second.delete_record("default", "one")

            with closing(session_of(url)) as reader:
                assert records_of(reader.open(None)) == []
