"""Random legal operations, compared after each with a model of mailboxes in plain Python."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import uuid
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from runtime.clock import ManualClock
from storage import ranges
from storage.adapters.sqlite.adapter import SqliteStorage
from storage.model import ALL_UIDS, SYSTEM, Delivery, FlagMode, LocalRecipient, NewMessage, Operation, Ranges, Want
from storage.port import Refused
from tests.hurry import examples
from tests.reading import lost_rows_of, rows_of
from tests.storage.consistency import problems

BOXES = ("INBOX", "Sent", "Trash")
UIDS = st.sets(st.integers(1, 12), max_size=8).map(lambda uids: ranges.of(sorted(uids))) | st.just(ALL_UIDS)
FLAGS = st.integers(0, 31)
WORDS = st.sets(st.sampled_from(["$a", "b", "Cc", "dd"]), max_size=3).map(lambda words: tuple(sorted(words)))


@dataclass(frozen=True)
class Message:
    flags: int
    words: frozenset[str]
    content: bytes
    modseq: int


@dataclass
class Box:
    uidnext: int = 1
    messages: dict[int, Message] = field(default_factory=dict)
    lost: dict[int, Message] = field(default_factory=dict)
    recent_from: int = 1

    def add(self, message: Message) -> int:
        self.messages[self.uidnext] = message
        self.uidnext += 1
        return self.uidnext - 1

    def take(self, uids: Ranges) -> list[int]:
        chosen = set(ranges.each(((1, 100),) if uids == ALL_UIDS else uids))
        return sorted(chosen & self.messages.keys())


class Mailboxes(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner()
        self.folder = tempfile.mkdtemp()
        self.clock = ManualClock()
        self.store = SqliteStorage(self.folder, clock=self.clock)
        self.boxes = {name: Box() for name in BOXES}
        self.refs = {}
        self.told: dict[str, tuple[int, dict[int, int]]] = {name: (0, {}) for name in BOXES}
        self.count = 0
        self.do(self.store.open(index=False))
        self.do(self.store.open_account(self.op(), "ann"))
        for name in BOXES:
            self.refs[name] = self.do(self.store.mailbox("ann", name)).ref
        self.modseq = 2

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.do(self.store.close())
            self.runner.close()
            shutil.rmtree(self.folder)

    def do(self, call: Any) -> Any:
        return self.runner.run(call)

    @staticmethod
    def op() -> Operation:
        return Operation(uuid.uuid4().hex, SYSTEM)

    def content(self) -> bytes:
        self.count += 1
        return b"Subject: %d\r\n\r\n" % self.count + b"x" * (self.count * 7 % 50)

    @rule(name=st.sampled_from(BOXES), flags=FLAGS, twice=st.booleans())
    def deliver(self, name: str, flags: int, twice: bool) -> None:
        content = self.content()
        one = Delivery(self.op(), content, "", 0.0, "t", (LocalRecipient("ann", "a", b"", name, flags),))
        outcomes = self.do(self.store.accept([one] * (2 if twice else 1)))
        self.modseq += 1
        uid = self.boxes[name].add(Message(flags, frozenset(), content, self.modseq))
        assert all(outcome.stored[0].uid == uid for outcome in outcomes)

    @rule(name=st.sampled_from(BOXES), new=st.lists(st.tuples(FLAGS, WORDS), min_size=1, max_size=3))
    def append(self, name: str, new: list[tuple[int, tuple[str, ...]]]) -> None:
        self.modseq += 1
        messages = [Message(flags, frozenset(words), self.content(), self.modseq) for flags, words in new]
        appended = self.do(
            self.store.append(
                self.op(),
                self.refs[name],
                [NewMessage(one.content, one.flags, tuple(one.words)) for one in messages],
                None,
            )
        )
        assert appended.modseq == self.modseq
        assert appended.uids == tuple(self.boxes[name].add(one) for one in messages)

    @rule(
        name=st.sampled_from(BOXES),
        uids=UIDS,
        mode=st.sampled_from(FlagMode),
        flags=FLAGS,
        words=WORDS,
        back=st.integers(-1, 6),
    )
    def store_flags(
        self, name: str, uids: Ranges, mode: FlagMode, flags: int, words: tuple[str, ...], back: int
    ) -> None:
        since = None if back < 0 else self.modseq - back
        box = self.boxes[name]
        stored = self.do(self.store.store_flags(self.op(), self.refs[name], uids, mode, flags, words, since))
        modified, changed = [], {}
        for uid in box.take(uids):
            old = box.messages[uid]
            if since is not None and old.modseq > since:
                modified.append(uid)
                continue
            if mode is FlagMode.REPLACE:
                new = replace(old, flags=flags, words=frozenset(words))
            elif mode is FlagMode.ADD:
                new = replace(old, flags=old.flags | flags, words=old.words | set(words))
            else:
                new = replace(old, flags=old.flags & ~flags, words=old.words - set(words))
            if new != old:
                changed[uid] = new
        if changed:
            self.modseq += 1
        for uid, new in changed.items():
            box.messages[uid] = replace(new, modseq=self.modseq)
        assert stored.modified == ranges.of(modified)
        assert [(entry.uid, entry.modseq, entry.flags) for entry in stored.entries] == [
            (uid, box.messages[uid].modseq, box.messages[uid].flags) for uid in box.take(uids)
        ]

    @rule(name=st.sampled_from(BOXES), uids=UIDS, to=st.sampled_from(BOXES), move=st.booleans())
    def copy_or_move(self, name: str, uids: Ranges, to: str, move: bool) -> None:
        if move and name == to:
            return
        ref, box = self.refs[name], self.boxes[name]
        if move:
            copied = self.do(self.store.move(self.op(), ref, uids, to))
        else:
            copied = self.do(self.store.copy(self.op(), ref, uids, to, None))
        source = box.take(uids)
        if source:
            self.modseq += 1
        new = [self.boxes[to].add(replace(box.messages[uid], modseq=self.modseq)) for uid in source]
        if move:
            for uid in source:
                box.lost[uid] = box.messages.pop(uid)
        assert (copied.source, copied.target) == (ranges.of(source), ranges.of(new))

    @rule(name=st.sampled_from(BOXES), uid=st.integers(1, 12), to=st.sampled_from(BOXES), flags=FLAGS)
    def replace(self, name: str, uid: int, to: str, flags: int) -> None:
        box, content = self.boxes[name], self.content()
        call = self.store.replace(self.op(), self.refs[name], uid, self.refs[to], NewMessage(content, flags), None)
        if uid not in box.messages:
            with pytest.raises(Refused):
                self.do(call)
            return
        done = self.do(call)
        self.modseq += 1
        new = self.boxes[to].add(Message(flags, frozenset(), content, self.modseq))
        assert (done.uids, done.modseq) == ((new,), self.modseq)
        box.lost[uid] = box.messages.pop(uid)

    @rule(name=st.sampled_from(BOXES), uids=UIDS)
    def expunge(self, name: str, uids: Ranges) -> None:
        box = self.boxes[name]
        expunged = self.do(self.store.expunge(self.op(), self.refs[name], uids))
        gone = [uid for uid in box.take(uids) if box.messages[uid].flags & 8]
        if gone:
            self.modseq += 1
        for uid in gone:
            box.lost[uid] = box.messages.pop(uid)
        assert expunged.uids == ranges.of(gone)

    @rule(name=st.sampled_from(BOXES))
    def select(self, name: str) -> None:
        box = self.boxes[name]
        opened = self.do(self.store.open_mailbox(self.op(), self.refs[name], True))
        assert opened.uids == ranges.of(sorted(box.messages))
        assert opened.recent == ranges.of(uid for uid in sorted(box.messages) if uid >= box.recent_from)
        unseen = [uid for uid, one in sorted(box.messages.items()) if not one.flags & 1]
        assert opened.first_unseen_uid == (unseen[0] if unseen else None)
        box.recent_from = box.uidnext

    @rule()
    def sweep(self) -> None:
        self.clock.advance(3601)
        while self.do(self.store.sweep()).more:
            continue
        for box in self.boxes.values():
            box.lost.clear()

    @rule(name=st.sampled_from(BOXES), limit=st.integers(1, 5))
    def hear(self, name: str, limit: int) -> None:
        since, known = self.told[name]
        page = self.do(self.store.changes(self.refs[name], since, limit))
        for entry in page.entries:
            assert since < entry.modseq <= page.through
            known[entry.uid] = entry.flags
        for uid in ranges.each(page.vanished):
            known.pop(uid, None)
        if not page.more:
            assert known == {uid: one.flags for uid, one in self.boxes[name].messages.items()}
        self.told[name] = (page.through, known)

    @invariant()
    def same(self) -> None:
        if not hasattr(self, "modseq"):
            return
        total = 0
        for mailbox in self.do(self.store.list_mailboxes("ann")).mailboxes:
            box = self.boxes.get(mailbox.name)
            if box is None:
                continue
            messages = box.messages
            size = sum(len(one.content) for one in messages.values())
            total += size
            assert (mailbox.uidnext, mailbox.messages, mailbox.size) == (box.uidnext, len(messages), size)
            assert mailbox.unseen == sum(not one.flags & 1 for one in messages.values())
            assert mailbox.deleted == sum(bool(one.flags & 8) for one in messages.values())
            assert mailbox.recent == sum(uid >= box.recent_from for uid in messages)
            for there, page in (
                (messages, self.do(rows_of(self.store, mailbox.ref, ALL_UIDS, Want.CONTENT))),
                (box.lost, self.do(lost_rows_of(self.store, mailbox.ref, ALL_UIDS, Want.CONTENT))),
            ):
                assert {
                    row.entry.uid: Message(
                        row.entry.flags, frozenset(row.entry.keywords), row.content or b"", row.entry.modseq
                    )
                    for row in page
                } == there
        assert self.do(self.store.database.read(problems)) == []
        assert self.do(self.store.usage("ann")).size == total
        assert dict(self.do(self.store.watch({"ann": 0}, 0))) == {"ann": self.modseq}


Mailboxes.TestCase.settings = settings(max_examples=examples(30), stateful_step_count=25, deadline=None)
TestMailboxes = Mailboxes.TestCase
