"""Which directory a URL opens, and the error for a URL that opens none."""

import json

import pytest

import discovery
from discovery import Capabilities, DirectoryConfigurationError, open_directory, register_backend
from discovery.client.seeds import bind_address, local_seed, split_tcp


@pytest.mark.parametrize(
    ("url", "text"),
    [
        (None, "directory local (tcp://127.0.0.1:4190)"),
        ("", "directory local (tcp://127.0.0.1:4190)"),
        ("local:", "directory local (tcp://127.0.0.1:4190)"),
        ("local:4191", "directory local (tcp://127.0.0.1:4191)"),
        ("tcp://10.0.0.5:4190", "directory tcp://10.0.0.5:4190 "),
        ("tcp://10.0.0.5:4190, tcp://10.0.0.6:4190", "directory tcp://10.0.0.5:4190,tcp://10.0.0.6:4190 "),
        ("tcp://registry.example:4190", "directory tcp://registry.example:4190 "),
        ("tcp://[::1]:4190", "directory tcp://[::1]:4190 "),
        ("static:maths=tcp://10.0.0.5:4000", "directory static:maths=tcp://10.0.0.5:4000"),
    ],
)
def test_a_url_opens(url, text, monkeypatch):
    monkeypatch.delenv("ZMQSERVICES_LOCAL_PORT", raising=False)

    assert open_directory(url).describe().startswith(text)


@pytest.mark.parametrize(
    "url",
    [
        "carrier://10.0.0.5:2379",
        "10.0.0.5:4190",
        "10.0.0.5",
        "tcp:/10.0.0.5:4190",
        "tcp://10.0.0.5",
        "tcp://10.0.0.5:",
        "tcp://10.0.0.5:port",
        "tcp://10.0.0.5:0",
        "tcp://10.0.0.5:70000",
        "tcp://10.0.0.5:²",
        "tcp://:4190",
        "tcp://::1:4190",
        "tcp://10.0.0.5:4190,",
        "tcp://10.0.0.5:4190,10.0.0.6:4190",
        "tcp://10.0.0.5:4190/path",
        ",".join(f"tcp://10.0.0.{number}:4190" for number in range(17)),
        "local:port",
        "local:0",
        "local://host",
        "static:",
        "static:=tcp://10.0.0.5:4000",
        "static:maths=",
        "static:maths=10.0.0.5:4000",
        "static:/no/such/file.json",
        "static:file.txt",
        5,
    ],
)
def test_an_invalid_url_is_quoted(url):
    with pytest.raises(DirectoryConfigurationError) as caught:
        open_directory(url)

    text = str(caught.value)
    assert "needed" in text or "cannot be read" in text or "is the most" in text
    assert repr(url) in text or any(repr(part) in text for part in str(url).split(",")) or "17" in text


def test_an_unknown_engine_gets_a_list_of_the_known_ones():
    with pytest.raises(
        DirectoryConfigurationError, match="no backend opens 'carrier:'; one of .*local:, static:, tcp:"
    ):
        open_directory("carrier://10.0.0.5:2379")


@pytest.mark.parametrize(
    "options", [{"namespace": ""}, {"namespace": 5}, {"ttl": 0}, {"ttl": "10"}]
)
def test_an_invalid_setting_is_refused(options):
    with pytest.raises(DirectoryConfigurationError, match="needed"):
        open_directory("local:", **options)


def test_the_environment_sets_the_local_port(monkeypatch):
    monkeypatch.setenv("ZMQSERVICES_LOCAL_PORT", "4999")
    assert local_seed(None, 10.0, True).address == "tcp://127.0.0.1:4999"
    assert local_seed(5000, 10.0, True).address == "tcp://127.0.0.1:5000"

    monkeypatch.setenv("ZMQSERVICES_LOCAL_PORT", "many")
    with pytest.raises(DirectoryConfigurationError, match="ZMQSERVICES_LOCAL_PORT is 'many'"):
        open_directory()


REGISTRIES = {"takes_keys": True, "carries_revocations": True}


@pytest.mark.parametrize(
    ("url", "can"),
    [
        ("local:4191", Capabilities(is_hosted_by_clients=True, **REGISTRIES, servers=(("127.0.0.1", 4191),))),
        ("tcp://10.0.0.5:4190,tcp://[::1]:4191", Capabilities(**REGISTRIES, servers=(("10.0.0.5", 4190), ("::1", 4191)))),
        ("static:maths=tcp://10.0.0.5:4000", Capabilities(can_announce=False, stores_notes=False, takes_keys=True)),
    ],
)
def test_a_directory_says_what_it_can_do(url, can):
    assert open_directory(url).capabilities == can


def test_urls_of_several_kinds_are_merged():
    directory = open_directory("tcp://10.0.0.5:4190,tcp://10.0.0.6:4190,etcd://me:secret@10.0.0.7,10.0.0.8:1/shop,local:4191")

    name = "tcp://10.0.0.5:4190,tcp://10.0.0.6:4190,etcd://me@10.0.0.7,10.0.0.8:1/shop,local (tcp://127.0.0.1:4191)"
    assert directory.describe().startswith(f"directory {name} ")
    servers = [("10.0.0.5", 4190), ("10.0.0.6", 4190), ("10.0.0.7", 2379), ("10.0.0.8", 1), ("127.0.0.1", 4191)]
    assert directory.capabilities == Capabilities(takes_keys=True, carries_revocations=True, servers=tuple(servers))


def test_a_static_directory_lists_its_records_alone():
    with pytest.raises(DirectoryConfigurationError, match="static: and the like stand alone"):
        open_directory("tcp://10.0.0.5:4190,static:maths=tcp://10.0.0.5:4000")


def test_another_scheme_can_be_registered(monkeypatch):
    from discovery import backend

    monkeypatch.setattr(backend, "_factories", dict(backend._factories))
    opened = []
    register_backend(
        "paper", lambda url, options: opened.append((url, options.namespace)) or open_directory("static:a=tcp://1.2.3.4:5")
    )

    open_directory("paper:phonebook", namespace="shop")

    assert opened == [("paper:phonebook", "shop")]


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("tcp://*:4190", "tcp://*:4190"),
        ("tcp://0.0.0.0:0", "tcp://0.0.0.0:0"),
        ("tcp://127.0.0.1:4190", "tcp://127.0.0.1:4190"),
        ("tcp://[::1]:4190", "tcp://[::1]:4190"),
    ],
)
def test_where_a_registry_is_to_listen(url, address):
    assert bind_address(url) == address


def test_a_name_to_listen_at_is_looked_up():
    assert bind_address("tcp://localhost:4190") == "tcp://127.0.0.1:4190"
    with pytest.raises(DirectoryConfigurationError, match="not found"):
        bind_address("tcp://no-such-host.invalid:4190")


def test_host_and_port_are_parted():
    assert split_tcp("tcp://[fe80::1]:80") == ("fe80::1", 80)


def endpoints(directory):
    return {(seen.record.service, seen.record.endpoints["rpc"]) for seen in directory.view().records.values()}


MATHS_AND_WORDS = {
    ("maths", "tcp://10.0.0.5:4000"),
    ("maths", "tcp://10.0.0.6:4000"),
    ("words", "tcp://10.0.0.5:4000"),
}


def test_static_records_stand_in_the_url():
    directory = open_directory(
        "static:maths=tcp://10.0.0.5:4000,tcp://10.0.0.6:4000; words=tcp://10.0.0.5:4000"
    )

    assert endpoints(directory) == MATHS_AND_WORDS
    assert all(instance.startswith("static-") for instance in directory.view().records)
    assert {seen.record.node for seen in directory.view().records.values()} == {""}


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_static_records_stand_in_a_file(suffix, tmp_path):
    path = tmp_path / f"services.{suffix}"
    services = {"maths": ["tcp://10.0.0.5:4000", "tcp://10.0.0.6:4000"], "words": "tcp://10.0.0.5:4000"}
    path.write_text(json.dumps(services))

    assert endpoints(open_directory(f"static:{path}")) == MATHS_AND_WORDS


@pytest.mark.parametrize("body", ["", "[]", "{", '{"maths": 5}', '{"maths": ["nowhere"]}', "\x00"])
@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_a_static_file_of_junk_is_named(body, suffix, tmp_path):
    path = tmp_path / f"services.{suffix}"
    path.write_text(body)

    with pytest.raises(DirectoryConfigurationError, match="needed|cannot be read"):
        open_directory(f"static:{path}")


def test_the_default_cache_folder_is_the_users(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")

    assert discovery.default_cache_dir() == "/somewhere/zmqservices"


def test_a_static_directory_in_json_takes_every_name():
    name = "events:<a b=c; d,e#f>"

    directory = open_directory(f"static:{json.dumps({name: ['tcp://10.0.0.5:4000']})}")

    (seen,) = directory.service(name)
    assert seen.record.endpoints == {"rpc": "tcp://10.0.0.5:4000"}


@pytest.mark.parametrize("text", ['{"maths": ["tcp://10.0.0.5:4000"]', "{" * 100_000, '{"maths": [7]}', "{}"])
def test_a_static_directory_that_is_no_such_json(text):
    with pytest.raises(DirectoryConfigurationError, match="is needed"):
        open_directory(f"static:{text}")
