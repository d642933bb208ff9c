"""Which certificates a process accepts, and why it refuses the others."""

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discovery.exceptions import SecurityError
from discovery.security.certificates import Certificate, SignedCertificate, issue
from discovery.security.revocations import Revocations
from discovery.security.signing import new_node_keys, new_signing_keys, sign
from discovery.security.verdicts import SKEW, Refusal, Trust
from tests.at_random import examples
from tests.security.stage import NOW, Stage, certificate_of


@pytest.fixture(scope="module")
def stage():
    return Stage()


@pytest.fixture
def trust(stage):
    return Trust(frozenset({stage.authority.public}))


def refusal(trust, signed, key, now=NOW + 1):
    with pytest.raises(Refusal) as caught:
        trust.believed(signed, key, now)
    return caught.value


def test_the_holder_of_the_key_is_believed_while_the_certificate_holds(stage, trust):
    signed = stage.signed(calls=("stock.*",))

    found = trust.believed(signed, stage.node.public, NOW + 1)

    assert (found.name, found.calls) == ("orders", ("stock.*",))


def test_a_minute_of_skew_is_forgiven_on_either_side(stage, trust):
    signed = stage.signed()

    assert trust.believed(signed, stage.node.public, NOW - SKEW)
    assert trust.believed(signed, stage.node.public, NOW + 3600 + SKEW)
    assert refusal(trust, signed, stage.node.public, NOW - SKEW - 1).reason == "early"
    assert refusal(trust, signed, stage.node.public, NOW + 3600 + SKEW + 1).reason == "expired"


def test_no_certificate_is_a_reason_of_its_own(stage, trust):
    assert refusal(trust, None, stage.node.public).reason == "missing"


def test_a_certificate_for_another_key_is_refused(stage, trust):
    found = refusal(trust, stage.signed(), new_node_keys().public)

    assert found.reason == "key"
    assert stage.node.public[:8].hex() in str(found)


def test_another_clusters_certificate_is_refused(stage, trust):
    found = refusal(trust, Stage().signed(), stage.node.public)

    assert found.reason == "authority"
    assert f"trusted: {stage.authority.public[:8].hex()}" in str(found)


def test_during_a_change_two_authorities_are_trusted(stage):
    other = Stage()
    trust = Trust(frozenset({stage.authority.public, other.authority.public}))

    assert trust.believed(stage.signed(), stage.node.public, NOW)
    assert trust.believed(other.signed(), other.node.public, NOW)


def test_an_altered_certificate_is_refused(stage, trust):
    honest = SignedCertificate.from_bytes(stage.signed())
    altered = honest.packed.replace(b"orders", b"admins")
    forged = SignedCertificate(altered, honest.authority, honest.signature).to_bytes()

    assert refusal(trust, forged, stage.node.public).reason == "signature"


def test_a_signature_for_another_purpose_is_none(stage, trust):
    packed = certificate_of(stage.node).pack()
    signature = sign(stage.authority, "zmqservices revocations 1", packed)
    forged = SignedCertificate(packed, stage.authority.public, signature).to_bytes()

    assert refusal(trust, forged, stage.node.public).reason == "signature"


def test_a_revoked_certificate_is_refused_and_the_next_one_is_not(stage):
    revoked = Revocations(stage.authority.public).with_serials({"a1"}, stage.authority)
    trust = Trust(frozenset({stage.authority.public}), {stage.authority.public: revoked})

    assert refusal(trust, stage.signed(), stage.node.public).reason == "revoked"
    assert trust.believed(stage.signed(serial="a2"), stage.node.public, NOW)


def test_an_authority_revokes_no_certificate_of_another(stage):
    other = new_signing_keys()
    revoked = Revocations(other.public).with_serials({"a1"}, other)
    trust = Trust(frozenset({stage.authority.public, other.public}), {other.public: revoked})

    assert trust.believed(stage.signed(), stage.node.public, NOW)


def test_a_list_of_revocations_travels_as_it_was_signed(stage):
    made = Revocations(stage.authority.public).with_serials({"a1", "b2"}, stage.authority)
    longer = made.with_serials({"c3"}, stage.authority)

    assert Revocations.from_bytes(made.signed) == made
    assert (longer.number, longer.serials) == (2, {"a1", "b2", "c3"})
    with pytest.raises(SecurityError, match="signature"):
        Revocations.from_bytes(made.signed.replace(b"a1", b"z9"))


def test_fields_of_a_newer_release_are_ignored_and_stay_signed(stage, trust):
    fields = {**msgpack.unpackb(certificate_of(stage.node).pack()), "teleports": ["everywhere"]}
    packed = msgpack.packb(fields)
    signed = SignedCertificate(packed, stage.authority.public, sign(stage.authority, "zmqservices certificate 1", packed))

    assert trust.believed(signed.to_bytes(), stage.node.public, NOW) == certificate_of(stage.node)


@pytest.mark.parametrize(
    "fields, quoted",
    [
        ({"name": ""}, "name of a certificate is ''"),
        ({"name": "a\nb"}, "name of a certificate"),
        ({"key": b"short"}, "key of a certificate is b'short'"),
        ({"ends": float("nan")}, "until of a certificate is nan"),
        ({"calls": ("",)}, r"calls of the certificate has ''; a pattern such as 'orders.\*' is needed"),
        ({"handles": ("one", "two\n")}, r"handles of the certificate has 'two\\n'; a pattern"),
        ({"calls": tuple("x" * 200 for _ in range(200))}, "use patterns"),
    ],
)
def test_nonsense_is_not_signed(stage, fields, quoted):
    with pytest.raises(SecurityError, match=quoted):
        issue(certificate_of(stage.node, **fields), stage.authority)


@given(st.binary(max_size=300) | st.none() | st.integers() | st.text())
def test_junk_is_refused_and_nothing_else_happens(junk):
    trust = Trust(frozenset({b"k" * 32}))

    with pytest.raises(Refusal):
        trust.believed(junk, b"x" * 32, NOW)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**40) | st.text(max_size=5) | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=8),
)


@settings(max_examples=examples(40))
@given(VALUES)
def test_packed_junk_is_refused_and_nothing_else_happens(value):
    with pytest.raises(SecurityError):
        Certificate.unpack(msgpack.packb(value))


def test_no_private_key_is_shown(stage):
    for shown in (repr(stage.authority), str(stage.node), repr([stage.node])):
        assert stage.node.private.hex() not in shown
        assert repr(stage.node.private) not in shown
        assert repr(stage.authority.private) not in shown
