"""A message that is sent over REST: the same rules and the same way as over submission, without a socket."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from identity.model import Principal, Role
from mail import compose
from smtp import traceheaders
from smtp.figures import Figures
from smtp.handler import Handler
from smtp.session import Rules, Session, Transaction
from smtp.wire import params, replies
from smtp.wire.replies import Reply

REST = Rules("rest", kind="submission", auth="required")


class NotSent(Exception):
    """The message was refused; ``reply`` is what a client of submission would have been told."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.text)
        self.reply = reply


class Sender:
    """Composes messages and hands them to the handler that SMTP uses."""

    def __init__(self, handler: Handler, figures: Figures, hostname: str, domain: str) -> None:
        self._handler = handler
        self._figures = figures
        self._hostname = hostname
        self._domain = domain

    async def send(
        self, principal: Principal, peer: str, *, sender: str, recipients: Sequence[str], subject: str, body: str
    ) -> str:
        """Compose, and return the message's id once it is durable. An administrator may send as anybody.

        Raises NotSent, mail.address.AddressError for an address that is none, and the ports' errors.
        """
        handler = self._handler
        now = handler.now()
        session = Session(peer, 0, REST, now, principal=principal)
        transaction = Transaction()
        utf8 = not all(address.isascii() for address in (sender, *recipients))
        try:
            mail = params.mail(f"FROM:<{sender}>" + (" SMTPUTF8" if utf8 else ""), extended=True)
            named = [params.rcpt(f"TO:<{one}>", extended=True, smtputf8=utf8) for one in recipients]
        except params.BadArgument as bad:
            raise NotSent(bad.reply) from None
        if principal.role is Role.ADMIN:
            handler.begin(session, transaction, mail)
        else:
            _demand(await handler.handle_MAIL(session, transaction, mail))
        for rcpt in named:
            _demand(await handler.handle_RCPT(session, transaction, rcpt))
        email_id = str(uuid.UUID(transaction.trace))
        text = compose.message(
            sender=sender,
            recipients=recipients,
            subject=subject,
            body=body,
            date=int(now),
            message_id=compose.new_message_id(email_id, self._domain),
        )
        if b"\0" in text:
            raise NotSent(replies.NUL_IN_MESSAGE)
        head = traceheaders.received_http(peer, self._hostname, transaction.trace, now)
        _demand(await handler.take_whole(session, transaction, head, text))
        self._figures.emails_sent += 1
        return email_id


def _demand(reply: Reply) -> None:
    if not reply.positive:
        raise NotSent(reply)
