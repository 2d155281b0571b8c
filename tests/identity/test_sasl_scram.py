"""SCRAM-SHA-256: the example of RFC 7677, channel binding, what is refused."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity.model import ScramSalt
from identity.sasl import AskSalt, Challenge, CheckProof, Done, Failed, Fault, Outcome, Scram
from identity.scram import NO_KEYS, ScramKeys, ScramRule, derived, proved
from tests.scram import ScramClient

# RFC 7677 §3
SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
NONCE = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
TOLD = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
FINAL = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
SIGNED = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def begun(message: bytes, *, plus: bool = False, binding: bytes = b"") -> tuple[Scram, Outcome]:
    exchange = Scram(plus=plus, binding=binding, nonce=NONCE)
    return exchange, exchange.step(message)


def salted(message: bytes, *, plus: bool = False, binding: bytes = b"") -> tuple[Scram, bytes]:
    exchange, asked = begun(message, plus=plus, binding=binding)
    assert isinstance(asked, AskSalt)
    told = asked.answered(ScramSalt(SALT, 4096))
    assert isinstance(told, Challenge)
    return exchange, told.octets


def test_the_example_of_rfc_7677() -> None:
    exchange, asked = begun(FIRST)
    assert isinstance(asked, AskSalt)
    assert asked.name == "user"
    assert asked.answered(ScramSalt(SALT, 4096)) == Challenge(TOLD)
    check = exchange.step(FINAL)
    assert isinstance(check, CheckProof)
    assert check.name == "user"
    keys = ScramKeys(4096, derived(b"pencil", SALT, 4096))
    found = proved({"password": keys}, 4096, check.auth_message, check.proof)
    assert found is not None
    assert found[0] == "password"
    assert check.checked(found[1]) == Challenge(SIGNED)
    assert exchange.step(b"") == Done()


def test_the_clients_side_of_the_tests_gives_the_same() -> None:
    client = ScramClient("user", "pencil", nonce="rOprNGfwEbeRWgbNEkqO")
    assert client.first() == FIRST
    assert client.final(TOLD) == FINAL
    assert client.is_server(SIGNED)


def test_the_server_has_the_last_word() -> None:
    exchange, told = salted(FIRST)
    check = exchange.step(ScramClient("user", "pencil", nonce="rOprNGfwEbeRWgbNEkqO").final(told))
    assert isinstance(check, CheckProof)
    assert isinstance(check.checked(b"signature"), Challenge)
    assert exchange.step(b"more") == Failed(Fault.MALFORMED)


def test_the_channel_is_bound() -> None:
    client = ScramClient("user", "pencil", header="p=tls-unique,,", binding=b"finished")
    exchange, told = salted(client.first(), plus=True, binding=b"finished")
    assert isinstance(exchange.step(client.final(told)), CheckProof)


@pytest.mark.parametrize("binding", [b"", b"another", b"finished2"])
def test_another_channel_is_refused(binding: bytes) -> None:
    client = ScramClient("user", "pencil", header="p=tls-unique,,", binding=binding)
    exchange, told = salted(client.first(), plus=True, binding=b"finished")
    assert exchange.step(client.final(told)) == Failed(Fault.REFUSED)


@pytest.mark.parametrize(
    ("header", "plus", "binding", "fault"),
    [
        # RFC 5802 §6
        (b"n,,", True, b"x", Fault.MALFORMED),
        (b"y,,", True, b"x", Fault.MALFORMED),
        (b"p=tls-unique,,", False, b"x", Fault.MALFORMED),
        (b"p=tls-unique,,", False, b"", Fault.MALFORMED),
        (b"p=tls-exporter,,", True, b"x", Fault.REFUSED),
        (b"p=tls-server-end-point,,", True, b"x", Fault.REFUSED),
        # The client could have bound the channel, and was not told that it may.
        (b"y,,", False, b"x", Fault.REFUSED),
        (b"y,,", False, b"", None),
        (b"n,,", False, b"x", None),
        (b"n,a=user,", False, b"", None),
        (b"n,a=admin,", False, b"", Fault.NOT_PERMITTED),
        (b"n,a=,", False, b"", Fault.MALFORMED),
        (b"n,a=a=b,", False, b"", Fault.MALFORMED),
        (b"z,,", False, b"", Fault.MALFORMED),
        (b"", False, b"", Fault.MALFORMED),
    ],
)
def test_headers(header: bytes, plus: bool, binding: bytes, fault: Fault | None) -> None:
    outcome = begun(header + b"n=user,r=abc", plus=plus, binding=binding)[1]
    assert isinstance(outcome, AskSalt) if fault is None else outcome == Failed(fault)


@pytest.mark.parametrize(
    "bare",
    [
        b"",
        b"n=user",
        b"r=abc,n=user",
        b"n=,r=abc",
        b"n=user,r=",
        b"n=user,r=a b",
        b"n=user,r=\xc3\xa9",
        b"n=us=er,r=abc",
        b"n=us=2cer,r=abc",
        b"n=\xff,r=abc",
        b"n=a\0b,r=abc",
        b"m=must,n=user,r=abc",
        b"n=user,r=abc,m=must",
        b"n=user,r=abc,",
        b"n=user,r=" + b"x" * 513,
        b"n=" + b"x" * 1025 + b",r=abc",
    ],
)
def test_malformed_first_messages(bare: bytes) -> None:
    assert begun(b"n,," + bare)[1] == Failed(Fault.MALFORMED)


def test_names_and_extensions() -> None:
    outcome = begun(b"n,,n=a=2Cb=3Dc@x,r=abc,t=what,u=ever")[1]
    assert isinstance(outcome, AskSalt)
    assert outcome.name == "a,b=c@x"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda final: b"", Fault.MALFORMED),
        (lambda final: final[:-1], Fault.MALFORMED),
        (lambda final: final.partition(b",p=")[0], Fault.MALFORMED),
        (lambda final: final.partition(b",p=")[0] + b",p=" + base64.b64encode(b"x" * 31), Fault.MALFORMED),
        (lambda final: final + b",x=y", Fault.MALFORMED),
        (lambda final: final.replace(b",p=", b",m=must,p="), Fault.MALFORMED),
        (lambda final: final.replace(b"c=biws", b"c=eSws"), Fault.REFUSED),
        (lambda final: final.replace(b"c=biws", b"c=" + base64.b64encode(b"n,,more")), Fault.REFUSED),
        (lambda final: final.replace(b"k0,p=", b"k1,p="), Fault.REFUSED),
        (lambda final: final.replace(b"r=rOpr", b"r=rOpR"), Fault.REFUSED),
    ],
)
def test_refused_final_messages(change, fault: Fault) -> None:
    exchange, _ = salted(FIRST)
    assert exchange.step(change(FINAL)) == Failed(fault)


def test_a_nonce_of_its_own_each_time() -> None:
    told = []
    for _ in range(2):
        asked = Scram(plus=False, binding=b"").step(FIRST)
        assert isinstance(asked, AskSalt)
        challenge = asked.answered(ScramSalt(SALT, 4096))
        assert isinstance(challenge, Challenge)
        told.append(challenge.octets)
    assert told[0] != told[1]
    assert len(told[0]) >= len(FIRST) + 20


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=3), st.booleans(), st.binary(max_size=4))
def test_any_octets_give_an_outcome(lines: list[bytes], plus: bool, binding: bytes) -> None:
    exchange = Scram(plus=plus, binding=binding)
    for line in lines:
        outcome = exchange.step(line)
        if isinstance(outcome, AskSalt):
            outcome = outcome.answered(ScramSalt(SALT, 4096))
        assert isinstance(outcome, Challenge | CheckProof | Failed)
        if not isinstance(outcome, Challenge):
            return


PIECES = [b"n,,", b"y,a=u,", b"n=u", b"r=abc", b",", b"c=biws", b"p=AAAA", b"m=x", b"t=x", b"=2C", b"=", b"\xff", b"\0"]


@given(st.lists(st.sampled_from(PIECES), max_size=10), st.lists(st.sampled_from(PIECES), max_size=10))
def test_any_pieces_give_an_outcome(first: list[bytes], final: list[bytes]) -> None:
    exchange = Scram(plus=False, binding=b"")
    outcome = exchange.step(b"".join(first))
    assert isinstance(outcome, AskSalt | Failed)
    if isinstance(outcome, AskSalt):
        outcome.answered(ScramSalt(SALT, 4096))
        assert isinstance(exchange.step(b"".join(final)), CheckProof | Failed)


TEXTS = st.text(min_size=1, max_size=20).filter(lambda text: "\0" not in text)


@given(TEXTS, TEXTS, st.binary(max_size=30), st.sampled_from(["n,,", "y,,"]))
def test_whoever_knows_the_password_proves_it(name: str, password: str, more: bytes, header: str) -> None:
    client = ScramClient(name, password, header=header)
    exchange, told = salted(client.first())
    check = exchange.step(client.final(told))
    assert isinstance(check, CheckProof)
    assert check.name == name
    held = {
        "app:other": ScramKeys(4096, derived(password.encode() + b"!" + more, SALT, 4096)),
        "password": ScramKeys(4096, derived(password.encode(), SALT, 4096)),
    }
    found = proved(held, 4096, check.auth_message, check.proof)
    assert found == ("password", client.server_signature)
    # Keys of another count are none.
    assert proved({"password": ScramKeys(5000, held["password"].keys)}, 4096, check.auth_message, check.proof) is None
    assert proved({"app:other": held["app:other"]}, 4096, check.auth_message, check.proof) is None


def test_as_much_is_done_for_nobody_as_for_many_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    import identity.scram

    compared: list[bytes] = []
    real = identity.scram._is_proof

    def counting(stored: bytes, message: bytes, proof: bytes) -> bool:
        compared.append(stored)
        return real(stored, message, proof)

    monkeypatch.setattr(identity.scram, "_is_proof", counting)
    keys = ScramKeys(4096, derived(b"x", SALT, 4096))
    counts = []
    for held in ({}, {"password": keys}, {f"app:{number}": keys for number in range(50)}, {"password": NO_KEYS}):
        compared.clear()
        proved(held, 4096, b"message", bytes(32))
        counts.append(len(compared))
    assert len(set(counts)) == 1


def test_a_stored_key_of_nothing_is_nobodys() -> None:
    # The place holders that even out the time have the keys of no password.
    assert proved({}, 4096, b"message", bytes(32)) is None


def test_rules() -> None:
    off, on = ScramRule(None, 4096), ScramRule(b"s" * 32, 4096)
    assert (off.is_on, on.is_on) == (False, True)
    assert on.salt("a@b") == on.salt("a@b") != on.salt("c@b")
    assert on.salt("a@b") != ScramRule(b"t" * 32, 4096).salt("a@b")
    made = on.make("a@b", (b"one", b"two"))
    assert made.keys[:64] == derived(b"one", on.salt("a@b"), 4096)
    assert len(made.keys) == 128
    assert on.suits(made)
    assert not ScramRule(b"s" * 32, 5000).suits(made)
    assert not on.suits(ScramKeys(4096, b""))
    for count in (4095, 1_000_001):
        with pytest.raises(ValueError, match="4096"):
            ScramRule(None, count)
    with pytest.raises(ValueError, match="off"):
        off.salt("a@b")
    assert made.keys.hex() not in repr(made)
