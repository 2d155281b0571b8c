"""The wall between the connection (bytes, sockets) and the session (what a command means). Types alone, no transport.

`imap.connection.ImapConnection` is the one `Out`; `imap.session` has the one `Dialogue`; tests have others of both.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Protocol

from imap.wire.errors import BadSyntax
from imap.wire.forms import Command


class Gone(Exception):
    """The connection has ended (closed by the client, timed out, or told BYE): nothing more can be said or heard.

    Raised by every waiting method of `Out`. A dialogue lets it pass: the connection catches it.
    """


@dataclass(frozen=True, slots=True)
class Tls:
    """What was agreed: `version` "TLSv1.3", `cipher` "TLS_AES_256_GCM_SHA384". binding: tls-unique, b"" where that is
    not right."""

    version: str
    cipher: str
    binding: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end. `tls` is None for plain text; after STARTTLS `Out.peer` is a new Peer with it. proxied:
    the listener is behind a proxy, and an address of loopback is not to be taken for this machine's."""

    address: str
    port: int
    local_address: str
    local_port: int
    tls: Tls | None
    proxied: bool = False


class Out(Protocol):
    """What a dialogue may do with its connection. All of it is called on the event loop's thread."""

    @property
    def peer(self) -> Peer:
        """The other end, as it is now."""

    @property
    def can_start_tls(self) -> bool:
        """Whether STARTTLS may be offered: there is a certificate and the connection is in plain text."""

    def write(self, data: bytes) -> None:
        """Send whole response lines (or a slice of a large one). Never waits; after the end it does nothing."""

    async def drain(self) -> None:
        """Wait until the client has read enough: call it between large writes, and at least each 64 KiB. Raises
        Gone."""

    @property
    def waiting(self) -> bool:
        """Whether the running command waits for the client, to send or to read."""

    async def continuation(self, text: bytes = b"") -> bytes:
        """Send ``+ text`` and wait for one line, given without its line end (AUTHENTICATE).

        Raises Gone; BadSyntax where the line is over the limit or has a NUL.
        """

    async def line_or_wake(self) -> bytes | None:
        """Wait for one line (IDLE: the DONE), or for `notify()`: None. A notify since the last call returns at once.

        Cheap to wait in. Raises Gone; BadSyntax as `continuation`.
        """

    def notify(self) -> None:
        """There is news: wakes `line_or_wake`. Otherwise it is remembered until the next call of it. Never fails."""

    def listen(self, on: bool) -> None:
        """Whether `Dialogue.news` is called, between two commands, after a notify."""

    def literal(self) -> AsyncIterator[bytes]:
        """The octets of the running APPEND's literal, in chunks of at most 256 KiB, with back-pressure.

        Beginning to iterate accepts the literal (the client gets its continuation). A command that ends without
        iterating refuses it: the connection skips the octets where the client sends them all the same. After the last
        chunk `behind_literal` is known, and where it ends with a further literal, that is the running one.
        Raises Gone; BadSyntax where what follows cannot be taken: then the message must not be kept.
        """

    @property
    def behind_literal(self) -> bytes:
        """What stood behind the literal read last: up to and with the ``{n}`` of the next one (RFC 3502), else the
        end of the command without its line end."""

    async def start_tls(self, go_ahead: bytes) -> None:
        """Send the tagged OK, forget everything received behind STARTTLS (RFC 3501 §6.2.1), and do the handshake.

        Raises Gone where the handshake fails.
        """

    @property
    def compressed(self) -> bool:
        """Whether `compress` was called."""

    def compress(self, go_ahead: bytes) -> None:
        """Send the tagged OK; all that comes and goes behind it is deflated (RFC 4978 §3)."""

    def signed_in(self) -> None:
        """The larger limits and the longer idle time from here on."""

    def bye(self, text: str, code: str | None = None) -> None:
        """End: ``* BYE [code] text`` and close, at once where the client is being waited for, else after the running
        command. A command that says BYE itself (LOGOUT) calls `close`. Only the first call counts."""

    def close(self) -> None:
        """End after the running command, without a word; all that was written is still sent."""


class Dialogue(Protocol):
    """One session. The connection calls one method at a time and waits for it; `closed` comes last, exactly once.

    utf8: the client has enabled UTF-8, so that mailbox names in its commands are in it.
    """

    @property
    def utf8(self) -> bool:
        """As it is now; asked before each command is parsed."""

    async def greet(self) -> None:
        """Write the greeting."""

    async def run(self, command: Command | BadSyntax) -> None:
        """Answer one command, tagged line included. BadSyntax: write the tagged (or, tag "*", untagged) refusal.

        The answer may be left open until `settle`.
        An exception other than Gone is a bug: the connection reports it and ends with BYE [SERVERBUG].
        """

    async def settle(self) -> bool:
        """Write the answers that are open: False where none was. Called before the connection waits for the client,
        in a running command too. Raises Gone."""

    async def news(self) -> None:
        """There may be news, while no command runs; only for who has called `Out.listen`."""

    def closed(self) -> None:
        """The connection is gone; no method is running. Release what is held. Must not raise."""


DialogueFactory = Callable[[Out], Dialogue]
