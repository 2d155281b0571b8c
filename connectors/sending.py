"""A signed-in connection to a submission server that is opened when it is needed: what every connector sends over."""

from __future__ import annotations

import smtplib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from connectors import failures, submission
from connectors.exceptions import TokenRefused
from connectors.letter import Letter
from connectors.recipients import Person
from connectors.submission import Lost, SendResult, Server


class Submitter:
    """One connection at a time to one server; for one thread at a time.

    sign_in signs in on a connection that was greeted; what it raises closes the connection. connecting is entered
    around each connect, so that its failures can be told in other words.
    """

    def __init__(
        self,
        server: Server,
        sign_in: Callable[[smtplib.SMTP], None],
        connecting: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.server = server
        self._sign_in = sign_in
        self._connecting = connecting
        self._smtp: smtplib.SMTP | None = None

    def connect(self) -> None:
        """Open and sign in, unless that is done. ConnectionError, AuthenticationError.

        When an access token is refused, once, a new connection is opened and signed in with a new token.
        """
        if self._smtp is not None and self._smtp.sock is not None:
            return
        with self._connecting():
            try:
                self._smtp = self._opened()
            except TokenRefused:
                self._smtp = self._opened()

    def _opened(self) -> smtplib.SMTP:
        smtp = submission.open_server(self.server)
        try:
            with failures.smtp_failures(self.server.host, self.server.port):
                self._sign_in(smtp)
        except BaseException:
            smtp.close()
            raise
        return smtp

    def close(self) -> None:
        """End the connection, if there is one."""
        smtp, self._smtp = self._smtp, None
        if smtp is not None:
            submission.close(smtp)

    def alive(self) -> bool:
        """Whether there is a connection and the server answers on it."""
        return self._smtp is not None and submission.alive(self._smtp)

    def send(self, sender: Person, to: Sequence[Person], letter: Letter) -> SendResult:
        """Send over the connection there is, or a new one; errors as `submission.transmit` and `connect`.

        A connection from before that turns out to be lost before the message was begun is opened again, once.
        """
        if self._smtp is not None and self._smtp.sock is not None:
            try:
                return submission.transmit(self._smtp, self.server, sender, to, letter)
            except Lost:
                # Servers close idle connections; nothing of the message was handed over.
                self._smtp = None
        self.connect()
        assert self._smtp is not None
        try:
            return submission.transmit(self._smtp, self.server, sender, to, letter)
        except Lost as error:
            cause = error.__cause__ or error
            raise failures.connection_error(cause, self.server.host, self.server.port, " Nothing was sent.") from cause
