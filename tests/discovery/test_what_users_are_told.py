"""The errors of all backends: each is a sentence that quotes the URL or its server, and says how to mend it.

A wrong password, and a prefix that one may not use, need real servers: `test_users_and_passwords` of etcd and ZooKeeper,
`test_a_prefix_that_may_not_be_made_is_told`, `test_tokens_and_tls_on_both_sides` of Consul, tests/security of registries.
"""

import re
import sys
from contextlib import closing

import pytest

from discovery import DirectoryConfigurationError, open_directory
from tests.discovery.engines import error_of
from tests.discovery.stage import House
from tests.ports import free_port

REACH = r"is it running, and are the URL's host and port right\?$"


@pytest.fixture
def told():
    """`told(url)`: what `describe` says of a directory that cannot be used, and the sentence about it."""

    def of(url):
        with closing(House(url, ttl=1.0)) as house:
            directory = house.open()
            sentence = error_of(directory)
            return directory.describe(), sentence

    return of


@pytest.mark.parametrize(
    ("scheme", "rest", "words"),
    [
        ("tcp", "", r"nothing listens there; is a registry running, and are the URL's host and port right\?$"),
        ("etcd", "/shop", rf"^127.0.0.1:PORT cannot be reached: Connection refused; {REACH}"),
        ("zookeeper", "/shop", rf"^127.0.0.1:PORT cannot be reached: Connection refused; {REACH}"),
        ("consul", "/shop", rf"^127.0.0.1:PORT cannot be reached: Connection refused; {REACH}"),
    ],
)
def test_where_nothing_listens(told, scheme, rest, words):
    port = free_port()
    url = f"{scheme}://127.0.0.1:{port}{rest}"

    description, sentence = told(url)

    assert url in description
    assert re.search(words.replace("PORT", str(port)), sentence), sentence


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("tcp://nowhere.invalid:4190", "the name nowhere.invalid was not found: .*; is it misspelt in the URL?"),
        ("etcd://nowhere.invalid:2379/shop", f"nowhere.invalid:2379 cannot be reached: .*; {REACH}"),
        ("zookeeper://nowhere.invalid:2181/shop", f"nowhere.invalid:2181 cannot be reached: .*; {REACH}"),
        ("consul://nowhere.invalid:8500/shop", f"nowhere.invalid:8500 cannot be reached: .*; {REACH}"),
    ],
)
def test_a_host_that_is_unknown(told, url, words):
    description, sentence = told(url)

    assert url in description
    assert re.search(words, sentence), sentence


@pytest.mark.parametrize(
    ("url", "mend"),
    [
        ("tcp://nowhere", "a port from 1 to 65535 is needed, as in tcp://10.0.0.5:4190"),
        ("etcd://u:secret@", "etcd://HOST:PORT[,HOST:PORT...]/PREFIX is needed"),
        ("zookeeper://host/a//b", "zookeeper://HOST:PORT[,HOST:PORT...]/PREFIX is needed"),
        ("consul://secret@host:x/shop", "consul://[TOKEN@]HOST:PORT[,HOST:PORT...]/PREFIX is needed"),
        ("dns:", "dns://NAME:PORT is needed, such as dns://shop.default.svc.cluster.local:4000"),
        ("dns+srv://", "is needed, such as "),
        ("static:", "static:maths=tcp://10.0.0.5:4000,tcp://10.0.0.6:4000;words=tcp://... or static:FILE.json is needed"),
        ("static:/no/such/file.json", "/no/such/file.json"),
        ("local:http", "local:"),
        ("etc://host", "one of consul:, dns:, dns+srv:, etcd:, local:, static:, tcp:, zookeeper: is needed, such as tcp://10.0.0.5:4190"),
    ],
)
def test_a_url_that_makes_no_sense(url, mend):
    with pytest.raises(DirectoryConfigurationError) as refusal:
        open_directory(url)

    text = str(refusal.value)
    assert mend in text
    assert url.partition(":")[0] in text
    assert "secret" not in text


@pytest.mark.parametrize(
    ("url", "module", "extra"),
    [
        ("etcd://host", "h2.connection", "etcd"),
        ("etcd://host", "h2.connection", "etcd"),
        ("zookeeper://host", "kazoo.client", "zookeeper"),
        ("consul://host", "h11", "consul"),
        ("dns://name:4000", "dns.resolver", "dns"),
        ("dns+srv://_maths._tcp.test", "dns.resolver", "dns"),
    ],
)
def test_a_missing_extra(monkeypatch, url, module, extra):
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(DirectoryConfigurationError, match=rf"`pip install zmqservices\[{extra}\]`") as refusal:
        open_directory(url)

    assert url in str(refusal.value)
