"""A query made ready: bounded, AND in AND and OR in OR flattened, and told apart into what one SQL condition can say
and what cannot be said so (texts, long sets of uids, nesting that SQLite's parser would not take)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from storage.model import (
    All,
    And,
    BodyContains,
    DateRange,
    HasFlags,
    HasKeyword,
    HeaderContains,
    ModseqFrom,
    Not,
    Or,
    Query,
    SizeRange,
    TextContains,
    Uids,
)
from storage.port import Reason, Refused
from storage.search.keys import TextKey, key_of

KEYS_MAX = 500
"""Keys of one query; SQLite takes expressions of depth 1000, and a chain of ANDs counts one for each."""
DEPTH_MAX = 150
"""Keys within keys of one query."""
TEXTS_MAX = 64
"""Different texts that one query looks for."""
RANGES_MAX = 32
"""Ranges in a set of uids that become SQL; longer sets are intersected afterwards."""
HEIGHT_MAX = 12
"""Levels of parentheses that are handed to SQLite's parser, whose stack is bounded."""

Plain = Uids | HasFlags | HasKeyword | DateRange | SizeRange | ModseqFrom


class Op(Enum):
    """What a node says. AND of nothing is every message, OR of nothing none."""

    AND = "and"
    OR = "or"
    NOT = "not"
    PLAIN = "plain"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Node:
    """``nodes`` belong to AND, OR, NOT (one); ``plain`` to PLAIN; ``text`` to TEXT. sql: the whole of it can be one
    condition. height: levels below."""

    op: Op
    nodes: tuple[Node, ...] = ()
    plain: Plain | None = None
    text: TextKey | None = None
    sql: bool = True
    height: int = 0


ALL = Node(Op.AND)
"""Every message."""


def ready(query: Query) -> Node:
    """The query's tree. Refused(LIMIT) over one of the bounds above."""
    _bound(query)
    node = _node(query)
    if len(texts(node)) > TEXTS_MAX:
        raise Refused(Reason.LIMIT, f"a search has at most {TEXTS_MAX} texts")
    return node


def texts(node: Node) -> tuple[TextKey, ...]:
    """The different text keys of a tree."""
    if node.text is not None:
        return (node.text,)
    return tuple(dict.fromkeys([text for child in node.nodes if not child.sql for text in texts(child)]))


def grouped(node: Node) -> tuple[Node | None, tuple[Node, ...]]:
    """The children of an AND or OR: those that can be SQL as one node, and the others."""
    plain = tuple([child for child in node.nodes if child.sql])
    rest = tuple([child for child in node.nodes if not child.sql])
    return (replace(node, nodes=plain, sql=True) if plain else None), rest


def _bound(query: Query) -> None:
    todo = [(query, 0)]
    seen = 0
    while todo:
        key, depth = todo.pop()
        seen += 1
        if seen > KEYS_MAX:
            raise Refused(Reason.LIMIT, f"a search has at most {KEYS_MAX} keys")
        if depth > DEPTH_MAX:
            raise Refused(Reason.LIMIT, f"a search has at most {DEPTH_MAX} keys within keys")
        match key:
            case And(keys) | Or(keys):
                todo += [(inner, depth + 1) for inner in keys]
            case Not(inner):
                todo.append((inner, depth + 1))
            case _:
                continue


def _node(query: Query) -> Node:
    match query:
        case All():
            return ALL
        case And(keys):
            return _joined(Op.AND, [_node(key) for key in keys])
        case Or(keys):
            return _joined(Op.OR, [_node(key) for key in keys])
        case Not(key):
            inner = _node(key)
            return inner.nodes[0] if inner.op is Op.NOT else _over(Op.NOT, (inner,))
        case HeaderContains() | BodyContains() | TextContains():
            text = key_of(query)
            if isinstance(text, bool):
                return Node(Op.AND if text else Op.OR)
            return Node(Op.TEXT, text=text, sql=False)
        case Uids(uids):
            return Node(Op.PLAIN, plain=query, sql=len(uids) <= RANGES_MAX)
        case _:
            return Node(Op.PLAIN, plain=query)


def _joined(op: Op, nodes: list[Node]) -> Node:
    flat: list[Node] = []
    for node in nodes:
        flat += node.nodes if node.op is op else (node,)
    return flat[0] if len(flat) == 1 else _over(op, tuple(flat))


def _over(op: Op, nodes: tuple[Node, ...]) -> Node:
    height = 1 + max([node.height for node in nodes], default=0)
    return Node(op, nodes, sql=height <= HEIGHT_MAX and all(node.sql for node in nodes), height=height)
