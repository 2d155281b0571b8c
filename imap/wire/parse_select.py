"""SELECT and EXAMINE (RFC 3501 §6.3.1) with their parameters (RFC 4466 §2.1). A new one is a case in `_parameter`."""

from __future__ import annotations

from dataclasses import replace

from imap.wire.errors import BadSyntax
from imap.wire.forms import Resync, Select
from imap.wire.limits import MODSEQ_MAX
from imap.wire.numset import Ranges
from imap.wire.tokens import Scanner


def parse_select(scanner: Scanner, *, read_only: bool) -> Select:
    """``mailbox`` and perhaps ``(parameter parameter)``."""
    scanner.space()
    form = Select(scanner.mailbox(), read_only)
    if not scanner.skip(b" ("):
        return form
    while True:
        form = _parameter(scanner, form)
        if scanner.skip(b")"):
            return form
        scanner.space()


def _parameter(scanner: Scanner, form: Select) -> Select:
    match scanner.word("CONDSTORE or QRESYNC"):
        case "CONDSTORE":
            return replace(form, condstore=True)
        case "QRESYNC" if form.resync is None:
            scanner.space()
            return replace(form, resync=_resync(scanner))
        case name:
            raise BadSyntax(f"{name[:40]} is no parameter here, or stands here twice")


def _resync(scanner: Scanner) -> Resync:
    """``(uidvalidity modseq [known-uids] [(numbers uids)])`` (RFC 7162 §7)."""
    scanner.expect(b"(")
    uidvalidity = scanner.number("a UIDVALIDITY")
    scanner.space()
    # Tolerance: 0, which the grammar has not, is before everything
    modseq = scanner.number("a modification sequence", MODSEQ_MAX)
    known: Ranges | None = None
    numbers = uids = Ranges()
    if scanner.sees(b" ") and not scanner.sees(b" ("):
        scanner.space()
        known = _closed_set(scanner)
    if scanner.skip(b" "):
        scanner.expect(b"(")
        numbers = _closed_set(scanner)
        scanner.space()
        uids = _closed_set(scanner)
        if len(numbers) != len(uids):
            raise scanner.wrong("as many UIDs as message numbers before this")
        scanner.expect(b")")
    scanner.expect(b")")
    return Resync(uidvalidity, modseq, known, numbers, uids)


def _closed_set(scanner: Scanner) -> Ranges:
    numset = scanner.numset()
    if numset.open is not None or numset.saved:
        # RFC 7162 §7: known-uids, known-sequence-set and known-uid-set are without "*"
        raise scanner.wrong('a set without "*" before this')
    return numset.fixed
