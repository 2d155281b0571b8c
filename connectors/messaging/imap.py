"""Reading: kinds "imap" and "gmail_imap"."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Self

from connectors import asked, reading
from connectors import config as checks
from connectors.described import Leaf, decoded_size
from connectors.exceptions import MessageError
from connectors.letter import MAX_ATTACHMENT_BYTES
from connectors.messaging.base import MessagingConnector, oauth_config
from connectors.reading import Mailbox

Ids = int | str | Iterable[int | str]

IMAPS_PORT = 993
IMAP_PORT = 143


class IMAPConnector(MessagingConnector):
    """Reads an account: TLS from the first byte, unless `use_ssl` is false; then STARTTLS (see docs/connectors.md).

    A message's id is its UID, good for the mailbox it was read from. Messages become read only by `mark_as_read`.
    """

    kind = "imap"

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        where = self._where
        ssl = checks.flag(self.config, "use_ssl", True, where)
        tls = self.config.get("use_tls")
        self.port = checks.port(self.config, IMAPS_PORT if ssl else IMAP_PORT, where)
        assert self._credential is not None
        self.credential = self._credential
        self.server = reading.Server(
            host=self.host,
            port=self.port,
            timeout=self.timeout,
            ssl=ssl,
            starttls=None if tls is None or tls == "" else checks.flag(self.config, "use_tls", True, where),
            verify=self.verify,
            ca_file=self.ca_file,
        )
        self._mailbox = Mailbox(self.server, self.credential)

    def connect(self) -> None:
        self._mailbox.connect()

    def disconnect(self) -> None:
        self._mailbox.close()

    def is_connected(self) -> bool:
        return self._mailbox.alive()

    def list_mailboxes(self) -> list[str]:
        """The names of all mailboxes that can be selected."""
        return [name for _, name in self._mailbox.names()]

    def select_mailbox(self, name: str) -> int:
        """Select a mailbox for the calls that follow; the number of messages in it."""
        return self._mailbox.select(name)

    def receive_messages(
        self, mailbox: str = "INBOX", limit: int | None = 10, unread_only: bool = False, newest_first: bool = True
    ) -> list[dict[str, Any]]:
        """Messages of a mailbox, which is selected by this; at most limit, in order of arrival."""
        most = asked.limit_of(limit)
        self._mailbox.select(mailbox)
        if unread_only:
            uids = self._mailbox.search(["UNSEEN"], most, newest_first)
        else:
            uids = self._mailbox.newest(most, newest_first)
        return self._mailbox.messages(uids)

    def search_messages(
        self,
        criteria: str | Iterable[Any],
        limit: int | None = None,
        mailbox: str | None = None,
        newest_first: bool = True,
    ) -> list[dict[str, Any]]:
        """Messages that match IMAP's search words, Gmail's X-GM-RAW too; in the selected mailbox, else in INBOX.

        criteria: single words and values, or raw phrases: ["FROM", "a@example.org", "UNSEEN"], ['SUBJECT "big news"'].
        """
        most = asked.limit_of(limit)
        self._mailbox.select(mailbox or (self._mailbox.selected if self._mailbox.has_selected else "INBOX"))
        return self._mailbox.messages(self._mailbox.search(criteria, most, newest_first))

    def get_attachments(
        self, message_id: int | str, mailbox: str | None = None, max_bytes: int = MAX_ATTACHMENT_BYTES
    ) -> list[dict[str, Any]]:
        """The attachments of one message: filename (fit to write under), content_type, size, data, inline, content_id.

        MessageError when they have more than max_bytes together; nothing is fetched then.
        """
        (uid,) = asked.ids([message_id])
        self._mailbox.needed(mailbox)
        parts = [leaf for leaf in self._mailbox.leaves(uid) if leaf.kind in ("attachment", "inline")]
        total = sum(decoded_size(leaf) for leaf in parts)
        if total > max_bytes:
            raise MessageError(
                f"The attachments of message {uid} have about {total} bytes; at most {max_bytes} are fetched. Give a "
                "larger 'max_bytes'."
            )
        return [_attachment(leaf, self._mailbox.section(uid, leaf)) for leaf in parts]

    def mark_as_read(self, message_ids: Ids, mailbox: str | None = None) -> list[int]:
        """Mark messages as read; the ids of those that were there."""
        uids = self._there(message_ids, mailbox)
        self._mailbox.flag(uids, [b"\\Seen"])
        return uids

    def move_messages(self, message_ids: Ids, target: str, mailbox: str | None = None) -> list[int]:
        """Move messages of the selected mailbox (or the one named) to another; the ids of those that were there.

        Where the server has no MOVE they are copied first and then deleted: a failure in between leaves both.
        """
        uids = self._there(message_ids, mailbox)
        if uids:
            if target == self._mailbox.selected:
                raise MessageError(f"The messages are in {target!r} already; name another mailbox.")
            self._mailbox.move(uids, target)
        return uids

    def delete_messages(self, message_ids: Ids, mailbox: str | None = None) -> list[int]:
        """Delete messages for good; the ids of those that were there. No other message is touched."""
        uids = self._there(message_ids, mailbox)
        if uids:
            self._mailbox.delete(uids)
        return uids

    def _there(self, message_ids: Ids, mailbox: str | None) -> list[int]:
        wanted = asked.ids(message_ids)
        if not wanted:
            return []
        self._mailbox.needed(mailbox)
        return self._mailbox.present(wanted)


class GmailIMAPConnector(IMAPConnector):
    """Reads Gmail: labels are mailboxes, `labels` is in each message, and deleting moves to the trash.

    `username` and `password` (an app password) are enough, or OAuth2.
    """

    kind = "gmail_imap"
    default_host = checks.GMAIL_IMAP[0]

    @classmethod
    def create_with_oauth(cls, email: str, client_id: str, client_secret: str, refresh_token: str, **more: Any) -> Self:
        """A connector that signs in with access tokens of a refresh token; more: further keys of the configuration."""
        return cls(oauth_config(email, client_id, client_secret, refresh_token, more))

    def get_all_labels(self) -> list[str]:
        """All labels, Gmail's own ([Gmail]/…) too; each can be selected and moved to like a mailbox."""
        return self.list_mailboxes()

    def delete_messages(self, message_ids: Ids, mailbox: str | None = None) -> list[int]:
        """Move messages to the trash, or delete them for good where they are in it; the ids of those that were there.

        Gmail takes IMAP's deletion for "take this label off" and keeps the message.
        """
        uids = self._there(message_ids, mailbox)
        if not uids:
            return []
        trash = next((name for words, name in self._mailbox.names() if "\\trash" in words), None)
        if trash is None or trash == self._mailbox.selected:
            self._mailbox.delete(uids)
        else:
            self._mailbox.move(uids, trash)
        return uids


def _attachment(leaf: Leaf, data: bytes) -> dict[str, Any]:
    return {
        "filename": leaf.filename,
        "content_type": leaf.content_type,
        "size": len(data),
        "data": data,
        "inline": leaf.kind == "inline",
        "content_id": leaf.content_id,
    }
