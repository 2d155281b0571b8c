"""What the connectors raise. Each text says what to do; the error of the library below is chained as the cause.

No text and no chained cause holds a password, a token or a client secret.
"""

from __future__ import annotations

from collections.abc import Mapping


class ConnectionError(Exception):
    """The server could not be reached, was not who it should be, or the connection was lost.

    may_have_been_sent is true in one case alone: the whole message had been handed over and the connection was lost
    before the server's answer was seen. Sending it again may then deliver it twice; in all other cases it was not sent.
    """

    def __init__(self, text: str, *, may_have_been_sent: bool = False) -> None:
        super().__init__(text)
        self.may_have_been_sent = may_have_been_sent


class AuthenticationError(Exception):
    """The server or the provider's token endpoint refused to sign us in."""


class ConfigurationError(Exception):
    """A value of the configuration is missing, unknown or of no use; the text names it."""


class MessageError(Exception):
    """A message could not be made, was refused, or a request about messages was refused by the server.

    refused has, for a message that no recipient got, each refused address with the server's code and words.
    """

    def __init__(self, text: str, *, refused: Mapping[str, tuple[int, str]] | None = None) -> None:
        super().__init__(text)
        self.refused = dict(refused or {})


class ERROR_SMTP_CONNECTION_FAILED(Exception):  # the name that scripts catch
    """What a provider's connector raises when it cannot connect or sign in, whatever the cause.

    What is raised is always a ConnectionError or an AuthenticationError too.
    """


class SMTPConnectionFailed(ERROR_SMTP_CONNECTION_FAILED, ConnectionError):
    """A provider's SMTP server could not be reached."""


class SMTPSignInFailed(ERROR_SMTP_CONNECTION_FAILED, AuthenticationError):
    """A provider's SMTP server, or its token endpoint, refused to sign us in."""


class TokenRefused(AuthenticationError):
    """The server refused an access token, which is now forgotten: a new one may be taken."""
