"""Charset names of mail → Python codecs, and decoding that always gives text (RFC 2978 names, RFC 2046 §4.1.2)."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator

SLICE = 256 * 1024
"""The most bytes that one decoding call takes."""

NAME_MAX = 64

# Where the mail world and Python disagree: supersets in place of the subsets that senders name but do not keep to.
_ALIASES = {
    "": "utf-8",
    "ascii": "utf-8",
    "us-ascii": "utf-8",
    "ansi_x3.4-1968": "utf-8",
    "7bit": "utf-8",
    "8bit": "utf-8",
    "default": "utf-8",
    "default_charset": "utf-8",
    "unknown": "utf-8",
    "unknown-8bit": "utf-8",
    "x-unknown": "utf-8",
    "binary": "utf-8",
    "utf8": "utf-8",
    "unicode-1-1-utf-8": "utf-8",
    "x-unicode-2-0-utf-8": "utf-8",
    "utf-7": "utf-7",
    "unicode-1-1-utf-7": "utf-7",
    "x-unicode-2-0-utf-7": "utf-7",
    "iso-8859-1": "cp1252",
    "iso8859-1": "cp1252",
    "iso_8859-1": "cp1252",
    "latin1": "cp1252",
    "latin-1": "cp1252",
    "l1": "cp1252",
    "ansi": "cp1252",
    "iso-8859-8-i": "iso8859-8",
    "iso-8859-8-e": "iso8859-8",
    "iso-8859-9": "cp1254",
    "iso-8859-11": "cp874",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gb_2312-80": "gb18030",
    "x-gbk": "gb18030",
    "gbk": "gb18030",
    "cp936": "gb18030",
    "windows-936": "gb18030",
    "euc-cn": "gb18030",
    "x-euc-cn": "gb18030",
    "hz-gb-2312": "hz",
    "big5": "cp950",
    "big-5": "cp950",
    "x-big5": "cp950",
    "x-x-big5": "cp950",
    "cn-big5": "cp950",
    "ks_c_5601-1987": "cp949",
    "ks_c_5601": "cp949",
    "ks_c_5601-1989": "cp949",
    "ksc5601": "cp949",
    "korean": "cp949",
    "euc-kr": "cp949",
    "windows-949": "cp949",
    "shift_jis": "cp932",
    "shift-jis": "cp932",
    "sjis": "cp932",
    "x-sjis": "cp932",
    "ms_kanji": "cp932",
    "windows-31j": "cp932",
    "iso-2022-jp": "iso2022_jp_ext",
    "iso-2022-jp-1": "iso2022_jp_1",
    "cp50220": "iso2022_jp_ext",
    "cp50221": "iso2022_jp_ext",
    "x-euc-jp": "euc_jp",
    "macintosh": "mac-roman",
    "x-mac-roman": "mac-roman",
    "x-mac-ce": "mac-latin2",
    "x-mac-centraleurroman": "mac-latin2",
    "x-mac-cyrillic": "mac-cyrillic",
    "x-mac-ukrainian": "mac-cyrillic",
    "x-mac-greek": "mac-greek",
    "x-mac-turkish": "mac-turkish",
    "x-mac-icelandic": "mac-iceland",
    "x-mac-croatian": "mac-croatian",
    "x-mac-romanian": "mac-romanian",
    "unicode": "utf-16",
    "utf16": "utf-16",
}
_WINDOWS = re.compile(r"(?:x-)?(?:windows|win|cp|ms|ibm|x-cp)-?(\d{3,4})")
_NAME = re.compile(r"[a-z0-9][a-z0-9_.:+-]*")
# Python's codecs that are no charsets, or that can fail without an error handler being asked
_NOT_TEXT = frozenset(
    {"idna", "punycode", "raw_unicode_escape", "unicode_escape", "undefined", "mbcs", "oem", "utf-8-sig"}
)


def codec(charset: str) -> str | None:
    """The Python codec for a charset name of mail in any case; None when there is none."""
    # as it is written, most often
    known = _ALIASES.get(charset)
    if known is not None:
        return known
    name = charset.strip().strip("\"'").lower()
    if len(name) > NAME_MAX:
        return None
    # RFC 2231 §5: a language may stand behind the name
    name = name.partition("*")[0]
    known = _ALIASES.get(name)
    if known is not None:
        return known
    if not _NAME.fullmatch(name):
        return None
    windows = _WINDOWS.fullmatch(name)
    if windows:
        name = "cp" + windows[1]
        known = _ALIASES.get(name)
        if known is not None:
            return known
    try:
        info = codecs.lookup(name)
    except (LookupError, ValueError):
        return None
    # the lookup also finds transformations of bytes, like base64 and zlib; this is the mark that tells them apart
    if info.name in _NOT_TEXT or not info._is_text_encoding:
        return None
    return info.name


def decode(data: bytes, charset: str = "utf-8") -> str:
    """Text from bytes; what does not decode becomes U+FFFD.

    Tolerance: bytes of an unknown charset, and bytes labelled US-ASCII, are read as UTF-8, and as Windows-1252 where
    they are not that.
    """
    if len(data) <= SLICE:
        name = codec(charset)
        if name is None or name == "utf-8":
            try:
                return data.decode("utf-8")
            except UnicodeDecodeError:
                return data.decode("utf-8", "replace") if _says_utf8(charset) else data.decode("cp1252", "replace")
        name = _with_byte_order(name, data)
        return _no_surrogates(data.decode(name, "replace"), name)
    return "".join(decode_slices((data[at : at + SLICE] for at in range(0, len(data), SLICE)), charset))


def _no_surrogates(text: str, name: str) -> str:
    # UTF-7 alone can spell half a surrogate pair, which no UTF-8 can hold
    return text.encode("utf-8", "replace").decode("utf-8") if name == "utf-7" else text


def _with_byte_order(name: str, data: bytes) -> str:
    # RFC 2781 §4.3: without a byte order mark UTF-16 is big-endian; Python would guess, or fail
    if name in ("utf-16", "utf-32") and not data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return name + "-be"
    return name


def _says_utf8(charset: str) -> bool:
    return "utf" in charset.lower()


def decode_slices(slices: Iterable[bytes], charset: str = "utf-8") -> Iterator[str]:
    """Text pieces from byte slices of at most SLICE bytes; a character may lie across two slices.

    Whether bytes of an unknown charset are UTF-8 is decided by the first slice.
    """
    name = codec(charset)
    decoder: codecs.IncrementalDecoder | None = None
    is_utf8 = name is None or name == "utf-8"
    says_utf8 = _says_utf8(charset)
    for data in slices:
        if decoder is None:
            if is_utf8 and data.isascii():
                # no decoder yet for what needs none; and this was UTF-8, so what follows is
                says_utf8 = True
                if data:
                    yield data.decode("ascii")
                continue
            if is_utf8 and not says_utf8 and not _is_utf8(data):
                name = "cp1252"
            name = _with_byte_order(name or "utf-8", data)
            decoder = codecs.getincrementaldecoder(name)("replace")
        text = _no_surrogates(decoder.decode(data), name or "")
        if text:
            yield text
    if decoder is not None:
        text = _no_surrogates(decoder.decode(b"", True), name or "")
        if text:
            yield text


def _is_utf8(data: bytes) -> bool:
    try:
        codecs.utf_8_decode(data, "strict", False)
    except UnicodeDecodeError:
        return False
    return True
