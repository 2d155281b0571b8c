"""Awkward messages, the same ones every time: what real and broken senders write, and what nobody should.

`messages()` gives (name, raw) pairs. Every line ends with CRLF, there is no NUL and no bare CR or LF, no line is longer
than 998 bytes, so that each can be sent by SMTP as it is and come back byte for byte.
"""

from __future__ import annotations

import base64
import importlib.resources
import quopri
import random
import re
from collections.abc import Iterator

_LINE_END = re.compile(rb"\r\n|\r|\n")
_LINE_MAX = 998

_PLAIN = "From: Ann Author <ann@example.org>\nTo: bob@example.net\nDate: Mon, 1 Jan 2024 10:20:30 +0100\n"

_CHARSETS = (
    ("utf-8", "Grüße, 世界, мир 🎉"),
    ("iso-8859-1", "Grüße à tous"),
    ("iso-8859-2", "Zażółć gęślą jaźń"),
    ("iso-8859-15", "Preis: 10 €, œuvre"),
    ("windows-1252", "“curly” – 10 €"),
    ("windows-1251", "Привет, мир"),
    ("koi8-r", "Привет, мир"),
    ("koi8-u", "Привіт, світ"),
    ("iso-8859-7", "Καλημέρα κόσμε"),
    ("iso-8859-8", "שלום עולם"),
    ("windows-1256", "مرحبا بالعالم"),
    ("tis-620", "สวัสดี"),
    ("gb2312", "你好，世界"),
    ("gbk", "你好，世界"),
    ("gb18030", "你好，世界 𠀀"),
    ("big5", "你好，世界"),
    ("euc-kr", "안녕하세요"),
    ("euc-jp", "こんにちは"),
    ("shift_jis", "こんにちは"),
    ("iso-2022-jp", "こんにちは、世界"),
    ("utf-7", "Hi Mom -☺-!"),
)

_ADDRESSES = (
    "ann@example.org",
    "<ann@example.org>",
    "Ann <ann@example.org>",
    '"Ann, the first" <ann@example.org>',
    '"Ann \\"Q\\" Author" <ann@example.org>',
    "ann@example.org (Ann Author)",
    "ann@example.org (Ann (the (nested)) Author)",
    "Ann (comment) Author <ann@example.org>",
    '"quoted local"@example.org',
    '"a\\"b"@example.org',
    "ann@[192.0.2.1]",
    "ann@[IPv6:2001:db8::1]",
    "<@relay.example,@other.example:ann@example.org>",
    "Route <@relay.example:ann@example.org>",
    "Friends: ann@example.org, Bob <bob@example.net>;",
    "undisclosed-recipients:;",
    "Empty:;, ann@example.org",
    "A: a@x.example;, B: b@x.example;",
    "Friends: ann@example.org",
    "ann",
    "ann at example.org",
    "Ann Author",
    "ann@",
    "@example.org",
    "<>",
    "Ann <>",
    "<ann>",
    "Ann <ann>",
    "Ann <ann@example.org",
    "Ann ann@example.org>",
    "ann@example.org, ",
    ", ann@example.org",
    "ann@example.org,, bob@example.net",
    "ann@example.org; bob@example.net",
    "a@x.example, b@x.example, c@x.example",
    "ann @ example . org",
    "ann.(c)author@example.org",
    "ann..author@example.org",
    ".ann@example.org",
    "ann.@example.org",
    "=?utf-8?q?J=C3=BCrgen?= <j@example.org>",
    "=?utf-8?b?SsO8cmdlbg==?= =?utf-8?q?_M=C3=BCller?= <j@example.org>",
    '"=?utf-8?q?in_quotes?=" <j@example.org>',
    "Jürgen <j@example.org>",
    "jürgen@exämple.org",
    "(only a comment)",
    "(unclosed comment",
    '"unclosed quote <ann@example.org>',
    "",
    " ",
    "Ann\n <ann@example.org>",
    "ann@example.org,\n\tbob@example.net,\n   carol@example.net",
    "Dr. Ann A. Author <ann@example.org>",
    "Ann  Two  Spaces <ann@example.org>",
    "ann@example.org <other@example.org>",
    "'ann@example.org'",
    "Ann <mailto:ann@example.org>",
    "Ann\\Back <ann@example.org>",
    "Ann [brackets] <ann@example.org>",
    "ann@exa_mple.org",
    "a" * 64 + "@" + "b" * 60 + ".example",
    ", ".join(f"user{n}@example.org" for n in range(200)),
)

_SUBJECTS = (
    "Re: Hello",
    "RE: re: Fwd: Hello",
    "Fwd: [list] Re[2]: Hello",
    "[fwd: Hello]",
    "Hello (fwd)",
    "Re:",
    "",
    "   ",
    "a  b\tc",
    "folded\n subject",
    "folded\n\n",
    'with "quotes" and \\backslash',
    "=?utf-8?q?Gr=C3=BC=C3=9Fe?=",
    "=?UTF-8?B?R3LDvMOfZQ==?=",
    "=?utf-8?q?one?= =?utf-8?q?two?=",
    "=?utf-8?q?one?= plain =?utf-8?q?two?=",
    "=?utf-8?b?8J+Y?= =?utf-8?b?gA==?=",
    "=?iso-8859-1?q?caf=E9?=",
    "=?unknown-charset?q?caf=E9?=",
    "=?utf-8*en?q?with_language?=",
    "=?utf-8?q?broken",
    "=?utf-8?x?what?=",
    "=?utf-8?q?with space?=",
    "=?utf-8?b?not base64!?=",
    "=?utf-8?b?====?=",
    "Grüße roh",
    "🎉",
    "x" * 900,
    "{12} literal-looking",
    "NIL",
    "* BYE looks like IMAP",
    "%s %d %n",
)

_DATES = (
    "Mon, 1 Jan 2024 10:20:30 +0100",
    "Mon, 01 Jan 2024 10:20 -0800",
    "1 Jan 2024 10:20:30 GMT",
    "1 Jan 24 10:20:30 EST",
    "Mon, 1 Jan 2024 10:20:30 +0100 (CET)",
    "Mon (Monday), 1 (first) Jan 2024 10:20:30 +0000",
    "Monday, 1 January 2024 10:20:30 +0000",
    "1-Jan-2024 10:20:30 +0000",
    "Mon, 29 Feb 2023 10:20:30 +0000",
    "Mon, 29 Feb 2024 23:59:60 +0000",
    "Mon, 1 Jan 2024 25:20:30 +0000",
    "Mon, 1 Foo 2024 10:20:30 +0000",
    "Mon, 1 Jan 0000 10:20:30 +0000",
    "Mon, 1 Jan 9999 23:59:59 -2359",
    "Mon, 1 Jan 2024 10:20:30",
    "Mon, 1 Jan 2024 10:20:30 Z",
    "Mon, 1 Jan 2024 10:20:30 UT",
    "2024-01-01T10:20:30Z",
    "yesterday",
    "",
    "Mon,\n 1 Jan 2024\n 10:20:30 +0000",
    "Mon Jan  1 10:20:30 2024",
)

_TYPES = (
    "text/plain",
    "TEXT/PLAIN; CHARSET=UTF-8",
    "text",
    "text/",
    "/plain",
    "",
    ";",
    "text/plain;",
    "text/plain; charset",
    "text/plain; charset=",
    'text/plain; charset=""',
    'text/plain; charset="utf-8',
    'text/plain; charset="utf-8"; format=flowed; delsp=yes',
    "text/plain; charset=utf-8 garbage",
    "text/plain charset=utf-8",
    "text/plain;; charset=utf-8",
    "text/plain; charset=utf-8; charset=latin1",
    "text / plain ; charset = utf-8",
    "text/plain (comment); charset=utf-8 (another)",
    "text/html; charset=utf-8",
    "text/x-very.odd+type",
    "application/octet-stream; name=file.bin",
    'application/pdf; name="two words.pdf"',
    "application/x-odd; name==?utf-8?q?=C3=BC.pdf?=",
    'application/x-odd; name="=?utf-8?q?=C3=BC.pdf?="',
    "application/x-odd; name*=utf-8''%C3%BC.pdf",
    "application/x-odd; name*0=one; name*1=two",
    "application/x-odd; name*1=two; name*0=one",
    "application/x-odd; name*0*=utf-8''%C3%BC; name*1=plain%; name*2*=%20end",
    "application/x-odd; name*0=one; name*2=three",
    'application/x-odd; name="a\\"b\\\\c"',
    "application/x-odd; name=gr\u00fc\u00df.txt",
    "application/x-odd;\n name=folded;\n\tsize=3",
    "image/png; a=1; b=2; c=3; d=4; e=5; f=6; g=7; h=8; i=9; j=10",
    "message/rfc822",
    "message/delivery-status",
    "message/partial; id=x; number=1; total=2",
    'message/external-body; access-type=URL; URL="http://example.org/"',
    "message/global",
    "multipart",
    "multipart/",
    "multipart/mixed",
    "multipart/mixed; boundary=",
    'multipart/mixed; boundary=""',
    "multipart/alternative; boundary=never-seen",
    "audio/basic",
    "x-token/x-token",
    "text/plain, text/html",
    "text/plain\n\t(folded\n\tcomment)",
)

_EXTRA = (
    "Content-Disposition: attachment; filename=a.txt",
    'Content-Disposition: attachment; filename="two words.txt"; size=12',
    "Content-Disposition: inline",
    "Content-Disposition: ATTACHMENT",
    "Content-Disposition:",
    "Content-Disposition: attachment; filename*=utf-8''%E2%82%AC.txt",
    "Content-Disposition: attachment;\n filename*0*=utf-8''%E2;\n filename*1*=%82%AC;\n filename*2=.txt",
    "Content-ID: <part1@example.org>",
    "Content-ID:\n <folded@example.org>",
    "Content-Description: a plain text",
    "Content-Description: =?utf-8?q?ein_gr=C3=BCner_Text?=",
    "Content-Description: grün roh",
    "Content-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==",
    "Content-Language: en",
    "Content-Language: en, de-CH, fr (French)",
    "Content-Language: ,",
    "Content-Location: http://example.org/a.html",
    "Content-Location: http://example.org/\n very/long",
    "Content-Transfer-Encoding: 7bit",
    "Content-Transfer-Encoding: 8BIT",
    "Content-Transfer-Encoding: quoted-printable (comment)",
    "Content-Transfer-Encoding: x-unknown",
    "Content-Transfer-Encoding: base64 garbage",
    "Content-Transfer-Encoding:",
)

_MULTI = 'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="b"\n'

_STRUCTURES = {
    "simple": _MULTI + "\npreamble\n--b\n\none\n--b\nContent-Type: text/html\n\n<p>two\n--b--\nepilogue\n",
    "no-preamble": _MULTI + "\n--b\n\none\n--b--\n",
    "boundary-at-once": _MULTI + "--b\n\none\n--b--\n",
    "no-end": _MULTI + "\n--b\n\none\n--b\n\ntwo\n",
    "no-parts": _MULTI + "\nnothing here\n",
    "only-end": _MULTI + "\n--b--\n",
    "empty-part": _MULTI + "\n--b\n--b\n\n--b\n\n\n--b--\n",
    "header-only-part": _MULTI + "\n--b\nContent-Type: text/html\n--b--\n",
    "part-without-blank": _MULTI + "\n--b\nSubject: x\nno colon here\n--b--\n",
    "trailing-space": _MULTI + "\n--b  \n\none\n--b--  \n",
    "boundary-prefix": _MULTI + "\n--bxyz\n\none\n--b--xyz\n",
    "indented-boundary": _MULTI + "\n --b\n\none\n --b--\n",
    "end-then-more": _MULTI + "\n--b\n\none\n--b--\n--b\n\ntwo\n--b--\n",
    "open-at-end": _MULTI + "\n--b\n\none\n--b\n",
    "nested": _MULTI
    + "\n--b\nContent-Type: multipart/alternative; boundary=c\n\n--c\n\none\n--c\n\ntwo\n--c--\n--b\n\nthree\n--b--\n",
    "nested-unclosed": _MULTI + "\n--b\nContent-Type: multipart/mixed; boundary=c\n\n--c\n\none\n--b\n\ntwo\n--b--\n",
    "nested-same-boundary": _MULTI
    + "\n--b\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b--\n\ntwo\n--b--\n",
    "nested-prefix": _MULTI
    + "\n--b\nContent-Type: multipart/mixed; boundary=bb\n\n--bb\n\none\n--bb--\n--b\n\ntwo\n--b--\n",
    "nested-prefix-reverse": 'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="bb"\n'
    + "\n--bb\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b--\n--bb\n\ntwo\n--bb--\n",
    "boundary-with-dashes": 'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="b--"\n'
    + "\n--b--\n\none\n--b----\n",
    "long-boundary": "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="
    + "x" * 70
    + "\n\n--"
    + "x" * 70
    + "\n\none\n--"
    + "x" * 70
    + "--\n",
    "odd-boundary": 'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="\'()+_,-./:=? x"\n'
    + "\n--'()+_,-./:=? x\n\none\n--'()+_,-./:=? x--\n",
    "digest": "MIME-Version: 1.0\nContent-Type: multipart/digest; boundary=b\n"
    + "\n--b\n\nSubject: one\n\nbody\n--b\nContent-Type: text/plain\n\nSubject: no header\n--b--\n",
    "message": "MIME-Version: 1.0\nContent-Type: message/rfc822\n\nFrom: in@example.org\nSubject: inner\n\nbody\n",
    "message-empty": "MIME-Version: 1.0\nContent-Type: message/rfc822\n\n",
    "message-multipart": "MIME-Version: 1.0\nContent-Type: message/rfc822\n\n" + _MULTI + "\n--b\n\none\n--b--\n",
    "message-in-multipart": _MULTI
    + "\n--b\nContent-Type: message/rfc822\n\nSubject: inner\nTo: Group: a@x.example;\n\nbody\n--b--\n",
    "message-cut": _MULTI + "\n--b\nContent-Type: message/rfc822\n--b--\n",
    "message-header-cut": _MULTI + "\n--b\nContent-Type: message/rfc822\n\nSubject: inner\n--b--\n",
    "message-base64": _MULTI
    + "\n--b\nContent-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\nU3ViamVjdDogeA0KDQp5\n--b--\n",
    "signed": "MIME-Version: 1.0\nContent-Type: multipart/signed; micalg=pgp-sha256;\n"
    + ' protocol="application/pgp-signature";'
    + " boundary=b\n\n--b\n\nsigned\n--b\nContent-Type: application/pgp-signature\n\n-----BEGIN PGP\n--b--\n",
    "report": "MIME-Version: 1.0\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\n"
    + "\n--b\n\nfailed\n--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; x\n\nAction: failed\n"
    + "--b\nContent-Type: text/rfc822-headers\n\nSubject: x\n--b--\n",
    "no-mime-version": 'Content-Type: multipart/mixed; boundary="b"\n\n--b\n\none\n--b--\n',
    "mime-version-only": "MIME-Version: 1.0\n\n--b\n\none\n--b--\n",
    "two-types": "MIME-Version: 1.0\nContent-Type: text/html\n"
    + "Content-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b--\n",
    "encoded-multipart": _MULTI + "Content-Transfer-Encoding: base64\n\n--b\n\none\n--b--\n",
}

_HEADERS = {
    "no-header": "\nbody only\n",
    "nothing": "",
    "blank": "\n",
    "blanks": "\n\n\n\n",
    "no-blank": "Subject: no blank line follows",
    "no-body": "Subject: no body\n\n",
    "junk-line": "Subject: a\nthis line has no colon\nTo: b@example.org\n\nbody\n",
    "mbox-from": "From ann@example.org Mon Jan  1 00:00:00 2024\nSubject: mbox\n\nbody\n",
    "starts-folded": " folded first\nSubject: a\n\nbody\n",
    "space-before-colon": "Subject : spaced\nTo\t: b@example.org\n\nbody\n",
    "colon-only": ":\n: value\nSubject: x\n\nbody\n",
    "white-line-in-header": "Subject: a\n \nTo: b@example.org\n\nbody\n",
    "twice": "Subject: one\nSubject: two\nFrom: a@x.example\nFrom: b@x.example\n\nbody\n",
    "no-space": "Subject:tight\nFrom:a@x.example\n\nbody\n",
    "upper": "SUBJECT: LOUD\nFROM: A@X.EXAMPLE\n\nBODY\n",
    "8bit": "Subject: Grüße\nX-Odd-Ünicode: ja\n\nGrüße\n",
    "control": "Subject: bell \x07 and \x1b[31mred\x1b[0m\n\n\x0c\n",
    "folded-id": "Message-ID:\n <folded@example.org>\nReferences: <a@x>\n <b@x>\n\t<c@x>\n"
    + "In-Reply-To: <c@x> (text)\n\nx\n",
    "quoted-id": 'Message-ID: <"quoted id"@example.org>\nIn-Reply-To: "Ann" of <x@y>\n\nx\n',
    "many-received": "".join(f"Received: from a{n} by b{n};\n\tMon, 1 Jan 2024 00:00:00 +0000\n" for n in range(60))
    + "\nx\n",
    "long-name": "X" * 900 + ": v\n\nbody\n",
    "long-folded": "Subject: " + "word\n " * 300 + "\n\nbody\n",
    "many-fields": "".join(f"X-Field-{n}: {n}\n" for n in range(1_000)) + "\nbody\n",
    "dots": "Subject: dots\n\n.\n..\n.leading\n",
    "smuggle": "Subject: x\n\nbody\n. \n.x\n",
    "from-line": "Subject: x\n\nFrom here on\n>From there\n",
    "long-lines": "Subject: x\n\n" + ("y" * 998 + "\n") * 5,
    "white-body": "Subject: x\n\n   \t \n",
    "list": "List-Id: <l.example.org>\nList-Unsubscribe: <mailto:u@example.org>,\n <https://example.org/u>\n\nx\n",
    "resent": "Resent-From: a@x.example\nResent-To: b@x.example\nResent-Date: 1 Jan 2024 00:00 GMT\n\nx\n",
}


def wire(raw: bytes) -> bytes:
    """Made fit for SMTP: CRLF line ends, no NUL, a line end at the end, lines cut at 998 bytes."""
    lines = _LINE_END.split(raw.replace(b"\0", b"?"))
    cut = [line[at : at + _LINE_MAX] for line in lines for at in range(0, max(len(line), 1), _LINE_MAX)]
    text = b"\r\n".join(cut)
    return text if text.endswith(b"\r\n") else text + b"\r\n"


def _by_hand() -> Iterator[tuple[str, bytes]]:
    for charset, text in _CHARSETS:
        raw = text.encode(charset)
        head = f"{_PLAIN}MIME-Version: 1.0\nContent-Type: text/plain; charset={charset}\n".encode()
        word = base64.b64encode(raw)
        head += b"Subject: =?" + charset.encode() + b"?b?" + word + b"?=\n"
        yield f"charset-{charset}-8bit", head + b"Content-Transfer-Encoding: 8bit\n\n" + raw + b"\n"
        yield (
            f"charset-{charset}-qp",
            (head + b"Content-Transfer-Encoding: quoted-printable\n\n" + quopri.encodestring(raw) + b"\n"),
        )
        yield f"charset-{charset}-base64", head + b"Content-Transfer-Encoding: base64\n\n" + word + b"\n"
    for number, address in enumerate(_ADDRESSES):
        yield f"address-from-{number}", f"From: {address}\nTo: {address}\nSubject: x\n\nbody\n".encode()
        yield (
            f"address-to-{number}",
            f"{_PLAIN}Cc: {address}\nReply-To: {address}\nSender: {address}\n\nbody\n".encode(),
        )
    for number, subject in enumerate(_SUBJECTS):
        yield f"subject-{number}", f"{_PLAIN}Subject: {subject}\n\nbody\n".encode()
    for number, date in enumerate(_DATES):
        yield f"date-{number}", f"From: a@x.example\nDate: {date}\nSubject: x\n\nbody\n".encode()
    for number, media in enumerate(_TYPES):
        yield f"type-{number}", f"{_PLAIN}MIME-Version: 1.0\nContent-Type: {media}\n\nSubject: in\n\nbody\n".encode()
        yield f"type-part-{number}", f"{_PLAIN}{_MULTI}\n--b\nContent-Type: {media}\n\nbody\n--b--\n".encode()
    for number, extra in enumerate(_EXTRA):
        yield f"extra-{number}", f"{_PLAIN}{_MULTI}\n--b\n{extra}\n\nbody\n--b--\n".encode()
        yield f"extra-root-{number}", f"{_PLAIN}MIME-Version: 1.0\n{extra}\n\nbody\n".encode()
    for name, text in _STRUCTURES.items():
        yield f"structure-{name}", (_PLAIN + text).encode()
    for name, text in _HEADERS.items():
        yield f"header-{name}", text.encode()


def _deep() -> Iterator[tuple[str, bytes]]:
    for depth in (5, 50, 150):
        text = _PLAIN + "MIME-Version: 1.0\n"
        for level in range(depth):
            text += f"Content-Type: multipart/mixed; boundary=l{level}x\n\n--l{level}x\n"
        text += "\ninnermost\n" + "".join(f"--l{level}x--\n" for level in reversed(range(depth)))
        yield f"deep-multipart-{depth}", text.encode()
        yield f"deep-message-{depth}", ("Content-Type: message/rfc822\n\n" * depth + "Subject: in\n\nbody\n").encode()
    yield "wide-500", (_PLAIN + _MULTI + "\n" + "--b\n\npart\n" * 500 + "--b--\n").encode()


def _random(seed: int) -> bytes:
    """Parts, boundaries and header lines thrown together: valid, broken and absurd in turn."""
    dice = random.Random(seed)
    boundaries = ["b", "bb", "b-", "b--", "x y", "=_1"]
    lines = [_PLAIN.rstrip("\n"), "MIME-Version: 1.0"]
    for _ in range(dice.randrange(4, 60)):
        boundary = dice.choice(boundaries)
        lines.append(
            dice.choice(
                (
                    f'Content-Type: multipart/{dice.choice(("mixed", "digest", "x"))}; boundary="{boundary}"',
                    f"Content-Type: {dice.choice(_TYPES)}",
                    dice.choice(_EXTRA),
                    f"--{boundary}",
                    f"--{boundary}",
                    f"--{boundary}--",
                    "",
                    "",
                    "",
                    f"Subject: {dice.choice(_SUBJECTS)}",
                    f"To: {dice.choice(_ADDRESSES)}",
                    f"text {dice.random()}",
                    base64.b64encode(dice.randbytes(30)).decode(),
                    "=C3=BC soft=",
                )
            )
        )
    return "\n".join(lines).encode()


def generated() -> list[tuple[str, bytes]]:
    """The messages made here, at least 300, each name once."""
    made = [*_by_hand(), *_deep(), *((f"random-{seed}", _random(seed)) for seed in range(80))]
    return [(name, wire(raw)) for name, raw in made]


def from_cpython() -> list[tuple[str, bytes]]:
    """The messages of CPython's own email tests; [] where this Python was built without its tests."""
    try:
        folder = importlib.resources.files("test.test_email").joinpath("data")
        files = sorted((item for item in folder.iterdir() if item.name.endswith(".txt")), key=lambda item: item.name)
    except (ImportError, OSError):
        return []
    return [(f"cpython-{item.name.removesuffix('.txt')}", wire(item.read_bytes())) for item in files]


def messages() -> list[tuple[str, bytes]]:
    """The whole corpus: (name, raw message), in an order that does not change."""
    return generated() + from_cpython()
