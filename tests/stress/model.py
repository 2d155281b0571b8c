"""What one IMAP client has been told of a mailbox, and every way in which the next word could contradict it.

Pure: lines in, knowledge out. RFC 3501 §5.2, §7.3, §7.4; RFC 7162 §3.2.10; RFC 9586 §3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

FETCH = re.compile(rb"^\* (\d+) (UID)?FETCH \((.*)\)$", re.DOTALL)
NUMBER = re.compile(rb"^\* (\d+) (EXISTS|EXPUNGE|RECENT)$")
VANISHED = re.compile(rb"^\* VANISHED (\(EARLIER\) )?([\d:,]+)$")
UID = re.compile(rb"(?:^| )UID (\d+)")
FLAGS = re.compile(rb"(?:^| )FLAGS \(([^)]*)\)")
MODSEQ = re.compile(rb"(?:^| )MODSEQ \((\d+)\)")
CAREFUL = frozenset((b"FETCH", b"STORE", b"SEARCH"))
"""Commands by sequence number, during which nothing may be expunged (RFC 3501 §7.4.1)."""


class Contradiction(AssertionError):
    """The server said what cannot be true beside what it said before."""


@dataclass
class Model:
    """One session's view. own: the keyword that this session alone sets, and on which messages it did so. by_uid: no
    message has a number, so that those not told yet stand behind the others. rev2: nothing is called recent."""

    name: str
    own: str
    by_uid: bool = False
    rev2: bool = False
    uids: list[int | None] = field(default_factory=list)
    """By sequence number; None where the uid was not told yet."""
    flags: dict[int, frozenset[str]] = field(default_factory=dict)
    modseqs: dict[int, int] = field(default_factory=dict)
    marked: set[int] = field(default_factory=set)
    unsure: set[int] = field(default_factory=set)
    """Whose own keyword is being changed by a command that was not answered yet."""
    gone: set[int] = field(default_factory=set)
    """Told to be expunged."""
    running: frozenset[bytes] = frozenset()
    """Commands that were sent and not answered."""
    log: list[str] = field(default_factory=list)

    def fail(self, text: str) -> None:
        raise Contradiction(f"{self.name}: {text}\n" + "\n".join(self.log[-30:]))

    def check(self, true: object, text: str) -> None:
        if not true:
            self.fail(text)

    def selected(self) -> None:
        """A SELECT begins: nothing is known."""
        self.uids, self.flags, self.modseqs = [], {}, {}

    def hear(self, line: bytes) -> None:
        """One untagged response, its literals already cut out."""
        if number := NUMBER.match(line):
            count, word = int(number[1]), number[2]
            self.check(not (self.by_uid and word == b"EXPUNGE"), "EXPUNGE of a number")
            self.check(not (self.rev2 and word == b"RECENT"), "RECENT in IMAP4rev2")
            if word == b"EXISTS":
                # RFC 3501 §7.3.1: without an EXPUNGE a mailbox never shrinks
                self.check(count >= len(self.uids), f"EXISTS {count} after {len(self.uids)} messages")
                self.uids += [None] * (count - len(self.uids))
            elif word == b"EXPUNGE":
                self._may_expunge(f"EXPUNGE {count}")
                self.check(1 <= count <= len(self.uids), f"EXPUNGE {count} of {len(self.uids)}")
                self._forget(self.uids.pop(count - 1))
        elif vanished := VANISHED.match(line):
            if not vanished[1]:
                self._may_expunge("VANISHED")
                self._vanished(vanished[2])
        elif fetch := FETCH.match(line):
            self.check(bool(fetch[2]) == self.by_uid, "FETCH and UIDFETCH are mixed")
            if self.by_uid:
                self._learned(int(fetch[1]), fetch[3])
            else:
                self._fetched(int(fetch[1]), fetch[3])

    def _may_expunge(self, what: str) -> None:
        # With nothing running it could not be told either, but for what was on its way when a command ended.
        alone = self.running & CAREFUL
        self.check(not alone or self.running - CAREFUL, f"{what} during {alone}")

    def _forget(self, uid: int | None) -> None:
        if uid is not None:
            self.gone.add(uid)
            self.flags.pop(uid, None)

    def _vanished(self, text: bytes) -> None:
        for part in text.split(b","):
            first, _, last = part.partition(b":")
            for uid in range(int(first), int(last or first) + 1):
                self.uids.pop(self._place(uid))
                self._forget(uid)

    def _place(self, uid: int) -> int:
        """Where a uid stands; one that was not told yet is among those between its neighbours, which are all alike."""
        if uid in self.uids:
            return self.uids.index(uid)
        if self.by_uid:
            self.check(None in self.uids, f"VANISHED {uid}, which is not there")
            return self.uids.index(None)
        low = max((at for at, one in enumerate(self.uids) if one is not None and one < uid), default=-1)
        self.check(low + 1 < len(self.uids) and self.uids[low + 1] is None, f"VANISHED {uid}, which is not there")
        return low + 1

    def _fetched(self, number: int, items: bytes) -> None:
        self.check(1 <= number <= len(self.uids), f"FETCH of {number} of {len(self.uids)}")
        known = self.uids[number - 1]
        if told := UID.search(items):
            uid = int(told[1])
            self.check(known in (None, uid), f"number {number} was uid {known} and is now {uid}")
            self.check(uid not in self.gone, f"uid {uid} was expunged")
            self.uids[number - 1] = known = uid
            before = [one for one in self.uids[: number - 1] if one is not None]
            after = [one for one in self.uids[number:] if one is not None]
            self.check(not before or before[-1] < uid, f"uid {uid} behind {before[-1:]}")
            self.check(not after or uid < after[0], f"uid {uid} before {after[:1]}")
        if known is not None:
            self._told(known, items)

    def _learned(self, uid: int, items: bytes) -> None:
        self.check(uid not in self.gone, f"uid {uid} was expunged")
        if uid not in self.uids:
            self.check(None in self.uids, f"UIDFETCH of {uid}, and all of {len(self.uids)} are known")
            known = [one for one in self.uids if one is not None]
            self.uids = [*sorted((*known, uid)), *[None] * (len(self.uids) - len(known) - 1)]
        self._told(uid, items)

    def _told(self, known: int, items: bytes) -> None:
        if modseq := MODSEQ.search(items):
            value = int(modseq[1])
            # RFC 7162 §3.1: of one message it never goes back
            self.check(value >= self.modseqs.get(known, 0), f"uid {known}: modseq back to {value}")
            self.modseqs[known] = value
        if flags := FLAGS.search(items):
            # \Recent is each session's own
            said = frozenset(flags[1].decode().split())
            self.check(not (self.rev2 and "\\Recent" in said), f"uid {known} is recent in IMAP4rev2")
            now = said - {"\\Recent"}
            self.flags[known] = now
            if known not in self.unsure:
                self.check(
                    (self.own in now) == (known in self.marked),
                    f"uid {known} has {sorted(now)}, and {self.own} was {'' if known in self.marked else 'not '}set",
                )

    def searched(self, numbers: list[int], by_uid: bool, own_only: bool) -> None:
        """The answer of a SEARCH."""
        if not by_uid:
            self.check(
                all(1 <= one <= len(self.uids) for one in numbers), f"SEARCH found {numbers} of {len(self.uids)}"
            )
            return
        self.check(numbers == sorted(set(numbers)), f"UID SEARCH found {numbers}")
        self.check(not self.gone & set(numbers), f"UID SEARCH found expunged {self.gone & set(numbers)}")
        if own_only:
            strange = set(numbers) - self.marked - self.unsure
            self.check(not strange, f"UID SEARCH KEYWORD {self.own} found {strange}")
