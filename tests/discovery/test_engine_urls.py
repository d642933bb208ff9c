"""URLs of etcd and ZooKeeper, and what a user is told of a wrong one, of a missing library and of a server that is not there."""

import sys
from contextlib import closing

import pytest

from discovery import Capabilities, DirectoryConfigurationError, open_directory
from tests.discovery.stage import House, eventually
from tests.ports import free_port

#: The scheme, and the port where a URL names none.
ENGINES = [("etcd", 2379), ("zookeeper", 2181)]

#: What is offered to a user whose server was not reached.
MEND = "is it running, and are the URL's host and port right?"


@pytest.mark.parametrize(("scheme", "port"), ENGINES)
def test_its_capabilities_name_the_servers(scheme, port):
    can = open_directory(f"{scheme}://10.0.0.5,[fd00::5]:4000/shop").capabilities

    servers = (("10.0.0.5", port), ("fd00::5", 4000))
    assert can == Capabilities(locks=True, takes_keys=True, carries_revocations=True, servers=servers)


@pytest.mark.parametrize(("scheme", "port"), ENGINES)
def test_the_password_is_not_shown(scheme, port):
    directory = open_directory(f"{scheme}://me:secret@10.0.0.5:{port}/shop")

    assert directory.describe().startswith(f"directory {scheme}://me@10.0.0.5:{port}/shop ")


@pytest.mark.parametrize("scheme", ["etcd", "zookeeper"])
@pytest.mark.parametrize(
    ("rest", "words"),
    [
        ("", "no server; {}://HOST:PORT.*is needed"),
        ("me:secret@host:port", "'host:port' is no server"),
        ("host,/shop", "no server"),
        ("host//shop//x", "needed"),
        ("host/shop?tlss=yes", "option 'tlss'; .*tls, ca, cert, key are known"),
        ("host/shop?tls=perhaps", "'perhaps'; yes or no is needed"),
        ("me:secret@host/shop?key=FILE", "'key' and no 'cert'; cert=FILE is needed"),
        ("me:secret@host/shop?ca=/no/such/file", "cannot be read.*in PEM"),
    ],
)
def test_a_wrong_url_is_refused_without_its_password(scheme, rest, words):
    with pytest.raises(DirectoryConfigurationError, match=words.format(scheme)) as caught:
        open_directory(f"{scheme}://{rest}")

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("access", "words"),
    [
        ("all", "'all'; open is needed, or private or readable with a user and a password"),
        ("private", "'private'; open is needed"),
    ],
)
def test_access_to_zookeeper_is_one_of_three(access, words):
    with pytest.raises(DirectoryConfigurationError, match=words):
        open_directory(f"zookeeper://host/shop?access={access}")


@pytest.mark.parametrize(
    ("scheme", "module", "library"),
    [("etcd", "h2.connection", "h2"), ("zookeeper", "kazoo.client", "kazoo")],
)
def test_without_a_library_the_extra_is_named(monkeypatch, scheme, module, library):
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(DirectoryConfigurationError, match=rf"{library}.*`pip install zmqservices\[{scheme}\]`") as caught:
        open_directory(f"{scheme}://me:secret@10.0.0.5:4000")

    assert "me@10.0.0.5" in str(caught.value) and "secret" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["etcd", "zookeeper"])
def test_a_server_that_is_absent_is_named_once(scheme, caplog):
    port = free_port()
    with closing(House(f"{scheme}://127.0.0.1:{port}", ttl=1.0)) as house:
        directory = house.open()

        error = eventually(lambda: directory.view().registries[0]["error"])

        assert error == f"127.0.0.1:{port} cannot be reached: Connection refused; {MEND}"
        assert not directory.wait_ready(0)
        assert "cannot be reached" in directory.describe()
        assert caplog.text.count("cannot be reached") == 1
