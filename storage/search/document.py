"""The folded text of a message: what a search index keeps, and what is compared where it has nothing yet.

Both sides of every comparison, text and needle, pass through ``octets``, so that i;unicode-casemap's substring test
(RFC 5051 §2) is a comparison of bytes, which SQLite and ``bytes.find`` do in C.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from mail import text, words
from mail.structure import Part

FORM: Final = 2
"""It rises whenever this file, or what it uses of ``mail`` (structure, text, words), makes another text of the same
message: what a store kept in another form is made anew. A test holds the texts of some messages against it."""
HEADER_MAX = 256 * 1024
"""The octets of a header block that are searched."""

_LOOSE_NAME = re.compile(rb"^([^ \t:\n]++)[ \t]++:", re.MULTILINE)
_SURROGATE = re.compile("[\ud800-\udfff]")
_LINE_ENDS = str.maketrans("\r\n", "  ")


def octets(unfolded: str) -> bytes:
    """Text or a needle in the one form that is stored and compared: folded, UTF-8.

    NUL counts as the noncharacter U+FDD0, because FTS5 reads a NUL as the end; half a surrogate pair counts as U+FFFD.
    """
    folded = text.fold(unfolded).replace("\0", "\ufdd0")
    try:
        return folded.encode()
    except UnicodeEncodeError:
        return _SURROGATE.sub("\ufffd", folded).encode()


def header_text(*blocks: bytes) -> bytes:
    """Header blocks, unfolded, decoded (RFC 2047) and folded in case: an LF before each field and one at the end.

    Of each block the first HEADER_MAX octets count. A line end that an encoded word smuggled in counts as a space, so
    that each field is one line and none can pretend to be two.
    """
    lines = [_header_lines(block[:HEADER_MAX]) for block in blocks]
    return octets("\n" + "\n".join(filter(None, lines)) + "\n")


def joined_headers(*texts: bytes) -> bytes:
    """The ``header_text`` of blocks out of the header text of each of them."""
    held = [text[1:-1] for text in texts if len(text) > 2]
    return b"\n" + b"\n".join(held) + b"\n"


def _header_lines(block: bytes) -> str:
    # RFC 5322 §2.2.3: unfolding takes the line end away and leaves the white space.
    unfolded = block.translate(None, b"\r").replace(b"\n ", b" ").replace(b"\n\t", b"\t").strip(b"\n")
    if b" :" in unfolded or b"\t:" in unfolded:
        # RFC 5322 §4.5: obsolete syntax has white space before the colon.
        unfolded = _LOOSE_NAME.sub(rb"\1:", unfolded)
    if unfolded.isascii() and b"=?" not in unfolded:
        return unfolded.decode("ascii")
    # RFC 3501 §6.4.4: header text is compared after decoding. Each line by itself: senders mix charsets.
    return "\n".join([words.decode(line).translate(_LINE_ENDS) for line in unfolded.split(b"\n")])


def field_mark(name: str) -> bytes | None:
    """What stands before the body of this field in ``header_text``; None for what cannot be a field's name."""
    folded = octets(name)
    if not folded or b":" in folded or b"\n" in folded:
        return None
    return b"\n" + folded + b":"


def bodies(header: bytes, mark: bytes) -> list[bytes]:
    """What all fields with this mark hold, in time linear in the header text."""
    found = []
    at = header.find(mark)
    while at >= 0:
        end = header.find(b"\n", at + len(mark))
        found.append(header[at + len(mark) : end])
        at = header.find(mark, end)
    return found


def in_field(header: bytes, mark: bytes, needle: bytes) -> bool:
    """Whether a field with this mark holds the needle."""
    return any(needle in body for body in bodies(header, mark))


def body_pieces(raw: bytes, part: Part) -> Iterator[bytes]:
    """The decoded text of the body, folded, in pieces of about 256 KiB at most; a needle may lie across two of them."""
    return map(octets, text.body_text(raw, part))
