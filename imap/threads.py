"""The trees of THREAD: ORDEREDSUBJECT and REFERENCES (RFC 5256 §3).

Pure. Messages are added one by one in the order of the mailbox, each with its place there. What is kept of them are
numbers in arrays, and every message id and subject once.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from imap.ancestry import NONE, Ancestry
from imap.sorting import KEY_OCTETS, Budget
from storage.model import Keys


@dataclass(frozen=True, slots=True)
class Forest:
    """Threads in order: `heads` are nodes, `children` those of a node, in order. `places` of a node's message; NONE for
    a dummy, which stands for a message that is not there and has two children or more."""

    heads: list[int]
    children: dict[int, list[int]]
    places: Sequence[int]


class _Numbers:
    """Texts by number, from 1 as they come; the empty text is 0."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._numbers: dict[bytes, int] = {}

    def of(self, text: str) -> int:
        """Raises TooMuch."""
        if not text:
            return 0
        octets = text.encode("utf-8", "replace")
        number = self._numbers.get(octets)
        if number is None:
            self._budget.spend(octets)
            number = self._numbers[octets] = len(self._numbers) + 1
        return number


class OrderedSubject:
    """THREAD=ORDEREDSUBJECT: one thread for each base subject, its first message above all others of it."""

    def __init__(self, most: int = KEY_OCTETS) -> None:
        self._subjects = _Numbers(Budget(most))
        self._places = array("I")
        self._sent = array("q")
        self._subject = array("I")

    def add(self, place: int, keys: Keys) -> None:
        """The next message. Raises TooMuch."""
        self._places.append(place)
        self._sent.append(keys.sent)
        self._subject.append(self._subjects.of(keys.subject))

    def finish(self) -> Forest:
        """All threads, by the sent date of their first messages."""
        sent, subject = self._sent, self._subject
        head_of: dict[int, int] = {}
        heads: list[int] = []
        children: dict[int, list[int]] = {}
        # a stable sort, so that equal dates stay in the order of the mailbox (RFC 5256 §2.2)
        for node in sorted(range(len(sent)), key=sent.__getitem__):
            head = head_of.setdefault(subject[node], node)
            if head == node:
                heads.append(node)
            else:
                children.setdefault(head, []).append(node)
        return Forest(heads, children, self._places)


class References:
    """THREAD=REFERENCES, in the RFC's six steps: `add` is step 1 for one message, `gather` steps 2 to 4, `finish` steps
    5 and 6. A node is a message, or a dummy for an id that no message of the search has."""

    def __init__(self, most: int = KEY_OCTETS) -> None:
        budget = Budget(most)
        self._budget = budget
        self._subjects = _Numbers(budget)
        self._nodes: dict[bytes, int] = {}
        self._ancestry = Ancestry()
        self._branches = array("I")
        self._places = array("i")
        self._sent = array("q")
        self._subject = array("I")
        self._heads: list[int] = []
        self._children: dict[int, list[int]] = {}

    # -- step 1

    def add(self, place: int, keys: Keys) -> None:
        """The next message. Raises TooMuch."""
        node = self._of_id(keys.message_id) if keys.message_id else self._make()
        if self._places[node] != NONE:
            # of several messages with one id the first has it
            node = self._make()
        self._places[node] = place
        self._sent[node] = keys.sent
        self._subject[node] = self._subjects.of(keys.subject)
        parents = self._ancestry.parents
        before = NONE
        for reference in keys.references:
            at = self._of_id(reference)
            if before != NONE and parents[at] == NONE:
                self._link(at, before)
            before = at
        if parents[node] != before:
            if parents[node] != NONE:
                self._branches[parents[node]] -= 1
                self._ancestry.cut(node)
            if before != NONE:
                self._link(node, before)

    def _of_id(self, message_id: str) -> int:
        octets = message_id.encode("utf-8", "replace")
        node = self._nodes.get(octets)
        if node is None:
            self._budget.spend(octets)
            node = self._nodes[octets] = self._make()
        return node

    def _make(self) -> int:
        self._branches.append(0)
        self._places.append(NONE)
        self._sent.append(0)
        self._subject.append(0)
        return self._ancestry.make()

    def _link(self, root: int, parent: int) -> None:
        """Make a node without parent the child of another, unless that is below it or itself."""
        if root == parent or (self._branches[root] and self._ancestry.root(parent) == root):
            return
        self._branches[parent] += 1
        self._ancestry.link(root, parent)

    # -- steps 2 to 4

    def gather(self) -> list[int]:
        """The places of those messages of which `finish` must know whether they are replies or forwards: heads of
        threads that share their subject with another."""
        self._prune()
        for siblings in self._children.values():
            siblings.sort(key=self._date)
        self._heads.sort(key=self._head_date)
        heads_of: dict[int, int] = {}
        for head in self._heads:
            subject = self._thread_subject(head)
            heads_of[subject] = heads_of.get(subject, 0) + 1
        return [
            self._places[head]
            for head in self._heads
            if self._places[head] != NONE and self._subject[head] and heads_of[self._subject[head]] > 1
        ]

    def _prune(self) -> None:
        """Steps 2 and 3: every message below the nearest one above it that is there, or else below the topmost dummy,
        which stays where it has two children or more."""
        parents, places, children = self._ancestry.parents, self._places, self._children
        anchors = array("i", [NONE]) * len(places)
        groups: dict[int, list[int]] = {}
        for node, place in enumerate(places):
            if place == NONE:
                continue
            at = parents[node]
            passed: list[int] = []
            while at != NONE and places[at] == NONE and anchors[at] == NONE:
                passed.append(at)
                at = parents[at]
            if at == NONE:
                # the topmost is its own
                at = passed[-1] if passed else NONE
            elif places[at] == NONE:
                at = anchors[at]
            for dummy in passed:
                anchors[dummy] = at
            if at == NONE:
                self._heads.append(node)
            elif places[at] == NONE:
                groups.setdefault(at, []).append(node)
            else:
                children.setdefault(at, []).append(node)
        for dummy, nodes in groups.items():
            if len(nodes) == 1:
                self._heads.append(nodes[0])
            else:
                self._heads.append(dummy)
                children[dummy] = nodes

    def _date(self, node: int) -> int:
        """What siblings are sorted by: the sent date, then the place (RFC 5256 §2.2), as one number."""
        return (self._sent[node] << 32) | self._places[node]

    def _head_date(self, head: int) -> int:
        return self._date(head if self._places[head] != NONE else self._children[head][0])

    def _thread_subject(self, head: int) -> int:
        return self._subject[head if self._places[head] != NONE else self._children[head][0]]

    # -- steps 5 and 6

    def finish(self, replies: Collection[int]) -> Forest:
        """The threads. replies: which of the places that `gather` gave are of replies or forwards."""
        self._merge(self._table(replies), replies)
        for siblings in self._children.values():
            siblings.sort(key=self._date)
        self._heads.sort(key=self._head_date)
        return Forest(self._heads, self._children, self._places)

    def _table(self, replies: Collection[int]) -> dict[int, int]:
        """Steps 5.A and 5.B: one head for each subject, a dummy or else one that is no reply before others."""
        places = self._places
        table: dict[int, int] = {}
        for head in self._heads:
            subject = self._thread_subject(head)
            if not subject:
                continue
            held = table.setdefault(subject, head)
            if places[held] != NONE and (
                places[head] == NONE or (places[held] in replies and places[head] not in replies)
            ):
                table[subject] = head
        return table

    def _merge(self, table: dict[int, int], replies: Collection[int]) -> None:
        """Step 5.C. Where a head is a dummy, so is the one in the table."""
        places, children = self._places, self._children
        moved: set[int] = set()
        fresh: list[int] = []
        for head in self._heads:
            subject = self._thread_subject(head)
            if not subject or head in moved or table[subject] == head:
                continue
            held = table[subject]
            moved.add(head)
            if places[head] == NONE:
                children[held].extend(children.pop(head))
            elif places[held] == NONE:
                children[held].append(head)
            elif places[head] in replies and places[held] not in replies:
                children.setdefault(held, []).append(head)
            else:
                dummy = self._make()
                children[dummy] = [held, head]
                moved.add(held)
                fresh.append(dummy)
                table[subject] = dummy
        self._heads = [head for head in self._heads if head not in moved]
        self._heads.extend(fresh)
