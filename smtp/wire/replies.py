"""Every reply that the server gives: code, enhanced status code, text, in one table.

RFC 2034 §4: each 2xx, 4xx and 5xx reply has an enhanced code but the greeting and the answers to HELO and EHLO;
3xx replies have none. Texts are ASCII and never hold what a client sent.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply. code: RFC 5321 §4.2.1. enhanced: RFC 3463 ("" for none). text: one line, or several divided by LF.
    wire: the octets to send, said: the same on one line for the trace, made once. closes: the connection ends after
    it."""

    code: int
    enhanced: str
    text: str
    closes: bool = False
    wire: bytes = field(init=False, repr=False, compare=False)
    said: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        code, text = self.code, self.text
        start = f"{self.enhanced} " if self.enhanced else ""
        if "\n" in text:
            *lines, last = text.split("\n")
            # RFC 5321 §4.2.1: a hyphen after the code of every line but the last.
            wire = "".join(f"{code}-{start}{line}\r\n" for line in lines) + f"{code} {start}{last}\r\n"
        else:
            wire = f"{code} {start}{text}\r\n"
        object.__setattr__(self, "wire", wire.encode("ascii", "replace"))
        object.__setattr__(self, "said", f"{code} {self.enhanced} {text}")

    @property
    def positive(self) -> bool:
        return self.code < 400

    def __str__(self) -> str:
        return self.said


def greeting(hostname: str, protocol: str = "ESMTP") -> Reply:
    """RFC 5321 §4.3.1: the first word is the server's name; ESMTP invites EHLO, LMTP (RFC 2033 §4) LHLO."""
    return Reply(220, "", f"{hostname} {protocol} Homing")


def helo(hostname: str) -> Reply:
    return Reply(250, "", hostname)


def challenge(data: bytes) -> Reply:
    """RFC 4954 §4: the space after 334 is there even when the challenge (base64 already) is empty."""
    return Reply(334, "", data.decode("ascii"))


def queued(trace: str) -> Reply:
    return Reply(250, "2.0.0", f"Ok: stored as {trace}")


def chunk_taken(octets: int) -> Reply:
    """RFC 3030 §2: a chunk that is not the last."""
    return Reply(250, "2.0.0", f"{octets} octets received")


def help_text(verbs: str) -> Reply:
    return Reply(214, "2.0.0", f"Commands: {verbs}\nSee RFC 5321")


OK = Reply(250, "2.0.0", "Ok")
SENDER_OK = Reply(250, "2.1.0", "Sender ok")
RECIPIENT_OK = Reply(250, "2.1.5", "Recipient ok")
BYE = Reply(221, "2.0.0", "Bye", closes=True)
START_TLS = Reply(220, "2.0.0", "Ready to start TLS")
START_MAIL_INPUT = Reply(354, "", "End data with <CR><LF>.<CR><LF>")
AUTHENTICATED = Reply(235, "2.7.0", "Authentication succeeded")
CANNOT_VRFY = Reply(252, "2.5.0", "Cannot VRFY user, but will accept the message and attempt delivery")

# The connection ends.
TIMED_OUT = Reply(421, "4.4.2", "Timeout, closing connection", closes=True)
SHUTTING_DOWN = Reply(421, "4.3.2", "Service is shutting down, try again later", closes=True)
NOT_ENABLED = Reply(421, "4.3.2", "Service is not accepting mail now", closes=True)
TOO_MANY_CONNECTIONS = Reply(421, "4.7.0", "Too many connections from your address", closes=True)
SERVER_FULL = Reply(421, "4.3.2", "Too many connections, try again later", closes=True)
# RFC 9422 §4.1: no more than MAILMAX said.
TOO_MANY_MAILS = Reply(421, "4.7.0", "Too many messages in one connection, connect again", closes=True)
NOT_FROM_HERE = Reply(554, "5.7.1", "Your address may not deliver here", closes=True)
TOO_MANY_ERRORS = Reply(421, "4.7.0", "Too many errors, closing connection", closes=True)
SIGNED_OUT = Reply(421, "4.7.0", "The credentials of this session no longer hold, sign in again", closes=True)

# What the client wrote.
LINE_TOO_LONG = Reply(500, "5.5.2", "Command line too long")
# RFC 4954 §4
AUTH_LINE_TOO_LONG = Reply(500, "5.5.6", "Authentication exchange line is too long")
BAD_LINE = Reply(500, "5.5.2", "Command line holds NUL, bare CR or octets that are not UTF-8")
UNKNOWN_COMMAND = Reply(500, "5.5.1", "Command not recognized")
NO_ARGUMENT = Reply(501, "5.5.4", "This command takes no argument")
HELO_SYNTAX = Reply(501, "5.5.4", "Syntax: EHLO or HELO, then a host name or address literal")
LHLO_SYNTAX = Reply(501, "5.5.4", "Syntax: LHLO, then a host name or address literal")
# How many octets of text follow is not known, and none of them is to be taken for a command.
BDAT_SYNTAX = Reply(501, "5.5.4", "Syntax: BDAT octets [LAST]", closes=True)
HOLD_TOO_LONG = Reply(501, "5.5.4", "A message cannot be held for so long; EHLO tells how long")
HOLD_IS_PAST = Reply(501, "5.5.4", "HOLDUNTIL is in the past")
MAIL_SYNTAX = Reply(501, "5.5.4", "Syntax: MAIL FROM:<address> [parameters]")
RCPT_SYNTAX = Reply(501, "5.5.4", "Syntax: RCPT TO:<address> [parameters]")
VRFY_SYNTAX = Reply(501, "5.5.4", "Syntax: VRFY address")
AUTH_SYNTAX = Reply(501, "5.5.4", "Syntax: AUTH mechanism [initial-response]")
BAD_PARAMETER = Reply(501, "5.5.4", "Parameter has a bad value or stands twice")
UNKNOWN_PARAMETER = Reply(555, "5.5.4", "Parameter not recognized or not implemented")
BAD_SENDER = Reply(501, "5.1.7", "Bad sender address syntax")
BAD_RECIPIENT = Reply(501, "5.1.3", "Bad recipient address syntax")
# RFC 6531 §3.5
SENDER_NEEDS_SMTPUTF8 = Reply(550, "5.6.7", "Non-ASCII sender address needs SMTPUTF8")
RECIPIENT_NEEDS_SMTPUTF8 = Reply(553, "5.6.7", "Non-ASCII recipient address needs SMTPUTF8")
NOT_IMPLEMENTED = Reply(502, "5.5.1", "Command not implemented")

# The order of commands.
HELO_FIRST = Reply(503, "5.5.1", "Send EHLO or HELO first")
NESTED_MAIL = Reply(503, "5.5.1", "Nested MAIL command")
MAIL_FIRST = Reply(503, "5.5.1", "Send MAIL first")
NO_VALID_RECIPIENTS = Reply(554, "5.5.1", "No valid recipients")
# RFC 2033 §4.2
LMTP_NO_RECIPIENTS = Reply(503, "5.5.1", "No valid recipients")
LHLO_FIRST = Reply(503, "5.5.1", "Send LHLO first")
# RFC 3030 §2
BDAT_HAS_BEGUN = Reply(503, "5.5.1", "The message has begun with BDAT and goes on with BDAT")
NOT_NOW = Reply(503, "5.5.1", "Not possible within a mail transaction")
TLS_ALREADY = Reply(503, "5.5.1", "TLS is already in use")
TLS_NOT_AVAILABLE = Reply(454, "4.7.0", "TLS is not available")
TLS_FIRST = Reply(530, "5.7.0", "Must issue a STARTTLS command first")
# RFC 8689 §2
REQUIRETLS_NEEDS_TLS = Reply(530, "5.7.10", "REQUIRETLS needs a connection under TLS")
# RFC 4954 §4, §6
AUTH_FIRST = Reply(530, "5.7.0", "Authentication required")
NO_AUTH = Reply(502, "5.5.1", "Signing in is not offered here")
AUTH_ALREADY = Reply(503, "5.5.1", "Already authenticated")
AUTH_NEEDS_TLS = Reply(538, "5.7.11", "Encryption required for the requested authentication mechanism")
AUTH_UNKNOWN_MECHANISM = Reply(504, "5.5.4", "Unrecognized authentication type")
AUTH_CANCELLED = Reply(501, "5.7.0", "Authentication cancelled")
AUTH_BAD_BASE64 = Reply(501, "5.5.2", "Cannot decode the authentication response")
AUTH_FAILED = Reply(535, "5.7.8", "Authentication credentials invalid")
AUTH_DISABLED = Reply(535, "5.7.13", "This account is disabled")
AUTH_SLOW_DOWN = Reply(454, "4.7.0", "Too many failed sign-ins, try again later")
AUTH_UNAVAILABLE = Reply(454, "4.7.0", "Temporary authentication failure")

# Senders and recipients.
NOT_YOUR_ADDRESS = Reply(553, "5.7.1", "Sender address does not belong to the signed-in account")
NO_SUCH_USER = Reply(550, "5.1.1", "No such user here")
RELAY_DENIED = Reply(550, "5.7.1", "Relaying denied")
TOO_MANY_RECIPIENTS = Reply(452, "4.5.3", "Too many recipients")
MAILBOX_FULL = Reply(452, "4.2.2", "Mailbox is over its quota")
LARGER_THAN_MAILBOX = Reply(552, "5.2.3", "Message is larger than the whole mailbox may be")
# RFC 5321 §4.5.3.1.10
TOO_MANY_TARGETS = Reply(452, "4.5.3", "The address leads to too many recipients")

# Messages.
MESSAGE_TOO_BIG = Reply(552, "5.3.4", "Message size exceeds the fixed maximum message size")
TEXT_LINE_TOO_LONG = Reply(554, "5.6.0", "Message holds a line that is too long")
HEADER_TOO_BIG = Reply(554, "5.6.0", "Message header is too long")
NUL_IN_MESSAGE = Reply(554, "5.6.0", "Message holds NUL octets")
BARE_LINE_END = Reply(554, "5.6.11", "Message holds a bare CR or a bare LF; lines end with CRLF")
# RFC 5321 §6.3
ROUTING_LOOP = Reply(554, "5.4.6", "Too many hops: a mail loop")
NO_MEMORY = Reply(452, "4.3.1", "Too much mail in flight, try again later")
STORE_UNAVAILABLE = Reply(451, "4.3.0", "Mail store is not available, try again later")
DISK_FULL = Reply(452, "4.3.1", "Insufficient system storage, try again later")
QUEUE_FULL = Reply(452, "4.3.1", "Too many messages wait to be stored, try again later")
WAITED_TOO_LONG = Reply(451, "4.3.2", "Message waited too long to be stored, try again later")
IDENTITY_UNAVAILABLE = Reply(451, "4.3.0", "Address directory is not available, try again later")
REFUSED_BY_STORE = Reply(554, "5.3.0", "Message refused by the mail store")
SERVER_BUG = Reply(451, "4.3.0", "The server met an error of its own, try again later")
