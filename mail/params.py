"""Content-Type, Content-Disposition and their parameters (RFC 2045 §5.1, RFC 2183, RFC 2231), tolerant and linear.

Two forms of a parameter list: `scan` gives the pairs as BODYSTRUCTURE shows them (values still in their RFC 2231 form,
continuations joined); `decoded` gives text.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from mail import charsets, words

Pairs = tuple[tuple[bytes, bytes], ...]

MAX_PARAMS = 200
"""How many parameters of one field are kept."""

_TOKEN = rb"[!#$%&'*+\-.0-9A-Z^_`a-z{|}~\x80-\xff]"
_MEDIA = re.compile(rb"[ \t]*+(" + _TOKEN + rb"++)[ \t]*+/[ \t]*+(" + _TOKEN + rb"*+)[ \t]*+(?=;|\Z)")
_PARAM = re.compile(
    rb";[ \t]*+(" + _TOKEN + rb"++)[ \t]*+=[ \t]*+(?:(" + _TOKEN + rb'++)|"([^"\\\r\n]*+)")[ \t]*+(?=;|\Z)'
)
_TOKEN_RUN = re.compile(_TOKEN + rb"*+")
_SPACE = re.compile(rb"[ \t\r\n]*+")
_COMMENT_STOP = re.compile(rb"[()\\]")
_QUOTED_STOP = re.compile(rb'["\\]')
_ENCODED_VALUE = re.compile(rb"[^; \t\r\n]*+")
_CONTINUED = re.compile(rb"([^*]*)\*(\d{0,6})(\*?)")


def skip_cfws(data: bytes, pos: int) -> int:
    """The position after white space and comments from pos on (RFC 5322 §3.2.2).

    len(data) when nothing follows, -1 when a comment has no end.
    """
    size = len(data)
    while True:
        match = _SPACE.match(data, pos)
        pos = match.end() if match else pos
        if pos >= size or data[pos] != 0x28:
            return pos
        level, pos = 1, pos + 1
        while level:
            stop = _COMMENT_STOP.search(data, pos)
            if stop is None:
                return -1
            pos = stop.end()
            what = data[stop.start()]
            if what == 0x28:
                level += 1
            elif what == 0x29:
                level -= 1
            else:
                pos += 1


def quoted(data: bytes, pos: int) -> tuple[bytes, int]:
    """The content of the quoted string that begins at pos, without its escapes, and the position after it.

    The position is -1 when the closing quote is missing.
    """
    pieces: list[bytes] = []
    start = pos + 1
    at = start
    while True:
        stop = _QUOTED_STOP.search(data, at)
        if stop is None:
            return b"".join(pieces), -1
        end = stop.start()
        pieces.append(data[start:end])
        if data[end] == 0x22:
            return b"".join(pieces), end + 1
        # the escaped byte itself is never a stop
        start = end + 1
        at = end + 2


def media_type(value: bytes) -> tuple[bytes, bytes, Pairs]:
    """Type, subtype and parameters of an unfolded Content-Type value, as written.

    Both empty when there is no type at all; parameters are not looked for behind a broken type (RFC 2045 §5.2).
    """
    match = _MEDIA.match(value)
    if match:
        return match[1], match[2], scan(value, match.end())
    pos = skip_cfws(value, 0)
    main, pos = _token(value, pos)
    if pos < 0 or pos >= len(value) or value[pos] != 0x2F:
        return main, b"", ()
    sub, pos = _token(value, skip_cfws(value, pos + 1))
    return main, sub, () if pos < 0 else scan(value, pos)


def disposition(value: bytes) -> tuple[bytes, Pairs]:
    """The disposition token and parameters of an unfolded Content-Disposition value (RFC 2183)."""
    kind, pos = _token(value, skip_cfws(value, 0))
    return kind, () if pos < 0 else scan(value, pos)


def token(value: bytes) -> bytes:
    """The first token of a value, comments skipped; empty when something else than a comment stands behind it."""
    text, pos = _token(value, skip_cfws(value, 0))
    return text if pos >= len(value) else b""


def atoms(value: bytes) -> tuple[bytes, ...]:
    """The atoms of a comma-separated value, comments skipped, up to the first thing that is none (RFC 3282 §2)."""
    found: list[bytes] = []
    pos = skip_cfws(value, 0)
    while len(found) < MAX_PARAMS:
        text, pos = _token(value, pos)
        if not text:
            break
        found.append(text)
        if pos < 0 or not value.startswith(b",", pos):
            break
        pos = skip_cfws(value, pos + 1)
    return tuple(found)


def _token(data: bytes, pos: int) -> tuple[bytes, int]:
    if pos < 0:
        return b"", -1
    match = _TOKEN_RUN.match(data, pos)
    if match is None:
        return b"", pos
    return match[0], skip_cfws(data, match.end())


def scan(value: bytes, pos: int = 0) -> Pairs:
    """The parameters from pos on, names as written, values unquoted, RFC 2231 continuations joined but not decoded.

    Tolerance: what is no parameter is skipped up to the next semicolon.
    """
    found: list[tuple[bytes, bytes]] = []
    continued = False
    size = len(value)
    while pos < size and len(found) < MAX_PARAMS:
        match = _PARAM.match(value, pos)
        if match:
            name = match[1]
            text = match[2]
            found.append((name, match[3] if text is None else text))
            pos = match.end()
        else:
            pos = value.find(b";", pos)
            if pos < 0:
                break
            pair, pos = _slow_param(value, pos)
            if pair is None:
                continue
            found.append(pair)
            name = pair[0]
        continued = continued or b"*" in name
    return _join(found) if continued else tuple(found)


def _slow_param(value: bytes, start: int) -> tuple[tuple[bytes, bytes] | None, int]:
    """One parameter at the semicolon `start` and where to go on, which is past `start`."""
    name, pos = _token(value, skip_cfws(value, start + 1))
    if pos < 0:
        return None, len(value)
    if not name or pos >= len(value) or value[pos] != 0x3D:
        return None, max(pos, start + 1)
    pos = skip_cfws(value, pos + 1)
    if pos < 0 or pos >= len(value):
        return (name, b""), len(value)
    if value[pos] == 0x22:
        text, pos = quoted(value, pos)
        if pos < 0:
            return None, len(value)
        pos = skip_cfws(value, pos)
    elif value[pos] == 0x3D:
        # Tolerance: name==?utf-8?b?...?= written without quotes
        match = _ENCODED_VALUE.match(value, pos)
        text = match[0] if match else b""
        pos += len(text)
    else:
        text, pos = _token(value, pos)
    return (name, text), len(value) if pos < 0 else pos


def _join(found: list[tuple[bytes, bytes]]) -> Pairs:
    # RFC 2231 §3: name*0, name*1 ... in any order are one value; a gap leaves them as they were written
    # RFC 2231 §6: that is what IMAP clients are to be told; charset, language and %XX are theirs to decode
    plain: list[tuple[bytes, bytes]] = []
    groups: dict[bytes, list[tuple[int, bool, bytes, bytes]]] = {}
    for name, value in found:
        match = _CONTINUED.fullmatch(name)
        if match is None:
            plain.append((name, value))
        else:
            # name* alone is the whole of an extended value
            extended = bool(match[3]) or not match[2]
            groups.setdefault(match[1], []).append((int(match[2] or 0), extended, name, value))
    for key, pieces in sorted(groups.items()):
        pieces.sort(key=lambda piece: piece[0])
        if [piece[0] for piece in pieces] != list(range(len(pieces))):
            plain.extend((name, value) for _, _, name, value in pieces)
            continue
        if not any(extended for _, extended, _, _ in pieces):
            plain.append((key, b"".join(value for _, _, _, value in pieces)))
            continue
        prefix = b"" if pieces[0][1] else b"''"
        text = b"".join(v if extended else v.replace(b"%", b"%25") for _, extended, _, v in pieces)
        plain.append((key + b"*", prefix + text))
    return tuple(plain)


def decoded(pairs: Pairs) -> dict[str, str]:
    """Lower-case name → text of each parameter; RFC 2231 values decoded, else RFC 2047 words (a common error).

    An extended value (name*) wins over a plain one of the same name; of equals the first stays.
    """
    texts: dict[str, str] = {}
    extended: dict[str, str] = {}
    for name, value in pairs:
        key = name.decode("latin-1").lower()
        if key.endswith("*"):
            # RFC 2231 §4: charset'language'percent-encoded
            charset, _, rest = value.partition(b"'")
            _, found, text = rest.partition(b"'")
            if not found:
                charset, text = b"utf-8", value
            extended.setdefault(key[:-1], charsets.decode(unquote_to_bytes(text), charset.decode("latin-1")))
        else:
            texts.setdefault(key, words.decode(value))
    return {**texts, **extended}


def get(pairs: Pairs, name: bytes) -> bytes | None:
    """The undecoded value of the first parameter of this lower-case name."""
    for key, value in pairs:
        if key.lower() == name:
            return value
    return None
