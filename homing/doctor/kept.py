"""The last report, kept among the notes: over a restart, and for all processes."""

from __future__ import annotations

import hashlib

from homing.doctor.finding import Report
from smtp.outbound.notes import PAGE_MAX, Notes

SPACE = "doctor"
PIECES = "doctor-pieces"
LAST = "last"
KEPT_SECONDS = 90 * 86400.0
PIECE_MAX = 60_000
"""Characters of one note: at most four octets each (``smtp.outbound.notes.TEXT_MAX``)."""


async def keep(notes: Notes, report: Report) -> None:
    """Keep it in the place of the one before. Raises NotesUnavailable."""
    text = report.text()
    until = report.at + KEPT_SECONDS
    # A reader has the pieces of one report, or those of another: never some of each.
    id = hashlib.sha256(text.encode()).hexdigest()[:16]
    pieces = [text[start : start + PIECE_MAX] for start in range(0, len(text), PIECE_MAX)]
    for number, piece in enumerate(pieces):
        await notes.put(PIECES, _piece(id, number), piece, until)
    await notes.put(SPACE, LAST, f"{id} {len(pieces)}", until)
    old = [note.key for note in await notes.page(PIECES, limit=PAGE_MAX) if not note.key.startswith(f"{id}/")]
    await notes.remove(PIECES, old)


async def last(notes: Notes) -> Report | None:
    """None where none is kept, or what is kept is of another version. Raises NotesUnavailable."""
    pointer = await notes.get(SPACE, LAST)
    if pointer is None:
        return None
    id, _, count = pointer.partition(" ")
    pieces = [await notes.get(PIECES, _piece(id, number)) for number in range(int(count))]
    try:
        return Report.of("".join(piece or "" for piece in pieces))
    except ValueError:
        return None


def _piece(id: str, number: int) -> str:
    return f"{id}/{number:04d}"
