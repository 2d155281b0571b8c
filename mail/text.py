"""The text of a message: what a search looks through, and the few lines that a list shows.

Search text is the decoded text itself: transfer encoding and charset undone, nothing else. HTML keeps its tags, so that
every substring of the decoded body is found, as RFC 3501 §6.4.4 asks; only the preview strips them.
All work is done in pieces of at most SLICE bytes.
"""

from __future__ import annotations

import binascii
import html
import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

from mail import charsets, params, parts, words
from mail.structure import SLICE, Part

PREVIEW_MAX = 200
"""The longest preview, in characters (RFC 8970 §3.1)."""

_PREVIEW_BYTES = 64 * 1024
_FOLD = re.compile(rb"\r?\n(?=[ \t])")
_NOT_BASE64 = bytes(set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="))
_HIDDEN = re.compile(r"<(style|script|head|title)(?=[\s>/])", re.IGNORECASE)
_UNSHOWN = re.compile(r"[\s\u200b-\u200f\u034f\u00ad\ufeff\x00-\x1f\x7f]+")


class Piece(NamedTuple):
    """Some text of a message, not folded: of its own header ("header") or of its body ("body")."""

    where: str
    text: str


def search_text(raw: bytes, part: Part) -> Iterator[Piece]:
    """The decoded text of a message, lazily.

    The pieces of "header", joined, are the message's header, unfolded, encoded words decoded, one field a line.
    The pieces of "body", joined, are the text parts in order, an empty line between two; an enclosed message counts
    with its header and its text. SEARCH BODY looks through the second, TEXT through both (RFC 3501 §6.4.4).
    """
    for text in header_text(raw, part):
        yield Piece("header", text)
    for text in body_text(raw, part):
        yield Piece("body", text)


def header_text(raw: bytes, part: Part) -> Iterator[str]:
    """The decoded header of one part, one field a line, in pieces that end at a line's end where there is one."""
    for block in _line_slices(raw, part.header_start, part.body_start):
        unfolded = _FOLD.sub(b"", block)
        if b"=?" in unfolded:
            yield "\n".join([words.decode(line.rstrip(b"\r")) for line in unfolded.split(b"\n")])
        else:
            yield charsets.decode(unfolded.replace(b"\r\n", b"\n"), "")


def body_text(raw: bytes, part: Part) -> Iterator[str]:
    """The decoded text of all text parts under (and including) a part; see `search_text`."""
    first = True
    todo = [part]
    while todo:
        node = todo.pop()
        if node.is_message:
            if not first:
                yield "\n\n"
            first = False
            yield from header_text(raw, node.children[0])
        if node.children:
            todo.extend(reversed(node.children))
        elif node.type == "text":
            if not first:
                yield "\n\n"
            first = False
            yield from leaf_text(raw, node)


def leaf_text(raw: bytes, part: Part, end: int | None = None) -> Iterator[str]:
    """The decoded text of one leaf, or of its first bytes up to the offset end, in pieces."""
    stop = part.body_end if end is None else min(end, part.body_end)
    charset = (params.get(part.params, b"charset") or b"").decode("latin-1")
    slices = transfer_decode(raw, part.body_start, stop, parts.encoding_of(part))
    return charsets.decode_slices(slices, charset)


def transfer_decode(raw: bytes, start: int, end: int, encoding: int) -> Iterator[bytes]:
    """raw[start:end] without its transfer encoding (a number of mail.parts), in slices (RFC 2045 §6).

    Tolerance: foreign bytes in base64 are skipped and it ends at its padding; a broken =XX stays as it is written.
    """
    if encoding == parts.BASE64:
        return _base64(raw, start, end)
    if encoding == parts.QUOTED_PRINTABLE:
        return map(binascii.a2b_qp, _line_slices(raw, start, end))
    return (raw[at : min(at + SLICE, end)] for at in range(start, end, SLICE))


def _base64(raw: bytes, start: int, end: int) -> Iterator[bytes]:
    rest = b""
    for at in range(start, end, SLICE):
        clean = rest + raw[at : min(at + SLICE, end)].translate(None, _NOT_BASE64)
        padding = clean.find(b"=")
        if padding >= 0:
            rest = clean[:padding]
            break
        whole = len(clean) // 4 * 4
        rest = clean[whole:]
        if whole:
            yield binascii.a2b_base64(clean[:whole])
    if rest:
        yield words.unbase64(rest)


def _line_slices(raw: bytes, start: int, end: int) -> Iterator[bytes]:
    """raw[start:end] in slices that end behind a LF, or else not inside an =XX."""
    while start < end:
        stop = min(start + SLICE, end)
        if stop < end:
            newline = raw.rfind(b"\n", start, stop)
            if newline >= 0:
                stop = newline + 1
            else:
                escape = raw.rfind(b"=", stop - 2, stop)
                stop = escape if escape > start else stop
        yield raw[start:stop]
        start = stop


def preview(raw: bytes, part: Part, limit: int = PREVIEW_MAX) -> str:
    """The first words of a message on one line, at most `limit` characters; "" when it has no text (RFC 8970 §3.1).

    Plain text is preferred; quoted lines are left out unless there is nothing else; HTML is shown without its tags.
    """
    html_leaf: Part | None = None
    todo = [part]
    while todo:
        node = todo.pop()
        todo.extend(reversed(node.children))
        if node.type != "text" or node.children or (node.disposition or b"").lower() == b"attachment":
            continue
        if node.subtype == "html":
            html_leaf = html_leaf or node
        elif node.subtype in ("plain", ""):
            found = _plain_preview(_beginning(raw, node, limit * 16), limit)
            if found:
                return found
    if html_leaf is None:
        return ""
    return _one_line(strip_tags(_beginning(raw, html_leaf, _PREVIEW_BYTES)), limit)


def _beginning(raw: bytes, part: Part, size: int) -> str:
    return "".join(leaf_text(raw, part, part.body_start + size))


def _plain_preview(text: str, limit: int) -> str:
    if ">" in text:
        own = "\n".join([line for line in text.split("\n") if not line.startswith(">")])
        found = _one_line(own, limit)
        if found:
            return found
    return _one_line(text, limit)


def _one_line(text: str, limit: int) -> str:
    # the first words nearly always are enough; of ASCII fewer, for there each character is shown whatever follows it
    head = text[: limit * 4]
    line = _shown(head[: limit * 2] if head.isascii() else head)
    if len(line) <= limit < len(text):
        line = _shown(text)
    return line[:limit].rstrip()


def _shown(text: str) -> str:
    line = " ".join(text.split())
    return line if line.isprintable() else _UNSHOWN.sub(" ", line).strip()


def strip_tags(text: str) -> str:
    """The text that HTML shows, roughly: no tags, comments, styles or scripts, entities replaced."""
    shown: list[str] = []
    pos = 0
    while True:
        tag = text.find("<", pos)
        if tag < 0:
            shown.append(text[pos:])
            break
        shown.append(text[pos:tag])
        if text.startswith("<!--", tag):
            end, skip = text.find("-->", tag + 4), 3
        else:
            hidden = _HIDDEN.match(text, tag)
            if hidden:
                closing = re.compile("</" + hidden[1], re.IGNORECASE).search(text, tag)
                tag = closing.start() if closing else len(text)
            end, skip = text.find(">", tag), 1
        if end < 0:
            break
        shown.append(" ")
        pos = end + skip
    joined = "".join(shown)
    try:
        return html.unescape(joined)
    except ValueError:
        # a character reference of thousands of digits
        return joined


_CHUNK = 128
_CHUNK_STRETCH = 64


def fold(text: str) -> str:
    """Text made ready for comparing without regard to case (i;unicode-casemap, RFC 5051 §2): idempotent and linear.

    Further than the RFC: full case mappings are used and the two steps are repeated, so that ligatures, which
    decompose into small letters, end up as capitals too.
    """
    if text.isascii():
        return text.upper()
    if len(text) <= _CHUNK:
        return _fold_chunk(text)
    # Sorting combining marks takes time quadratic in how many follow each other, so no call sees many.
    pieces: list[str] = []
    start, size = 0, len(text)
    while start < size:
        stop = min(start + _CHUNK, size)
        latest = min(stop + _CHUNK_STRETCH, size)
        while stop < latest and unicodedata.combining(text[stop]):
            stop += 1
        pieces.append(_fold_chunk(text[start:stop]))
        start = stop
    return "".join(pieces)


def _fold_chunk(text: str) -> str:
    if text.isascii():
        return text.upper()
    once = unicodedata.normalize("NFKD", text.upper())
    return once if once.isupper() and once.isascii() else unicodedata.normalize("NFKD", once.upper())
