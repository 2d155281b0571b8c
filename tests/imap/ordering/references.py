"""THREAD=REFERENCES as RFC 5256 §3 tells it, step by step and slowly, for small mailboxes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise


@dataclass(frozen=True)
class Mail:
    id: str
    references: tuple[str, ...] = ()
    subject: str = ""
    is_reply: bool = False
    sent: int = 0


@dataclass(eq=False)
class Node:
    mail: Mail | None = None
    place: int = -1
    parent: Node | None = None
    children: list[Node] = field(default_factory=list)

    @property
    def is_dummy(self) -> bool:
        return self.mail is None

    def attach(self, child: Node) -> None:
        child.parent = self
        self.children.append(child)

    def detach(self) -> None:
        if self.parent is not None:
            self.parent.children.remove(self)
            self.parent = None

    def is_under(self, other: Node) -> bool:
        node: Node | None = self
        while node is not None:
            if node is other:
                return True
            node = node.parent
        return False


Shape = tuple[int | None, tuple["Shape", ...]]
"""A place, None for a dummy, and what is below."""


def threaded(mails: list[Mail]) -> list[Shape]:
    """The threads of messages in mailbox order."""
    root = Node()
    root.children = gathered(mails)
    for child in root.children:
        child.parent = root
    prune(root, root)
    # step 4
    for child in root.children:
        if child.is_dummy:
            child.children.sort(key=sent)
    root.children.sort(key=head_sent)
    merge(root)
    # step 6
    sort(root)
    return [shape(child) for child in root.children]


def gathered(mails: list[Mail]) -> list[Node]:
    """Steps 1 and 2."""
    by_id: dict[str, Node] = {}
    every: list[Node] = []

    def new() -> Node:
        every.append(Node())
        return every[-1]

    def of(name: str) -> Node:
        if name not in by_id:
            by_id[name] = new()
        return by_id[name]

    for place, mail in enumerate(mails):
        node = of(mail.id) if mail.id else new()
        if not node.is_dummy:
            node = new()
        node.mail, node.place = mail, place
        chain = [of(reference) for reference in mail.references]
        for above, below in pairwise(chain):
            if below.parent is None and not above.is_under(below):
                above.attach(below)
        node.detach()
        if chain and not chain[-1].is_under(node):
            chain[-1].attach(node)
    return [node for node in every if node.parent is None]


def prune(node: Node, root: Node) -> None:
    """Step 3."""
    for child in list(node.children):
        prune(child, root)
        if not child.is_dummy:
            continue
        if not child.children:
            child.detach()
        elif node is not root or len(child.children) == 1:
            at = node.children.index(child)
            node.children[at : at + 1] = child.children
            for promoted in child.children:
                promoted.parent = node


def merge(root: Node) -> None:
    """Step 5."""
    table: dict[str, Node] = {}
    for node in root.children:
        subject = thread_subject(node)
        if not subject:
            continue
        held = table.get(subject)
        if held is None or (not held.is_dummy and (node.is_dummy or (is_reply(held) and not is_reply(node)))):
            table[subject] = node
    for node in list(root.children):
        if node.parent is not root:
            continue
        subject = thread_subject(node)
        if not subject or table[subject] is node:
            continue
        held = table[subject]
        if held.is_dummy and node.is_dummy:
            for child in list(node.children):
                child.detach()
                held.attach(child)
            node.detach()
        elif held.is_dummy or (is_reply(node) and not is_reply(held)):
            node.detach()
            held.attach(node)
        else:
            dummy = Node()
            for child in (node, held):
                child.detach()
                dummy.attach(child)
            root.attach(dummy)
            table[subject] = dummy


def sort(node: Node) -> None:
    for child in node.children:
        sort(child)
    node.children.sort(key=head_sent)


def is_reply(node: Node) -> bool:
    return node.mail is not None and node.mail.is_reply


def thread_subject(node: Node) -> str:
    mail = node.children[0].mail if node.mail is None else node.mail
    assert mail is not None
    return mail.subject


def sent(node: Node) -> tuple[int, int]:
    assert node.mail is not None
    return node.mail.sent, node.place


def head_sent(node: Node) -> tuple[int, int]:
    return sent(node.children[0] if node.is_dummy else node)


def shape(node: Node) -> Shape:
    return (None if node.is_dummy else node.place, tuple(map(shape, node.children)))


def places(found: list[Shape]) -> Iterator[int]:
    """All places, each once where all is well."""
    for place, below in found:
        if place is not None:
            yield place
        yield from places(list(below))
