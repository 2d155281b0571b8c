"""Why a message was not sent, and how that is told over HTTP: one table, which docs/sending-api.md shows."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from connectors.exceptions import AuthenticationError, ConfigurationError, ConnectionError, MessageError
from connectors.failures import Trouble, spelt, trouble
from connectors.handover import NO_ANSWER
from smtp.outbound.transport import Outcome, Phase, Status


class Sent(Enum):
    """Whether the message went out. MAYBE: it was handed over whole, and no answer to it was seen."""

    NO = "no"
    MAYBE = "maybe"


class Cause(Enum):
    """The word that the answer has. status: of HTTP. what: for the documentation. again: seconds until another try
    makes sense, None where it would fare the same."""

    status: int
    what: str
    again: float | None

    def __new__(cls, word: str, status: int, what: str, again: float | None = None) -> Cause:
        made = object.__new__(cls)
        made._value_ = word
        made.status, made.what, made.again = status, what, again
        return made

    NOT_ACCEPTABLE = "not_acceptable", 422, "an address, the subject or the message cannot be sent as it is"
    NO_INTEGRATION = "no_integration", 409, "the account has no integration, or none that is its default"
    NO_SUCH_INTEGRATION = "no_such_integration", 404, "the account has no integration of that id or name"
    BAD_SETTINGS = "bad_settings", 409, "the integration cannot be used as it is stored"
    SECRET_UNREADABLE = "secret_unreadable", 503, "this server cannot open the stored secret: its key is missing"
    SIGN_IN_REFUSED = "sign_in_refused", 424, "the provider refused the stored user and secret, or gave no token"
    SENDER_REFUSED = "sender_refused", 422, "the provider does not let the account send as its address"
    RECIPIENT_REFUSED = "recipient_refused", 422, "the provider refused every recipient"
    MESSAGE_REFUSED = "message_refused", 422, "the provider refused the message, or cannot take one like it"
    PUT_OFF = "put_off", 503, "the provider says to try later (a 4xx reply, or a limit of the account)", 60.0
    UNREACHABLE = "unreachable", 502, "the provider's server, or its token endpoint, cannot be reached or used", 30.0
    BAD_CERTIFICATE = "bad_certificate", 502, "TLS failed: the server is not proved to be who it should be"
    BROKEN_OFF = "broken_off", 502, "the connection ended before the whole message was handed over", 30.0
    TIMED_OUT = "timed_out", 504, "the server did not answer in time, and has no message", 30.0
    UNSEEN = "unseen", 504, "no answer to the whole message was seen: it may have been sent"
    TOO_BUSY = "too_busy", 429, "too many messages of the account are being sent, or it has used up its rate", 5.0


class NotSent(Exception):
    """text: one sentence or two for a person, without secrets. recipients: what was said about each, where something
    was. again: as of the cause, where that is not known better."""

    def __init__(
        self,
        cause: Cause,
        text: str,
        *,
        sent: Sent = Sent.NO,
        recipients: tuple[tuple[str, str], ...] = (),
        again: float | None = None,
    ) -> None:
        super().__init__(text)
        self.cause = cause
        self.text = text
        self.sent = sent
        self.recipients = recipients
        self.again = cause.again if again is None else again


@dataclass(frozen=True, slots=True)
class Said:
    """What became of one recipient."""

    cause: Cause
    text: str
    sent: Sent


_TROUBLE = {
    Trouble.TLS: Cause.BAD_CERTIFICATE,
    Trouble.SILENCE: Cause.TIMED_OUT,
    Trouble.LATER: Cause.PUT_OFF,
    Trouble.OTHER: Cause.UNREACHABLE,
}


_SPELT = {
    "for a private authority name its certificate in 'ca_file'": "a private authority stands in the server's setting"
    " sending.ca_file",
    "'verify_ssl': False": "'verify': false",
    "'refused_networks'": "the server's setting sending.refused",
    "'timeout'": "sending.timeout",
}
"""What an integration, or the server's settings, have in place of a key of the connectors."""


def of_exception(error: Exception) -> NotSent:
    """What one of the connectors' four exceptions means, before a message was handed over. Others are raised again."""
    text = spelt(str(error), _SPELT)
    match error:
        case AuthenticationError():
            return NotSent(Cause.SIGN_IN_REFUSED, text)
        case ConfigurationError():
            return NotSent(Cause.BAD_SETTINGS, text)
        case MessageError():
            return NotSent(Cause.NOT_ACCEPTABLE, text)
        case ConnectionError():
            return NotSent(_TROUBLE[trouble(error)], text)
    raise error


def of_outcome(outcome: Outcome) -> Said:
    """What an outcome other than SENT, over a connection that was signed in, means."""
    said = " ".join(part for part in (str(outcome.code or ""), outcome.text) if part)
    text = f"{outcome.remote}: {said}" if outcome.remote and outcome.code is not None else said
    if outcome.doubtful:
        # RFC 1047
        return Said(
            Cause.UNSEEN, f"{text}: it may have been sent. Look whether it arrived before sending again", Sent.MAYBE
        )
    if outcome.status is Status.DEFERRED:
        if outcome.code is not None:
            return Said(Cause.PUT_OFF, text, Sent.NO)
        return Said(Cause.TIMED_OUT if NO_ANSWER in outcome.text else Cause.BROKEN_OFF, text, Sent.NO)
    if outcome.phase is Phase.RCPT:
        return Said(Cause.RECIPIENT_REFUSED, text, Sent.NO)
    if outcome.phase is Phase.MAIL and outcome.code is not None:
        return Said(Cause.SENDER_REFUSED, text, Sent.NO)
    return Said(Cause.MESSAGE_REFUSED, text, Sent.NO)
