"""Whose requests are answered: neither DNS rebinding nor pages of other sites get anything."""

import pytest

from zmqservices.dashboard.access import is_loopback, refusal


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]", "LOCALHOST"])
def test_what_only_this_machine_reaches(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "", "*", "10.0.0.5", "::", "localhost.evil.example", "127.0.0.1.nip.io"])
def test_what_others_reach(host):
    assert not is_loopback(host)


@pytest.mark.parametrize("host, origin, site", [
    ("localhost:8790", None, None), ("127.0.0.1:8790", "http://127.0.0.1:8790", "same-origin"), ("[::1]:8790", None, "none"),
    # Through an ssh tunnel the port is another.
    ("localhost:9000", "http://localhost:9000", "same-origin"), ("map.example", "https://map.example", "same-origin"),
])  # fmt: skip
def test_what_is_answered(host, origin, site):
    assert refusal(host, origin, site, is_local=True, names={"map.example"}) == ""


@pytest.mark.parametrize("host, origin, site, said", [
    ("evil.example", None, None, "host 'evil.example'"),
    ("evil.example:8790", "http://evil.example:8790", "same-origin", "host 'evil.example:8790'"),
    (None, None, None, "host None"),
    ("", None, None, "host ''"),
    ("[::1", None, None, "host '[::1'"),
    ("10.0.0.5:8790", None, None, "--allowed-host"),
    ("localhost:8790", "http://evil.example", None, "a page of 'http://evil.example'"),
    ("localhost:8790", "null", None, "a page of 'null'"),
    ("localhost:8790", "http://localhost:3000", None, "a page of 'http://localhost:3000'"),
    ("localhost:8790", None, "cross-site", "another site"),
    ("localhost:8790", None, "same-site", "another site"),
])  # fmt: skip
def test_what_is_refused(host, origin, site, said):
    assert said in refusal(host, origin, site, is_local=True, names=set())


def test_where_others_reach_it_an_address_is_no_name_that_somebody_could_point_here():
    assert refusal("10.0.0.5:8790", None, None, is_local=False, names=set()) == ""
    assert "evil.example" in refusal("evil.example", None, None, is_local=False, names=set())
