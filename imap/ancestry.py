"""A forest that grows and changes, and answers which tree a node is in: what keeps THREAD from making loops.

Sleator and Tarjan's link-cut trees, without evert: each path of preferred edges is a splay tree ordered by depth. Every
operation takes O(log² n) amortised, in whatever order; walks up to the root would take time quadratic in the depth.
"""

from __future__ import annotations

from array import array

NONE = -1


class Ancestry:
    """Nodes are numbered from 0 as they are made. `parents[n]` is the parent of node n, NONE for a root."""

    def __init__(self) -> None:
        self.parents = array("i")
        # within a splay tree: children, and parent; of a splay tree's root: the node above the path's top
        self._left = array("i")
        self._right = array("i")
        self._up = array("i")

    def __len__(self) -> int:
        return len(self.parents)

    def make(self) -> int:
        """A new node without parent."""
        for column in (self.parents, self._left, self._right, self._up):
            column.append(NONE)
        return len(self.parents) - 1

    def root(self, node: int) -> int:
        """The root of the tree that the node is in."""
        self._access(node)
        left = self._left
        while left[node] != NONE:
            node = left[node]
        self._splay(node)
        return node

    def link(self, root: int, parent: int) -> None:
        """Make a root the child of a node of another tree."""
        self._splay(root)
        self._up[root] = parent
        self.parents[root] = parent

    def cut(self, node: int) -> None:
        """Take a node from its parent; what is below it stays so."""
        self._access(node)
        above = self._left[node]
        self._left[node] = NONE
        self._up[above] = NONE
        self.parents[node] = NONE

    def _is_top(self, node: int) -> bool:
        up = self._up[node]
        return up == NONE or (self._left[up] != node and self._right[up] != node)

    def _rotate(self, node: int) -> None:
        left, right, up = self._left, self._right, self._up
        parent = up[node]
        above = up[parent]
        if above != NONE:
            if left[above] == parent:
                left[above] = node
            elif right[above] == parent:
                right[above] = node
        up[node] = above
        if left[parent] == node:
            inner = right[node]
            left[parent] = inner
            right[node] = parent
        else:
            inner = left[node]
            right[parent] = inner
            left[node] = parent
        if inner != NONE:
            up[inner] = parent
        up[parent] = node

    def _splay(self, node: int) -> None:
        left, up = self._left, self._up
        while not self._is_top(node):
            parent = up[node]
            if not self._is_top(parent):
                same_side = (left[up[parent]] == parent) == (left[parent] == node)
                self._rotate(parent if same_side else node)
            self._rotate(node)

    def _access(self, node: int) -> None:
        """Make the path from the root to the node a splay tree of its own, the node at its top."""
        below, at = NONE, node
        while at != NONE:
            self._splay(at)
            self._right[at] = below
            below, at = at, self._up[at]
        self._splay(node)
