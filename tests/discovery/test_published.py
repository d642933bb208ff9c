"""What a published view costs: callbacks get one after each change, and most read little of it."""

import pytest

from discovery.client.merge import Known
from discovery.client.published import Published, RegistryStatus
from tests.discovery.stage import record


class Counted(dict):
    """A dict that counts how often all its values are looked at."""

    looks = 0

    def values(self):
        self.looks += 1
        return super().values()


@pytest.fixture
def known():
    return Counted({name: Known(record(name), 0.0, False, ("tcp://a",), True) for name in ("one", "two")})


def test_a_view_is_made_without_looking_at_all_records(known):
    status = RegistryStatus("tcp://a", "tcp://a", "up", "boot", False, None)
    view = Published(known, (status,), True, 0.0, {}).view(1.0)

    assert view.records["one"].record == record("one")
    assert known.looks == 0

    (registry,) = view.registries
    assert (registry["state"], registry["records"]) == ("up", 2)
    assert view.registries[0] is registry and view.registries[:1] == [registry] and repr(view.registries) == repr([registry])
    assert known.looks == 1
