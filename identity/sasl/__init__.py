"""SASL on the server's side: from a client's lines to who has signed in.

Pure state machines. A `Mechanism` is given what the client sent and says what comes of it (`outcomes`): a challenge to
send, a question to identity, or the end. `Exchange` puts base64 around it, as SMTP and IMAP do, and `Conversation` runs
it: its two sides are the client, behind an awaitable, and the identity port.
"""

from identity.sasl.bearer import OAuthBearer, XOAuth2
from identity.sasl.exchange import MECHANISMS, Ask, Conversation, Ended, Exchange, Ground, mechanism, mechanisms
from identity.sasl.outcomes import (
    MAX_LINE,
    AskSalt,
    Challenge,
    CheckProof,
    CheckToken,
    Credentials,
    Done,
    Failed,
    Fault,
    Mechanism,
    Outcome,
)
from identity.sasl.passwords import Login, Plain
from identity.sasl.scram import Scram

__all__ = [
    "MAX_LINE",
    "MECHANISMS",
    "Ask",
    "AskSalt",
    "Challenge",
    "CheckProof",
    "CheckToken",
    "Conversation",
    "Credentials",
    "Done",
    "Ended",
    "Exchange",
    "Failed",
    "Fault",
    "Ground",
    "Login",
    "Mechanism",
    "OAuthBearer",
    "Outcome",
    "Plain",
    "Scram",
    "XOAuth2",
    "mechanism",
    "mechanisms",
]
