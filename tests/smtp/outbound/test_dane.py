"""TLSA records against real handshakes, and the certificates that they are for."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import time
from pathlib import Path

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from runtime.dns import TLSA
from smtp.outbound import chain as chains
from smtp.outbound import dane
from smtp.outbound.chain import can_see_chain, matches, names_of, peer_chain, public_key_of, verify
from smtp.outbound.tlspolicy import HostPolicy, TlsPolicies
from smtp.outbound.tlsresult import TlsResult

from .pki import Made, authority, server, shaken

HOST = "mx.there.example"
ROOT = authority("root")
MID = authority("mid", ROOT)
LEAF = server(HOST, by=MID)


def record(usage: int, selector: int, matching: int, made: Made) -> TLSA:
    data = made.der if selector == 0 else made.spki
    if matching:
        data = hashlib.new({1: "sha256", 2: "sha512"}[matching], data).digest()
    return TLSA(usage, selector, matching, data)


def outcome(
    folder: Path, made: Made, *records: TLSA, with_above: bool = True, names: tuple[str, ...] = (HOST,)
) -> object:
    policies = TlsPolicies()
    policy = HostPolicy(True, "dane", names, records, "dane")
    tls = shaken(policies.context(policy), made.server(folder, with_above=with_above), policy.server_name)
    problem = policies.check(policy, tls)
    return None if problem is None else problem.result


@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching", [0, 1, 2])
def test_every_form_of_a_record(tmp_path: Path, selector: int, matching: int) -> None:
    other = server(HOST, by=MID)
    assert outcome(tmp_path, LEAF, record(3, selector, matching, LEAF)) is None
    assert outcome(tmp_path, LEAF, record(3, selector, matching, other)) is TlsResult.VALIDATION_FAILURE
    for anchor in (MID, ROOT):
        assert outcome(tmp_path, LEAF, record(2, selector, matching, anchor)) is None
    assert outcome(tmp_path, LEAF, record(2, selector, matching, authority("root"))) is not None
    # The server's own certificate is no trust anchor, nor is an anchor the server's own certificate.
    assert outcome(tmp_path, LEAF, record(2, selector, matching, LEAF)) is not None
    assert outcome(tmp_path, LEAF, record(3, selector, matching, MID)) is not None
    # One record of several is enough: a rollover of keys.
    assert outcome(tmp_path, LEAF, record(3, selector, matching, other), record(3, selector, matching, LEAF)) is None


def test_an_end_entity_is_proved_whatever_its_name_and_date(tmp_path: Path) -> None:
    made = server("elsewhere.example", days=-5, use=ExtendedKeyUsageOID.CLIENT_AUTH)
    assert outcome(tmp_path, made, record(3, 1, 1, made)) is None


def test_below_an_anchor_the_name_and_the_date_count(tmp_path: Path) -> None:
    anchor = record(2, 0, 1, MID)
    assert outcome(tmp_path, server("elsewhere.example", by=MID), anchor) is TlsResult.HOST_MISMATCH
    assert outcome(tmp_path, server(HOST, by=MID, days=-5), anchor) is TlsResult.EXPIRED
    assert outcome(tmp_path, server(HOST, by=authority("old", ROOT, days=-5)), record(2, 0, 1, ROOT)) is (
        TlsResult.NOT_TRUSTED
    )
    client = server(HOST, by=MID, use=ExtendedKeyUsageOID.CLIENT_AUTH)
    assert outcome(tmp_path, client, anchor) is TlsResult.VALIDATION_FAILURE
    assert outcome(tmp_path, server("there.example", by=MID), anchor, names=(HOST, "there.example")) is None
    assert outcome(tmp_path, server("*.there.example", by=MID), anchor) is None
    # RFC 7672 §3.2.2: an old certificate without subjectAltName is for its common name.
    assert outcome(tmp_path, server(by=MID, common=HOST), anchor) is None


def test_what_a_server_has_signed_with_its_own_certificate_is_nothing(tmp_path: Path) -> None:
    stolen = server(HOST, by=LEAF)
    assert outcome(tmp_path, stolen, record(2, 0, 1, ROOT)) is TlsResult.NOT_TRUSTED


def test_an_anchor_that_is_not_sent(tmp_path: Path) -> None:
    below = server(HOST, by=ROOT)
    assert outcome(tmp_path, below, record(2, 0, 1, ROOT), with_above=False) is TlsResult.VALIDATION_FAILURE
    # A whole certificate in the record need not be sent.
    assert outcome(tmp_path, below, record(2, 0, 0, ROOT), with_above=False) is None


def test_which_records_count() -> None:
    good = [
        record(usage, selector, matching, LEAF) for usage in (2, 3) for selector in (0, 1) for matching in (0, 1, 2)
    ]
    bad = [
        record(0, 0, 1, LEAF),
        record(1, 1, 1, LEAF),
        TLSA(4, 0, 1, b"x" * 32),
        TLSA(255, 0, 1, b"x" * 32),
        TLSA(3, 2, 1, b"x" * 32),
        TLSA(3, 1, 3, b"x" * 32),
        TLSA(3, 1, 1, b"x" * 31),
        TLSA(3, 1, 2, b"x" * 32),
        TLSA(3, 1, 0, b""),
    ]
    assert dane.usable([*bad, *good]) == tuple(good)
    assert dane.usable(good, chain=False) == tuple(one for one in good if one.usage == 3)
    assert len(dane.usable(good * 100)) == dane.RECORDS_MAX


def test_without_the_wrapper_anchors_prove_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert can_see_chain()
    monkeypatch.setattr(dane, "peer_chain", lambda tls: None)
    assert outcome(tmp_path, LEAF, record(2, 0, 1, MID)) is TlsResult.VALIDATION_FAILURE
    assert outcome(tmp_path, LEAF, record(2, 0, 1, MID), record(3, 1, 1, LEAF)) is None


def test_the_wrapper_says_when_it_does_not_know() -> None:
    class Bare:
        pass

    assert peer_chain(Bare()) is None  # type: ignore[arg-type]  # another Python's object


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_the_chain_over_a_real_connection(tmp_path: Path, loop: str) -> None:
    async def talk() -> tuple[bytes, ...] | None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=LEAF.server(tmp_path))
        async with listening:
            port = listening.sockets[0].getsockname()[1]
            policies = TlsPolicies()
            context = policies.context(HostPolicy(True, "dane", (HOST,), (), "dane"))
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=HOST)
            found = peer_chain(writer.get_extra_info("ssl_object"))
            policy = HostPolicy(True, "dane", (HOST,), (record(2, 1, 1, MID),), "dane")
            assert policies.check(policy, writer.get_extra_info("ssl_object")) is None
            writer.close()
            del reader
            return found

    with asyncio.Runner(loop_factory=uvloop.new_event_loop if loop == "uvloop" else None) as runner:
        assert runner.run(talk()) == (LEAF.der, MID.der, ROOT.der)


def test_the_key_of_every_kind_of_certificate() -> None:
    for key in (rsa.generate_private_key(65537, 2048), ed25519.Ed25519PrivateKey.generate()):
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
        start = LEAF.certificate.not_valid_before_utc
        made = (
            x509.CertificateBuilder(name, name, key.public_key(), 5, start, LEAF.certificate.not_valid_after_utc)
            .sign(key, hashes.SHA256() if isinstance(key, rsa.RSAPrivateKey) else None)
            .public_bytes(serialization.Encoding.DER)
        )
        expected = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        assert public_key_of(made) == expected
    assert public_key_of(LEAF.der) == LEAF.spki


@given(st.one_of(st.binary(max_size=60), st.integers(0, len(LEAF.der)).map(lambda n: LEAF.der[:n])))
def test_what_is_no_certificate_is_told(octets: bytes) -> None:
    if octets != LEAF.der:
        with pytest.raises(ValueError, match="certificate"):
            public_key_of(octets)
    for selector in (0, 1):
        assert not dane.matches(TLSA(3, selector, 0, b"something else"), octets)
    assert (verify([octets], [MID.der], [HOST], time.time()) is None) == (octets == LEAF.der)


@pytest.mark.parametrize(
    ("name", "pattern", "good"),
    [
        ("mx.example", "MX.example.", True),
        ("mx.example", "*.example", True),
        ("a.mx.example", "*.example", False),
        ("example", "*.example", False),
        ("mx.example", "m*.example", False),
        ("mx.example", "*", False),
        ("*.example", "*.example", False),
        (".example", "*.example", False),
    ],
)
def test_names(name: str, pattern: str, good: bool) -> None:
    assert matches(name, pattern) is good


def test_names_of_a_certificate() -> None:
    assert names_of(server("A.example", "b.example", common="c.example").certificate) == ("a.example", "b.example")
    assert names_of(server(common="C.example").certificate) == ("c.example",)


def test_a_chain_is_bounded() -> None:
    assert verify([LEAF.der, *[MID.der] * 1000], [MID.der], [HOST], time.time()) is None
    assert chains.CHAIN_MAX < 100


def test_a_chain_of_no_leaf(tmp_path: Path) -> None:
    assert verify([], [MID.der], [HOST], time.time()) is not None
    assert isinstance(LEAF.server(tmp_path), ssl.SSLContext)
