"""No error text and no log line shows a password of a directory's URL."""

import pytest

from discovery import DirectoryError, open_directory
from discovery.model import shown_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("etcd://me:secret@h1:2379,h2/shop", "etcd://me@h1:2379,h2/shop"),
        ("etcd://me:se@cr:et@h1", "etcd://me@h1"),
        ("etcd://:secret@h1", "etcd://@h1"),
        ("tcp://10.0.0.5:4190,etcd://a:secret@h1/x,zookeeper://b:secret@h2", "tcp://10.0.0.5:4190,etcd://a@h1/x,zookeeper://b@h2"),
        ("consul://secret@h1,h2/shop", "consul://h1,h2/shop"),
        ("tcp://h0,consul://:se@cr:et@h1/x?tls=yes,etcd://a:secret@h2", "tcp://h0,consul://h1/x?tls=yes,etcd://a@h2"),
        ("tcp://[fd00::5]:4190,tcp://h2:4190", "tcp://[fd00::5]:4190,tcp://h2:4190"),
        ("static:a=tcp://127.0.0.1:1", "static:a=tcp://127.0.0.1:1"),
    ],
)
def test_a_url_is_shown_without_its_password(url, shown):
    assert shown_url(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "redis://me:secret@host",
        "etcd://me:secret@host?tls=perhaps",
        "etcd://me:secret@host:port",
        "zookeeper://me:secret@host?access=all",
        "static:a=tcp://127.0.0.1:1,etcd://me:secret@host",
        "etcd://me:secret@host,dns://a:1?x=1",
    ],
)
def test_a_refusal_shows_no_password(url):
    with pytest.raises(DirectoryError) as refusal:
        open_directory(url)

    assert "secret" not in str(refusal.value)
