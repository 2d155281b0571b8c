"""What is fuzzed: each target takes any octets and raises only when a promise is broken.

The promise (docs/threat-model.md): any input gives a value or the one documented error, however it was cut.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from imap.wire.errors import BadSyntax
from imap.wire.framer import Event, Framer, LiteralChunk, LiteralStart, Refusal
from imap.wire.limits import WireLimits
from imap.wire.numset import parse_numset
from imap.wire.parser import parsed
from imap.wire.utf7 import decode, encode
from mail import headers, structure
from mail.structure import Part
from storage import ingest

LIMITS = WireLimits(line=8192, literal=4096, command=16384, message=1 << 16)


def _events(pieces: list[bytes], refuse: bool) -> list[object]:
    framer = Framer(LIMITS)
    seen: list[object] = []
    for piece in pieces:
        framer.feed(piece)
        while (event := framer.next_event()) is not None:
            if isinstance(event, LiteralStart):
                framer.refuse() if refuse else framer.accept()
            if isinstance(event, LiteralChunk) and seen and isinstance(seen[-1], LiteralChunk):
                seen[-1] = LiteralChunk(seen[-1].data + event.data)
            else:
                seen.append(_plain(event))
    return seen


def _plain(event: Event) -> object:
    if isinstance(event, Refusal):
        return (event.error.tag, event.error.condition, event.error.code)
    return event


def framer(octets: bytes) -> None:
    """The first octet chooses how the rest is cut; the events are the same as of the whole."""
    if not octets:
        return
    step, refuse, rest = octets[0] % 31 + 1, bool(octets[0] & 128), octets[1:]
    pieces = [rest[at : at + step] for at in range(0, len(rest), step)]
    whole, cut = _events([rest], refuse), _events(pieces, refuse)
    assert whole == cut, (whole, cut)


def parser(octets: bytes) -> None:
    """A command or BadSyntax, under both ways to read mailbox names."""
    for utf8 in (False, True):
        found = parsed(octets, utf8=utf8)
        if isinstance(found, BadSyntax):
            assert found.condition in ("BAD", "NO")
            assert "\r" not in str(found)
            assert "\n" not in str(found)


def numset(octets: bytes) -> None:
    """What is a set is written in a form that is the same set."""
    try:
        found = parse_numset(octets)
    except (BadSyntax, ValueError):
        return
    for last in (0, 1, 77, 0xFFFF_FFFF):
        ranges = found.resolve(last)
        again = parse_numset(ranges.format()).resolve(last) if ranges else ranges
        assert again == ranges, (found, last)


def utf7(octets: bytes) -> None:
    """What can be decoded is encoded to what decodes to the same."""
    try:
        name = decode(octets)
    except (BadSyntax, ValueError):
        return
    assert decode(encode(name)) == name


def mime(octets: bytes) -> None:
    """Every part lies in the message, its children in its body; the forms that FETCH answers with are one line each or
    literals."""
    whole = structure.parse(octets)
    _inside(whole, 0, len(octets))
    forms, _ = ingest.describe(octets)
    assert forms.envelope[:1] == b"("
    assert forms.bodystructure[:1] == b"("
    for form in (forms.envelope, forms.body, forms.bodystructure):
        assert form.count(b"\n") == form.count(b"}\r\n"), form


def _inside(part: Part, low: int, high: int) -> None:
    assert low <= part.header_start <= part.body_start <= part.body_end <= high, part
    for child in part.children:
        _inside(child, part.body_start, part.body_end)


def header(octets: bytes) -> None:
    """The usual lines are lines of the header, and choosing all but none gives them back."""
    chosen = headers.select(octets, frozenset(), invert=True)
    assert chosen.endswith(b"\r\n")
    # the last line may have got the line end that it lacks
    for _, line in headers.lines(headers.usual(octets) or b""):
        assert line.rstrip(b"\r\n") in octets


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    "framer": framer,
    "parser": parser,
    "numset": numset,
    "utf7": utf7,
    "mime": mime,
    "header": header,
}
