"""A session's picture of its mailbox: which message has which number, what was told (RFC 3501 §2.3.1.2, §7.4.1).

Pure. The session feeds it with what storage says (`learn`) and sends what it answers (`tell`); between the two nothing
that the client sees has changed. So a number means the same message from the moment the client was told of it until the
client was told of its EXPUNGE, whatever others do meanwhile.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

from imap.wire import writer
from imap.wire.numset import NumSet, Ranges
from mail.flags import ALL, names_of
from storage.model import Changes, Entry, Flagged, MailboxRef, Opened, Rights
from storage.rights import flags_allowed

Slices = tuple[tuple[int, int], ...]
"""(start, stop) index pairs into `View.uids`, ascending, disjoint."""

LINES = 512
"""Untagged responses that one piece of `tell` holds at most."""
FEW = 16
"""Of that many messages one is few: looked up, where more are found by going through all."""


def is_read_only(rights: Rights) -> bool:
    """Is a mailbox open read-only to who has these rights?"""
    # RFC 4314 §5.2; all flags are shared here
    changing = Rights.INSERT | Rights.EXPUNGE | Rights.SEEN | Rights.WRITE | Rights.DELETE_MESSAGES
    return not rights & changing


class View:
    """One selected mailbox as one client knows it.

    `uids` holds the UID of sequence number n at index n - 1. `through` is the modification sequence up to which changes
    are known, `settled` the one up to which the client was told of all; `is_ahead`: it was told of a later one than
    `through`. `told_recent`: messages came while the mailbox was open. `with_modseq`: flags are told with their
    modification sequence; `vanishing`: VANISHED stands for EXPUNGE (RFC 7162 §3.1, §3.2.10); `rev2`: nothing is said of
    \\Recent (RFC 9051 Appendix A). `uid_only`: no numbers are told (RFC 9586). `rights`: of this user, as last told.
    `keywords_full`: no keyword can be added. 4 octets a message, and what is pending.
    """

    def __init__(
        self,
        opened: Opened,
        read_only: bool,
        *,
        with_modseq: bool = False,
        vanishing: bool = False,
        rev2: bool = False,
        uid_only: bool = False,
    ) -> None:
        self.ref: MailboxRef = opened.mailbox.ref
        self.rights = opened.mailbox.rights
        self.read_only = read_only or is_read_only(self.rights)
        self._examined = read_only
        self._new_rights = False
        self.with_modseq = with_modseq
        self.vanishing = vanishing
        self.rev2 = rev2
        self.uid_only = uid_only
        self.keywords_full = False
        self.uids = array("I")
        for low, high in opened.uids:
            self.uids.extend(range(low, high + 1))
        self.recent = Ranges(opened.recent)
        self.through = self.settled = opened.mailbox.highest_modseq
        self.keywords: dict[str, None] = dict.fromkeys(opened.keywords)
        self.told_recent = self.is_ahead = self._withheld = self._shows = False
        self._said: int | None = None
        self._saved = array("I")
        self._last = max(opened.mailbox.uidnext - 1, self.uids[-1] if self.uids else 0)
        self._new: set[int] = set()
        self._gone = array("I")
        self._changed: dict[int, Entry] = {}
        self._told: dict[int, int] = {}

    # -- numbers

    def __len__(self) -> int:
        """How many messages the client believes in (its last EXISTS less the EXPUNGEs since)."""
        return len(self.uids)

    @property
    def last(self) -> int:
        """The last UID that the mailbox had given when the client was last told; its message may be gone."""
        return self._last

    def number(self, uid: int) -> int:
        """The sequence number of a UID; 0 where the client knows no such message."""
        at = bisect_left(self.uids, uid)
        return at + 1 if at < len(self.uids) and self.uids[at] == uid else 0

    def slices(self, numset: NumSet, by_uid: bool) -> Slices | None:
        """The messages that a set names. None: it names a sequence number that there is not (RFC 3501 §9)."""
        if by_uid:
            # RFC 3501 §6.4.8: `*` is the largest UID in use; UIDs without a message are no error
            wanted = numset.resolve(self.uids[-1] if self.uids else 0)
            named = tuple(wanted.slices(self.uids))
        else:
            count = len(self.uids)
            if numset.largest() > count or (numset.open is not None and not count):
                return None
            named = tuple((low - 1, high) for low, high in numset.resolve(count).ranges)
        if not numset.saved:
            return named
        saved = Ranges.numbers(self._saved).slices(self.uids)
        both = Ranges.of((start + 1, stop) for start, stop in (*named, *saved))
        return tuple((low - 1, high) for low, high in both.ranges)

    def ranges(self, slices: Slices) -> tuple[tuple[int, int], ...]:
        """The same messages as UID ranges for storage.

        A range goes from the first to the last UID of a slice: what lies between and is not in the view has been
        expunged and told, so that storage has nothing there.
        """
        uids = self.uids
        return tuple((uids[start], uids[stop - 1]) for start, stop in slices)

    def ranges_of(self, ascending: Iterable[int]) -> tuple[tuple[int, int], ...]:
        """Ascending UIDs as ranges that close over UIDs of which the client knows no message: few, and as good."""
        pairs: list[tuple[int, int]] = []
        last = -2
        for uid in ascending:
            at = bisect_left(self.uids, uid)
            if at == last + 1:
                pairs[-1] = (pairs[-1][0], uid)
            else:
                pairs.append((uid, uid))
            last = at
        return tuple(pairs)

    def is_recent(self, uid: int) -> bool:
        """Whether this session alone was the first to be told of the message (RFC 3501 §2.3.2), and is told so."""
        return not self.rev2 and uid in self.recent

    def recent_of(self, uids: Sequence[int]) -> Iterable[tuple[int, int]]:
        """The (start, stop) indices into ascending UIDs at which they are so."""
        return () if self.rev2 else self.recent.slices(uids)

    def save(self, positions: Iterable[int]) -> None:
        """Messages, by their indices into `uids`, that ``$`` stands for from now on. Kept by UID: what is expunged
        later is left out by itself (RFC 5182 §2.1)."""
        uids = self.uids
        self._saved = array("I", sorted([uids[at] for at in positions]))

    def skip_to(self, modseq: int) -> bool:
        """A change of the session's own, told already, has this modification sequence. True where it was the next one,
        so that there is nothing else to ask for."""
        if modseq > self.through + 1:
            return False
        if self.settled == self.through:
            self.settled = max(self.through, modseq)
        self.through = max(self.through, modseq)
        self.is_ahead = False
        self._told.clear()
        return True

    # -- news

    def learn(self, changes: Changes) -> None:
        """Take in one page of changes after `through`. Tell when the last page (``not changes.more``) is in."""
        for entry in changes.entries:
            if entry.uid > self._last:
                self._new.add(entry.uid)
            elif self._told.get(entry.uid, 0) < entry.modseq:
                self._changed[entry.uid] = entry
        if changes.vanished:
            gone = Ranges(changes.vanished)
            self._new = {uid for uid in self._new if uid not in gone}
            lost = gone.pick(self.uids)
            if lost:
                self._gone = array("I", sorted({*self._gone, *lost}) if self._gone else lost)
                if self._changed:
                    for uid in lost:
                        self._changed.pop(uid, None)
        if changes.rights != self.rights:
            self.rights = changes.rights
            self._new_rights = True
        self.through = max(self.through, changes.through)
        if not changes.more:
            self.is_ahead = False
            self._told.clear()

    def withhold_flags(self) -> None:
        """The client does not want to be told of flags now (RFC 5465 §5)."""
        self._withheld = self._withheld or bool(self._changed)
        self._changed.clear()

    def resume_flags(self) -> None:
        """It does again: what was withheld is asked for anew."""
        if self._withheld:
            self._withheld = False
            self.through = self.settled

    def shows(self, modseq: int) -> None:
        """The client is being told modification sequences up to this one."""
        self._shows = True
        if modseq > self.through:
            self.is_ahead = True

    def told(self, uid: int, modseq: int) -> None:
        """The client is being told these flags of the message by the answer to a command of its own."""
        self._shows = True
        if modseq > self.through:
            self.is_ahead = True
            self._told[uid] = modseq
        if self._changed and uid in self._changed and self._changed[uid].modseq <= modseq:
            del self._changed[uid]

    def new_keywords(self, keywords: Iterable[str]) -> bytes:
        """FLAGS and PERMANENTFLAGS, which precede keywords of which the client was not told; b"" without such."""
        unknown = [keyword for keyword in keywords if keyword not in self.keywords]
        if not unknown:
            return b""
        self.keywords.update(dict.fromkeys(unknown))
        return self.flags_lines()

    def flags_lines(self) -> bytes:
        """``* FLAGS`` and ``* OK [PERMANENTFLAGS …]`` as they are now (RFC 3501 §7.2.6, §7.1)."""
        names = (*names_of(ALL), *self.keywords)
        permanent = () if self.read_only else self._permanent()
        code = f"PERMANENTFLAGS ({' '.join(permanent)})"
        text = "Read-only mailbox" if self.read_only else "Flags that can be kept"
        return writer.data(b"FLAGS " + writer.flag_list(names)) + writer.untagged("OK", text, code)

    def _permanent(self) -> tuple[str, ...]:
        # RFC 4314 §5.1.1: those that this user has the right to
        names = names_of(flags_allowed(self.rights))
        if not self.rights & Rights.WRITE:
            return names
        return (*names, *self.keywords) if self.keywords_full else (*names, *self.keywords, "\\*")

    def tell(self, may_expunge: bool) -> Iterator[bytes]:
        """What the client is to be told now, in pieces of whole lines. The view is as told when a piece is taken.

        may_expunge: False while answering FETCH, STORE and SEARCH (RFC 3501 §7.4.1): EXPUNGE waits for a later command,
        and EXISTS still counts those messages.
        """
        if self._new_rights:
            self._new_rights = False
            yield self._rights_lines()
        if may_expunge and self._gone:
            yield from self._expunge()
        if self._new:
            new = sorted(self._new)
            self._new.clear()
            self._last = new[-1]
            self.told_recent = True
            # RFC 3501 §2.3.2: not knowing who was told first, the session calls them recent
            self.recent = Ranges.of((*self.recent.ranges, (new[0], new[-1])))
            self.uids.extend(new)
            yield self.exists_lines()
        if self._changed:
            changed = sorted(self._changed.values())
            self._changed.clear()
            gone = frozenset(self._gone)
            yield from self._fetch_flags([e for e in changed if e.uid not in gone and self.number(e.uid)])
        if not self._gone and not self._withheld:
            self.settled = self.through

    def reached(self) -> bytes:
        """The line that says up to where the client was told of all: when some of it begins to wait, whenever newer
        changes have been told meanwhile, and when it waits no longer; b"" where the client can see that for itself. One
        that is cut off asks from there (RFC 7162 §3.2, §6)."""
        waits = bool(self._gone) or self._withheld or self.is_ahead
        if not self.with_modseq or not (waits or self._said is not None):
            return b""
        knows = self._said == self.settled and not self._shows
        self._said = self.settled if waits else None
        if knows:
            return b""
        self._shows = False
        text = "Older changes are still to be told" if waits else "All changes have been told"
        return writer.untagged("OK", text, f"HIGHESTMODSEQ {self.settled}")

    def _rights_lines(self) -> bytes:
        # RFC 4314 §5.1.1: FLAGS and PERMANENTFLAGS; RFC 3501 §7.1: READ-ONLY and READ-WRITE when that changes
        was = self.read_only
        self.read_only = self._examined or is_read_only(self.rights)
        if was == self.read_only:
            return self.flags_lines()
        code = "READ-ONLY" if self.read_only else "READ-WRITE"
        return writer.untagged("OK", "Your rights have changed", code) + self.flags_lines()

    def exists_lines(self) -> bytes:
        """``* EXISTS``, and ``* RECENT`` where it is told (RFC 3501 §7.3.1, §7.3.2)."""
        exists = writer.numbered(len(self.uids), b"EXISTS")
        return exists if self.rev2 else exists + writer.numbered(self.count_recent(), b"RECENT")

    def count_recent(self) -> int:
        """For the RECENT response."""
        return sum(stop - start for start, stop in self.recent.slices(self.uids))

    def _expunge(self) -> Iterator[bytes]:
        gone, self._gone = self._gone, array("I")
        numbers = self._take_out(gone)
        if self.vanishing or self.uid_only:
            # RFC 7162 §3.2.10, RFC 9586 §3.5
            yield writer.vanished(Ranges.numbers(gone).ranges, earlier=False)
            return
        # from the last to the first, so that no number is moved by one before it
        numbers.reverse()
        for at in range(0, len(numbers), LINES):
            yield writer.expunges(numbers[at : at + LINES])

    def _take_out(self, gone: array[int]) -> list[int]:
        """Remove these UIDs; the numbers that they had, ascending."""
        uids, kept = self.uids, array("I")
        if len(gone) * FEW > len(uids):
            lost = frozenset(gone)
            numbers = [number for number, uid in enumerate(uids, 1) if uid in lost]
            kept.extend([uid for uid in uids if uid not in lost])
        else:
            numbers = [bisect_left(uids, uid) + 1 for uid in gone]
            start = 0
            for number in numbers:
                kept += uids[start : number - 1]
                start = number
            kept += uids[start:]
        self.uids = kept
        return numbers

    def _fetch_flags(self, entries: list[Entry]) -> Iterator[bytes]:
        for at in range(0, len(entries), LINES):
            page = entries[at : at + LINES]
            keywords = self.new_keywords(keyword for entry in page for keyword in entry.keywords)
            # RFC 9051 §7.5.2: unasked FETCH responses have the UID
            yield keywords + self.flag_fetches([(self.number(e.uid), e) for e in page], with_uid=True)

    def flag_fetches(self, entries: Iterable[tuple[int, Entry | Flagged]], with_uid: bool) -> bytes:
        """FETCH lines with the flags of numbered messages, and their modification sequence where it is told."""
        # RFC 9586 §3.3: a UIDFETCH line has the UID at its head
        with_uid = with_uid and not self.uid_only
        recent = self.is_recent
        if self.with_modseq:
            self._shows = True
            rows = [(n, e.uid, e.flags, e.keywords, recent(e.uid), e.modseq) for n, e in entries]
            return writer.fetch_flags_modseq(rows, with_uid, self.uid_only)
        rows_of = [(n, e.uid, e.flags, e.keywords, recent(e.uid)) for n, e in entries]
        return writer.fetch_flags(rows_of, with_uid, self.uid_only)
