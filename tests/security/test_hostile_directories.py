"""A hostile directory: readers accept only what nodes signed, and the log says what they ignored."""

import itertools
from contextlib import closing
from dataclasses import replace
from time import time

import pytest

from discovery import Note, Record, open_directory, protocol
from discovery.backend import Options, factory_for
from discovery.backends.consul import session as consul_session
from discovery.client.cache import DiskCache
from discovery.client.verified import Gate, VerifiedListener
from discovery.exceptions import DirectoryError
from discovery.interest import keys_of
from discovery.packing import pack, unpack
from discovery.record_blocks import BlockPacker, RecordBlock, filled
from discovery.security import envelopes
from discovery.security.authority import Authority
from discovery.security.envelopes import LIFETIME, SIGN_AGAIN, Signer, own_id
from discovery.security.keys import Keys
from discovery.server.registry_server import RegistryServer
from tests.discovery.engine_servers import ConsulServer, EtcdServer
from tests.discovery.stage import eventually
from tests.security.test_closed_directory import Peer, record, signed, withdrawal


class LetsAll:
    """What `Admission` would be in a registry that somebody broke into."""

    def present(self, key, signed):
        pass

    withdraw = present

    def certificate(self, key):
        pass

    def register(self, key, record):
        return record

    def renew(self, key, message):
        return []

    def put(self, key, notes):
        return notes, ""


@pytest.fixture(scope="module")
def broken(cluster):
    """A registry with the keys of a registry that lets everybody do everything, and tells what it is told."""
    server = RegistryServer("tcp://127.0.0.1:0", ttl=1.0, keys=Keys.read(cluster.folder / "registry"))
    server._admission = LetsAll()
    server.start()
    server.wait_bound(10.0)
    yield server
    server.stop(blocking=True)


@pytest.fixture(scope="module")
def etcd(tmp_path_factory):
    server = EtcdServer(tmp_path_factory.mktemp("etcd"))
    yield server
    server.close()


@pytest.fixture(scope="module")
def keys(cluster):
    made = {}

    def keys(name, **permissions):
        if name not in made:
            made[name] = Keys.read(cluster.keys(name, **permissions))
        return made[name]

    return keys


@pytest.fixture
def opened():
    directories = []

    def opened(keys, url, **more):
        directories.append(open_directory(url, keys=keys, ttl=1.0, **more))
        directories[-1].start()
        return directories[-1]

    yield opened
    for directory in directories:
        directory.stop()


def instances(directory, service="maths"):
    return {seen.record.instance for seen in directory.service(service)}


def forgeries(keys):
    """Records that somebody without the key of "maths" could make, and the reason that is told of each."""
    maths, thief = keys("maths", registers="maths"), keys("thief", registers="thief*")
    true = signed(maths, instance="true")
    return {
        "it is not signed": record(maths, instance="invented"),
        "belongs to another node": replace(
            record(maths, "thief", "stolen"),
            signed=_as(thief, record(maths, "thief", "stolen"), public_key=thief.pair.public.hex()),
        ),
        "names the key": replace(record(maths, "thief", "keyed"), signed=_as(thief, record(maths, "thief", "keyed"))),
        "is not among that": replace(record(thief, instance="unnamed"), signed=_as(thief, record(thief, instance="unnamed"))),
        "its signature is not that of": replace(
            record(maths, instance="broken"), signed=signed(maths, instance="broken").signed[:-1] + b"x"
        ),
        "the signed record is": replace(true, instance=own_id(maths, "renamed")),
    }


def _as(keys, record, **fields):
    """The bytes that a holder of `keys` signs of whatever record."""
    fields = {**replace(record, **fields).to_dict(), "signed": None}
    payload = {"at": time(), "until": time() + 60, "record": fields}
    return Signer(keys)._sign(envelopes.RECORD, payload)


def test_no_record_that_a_registry_invents_or_alters_is_believed(broken, keys, opened, caplog):
    maths, reader = keys("maths", registers="maths"), opened(keys("reader"), broken.url)
    honest = signed(maths, instance="honest", endpoints={"rpc": "tcp://127.0.0.1:1"})
    with Peer(broken, keys("thief", registers="thief*"), presents=False) as forger:
        # One before the reader comes, all others after it, and the honest record last, with other fields beside it.
        for forged in forgeries(keys).values():
            assert isinstance(forger.ask(protocol.Register(1, forged)), protocol.Ack)
        altered = replace(honest, endpoints={"rpc": "tcp://6.6.6.6:6"})
        assert isinstance(forger.ask(protocol.Register(2, altered)), protocol.Ack)
        eventually(lambda: own_id(maths, "honest") in instances(reader))
        late = opened(keys("reader"), broken.url)
        eventually(lambda: own_id(maths, "honest") in instances(late))

    for directory in (reader, late):
        assert instances(directory) == {own_id(maths, "honest")} and not instances(directory, "thief")
        assert directory.service("maths")[0].record.endpoints == {"rpc": "tcp://127.0.0.1:1"}
    for reason in forgeries(keys):
        assert f"from {broken.url}" in caplog.text and reason in caplog.text, reason
    # Told once, although it came twice.
    assert caplog.text.count(f"passed over the record {own_id(maths, 'invented')!r} of 'maths'") in (1, 2)


def test_records_in_blocks_are_not_believed_either(keys):
    true = signed(keys("maths", registers="maths"), instance="true")
    records = [true, *forgeries(keys).values()]
    entries = [(keys_of(one), [one.instance, 99, 99, 0.0, False], pack(one.to_dict())) for one in records[1:]]
    entries.append((keys_of(true), [true.instance, *true.rank, 0.0, False], pack(true.to_dict())))
    blocks = [RecordBlock.from_list(unpack(filled(block, 0.0))) for block in BlockPacker().pack(entries)]
    heard = Heard()

    snapshot = [protocol.Snapshot(0, "boot", False, 0, 1, [], [], True, blocks)]
    VerifiedListener(heard, Gate(keys("reader"))).on_up(heard, snapshot, 0.0)

    assert [(part.blocks, [one.instance for one, _, _ in part.entries]) for part in heard.snapshot] == [([], [true.instance])]


class Heard:
    """Keeps what it is told, from the address of a connection."""

    address = "tcp://127.0.0.1:1"
    is_own_word = False

    def on_up(self, connection, snapshot, now):
        self.snapshot = snapshot


def test_a_withdrawal_that_a_registry_invents_takes_nobody_away(broken, keys, opened, cluster, caplog):
    maths, thief = keys("maths", registers="maths"), keys("thief", registers="thief*")
    there, reader = opened(maths, cluster.registry.url), opened(keys("reader"), f"{cluster.registry.url},{broken.url}")
    there.announce(record(maths, instance="stays"))
    stays = own_id(maths, "stays")
    eventually(lambda: stays in instances(reader))
    eventually(lambda: all(one["state"] == "up" for one in reader.view().registries))
    own = next(seen.record for seen in reader.service("maths") if seen.record.instance == stays)

    with Peer(broken, thief, presents=False) as forger:
        forger.ask(protocol.Withdraw(1, "default", stays, 2**62, 9))
        forger.ask(protocol.Withdraw(1, "default", stays, int(time() * 1e6), 9))
        # Another instance each time: a registry passes on one withdrawal of each.
        forger.ask(replace(withdrawal(thief, replace(own, instance=own.instance + "x"))))
        mark = signed(maths, instance="mark")
        forger.ask(protocol.Register(2, mark))
    eventually(lambda: mark.instance in instances(reader))

    assert stays in instances(reader)
    assert f"passed over the withdrawal of {stays!r} from {broken.url}: it is not signed" in caplog.text
    there.withdraw(stays)
    eventually(lambda: stays not in instances(reader))


def test_a_record_that_was_withdrawn_or_replaced_is_not_brought_back(broken, keys, opened):
    maths, reader = keys("maths", registers="maths"), opened(keys("reader"), broken.url)
    old, new = (signed(maths, instance="moved", incarnation=5, version=version) for version in (1, 2))
    with Peer(broken, maths, presents=False) as registry:
        registry.ask(protocol.Register(1, new))
        eventually(lambda: new.instance in instances(reader))
        # The registry forgets what it listed, and replays what was listed before.
        broken._table._leases[new.instance].record = replace(old, incarnation=0)
        registry.ask(protocol.Register(2, old))
        registry.ask(protocol.Register(3, signed(maths, instance="mark-2")))
        eventually(lambda: own_id(maths, "mark-2") in instances(reader))
        assert [seen.record.version for seen in reader.service("maths") if seen.record.instance == new.instance] == [2]

        registry.ask(withdrawal(maths, new))
        eventually(lambda: new.instance not in instances(reader))
        broken._table._tombstones.clear()
        registry.ask(protocol.Register(4, new))
        registry.ask(protocol.Register(5, signed(maths, instance="mark-3")))
        eventually(lambda: own_id(maths, "mark-3") in instances(reader))
        assert new.instance not in instances(reader)


def test_a_record_of_yesterday_and_one_of_an_ended_certificate_are_not_shown(broken, keys, cluster, opened, caplog):
    maths = keys("maths", registers="maths")
    yesterday = Signer(maths, lambda: time() - LIFETIME - 120).record(record(maths, instance="old"))
    folder = Authority(cluster.folder, lambda: time() - 86_400).issue("ended", {"registers": ("maths",)}, 0.5)
    ended = Keys.read(folder, lambda: time() - 80_000)
    expired = Signer(ended).record(record(ended, instance="expired"))
    with Peer(broken, maths, presents=False) as registry:
        for one in (yesterday, expired, signed(maths, instance="mark-4")):
            registry.ask(protocol.Register(1, one))
    reader = opened(keys("reader"), broken.url)

    eventually(lambda: own_id(maths, "mark-4") in instances(reader))

    assert not {yesterday.instance, expired.instance} & instances(reader)
    assert "somebody shows an old record" in caplog.text and "of 'ended' ended" in caplog.text


def test_notes_that_nobody_signed_or_who_must_not_are_passed_over(broken, keys, opened, caplog):
    orders, thief = keys("orders", publishes="orders"), keys("thief", registers="thief*")
    reader = opened(keys("reader"), broken.url)

    def note(group, pattern="paid"):
        return Note("default", f"events:orders\0{group}", int(time() * 1e6), 60.0, {"pattern": pattern, "group": group})

    with Peer(broken, thief, presents=False) as forger:
        forger.ask(protocol.PutNotes(1, [note("invented"), Signer(thief).note(note("stolen"))]))
        forger.ask(protocol.PutNotes(2, [replace(Signer(orders).note(note("altered")), value={"pattern": "#"})]))
        forger.ask(protocol.PutNotes(3, [Signer(orders).note(note("true"))]))
    eventually(lambda: reader.view().notes)

    assert [found.key for found in reader.view().notes] == ["events:orders\0true"]
    reasons = {
        "invented": "it is not signed",
        "stolen": f"the certificate of {thief.certificate.name!r} handles nothing",
        "altered": "the signed note is another",
    }
    for group, why in reasons.items():
        assert f"passed over the note 'events:orders\\x00{group}' from {broken.url}: {why}" in caplog.text


def test_a_cache_that_somebody_wrote_is_not_believed(keys, opened, tmp_path, caplog):
    maths, url = keys("maths", registers="maths"), "tcp://127.0.0.1:9"
    cache = DiskCache(tmp_path, url, "default")
    true = signed(maths, instance="cached")
    cache.save([(true, 1.0), (record(maths, instance="invented"), 1.0), (replace(true, instance="x"), 1.0)])
    orders = Signer(keys("orders", publishes="orders"))
    good, bad = (Note("default", f"events:orders\0{group}", int(time() * 1e6), 60.0, {"pattern": "p"}) for group in ("a", "b"))
    cache.save_notes([orders.note(good), bad])

    reader = opened(keys("reader"), url, cache_dir=tmp_path)

    eventually(lambda: instances(reader))
    assert instances(reader) == {true.instance}
    assert [note.key for note in reader.view().notes] == [good.key]
    assert f"from the cache in {tmp_path}" in caplog.text


def test_own_records_are_signed_anew_in_time(cluster, keys, opened, monkeypatch):
    maths = keys("maths", registers="maths")
    there, reader = opened(maths, cluster.registry.url), opened(keys("reader"), cluster.registry.url)
    there.announce(replace(record(maths, instance="long"), ttl=0.3))
    eventually(lambda: own_id(maths, "long") in instances(reader))

    def at():
        found = next(seen.record for seen in reader.service("maths") if seen.record.instance == own_id(maths, "long"))
        return envelopes.unpacked(envelopes.Envelope.from_bytes(found.signed, "it").payload, "it")["at"]

    first = at()
    monkeypatch.setattr(envelopes, "SIGN_AGAIN", 0.0)
    there._client_state._sign_again_at = 0.0
    eventually(lambda: at() > first)
    monkeypatch.setattr(envelopes, "SIGN_AGAIN", SIGN_AGAIN)


@pytest.fixture(params=["etcd", "zookeeper", "consul"])
def engine(request, tmp_path):
    """A URL at which nobody was before."""
    if request.param == "consul":
        with closing(ConsulServer(tmp_path)) as server:
            yield f"{server.url}/closed"
    else:
        yield f"{request.getfixturevalue(request.param).url}/closed-{next(_numbers)}"


_numbers = itertools.count()


class Stranger:
    """Somebody who may write whatever an engine holds, and has no keys."""

    def __init__(self, url):
        self._session = factory_for(url)(url, Options("default", None, 10.0)).seeds[0].session("default")
        self._session.open(None)
        self.put_record, self.put_note = self._session.put_record, self._session.put_note

    def delete(self, record):
        self._session.put_record(record)
        self._session.delete_record(record.namespace, record.instance)

    def close(self):
        self._session.close()


def test_nothing_that_a_stranger_writes_into_an_engine_is_believed(engine, keys, opened, caplog, monkeypatch):
    monkeypatch.setattr(consul_session, "LOOK_EVERY", 0.5)
    maths, orders = keys("maths", registers="maths"), keys("orders", publishes="orders", registers="orders")
    there, publisher = opened(maths, engine), opened(orders, engine)
    there.announce(record(maths, instance="honest"))
    assert there.flush(15)
    honest = own_id(maths, "honest")
    with closing(Stranger(engine)) as stranger:
        reader = opened(keys("reader"), engine)
        eventually(lambda: honest in instances(reader))
        for forged in forgeries(keys).values():
            stranger.put_record(forged)
        far = int((time() + 3600) * 1e6)
        stranger.put_note(Note("default", "events:orders\0orders:paid", far, 7200.0, {"pattern": "paid"}))
        publisher.put("events:orders\0orders:paid", {"pattern": "paid", "group": "orders:paid"})
        assert publisher.flush(15)

        late = opened(keys("reader"), engine)
        eventually(lambda: honest in instances(late) and late.view().notes)
        eventually(lambda: reader.view().notes)
        for directory in (reader, late):
            assert instances(directory) == {honest} and not instances(directory, "thief")
            assert [(note.key, bool(note.signer)) for note in directory.view().notes] == [("events:orders\0orders:paid", True)]

        # In the place of the honest record, and then nothing there: its node writes it again.
        stranger.delete(replace(record(maths, instance="honest"), incarnation=2**50))
        again = opened(keys("reader"), engine)
        eventually(lambda: instances(again) == {honest})
        assert not instances(reader) - {honest} and not instances(late) - {honest}
    assert "it is not signed" in caplog.text and f"from {engine}" in caplog.text


def test_signed_records_come_and_go_in_an_engine(engine, keys, opened, monkeypatch):
    maths = keys("maths", registers="maths")
    there, reader = opened(maths, engine), opened(keys("reader"), engine)
    own = record(maths, instance="found", endpoints={"rpc": "tcp://127.0.0.1:1"})

    there.announce(own)

    eventually(lambda: own.instance in instances(reader))
    assert reader.service("maths")[0].record == own
    first = reader.service("maths")[0].record.signed
    # Signed anew, it is of the same version.
    monkeypatch.setattr(envelopes, "SIGN_AGAIN", 0.0)
    there._client_state._sign_again_at = there._client_state._renew_at = 0.0

    def late():
        with open_directory(engine, keys=keys("reader"), ttl=1.0) as directory:
            return directory.wait_ready(15) and next(iter(directory.service("maths"))).record.signed

    eventually(lambda: late() != first)
    there.withdraw(own.instance)
    eventually(lambda: not instances(reader))
    with pytest.raises(DirectoryError, match="cannot be signed by"):
        there.announce(Record("maths", "anything", public_key=own.public_key))
