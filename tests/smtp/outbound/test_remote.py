"""What comes of a letter at destinations that work, and at those that do not: over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import pytest

from smtp.outbound.remote import SmtpTransport
from smtp.outbound.transport import TEXT_MAX, Phase, Status
from storage.model import RemoteRecipient
from storage.port import Unavailable
from tests.dnsserver import DnsServer
from tests.patience import attempts
from tests.smtp.outbound.letters import TEXT, letter, only, until
from tests.smtp.outbound.peers import EXTENSIONS, Peer

Make = Callable[..., SmtpTransport]
STUFFED = TEXT.replace(b"\r\n.", b"\r\n..")


async def test_a_letter_is_taken(peer: Peer, make: Make) -> None:
    result = await make(peer.port).send(letter(head=b"DKIM-Signature: x\r\n"))
    outcome = only(result)
    assert (outcome.status, outcome.phase, outcome.code, outcome.enhanced) == (Status.SENT, Phase.TEXT, 250, "2.0.0")
    assert outcome.remote == f"mx.d.example [127.0.0.1]:{peer.port}"
    assert outcome.text == "2.0.0 Taken"
    (taken,) = peer.taken
    assert taken.text == b"DKIM-Signature: x\r\n" + STUFFED
    assert taken.mail == f"MAIL FROM:<a@here.example> SIZE={len(TEXT) + 19}"
    assert taken.rcpt == ("RCPT TO:<x@d.example>",)
    assert result.relayed_dsn
    assert not result.destination_down


async def test_text_without_an_end_of_line_gets_one(peer: Peer, make: Make) -> None:
    await make(peer.port).send(letter(text=b"Subject: x\r\n\r\nno end"))
    assert peer.taken[0].text == b"Subject: x\r\n\r\nno end\r\n"


async def test_without_pipelining_each_command_waits_for_its_reply(peer: Peer, make: Make) -> None:
    peer.extensions = ("8BITMIME",)
    transport = make(peer.port)
    for _ in range(2):
        assert only(await transport.send(letter())).status is Status.SENT
    assert peer.taken[1].mail == "MAIL FROM:<a@here.example>"


async def test_a_server_without_ehlo_is_greeted_with_helo(peer: Peer, make: Make) -> None:
    peer.replies["EHLO"] = "502 5.5.1 What?"
    assert only(await make(peer.port).send(letter())).status is Status.SENT
    assert peer.said("HELO") == ["HELO here.example"]


async def test_a_long_letter_is_streamed_with_its_dots(peer: Peer, make: Make) -> None:
    text = b"Subject: long\r\n\r\n" + b".begins with a dot\r\n" * 100_000
    assert only(await make(peer.port).send(letter(text=text))).status is Status.SENT
    assert peer.taken[0].text == text.replace(b"\r\n.", b"\r\n..")


async def test_sessions_are_used_again(peer: Peer, make: Make) -> None:
    transport = make(peer.port)
    results = [await transport.send(letter()) for _ in range(5)]
    assert [result.reused for result in results] == [False, True, True, True, True]
    assert peer.connections == 1
    await transport.close()
    assert peer.said("QUIT")


async def test_idle_sessions_end(peer: Peer, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smtp.outbound.pool.IDLE_SECONDS", 0.05)
    await make(peer.port).send(letter())
    await until(lambda: peer.open == 0)
    assert peer.said("QUIT")


async def test_a_session_has_a_number_of_messages(peer: Peer, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smtp.outbound.pool.MESSAGES_MAX", 2)
    transport = make(peer.port)
    for _ in range(5):
        await transport.send(letter())
    assert peer.connections == 3


async def test_the_server_s_limit_of_messages_is_kept(peer: Peer, make: Make) -> None:
    peer.extensions = (*EXTENSIONS, "LIMITS MAILMAX=2")
    transport = make(peer.port)
    for _ in range(4):
        assert only(await transport.send(letter())).status is Status.SENT
    assert peer.connections == 2


async def test_a_session_that_died_while_it_was_idle_is_replaced_unseen(peer: Peer, make: Make) -> None:
    transport = make(peer.port)
    await transport.send(letter())
    peer.hang_up()
    result = await transport.send(letter())
    assert only(result).status is Status.SENT
    assert (peer.connections, len(peer.taken)) == (2, 2)


async def test_a_session_that_takes_no_more_mail_is_replaced_unseen(peer: Peer, make: Make) -> None:
    peer.mails_max = 2
    transport = make(peer.port)
    for _ in range(5):
        assert only(await transport.send(letter())).status is Status.SENT
    assert (peer.connections, len(peer.taken)) == (3, 5)


async def test_a_refused_recipient_leaves_the_others_and_the_session(peer: Peer, make: Make) -> None:
    peer.replies["RCPT b@d.example"] = "550-5.1.1 No such user\r\n550 5.1.1 b@d.example here"
    peer.replies["RCPT c@d.example"] = "450 4.2.1 Later"
    transport = make(peer.port)
    outcomes = (await transport.send(letter("a@d.example", "b@d.example", "c@d.example"))).outcomes
    assert {address: outcome.status for address, outcome in outcomes.items()} == {
        "a@d.example": Status.SENT,
        "b@d.example": Status.FAILED,
        "c@d.example": Status.DEFERRED,
    }
    refused = outcomes["b@d.example"]
    assert (refused.phase, refused.code, refused.enhanced) == (Phase.RCPT, 550, "5.1.1")
    assert refused.text == "5.1.1 No such user b@d.example here"
    assert peer.taken[0].rcpt == ("RCPT TO:<a@d.example>",)
    await transport.send(letter("b@d.example"))
    await transport.send(letter("a@d.example"))
    assert (peer.connections, len(peer.taken)) == (1, 2)


@pytest.mark.parametrize("extensions", [EXTENSIONS, ("8BITMIME",)])
async def test_all_recipients_refused_and_data_taken_all_the_same(
    peer: Peer, make: Make, extensions: tuple[str, ...]
) -> None:
    peer.extensions = extensions
    peer.replies["RCPT"] = ["550 5.1.1 Nobody", "250 Ok"]
    peer.replies["DATA"] = "354 Go on"
    transport = make(peer.port)
    assert only(await transport.send(letter())).status is Status.FAILED
    assert only(await transport.send(letter())).status is Status.SENT
    assert len(peer.taken) == 1
    assert peer.connections == 1


async def test_many_recipients_go_in_several_transactions(peer: Peer, make: Make) -> None:
    everyone = [f"u{n}@d.example" for n in range(250)]
    outcomes = (await make(peer.port).send(letter(*everyone))).outcomes
    assert {outcome.status for outcome in outcomes.values()} == {Status.SENT}
    assert [len(taken.rcpt) for taken in peer.taken] == [100, 100, 50]


async def test_too_many_recipients_go_in_another_transaction(peer: Peer, make: Make) -> None:
    peer.replies["RCPT"] = ["250 Ok", "452 4.5.3 Too many", "552 Too many", "250 Ok"]
    outcomes = (await make(peer.port).send(letter("a@d.example", "b@d.example", "c@d.example"))).outcomes
    assert {outcome.status for outcome in outcomes.values()} == {Status.SENT}
    assert [len(taken.rcpt) for taken in peer.taken] == [1, 2]


# -- destinations out of order


FAULTS = [
    # what, extensions, phase, status, code, enhanced, doubtful, down
    ({"replies": {"CONNECT": "451 4.3.2 Not now"}}, Phase.GREETING, Status.DEFERRED, 451, "4.3.2", False, True),
    ({"replies": {"CONNECT": "421 Busy"}}, Phase.GREETING, Status.DEFERRED, 421, "4.3.2", False, True),
    ({"replies": {"CONNECT": "554 5.7.1 Go away"}}, Phase.GREETING, Status.FAILED, 554, "5.7.1", False, False),
    ({"replies": {"CONNECT": "521 No mail"}}, Phase.GREETING, Status.FAILED, 521, "5.3.2", False, False),
    ({"replies": {"CONNECT": b"SSH-2.0-OpenSSH_9\r\n"}}, Phase.GREETING, Status.DEFERRED, None, "4.4.2", False, True),
    ({"replies": {"CONNECT": b"2" * 9000}}, Phase.GREETING, Status.DEFERRED, None, "4.4.2", False, True),
    ({"replies": {"CONNECT": b"\x00\xff\x80\r\n"}}, Phase.GREETING, Status.DEFERRED, None, "4.4.2", False, True),
    ({"close": {"CONNECT"}}, Phase.GREETING, Status.DEFERRED, None, "4.4.2", False, True),
    ({"silent": {"CONNECT"}}, Phase.GREETING, Status.DEFERRED, None, "4.4.1", False, True),
    ({"unending": {"CONNECT"}}, Phase.GREETING, Status.DEFERRED, None, "4.4.2", False, True),
    ({"unending": {"EHLO"}}, Phase.EHLO, Status.DEFERRED, None, "4.4.2", False, True),
    ({"replies": {"EHLO": "421 4.7.0 No"}}, Phase.EHLO, Status.DEFERRED, 421, "4.7.0", False, True),
    ({"replies": {"EHLO": "550 No", "HELO": "550 5.7.1 No"}}, Phase.EHLO, Status.FAILED, 550, "5.7.1", False, False),
    ({"close": {"EHLO"}}, Phase.EHLO, Status.DEFERRED, None, "4.4.2", False, True),
    ({"replies": {"MAIL": "451 4.7.1 Greylisted"}}, Phase.MAIL, Status.DEFERRED, 451, "4.7.1", False, False),
    ({"replies": {"MAIL": "553 Bad sender"}}, Phase.MAIL, Status.FAILED, 553, "5.1.3", False, False),
    ({"replies": {"MAIL": "421 4.3.2 Ending"}}, Phase.MAIL, Status.DEFERRED, 421, "4.3.2", False, False),
    ({"replies": {"MAIL": b"no\r\n"}}, Phase.MAIL, Status.DEFERRED, None, "4.4.2", False, False),
    ({"silent": {"MAIL"}}, Phase.MAIL, Status.DEFERRED, None, "4.4.1", False, False),
    ({"replies": {"RCPT": "450 4.2.0 Greylisted"}}, Phase.RCPT, Status.DEFERRED, 450, "4.2.0", False, False),
    ({"replies": {"RCPT": "421 4.3.2 Ending"}}, Phase.RCPT, Status.DEFERRED, 421, "4.3.2", False, False),
    ({"replies": {"RCPT": "452 4.2.2 Full"}}, Phase.RCPT, Status.DEFERRED, 452, "4.2.2", False, False),
    ({"close": {"RCPT"}}, Phase.RCPT, Status.DEFERRED, None, "4.4.2", False, False),
    ({"replies": {"DATA": "451 4.3.0 No"}}, Phase.DATA, Status.DEFERRED, 451, "4.3.0", False, False),
    ({"replies": {"DATA": "554 5.7.1 No"}}, Phase.DATA, Status.FAILED, 554, "5.7.1", False, False),
    ({"replies": {"DATA": "250 Ok"}}, Phase.DATA, Status.DEFERRED, 250, "4.5.0", False, False),
    ({"close": {"DATA"}}, Phase.DATA, Status.DEFERRED, None, "4.4.2", False, False),
    ({"silent": {"DATA"}}, Phase.DATA, Status.DEFERRED, None, "4.4.1", False, False),
    ({"replies": {"TEXT": "451 4.3.0 No"}}, Phase.TEXT, Status.DEFERRED, 451, "4.3.0", False, False),
    ({"replies": {"TEXT": "554 5.7.1 Spam"}}, Phase.TEXT, Status.FAILED, 554, "5.7.1", False, False),
    ({"replies": {"TEXT": "421 4.3.2 Ending"}}, Phase.TEXT, Status.DEFERRED, 421, "4.3.2", False, False),
    ({"replies": {"TEXT": "354 More"}}, Phase.TEXT, Status.DEFERRED, 354, "4.5.0", True, False),
    ({"replies": {"TEXT": b"?\r\n"}}, Phase.TEXT, Status.DEFERRED, None, "4.4.2", True, False),
    ({"close": {"TEXT"}}, Phase.TEXT, Status.DEFERRED, None, "4.4.2", True, False),
    ({"silent": {"TEXT"}}, Phase.TEXT, Status.DEFERRED, None, "4.4.1", True, False),
    ({"unending": {"TEXT"}}, Phase.TEXT, Status.DEFERRED, None, "4.4.2", True, False),
]


@pytest.mark.parametrize("extensions", [EXTENSIONS, ("8BITMIME",)], ids=["grouped", "singly"])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault[0]}")
async def test_faults(peer: Peer, make: Make, fault: tuple[object, ...], extensions: tuple[str, ...]) -> None:
    wrong, phase, status, code, enhanced, doubtful, down = fault
    peer.extensions = extensions
    for name, value in wrong.items():  # type: ignore[attr-defined]
        setattr(peer, name, value)
    # Where nothing is waited for in vain, nothing has to come in a hurry.
    mute = {"silent", "unending"} & set(wrong)  # type: ignore[call-overload]
    for attempt in attempts():
        with attempt as seconds:
            async with asyncio.timeout(60):
                result = await make(peer.port, timeout=seconds if mute else 30.0).send(letter())
            outcome = only(result)
            assert (outcome.status, outcome.phase, outcome.code) == (status, phase, code), outcome
            assert (outcome.enhanced, outcome.doubtful, result.destination_down) == (enhanced, doubtful, down), outcome
    assert outcome.text
    assert outcome.text.isprintable()
    assert len(outcome.text) <= TEXT_MAX
    assert outcome.remote == f"mx.d.example [127.0.0.1]:{peer.port}"
    await until(lambda: peer.open == 0 or not (peer.close or peer.silent or peer.unending))


async def test_closing_within_a_long_text_is_not_doubtful(peer: Peer, make: Make) -> None:
    peer.close = {"MIDDLE"}
    outcome = only(await make(peer.port).send(letter(text=b"a: b\r\n\r\n" + b"x" * 70 * 300_000 + b"\r\n")))
    assert (outcome.status, outcome.phase, outcome.doubtful) == (Status.DEFERRED, Phase.TEXT, False)


async def test_a_server_that_does_not_read_a_long_text_is_given_up(peer: Peer, make: Make) -> None:
    peer.silent = {"MIDDLE"}
    text = b"a: b\r\n\r\n" + b"x" * 30_000_000 + b"\r\n"
    for attempt in attempts():
        with attempt as seconds:
            async with asyncio.timeout(60):
                outcome = only(await make(peer.port, timeout=seconds).send(letter(text=text)))
            assert (outcome.status, outcome.phase, outcome.enhanced, outcome.doubtful) == (
                Status.DEFERRED, Phase.TEXT, "4.4.1", False,
            )  # fmt: skip


async def test_a_refusal_within_a_long_text_counts(peer: Peer, make: Make) -> None:
    peer.replies["MIDDLE"] = "552 5.3.4 Too long for me"
    outcome = only(await make(peer.port).send(letter(text=b"a: b\r\n\r\n" + b"x" * 30_000_000 + b"\r\n")))
    assert (outcome.status, outcome.phase, outcome.enhanced) == (Status.FAILED, Phase.TEXT, "5.3.4")
    assert not outcome.doubtful


async def test_nobody_listens(make: Make, dns: DnsServer) -> None:
    dns.add("d.example MX 10 mx.d.example.", "mx.d.example A 127.0.0.1")
    gone = await Peer().start()
    await gone.stop()
    result = await make(gone.port).send(letter())
    outcome = only(result)
    assert (outcome.status, outcome.phase, outcome.enhanced) == (Status.DEFERRED, Phase.CONNECT, "4.4.1")
    assert result.destination_down


async def test_text_of_a_hostile_server_is_cleaned(peer: Peer, make: Make) -> None:
    peer.replies["RCPT"] = b"550 \x1b[31mred\x07 \xff\xe2\x80\xae" + b"z" * 3000 + b"\r\n"
    outcome = only(await make(peer.port).send(letter()))
    assert outcome.status is Status.FAILED
    assert outcome.text.isprintable()
    assert len(outcome.text) == TEXT_MAX


# -- several hosts


@pytest.fixture
async def two(dns: DnsServer) -> object:
    """Two hosts of d.example, the first is better."""
    dns.add(
        "d.example MX 10 one.d.example.", "d.example MX 20 two.d.example.",
        "one.d.example A 127.0.0.2", "two.d.example A 127.0.0.3",
    )  # fmt: skip
    first = await Peer().start("127.0.0.2")
    second = await Peer().start("127.0.0.3", first.port)
    yield first, second
    await first.stop()
    await second.stop()


@pytest.mark.parametrize(
    "wrong",
    [
        {"replies": {"CONNECT": "421 Busy"}},
        {"replies": {"CONNECT": "554 No"}},
        {"replies": {"EHLO": "421 No"}},
        {"close": {"CONNECT"}},
        {"silent": {"CONNECT"}},
        {"replies": {"MAIL": "451 Not now"}},
        {"replies": {"MAIL": "421 Not now"}},
        {"close": {"MAIL"}},
        {"close": {"RCPT"}},
        {"close": {"DATA"}},
    ],
    ids=str,
)
async def test_the_next_host_takes_it(two: tuple[Peer, Peer], make: Make, wrong: dict[str, object]) -> None:
    first, second = two
    for name, value in wrong.items():
        setattr(first, name, value)
    for attempt in attempts():
        with attempt as seconds:
            second.taken.clear()
            result = await make(first.port, timeout=seconds if "silent" in wrong else 30.0).send(letter())
            assert only(result).status is Status.SENT
            assert only(result).remote.startswith("two.d.example")
            assert len(second.taken) == 1


@pytest.mark.parametrize("step", ["RCPT", "DATA", "TEXT"])
async def test_a_refusal_is_not_taken_to_the_next_host(two: tuple[Peer, Peer], make: Make, step: str) -> None:
    first, second = two
    first.replies[step] = "450 4.2.0 Greylisted"
    assert only(await make(first.port).send(letter())).status is Status.DEFERRED
    assert second.connections == 0


async def test_only_those_without_a_verdict_go_to_the_next_host(two: tuple[Peer, Peer], make: Make) -> None:
    first, second = two
    first.replies["RCPT a@d.example"] = "550 5.1.1 Nobody"
    first.close = {"DATA"}
    outcomes = (await make(first.port).send(letter("a@d.example", "b@d.example"))).outcomes
    assert outcomes["a@d.example"].status is Status.FAILED
    assert outcomes["b@d.example"].status is Status.SENT
    assert second.taken[0].rcpt == ("RCPT TO:<b@d.example>",)


async def test_after_the_whole_text_no_other_host_is_tried(two: tuple[Peer, Peer], make: Make) -> None:
    first, second = two
    first.close = {"TEXT"}
    outcome = only(await make(first.port).send(letter()))
    assert outcome.doubtful
    assert second.connections == 0


async def test_a_host_that_is_down_is_tried_last_for_a_while(two: tuple[Peer, Peer], make: Make) -> None:
    first, second = two
    first.silent = {"CONNECT"}
    transport = make(first.port, timeout=1.0)
    first_try = await transport.send(letter())
    await second.stop()
    second_peer = await Peer().start("127.0.0.3", first.port)
    again = await transport.send(letter())
    await second_peer.stop()
    assert first_try.seconds > 0.3
    assert only(again).status is Status.SENT
    assert first.connections == 1


async def test_several_addresses_of_one_host(make: Make, dns: DnsServer) -> None:
    dns.add("d.example MX 10 mx.d.example.", "mx.d.example A 127.0.0.2", "mx.d.example A 127.0.0.3")
    async with await Peer().start("127.0.0.3") as peer:
        assert only(await make(peer.port).send(letter())).status is Status.SENT


async def test_over_ipv6(make: Make, dns: DnsServer) -> None:
    dns.add("d.example MX 10 mx.d.example.", "mx.d.example AAAA ::1")
    async with await Peer().start("::1") as peer:
        outcome = only(await make(peer.port).send(letter()))
        assert outcome.remote == f"mx.d.example [IPv6:::1]:{peer.port}"
        literal = only(await make(peer.port).send(letter("x@[IPv6:::1]", domain="[IPv6:::1]")))
        assert (literal.status, literal.enhanced) == (Status.FAILED, "5.4.6")
        assert peer.connections == 1


async def test_a_server_with_our_own_name_is_ourselves(peer: Peer, make: Make) -> None:
    peer.name = "here.example"
    outcome = only(await make(peer.port).send(letter()))
    assert (outcome.status, outcome.enhanced) == (Status.FAILED, "5.4.6")


async def test_connections_go_out_from_the_source_that_is_named(peer: Peer, make: Make) -> None:
    seen = []
    serve = peer._serve

    async def watched(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("peername")[0])
        await serve(reader, writer)

    peer._serve = watched  # type: ignore[method-assign]
    await peer.stop()
    await peer.start("127.0.0.1")
    await make(peer.port, source=("127.0.0.9",)).send(letter())
    assert seen == ["127.0.0.9"]


# -- what a letter needs


async def test_parameters_are_passed_on(peer: Peer, make: Make) -> None:
    recipient = RemoteRecipient("x@d.example", {"NOTIFY": "SUCCESS,DELAY", "ORCPT": "rfc822;y@e.example"})
    await make(peer.port).send(letter(recipient, BODY="8BITMIME", RET="HDRS", ENVID="QQ314", HOLDFOR="10"))
    (taken,) = peer.taken
    assert taken.mail == f"MAIL FROM:<a@here.example> SIZE={len(TEXT)} BODY=8BITMIME RET=HDRS ENVID=QQ314"
    assert taken.rcpt == ("RCPT TO:<x@d.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;y@e.example",)


async def test_without_dsn_nothing_of_it_is_said(peer: Peer, make: Make) -> None:
    peer.extensions = ("PIPELINING", "8BITMIME")
    result = await make(peer.port).send(letter(RemoteRecipient("x@d.example", {"NOTIFY": "NEVER"}), RET="HDRS"))
    assert (peer.taken[0].mail, peer.taken[0].rcpt) == ("MAIL FROM:<a@here.example>", ("RCPT TO:<x@d.example>",))
    assert not result.relayed_dsn


async def test_the_null_sender(peer: Peer, make: Make) -> None:
    await make(peer.port).send(letter(sender=""))
    assert peer.taken[0].mail.startswith("MAIL FROM:<> ")


async def test_too_long_for_the_server_is_not_sent(peer: Peer, make: Make) -> None:
    peer.extensions = ("SIZE 20",)
    outcome = only(await make(peer.port).send(letter()))
    assert (outcome.status, outcome.enhanced) == (Status.FAILED, "5.3.4")
    assert not peer.said("MAIL")


@pytest.mark.parametrize("long", [False, True])
async def test_eight_bits_for_a_server_of_seven(peer: Peer, make: Make, long: bool) -> None:
    peer.extensions = ("PIPELINING",)
    text = b"a: b\r\n\r\n" + "é\r\n".encode() * (100_000 if long else 1)
    outcome = only(await make(peer.port).send(letter(text=text, BODY="8BITMIME")))
    assert (outcome.status, outcome.enhanced) == (Status.FAILED, "5.6.3")
    assert only(await make(peer.port).send(letter(BODY="8BITMIME"))).status is Status.SENT
    assert "BODY" not in peer.taken[0].mail


async def test_eight_bits_are_announced_where_nobody_did(peer: Peer, make: Make) -> None:
    await make(peer.port).send(letter(text="a: b\r\n\r\né\r\n".encode()))
    assert "BODY=8BITMIME" in peer.taken[0].mail


async def test_international_addresses(peer: Peer, make: Make) -> None:
    sent = letter(
        RemoteRecipient("né@d.example", {"ORCPT": "utf-8;né@d.example"}), sender="ü@bücher.example", SMTPUTF8=""
    )
    assert only(await make(peer.port).send(sent)).status is Status.SENT
    assert peer.taken[0].mail.startswith("MAIL FROM:<ü@bücher.example> ")
    assert " SMTPUTF8" in peer.taken[0].mail
    assert peer.taken[0].rcpt == ("RCPT TO:<né@d.example> ORCPT=utf-8;né@d.example",)


@pytest.mark.parametrize(
    "sent",
    [
        letter("né@d.example", SMTPUTF8=""),
        letter(sender="é@here.example", SMTPUTF8=""),
        letter(text="Subject: é\r\n\r\n".encode(), SMTPUTF8=""),
    ],
)
async def test_international_mail_for_a_server_that_is_not(peer: Peer, make: Make, sent: object) -> None:
    peer.extensions = ("PIPELINING", "8BITMIME")
    outcome = only(await make(peer.port).send(sent))  # type: ignore[arg-type]
    assert (outcome.status, outcome.enhanced) == (Status.FAILED, "5.6.7")


async def test_what_needs_no_smtputf8_goes_without(peer: Peer, make: Make) -> None:
    peer.extensions = ("PIPELINING", "8BITMIME", "DSN")
    recipient = RemoteRecipient("x@d.example", {"ORCPT": "utf-8;né@d.example"})
    await make(peer.port).send(letter(recipient, sender="a@bücher.example", SMTPUTF8=""))
    assert peer.taken[0].mail == "MAIL FROM:<a@xn--bcher-kva.example>"
    assert peer.taken[0].rcpt == (r"RCPT TO:<x@d.example> ORCPT=utf-8;n\x{E9}@d.example",)


@pytest.mark.parametrize("address", ["x\r\nDATA@d.example", "x\0@d.example", "\ud800@d.example"])
async def test_nothing_is_smuggled_into_commands(peer: Peer, make: Make, address: str) -> None:
    outcomes = (await make(peer.port).send(letter(address, "y@d.example", SMTPUTF8=""))).outcomes
    assert outcomes[address].enhanced == "5.1.3"
    assert outcomes["y@d.example"].status is Status.SENT
    outcome = only(await make(peer.port).send(letter(sender=address, SMTPUTF8="")))
    assert outcome.enhanced == "5.1.7"


# -- storage and the caller


async def test_storage_away_in_the_middle_leaves_no_message_behind(peer: Peer, make: Make) -> None:
    text = b"a: b\r\n\r\n" + b"x" * 1_000_000 + b"\r\n"
    sent = letter(text=text)

    async def read(start: int, end: int) -> bytes:
        if start > 300_000:
            raise Unavailable("storage is away")
        return text[start:end]

    object.__setattr__(sent, "read", read)
    with pytest.raises(Unavailable):
        await make(peer.port).send(sent)
    await until(lambda: peer.open == 0)
    assert peer.taken == []


async def test_an_attempt_that_is_broken_off_closes_its_connection(peer: Peer, make: Make) -> None:
    peer.silent = {"TEXT"}
    transport = make(peer.port, timeout=60.0)
    task = asyncio.create_task(transport.send(letter()))
    await until(lambda: bool(peer.taken))
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert len(transport._pool) == 0


async def test_many_at_once(peer: Peer, make: Make) -> None:
    transport = make(peer.port)
    results = await asyncio.gather(*(transport.send(letter(f"u{n}@d.example")) for n in range(100)))
    assert {only(result).status for result in results} == {Status.SENT}
    assert sorted(taken.rcpt for taken in peer.taken) == sorted((f"RCPT TO:<u{n}@d.example>",) for n in range(100))
    assert len(transport._pool) <= 20
