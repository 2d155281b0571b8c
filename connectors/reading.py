"""The one place that reads: a signed-in IMAP connection and what is done over it, on IMAPClient."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import imapclient  # type: ignore[import-untyped]  # it ships no types
from imapclient import IMAPClient

from connectors import asked, described, failures, searching, signin
from connectors.described import Leaf
from connectors.exceptions import ConnectionError, MessageError, TokenRefused
from connectors.signin import Credential

TEXT_MAX = 1024 * 1024
"""How many encoded bytes of a message's text are fetched with it."""

FETCH_AT_ONCE = 50
"""Messages whose data are asked for in one command."""

TEXTS_AT_ONCE = 8 * 1024 * 1024
"""The most bytes of texts that are asked for in one command."""

SEARCH_AT_ONCE = 50_000
"""Messages that one SEARCH looks at: its answer is one line, and imaplib takes a million bytes in a line."""

IDS_AT_ONCE = 500
"""Ids named in one command: servers take at least 8000 bytes in a line (RFC 7162 §4)."""

_ITEMS = ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "BODYSTRUCTURE", "BODY.PEEK[HEADER]")
_GMAIL_ITEMS = ("X-GM-LABELS", "X-GM-THRID")


@dataclass(frozen=True, slots=True)
class Server:
    """Where and how to connect. ssl: TLS from the first byte.

    starttls, without ssl: true requires it, false never asks, None takes it where it is offered and goes on without
    it on a loopback address alone.
    """

    host: str
    port: int
    timeout: float
    ssl: bool = True
    starttls: bool | None = None
    verify: bool = True
    ca_file: str | None = None


class Mailbox:
    """One connection to one account, with at most one mailbox selected; for one thread at a time.

    Every method may raise ConnectionError (then the connection is closed) and MessageError (the server refused).
    """

    def __init__(self, server: Server, credential: Credential) -> None:
        self._server = server
        self._credential = credential
        self._client: Any = None
        self._selected: str | None = None
        self._validity: dict[str, int] = {}
        self._exists = 0

    # -- the connection

    def connect(self) -> None:
        """Connect and sign in, unless that is done; a refused access token is fetched anew, once."""
        if self._client is not None:
            return
        try:
            self._client = self._opened()
        except TokenRefused:
            self._client = self._opened()

    def _opened(self) -> Any:
        server = self._server
        with failures.imap_failures(server.host, server.port, "talk to us", opening=True):
            client = IMAPClient(
                server.host,
                server.port,
                ssl=server.ssl,
                ssl_context=self._context() if server.ssl else None,
                timeout=server.timeout,
            )
        try:
            client.socket().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.normalise_times = False
            if not server.ssl:
                self._start_tls(client)
            with failures.imap_failures(server.host, server.port, "sign us in"):
                signin.imap(client, self._credential, server.host)
                # Capabilities differ after sign-in; this asks for them unless the server told.
                client.capabilities()
        except BaseException:
            _shut(client)
            raise
        return client

    def _start_tls(self, client: Any) -> None:
        server = self._server
        with failures.imap_failures(server.host, server.port, "start TLS", opening=True):
            if server.starttls is False:
                return
            if client.has_capability("STARTTLS"):
                client.starttls(self._context())
                return
            local = ipaddress.ip_address(client.socket().getpeername()[0].partition("%")[0]).is_loopback
        if server.starttls or not local:
            raise ConnectionError(
                f"{server.host}:{server.port} does not offer STARTTLS. Use TLS from the first byte ('use_ssl': True, "
                "port 993); 'use_tls': False sends everything in clear, for servers on this machine."
            )

    def _context(self) -> ssl.SSLContext:
        if not self._server.verify:
            failures.not_verified(self._server.host)
        return failures.context(self._server.host, verify=self._server.verify, ca_file=self._server.ca_file)

    def close(self) -> None:
        """LOGOUT and close; nothing when there is no connection."""
        client, self._client, self._selected = self._client, None, None
        if client is None:
            return
        try:
            client.logout()
        except (OSError, imapclient.exceptions.IMAPClientError):
            _shut(client)

    def alive(self) -> bool:
        """Whether there is a connection and the server answers on it."""
        if self._client is None:
            return False
        try:
            self._call("answer", IMAPClient.noop)
        except (ConnectionError, MessageError):
            return False
        return True

    def has(self, capability: str) -> bool:
        """Whether the server has this capability."""
        return bool(self._call("tell what it can", IMAPClient.has_capability, capability))

    def _call(self, doing: str, what: Callable[..., Any], *args: Any, **options: Any) -> Any:
        self.connect()
        try:
            with failures.imap_failures(self._server.host, self._server.port, doing):
                return what(self._client, *args, **options)
        except ConnectionError:
            # After a lost or half-read answer nothing that comes can be trusted.
            client, self._client, self._selected = self._client, None, None
            _shut(client)
            raise

    # -- mailboxes

    def names(self) -> list[tuple[frozenset[str], str]]:
        """Every mailbox that can be selected: its attributes, in lower case, and its name."""
        rows = self._call("list mailboxes", IMAPClient.list_folders)
        found = []
        for attributes, _, name in rows:
            words = frozenset(
                one.decode("latin-1").lower() if isinstance(one, bytes) else str(one).lower() for one in attributes
            )
            if not words & {"\\noselect", "\\nonexistent"}:
                found.append((words, str(name)))
        return found

    def select(self, name: str) -> int:
        """Select a mailbox; the number of messages in it."""
        asked.mailbox_name(name)
        self._selected = None
        doing = f"select the mailbox {name!r}"
        reused = self._client is not None
        try:
            row = self._call(doing, _selected, name)
        except ConnectionError:
            # Servers end idle connections; whoever selects begins anew.
            if not reused:
                raise
            row = self._call(doing, _selected, name)
        validity = row.get(b"UIDVALIDITY")
        if isinstance(validity, int):
            known = self._validity.setdefault(name, validity)
            if known != validity:
                self._validity[name] = validity
                raise MessageError(
                    f"The mailbox {name!r} was made anew since it was read: the ids known from it mean other messages "
                    "now. Read it again."
                )
        self._selected = name
        self._exists = int(row.get(b"EXISTS") or 0)
        return self._exists

    @property
    def selected(self) -> str:
        """The selected mailbox; MessageError when there is none."""
        if self._selected is None:
            raise MessageError("No mailbox is selected; call select_mailbox first, or name one.")
        return self._selected

    @property
    def has_selected(self) -> bool:
        return self._selected is not None

    def needed(self, name: str | None) -> None:
        """Have this mailbox selected; None means the one that is."""
        if name is None:
            if self._selected is None:
                raise MessageError("No mailbox is selected; call select_mailbox first, or name one.")
        elif name != self._selected or self._client is None:
            self.select(name)

    # -- finding and reading

    def newest(self, limit: int, newest_first: bool) -> list[int]:
        """The ids of the last (or first) messages of the selected mailbox, by their numbers: no search is needed."""
        if not self._exists:
            return []
        low, high = (max(1, self._exists - limit + 1), self._exists) if newest_first else (1, min(limit, self._exists))
        uids: list[int] = []
        for start in range(low, high + 1, IDS_AT_ONCE):
            words = f"{start}:{min(start + IDS_AT_ONCE - 1, high)}"
            uids += self._call("list messages", IMAPClient.search, words)
        return sorted(uids, reverse=newest_first)[:limit]

    def search(self, criteria: Any, limit: int, newest_first: bool) -> list[int]:
        """The ids of the messages of the selected mailbox that match, at most limit."""
        tree = searching.parse(criteria)
        if searching.uses(tree, "X-GM-") and not self.has("X-GM-EXT-1"):
            raise MessageError(
                f"{self._server.host} is not Gmail and has no X-GM-RAW and the like. Use words of IMAP, like TEXT."
            )
        found: dict[int, None] = {}
        # From the newest down: a message removed meanwhile moves others into the stretch that comes, not out of it.
        # Oldest first needs all of them, as the first are in the last stretch.
        for high in range(self._exists, 0, -SEARCH_AT_ONCE):
            stretch = "" if self._exists <= SEARCH_AT_ONCE else f"{max(1, high - SEARCH_AT_ONCE + 1)}:{high}"
            uids = self._call("search", _searched, tree, stretch)
            found.update(dict.fromkeys(sorted(uids, reverse=True)))
            if newest_first and len(found) >= limit:
                break
        return sorted(found, reverse=newest_first)[:limit]

    def messages(self, uids: Sequence[int]) -> list[dict[str, Any]]:
        """The messages of these ids as `described.message` makes them, in this order; those that are gone left out."""
        gmail = self.has("X-GM-EXT-1")
        items = [*_ITEMS, *_GMAIL_ITEMS] if gmail else [*_ITEMS]
        found: list[dict[str, Any]] = []
        for at in range(0, len(uids), FETCH_AT_ONCE):
            wanted = uids[at : at + FETCH_AT_ONCE]
            rows = self._call("fetch messages", IMAPClient.fetch, wanted, items)
            parts = {uid: described.leaves(rows[uid].get(b"BODYSTRUCTURE")) for uid in wanted if uid in rows}
            texts = self._texts(parts)
            for uid, leaves in parts.items():
                row = dict(rows[uid])
                if gmail:
                    row[b"X-GM-LABELS"] = [label_of(one) for one in row.get(b"X-GM-LABELS") or ()]
                found.append(described.message(uid, row, leaves, texts[uid], text_max=TEXT_MAX, gmail=gmail))
        return found

    def _texts(self, parts: dict[int, list[Leaf]]) -> dict[int, dict[str, bytes]]:
        """The first TEXT_MAX bytes of each message's text sections; messages of one make asked for together."""
        alike: dict[tuple[str, ...], list[int]] = {}
        sizes: dict[int, int] = {}
        for uid, leaves in parts.items():
            wanted = [leaf for leaf in leaves if leaf.kind in ("plain", "html")]
            sizes[uid] = sum(min(leaf.size, TEXT_MAX) for leaf in wanted)
            alike.setdefault(tuple(leaf.section for leaf in wanted), []).append(uid)
        found: dict[int, dict[str, bytes]] = {uid: {} for uid in parts}
        for sections, uids in alike.items():
            if not sections:
                continue
            items = [f"BODY.PEEK[{section}]<0.{TEXT_MAX}>" for section in sections]
            for group in _groups(uids, sizes, TEXTS_AT_ONCE):
                rows = self._call("fetch texts", IMAPClient.fetch, group, items)
                for uid, row in rows.items():
                    found[uid] = {section: body_of(row, section) for section in sections}
        return found

    def leaves(self, uid: int) -> list[Leaf]:
        """The parts of one message; MessageError when it is gone."""
        rows = self._call("fetch a message", IMAPClient.fetch, [uid], ["BODYSTRUCTURE"])
        if uid not in rows:
            raise MessageError(f"There is no message {uid} in {self.selected!r}; it was moved or deleted.")
        return described.leaves(rows[uid].get(b"BODYSTRUCTURE"))

    def section(self, uid: int, leaf: Leaf) -> bytes:
        """The decoded bytes of one part."""
        items = [f"BODY.PEEK[{leaf.section}]"]
        rows = self._call("fetch an attachment", IMAPClient.fetch, [uid], items)
        return described.decoded(leaf, body_of(rows.get(uid, {}), leaf.section))

    # -- changing

    def present(self, uids: Sequence[int]) -> list[int]:
        """Those of the ids whose messages are in the selected mailbox, in their order."""
        there: set[int] = set()
        for group in _slices(uids):
            rows = self._call("look for messages", IMAPClient.fetch, group, ["UID"])
            there |= set(rows)
        return [uid for uid in uids if uid in there]

    def flag(self, uids: Sequence[int], flags: Collection[bytes], *, remove: bool = False) -> None:
        """Add flags to messages, or take them off."""
        for group in _slices(uids):
            if remove:
                self._call("change flags", IMAPClient.remove_flags, group, flags, silent=True)
            else:
                self._call("change flags", IMAPClient.add_flags, group, flags, silent=True)

    def move(self, uids: Sequence[int], name: str) -> None:
        """Move messages: by MOVE (RFC 6851), or by COPY and then deletion, so that each is in one place at least."""
        asked.mailbox_name(name)
        move = self.has("MOVE")
        for group in _slices(uids):
            if move:
                self._call(f"move messages to {name!r}", IMAPClient.move, group, name)
            else:
                self._call(f"copy messages to {name!r}", IMAPClient.copy, group, name)
                self.delete(group)

    def delete(self, uids: Sequence[int]) -> None:
        """Remove these messages, and no others, for good.

        By UID EXPUNGE (RFC 4315 §2.1). Without it the \\Deleted flags of other messages are taken off, EXPUNGE said,
        and the flags put on again: what can go wrong in between keeps a message that was to go.
        """
        self.flag(uids, [imapclient.DELETED])
        if self.has("UIDPLUS"):
            for group in _slices(uids):
                self._call("delete messages", IMAPClient.uid_expunge, group)
            return
        deleted = self._call("search", IMAPClient.search, "DELETED")
        others = sorted(set(deleted) - set(uids))
        if others:
            self.flag(others, [imapclient.DELETED], remove=True)
        try:
            self._call("delete messages", IMAPClient.expunge)
        except MessageError:
            if others:
                self.flag(others, [imapclient.DELETED])
            raise
        if others:
            self.flag(others, [imapclient.DELETED])


def _selected(client: Any, name: str) -> Any:
    try:
        return client.select_folder(name)
    except imapclient.exceptions.IMAPClientReadOnlyError:
        # A mailbox that others share with us may be readable alone.
        return client.select_folder(name, readonly=True)


def _searched(client: Any, tree: searching.Tree, stretch: str) -> list[int]:
    if searching.is_ascii(tree):
        words = searching.wire(tree)
        return list(client.search(f"{stretch} {words}" if stretch else words))
    found = searching.literals(tree)
    return list(client.search([stretch.encode(), *found] if stretch else found, charset="UTF-8"))


def body_of(row: Any, section: str) -> bytes:
    """The octets of a section in what FETCH gave of a message; b"" where it gave none."""
    name = f"BODY[{section}]".encode()
    for key in (name, name + b"<0>"):
        value = row.get(key)
        if value is not None:
            # IMAPClient makes a number of a text that is digits alone
            return value if isinstance(value, bytes) else str(value).encode()
    return b""


def label_of(label: object) -> str:
    """A label of Gmail's, out of modified UTF-7."""
    raw = label if isinstance(label, bytes) else str(label).encode()
    return str(imapclient.imap_utf7.decode(raw))


def _slices(uids: Sequence[int]) -> list[Sequence[int]]:
    return [uids[at : at + IDS_AT_ONCE] for at in range(0, len(uids), IDS_AT_ONCE)]


def _groups(uids: Sequence[int], sizes: dict[int, int], most: int) -> list[list[int]]:
    groups: list[list[int]] = []
    total = most
    for uid in uids:
        if total + sizes[uid] > most:
            groups.append([])
            total = 0
        groups[-1].append(uid)
        total += sizes[uid]
    return groups


def _shut(client: Any) -> None:
    with contextlib.suppress(OSError, imapclient.exceptions.IMAPClientError):
        client.shutdown()
