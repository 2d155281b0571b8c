"""RFC 2047 words, RFC 2045/2231 parameters, charsets."""

from __future__ import annotations

import codecs

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mail import charsets, params, words
from tests.hurry import examples


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"plain", "plain"),
        (b"=?utf-8?q?a_b=3D?=", "a b="),
        (b"=?UTF-8?B?R3LDvMOfZQ==?=", "Grüße"),
        (b"=?utf-8?q?a?= =?utf-8?q?b?=", "ab"),
        (b"=?utf-8?q?a?=\t  =?iso-8859-1?q?=E9?=", "aé"),
        (b"=?utf-8?q?a?= b =?utf-8?q?c?=", "a b c"),
        (b"x =?utf-8?q?a?=", "x a"),
        # one character split over two words
        (b"=?utf-8?q?=C3?= =?utf-8?q?=BC?=", "ü"),
        (b"=?utf-8?b?w7?= =?utf-8?b?w=?=", "�"),
        (b"=?utf-8*de?q?=C3=BC?=", "ü"),
        (b"=?x-none?q?=E9?=", "é"),
        (b"=?utf-8?q?open", "=?utf-8?q?open"),
        (b"=?utf-8?x?y?=", "=?utf-8?x?y?="),
        ("grün".encode(), "grün"),
        (b"gr\xfcn", "grün"),
    ],
)
def test_words_are_decoded(value: bytes, expected: str) -> None:
    assert words.decode(value)[: len(expected)] == expected


@settings(max_examples=examples(200), deadline=None)
@given(st.text(max_size=120))
def test_words_come_back(text: str) -> None:
    tidy = text.encode("utf-8", "replace").decode()
    encoded = words.encode(tidy)
    assert encoded.isascii()
    assert encoded.isprintable()
    assert words.decode(encoded.encode()) == tidy
    if encoded != tidy:
        assert all(len(word) <= words.WORD_MAX for word in encoded.split(" "))


PIECES = [b"=?", b"?=", b"utf-8", b"?q?", b"?b?", b"=C3", b" ", b"x", b"\xff", b"=", b"*"]


@settings(max_examples=examples(200), deadline=None)
@given(st.one_of(st.binary(max_size=80), st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join)))
def test_any_bytes_decode_to_text_that_utf8_can_hold(value: bytes) -> None:
    words.line(value).encode()
    params.decoded(params.scan(b";" + value))
    params.media_type(value)
    params.disposition(value)
    params.atoms(value)


@pytest.mark.parametrize(
    ("value", "pairs"),
    [
        (b"; a=b", ((b"a", b"b"),)),
        (b'; a="b c"; D = e', ((b"a", b"b c"), (b"D", b"e"))),
        (b'; a="b\\"c"', ((b"a", b'b"c'),)),
        (b"; (x) a (y) = (z) b (w)", ((b"a", b"b"),)),
        (b"; a; b=c", ((b"b", b"c"),)),
        (b"; a=", ((b"a", b""),)),
        (b'; a="open', ()),
        (b"; n*1=b; n*0=a", ((b"n", b"ab"),)),
        (b"; n*0=a; n*2=c", ((b"n*0", b"a"), (b"n*2", b"c"))),
        (b"; n*0*=utf-8''%41; n*1=b%", ((b"n*", b"utf-8''%41b%25"),)),
        (b"; n*=utf-8''%41; m=1", ((b"m", b"1"), (b"n*", b"utf-8''%41"))),
        (b"; n==?utf-8?q?x?=", ((b"n", b"=?utf-8?q?x?="),)),
    ],
)
def test_parameters(value: bytes, pairs: params.Pairs) -> None:
    assert params.scan(value) == pairs


def test_decoded_parameters() -> None:
    pairs = params.scan(b"; Name=\"=?utf-8?q?=C3=BC?=\"; filename=plain; filename*0*=utf-8'de'%C3; filename*1*=%BC")
    assert params.decoded(pairs) == {"name": "ü", "filename": "ü"}
    assert params.get(pairs, b"name") == b"=?utf-8?q?=C3=BC?="
    assert len(params.scan(b"; a=b" * 1_000)) == params.MAX_PARAMS


@pytest.mark.parametrize(
    ("data", "charset", "expected"),
    [
        (b"\x93x\x94", "iso-8859-1", "“x”"),
        (b"\xa4", "ISO-8859-15", "€"),
        ("界".encode("gbk"), "gb2312", "界"),
        ("界".encode("big5"), "BIG5", "界"),
        (b"\x8e\xa0", "x-mac-roman", "é†"),
        (b"Hi +Jjo-", "utf-7", "Hi ☺"),
        (b"\x1b$B$3\x1b(B", "iso-2022-jp", "こ"),
        ("ж".encode("cp1251"), "windows-1251", "ж"),
        ("ж".encode("cp1251"), "CP-1251", "ж"),
        ("ü".encode(), "us-ascii", "ü"),
        (b"\xfc", "us-ascii", "ü"),
        (b"\xfc", "utf-8", "�"),
        (b"\xfc", "no-such-thing", "ü"),
        (b"x", "rot13", "x"),
        (b"x", "base64", "x"),
        (b"x", "unicode_escape", "x"),
        (b"x", "a\0b", "x"),
        (b"x", "../../x", "x"),
    ],
)
def test_charsets(data: bytes, charset: str, expected: str) -> None:
    assert charsets.decode(data, charset) == expected
    assert "".join(charsets.decode_slices([data], charset)) == expected


NAMES = sorted(set(charsets._ALIASES) | {"utf-16", "utf-32", "hz", "cp037", "idna", "punycode", "koi8-r"})


@settings(max_examples=examples(200), deadline=None)
@given(st.binary(max_size=60), st.one_of(st.sampled_from(NAMES), st.text(max_size=20)))
def test_decoding_never_fails(data: bytes, charset: str) -> None:
    charsets.decode(data, charset).encode()
    "".join(charsets.decode_slices([data[:7], data[7:]], charset)).encode()


def test_every_alias_names_a_codec() -> None:
    for target in charsets._ALIASES.values():
        codecs.lookup(target)


def test_large_text_is_decoded_in_slices() -> None:
    text = "aü" * charsets.SLICE
    assert charsets.decode(text.encode(), "utf-8") == text
