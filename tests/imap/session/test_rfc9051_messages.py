"""Requirements of RFC 9051 on messages and searches that no transcript shows."""

from __future__ import annotations

import pytest

from imap.session import House
from tests.imap.fakes import Client

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"


@pytest.fixture
async def rev2(house: House) -> Client:
    """INBOX with three messages selected."""
    client = await Client(house).signed_in()
    await client("e ENABLE IMAP4rev2")
    for subject in ("one", "=?utf-8?b?WsO8cmljaA==?=", "three"):
        await client("a APPEND INBOX", f"Subject: {subject}\r\n\r\nbody\r\n".encode())
    await client("s SELECT INBOX")
    return client


async def test_strings_are_utf8_where_no_charset_is_named(rev2: Client) -> None:
    # RFC 9051 §6.4.4; headers are compared decoded
    for key in ('SUBJECT "z\u00fcr"', 'CHARSET UTF-8 SUBJECT "z\u00fcr"', "CHARSET US-ASCII SUBJECT rich"):
        assert await rev2(f"x SEARCH {key}") == '* ESEARCH (TAG "x") ALL 2\nx OK Searched\n'


async def test_texts_are_compared_decoded(rev2: Client) -> None:
    # RFC 9051 §6.4.4: transfer encodings as well
    head = b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: "
    await rev2("a APPEND INBOX", head + b"base64\r\n\r\nWsO8cmljaA==\r\n")
    await rev2("a APPEND INBOX", head + b"quoted-printable\r\n\r\nZ=C3=BCri=\r\nch\r\n")
    for key in ('BODY "z\u00fcrich"', 'TEXT "\u00fcrich" SINCE 1-Jan-1990 BODY rich'):
        assert await rev2(f"x SEARCH {key}") == '* ESEARCH (TAG "x") ALL 4:5\nx OK Searched\n'


async def test_what_does_not_save_leaves_what_was_saved(rev2: Client) -> None:
    # RFC 9051 §6.4.4.1
    assert await rev2("x SEARCH RETURN (SAVE) SUBJECT one") == "x OK Searched\n"
    for line, ending in (
        ("SEARCH RETURN (SAVE) NONSENSE", "BAD"),
        ("SEARCH RETURN (SAVE) 99", "BAD"),
        ("SEARCH CHARSET KOI8-R SUBJECT x", "NO"),
        ("SEARCH RETURN (ALL) CHARSET KOI8-R SUBJECT x", "NO"),
        ("SEARCH ALL", "OK"),
        ("UID SEARCH RETURN (MIN COUNT) ALL", "OK"),
    ):
        assert f"x {ending}" in await rev2(f"x {line}"), line
        assert await rev2("x FETCH $ UID") == "* 1 FETCH (UID 1)\nx OK Fetched\n", line
    # what others expunge is taken out, and the numbers of the rest follow
    await rev2("x SEARCH RETURN (SAVE) 2:3")
    await rev2("x STORE 1:2 +FLAGS.SILENT (\\Deleted)")
    await rev2("x EXPUNGE")
    assert await rev2("x FETCH $ UID") == "* 1 FETCH (UID 3)\nx OK Fetched\n"


async def test_one_esearch_answers_all_options(rev2: Client) -> None:
    # RFC 9051 §6.4.4, §7.3.4
    said = await rev2("x UID SEARCH RETURN (MIN MAX ALL COUNT SAVE) ALL")
    assert said == '* ESEARCH (TAG "x") UID MIN 1 MAX 3 ALL 1:3 COUNT 3\nx OK Searched\n'
    for options in ("MIN", "MAX", "ALL", "MIN MAX", "MIN MAX ALL SAVE"):
        assert await rev2(f"x SEARCH RETURN ({options}) SUBJECT no") == '* ESEARCH (TAG "x")\nx OK Searched\n'


async def test_sections_that_are_none(rev2: Client) -> None:
    # RFC 9051 §6.4.5.1: MIME has a part before it
    for section in ("MIME", "MIME.1", "1.MIME.1", "HEADER.1", "TEXT.MIME", "0", "1.", ".1"):
        assert "x BAD" in await rev2(f"x FETCH 1 BODY.PEEK[{section}]"), section
    assert "x OK" in await rev2("x FETCH 1 BODY.PEEK[1.MIME]")


async def test_no_origin_is_told_unasked(rev2: Client) -> None:
    # RFC 9051 §7.5.2
    assert "BODY[]<0> {4}\n" in await rev2("x FETCH 1 BODY.PEEK[]<0.4>")
    for item in ("BODY.PEEK[]", "BODY.PEEK[HEADER]", "BODY.PEEK[1]", "BODY.PEEK[HEADER.FIELDS (Subject)]"):
        assert "]<" not in await rev2(f"x FETCH 1 {item}")


async def test_every_uid_command_tells_uids(rev2: Client) -> None:
    # RFC 9051 §6.4.9
    for line in ("UID FETCH 1:3 (FLAGS)", "UID FETCH 2 (RFC822.SIZE BODY.PEEK[])", "UID STORE 3 +FLAGS (\\Flagged)"):
        said = [part for part in (await rev2(f"x {line}")).splitlines() if " FETCH (" in part]
        assert said
        assert all("(UID " in part for part in said), line
    assert '* ESEARCH (TAG "x") UID' in await rev2("x UID SEARCH ALL")
    assert '* ESEARCH (TAG "x") UID\n' in await rev2("x UID SEARCH SUBJECT no")


async def test_a_move_flags_nothing(rev2: Client) -> None:
    # RFC 9051 §6.4.8: COPYUID first, no FETCH, and no \Deleted in the target
    said = (await rev2("x MOVE 1:2 Sent")).splitlines()
    assert said[0].startswith("* OK [COPYUID ")
    assert said[1:] == ["* 2 EXPUNGE", "* 1 EXPUNGE", "x OK Moved"]
    await rev2("x SELECT Sent")
    assert await rev2("x SEARCH DELETED") == '* ESEARCH (TAG "x")\nx OK Searched\n'
    assert await rev2("x SEARCH ALL") == '* ESEARCH (TAG "x") ALL 1:2\nx OK Searched\n'


async def test_a_copy_is_of_all_or_of_none(rev2: Client, house: House) -> None:
    # RFC 9051 §6.4.7
    other = await Client(house).signed_in()
    await other("s SELECT INBOX")
    await other("x STORE 2 +FLAGS (\\Deleted)")
    await other("x EXPUNGE")
    # what is not told yet can still be named
    assert "x NO [EXPUNGEISSUED]" in await rev2("x COPY 1:3 Sent")
    assert "(MESSAGES 0)" in await rev2("x STATUS Sent (MESSAGES)")


async def test_all_that_is_told_unasked_has_its_uid(rev2: Client, house: House) -> None:
    # RFC 9051 §7.5.2, §6.3.13
    other = await Client(house).signed_in()
    await other("s SELECT INBOX")
    await other("x STORE 1 +FLAGS (\\Flagged)")
    assert "* 1 FETCH (UID 1 FLAGS (\\Flagged))\n" in await rev2("x NOOP")
    await other("x STORE 2 +FLAGS (\\Flagged)")
    # not asked for by .SILENT: what the other did
    assert "* 2 FETCH (UID 2 FLAGS (\\Flagged \\Seen))\n" in await rev2("x STORE 1:2 +FLAGS.SILENT (\\Seen)")


async def test_octets_above_127_come_back_as_they_came(rev2: Client) -> None:
    # RFC 9051 §6.3.12, §4.3
    raw = b"Subject: caf\xc3\xa9\r\n\r\n" + bytes(range(128, 256)) + b"\r\n"
    assert "x OK" in await rev2("x APPEND INBOX", raw)
    await rev2.run("x FETCH 4 BODY.PEEK[]")
    assert b"{%d}\r\n%b)\r\n" % (len(raw), raw) in bytes(rev2.out.sent)


async def test_a_nul_is_not_kept(rev2: Client) -> None:
    # RFC 9051 §4.3, §7.5.2: what has one would have to be encoded
    assert "x NO [UNKNOWN-CTE]" in await rev2("x APPEND INBOX", b"Subject: x\r\n\r\na\0b\r\n")
    assert await rev2("x NOOP") == "x OK Done\n"


async def test_what_goes_wrong_leaves_no_trace(rev2: Client) -> None:
    # RFC 9051 §6.3.12: nothing is added where it goes wrong
    assert "x NO [TRYCREATE]" in await rev2("x APPEND Nowhere", MESSAGE)
    assert await rev2('x LIST "" Nowhere') == "x OK Listed\n"
    for line in ("COPY 1 Nowhere", "MOVE 1 Nowhere", "UID COPY 1 Nowhere", "UID MOVE 1 Nowhere"):
        assert "x NO [TRYCREATE]" in await rev2(f"x {line}")
        assert await rev2('x LIST "" Nowhere') == "x OK Listed\n"
    assert "x NO" in await rev2("x APPEND INBOX (\\Seen)", b"")
    assert "(MESSAGES 3)" in await rev2("x STATUS INBOX (MESSAGES)")
