"""What a helpful postmaster says of each cause: why, and what to do next. Pure.

THERE: another server did not take a message of ours. HERE: this server did not take one. In the texts {host} stands for
the other server, {address} for the recipient, {domain} for its domain.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from homing.tracing.causes import Cause, Words

_CHECK: Final = "Check the address for a typing mistake, or ask the recipient for the right one by other means."
PATIENCE: Final = "Nothing needs to be done: it is tried again by itself."
_THEIR_POSTMASTER: Final = "If it should be let through, show these words to the recipient or to postmaster@{domain}."

THERE: Final[Mapping[Cause, Words]] = {
    Cause.GREYLISTED: Words(
        "{host} lets mail from senders it has not met before in at the second try only (greylisting)", PATIENCE
    ),
    Cause.NO_SUCH_USER: Words("{host} says that there is no such mailbox", _CHECK),
    Cause.BAD_ADDRESS: Words("{host} cannot make sense of the address", _CHECK),
    Cause.DISABLED: Words(
        "{host} says that the mailbox is there but takes no mail", "Reach the recipient by other means."
    ),
    Cause.MAILBOX_FULL: Words(
        "the recipient's mailbox is full", "The recipient has to make room; tell them by other means if it is urgent."
    ),
    Cause.TOO_BIG: Words(
        "the message is larger than {host} takes", "Send it in smaller parts, or a link to the large file."
    ),
    Cause.BLOCKLISTED: Words(
        "{host} refuses this server's address, which stands on a list of senders of spam",
        "The administrator of this server has to see to it.",
        "Run `homing doctor`, find out why the address is listed (a stolen password, an open form), mend that, and ask"
        " the list named above to take it off.",
    ),
    Cause.SPAM: Words(
        "{host} takes the message for spam or harmful",
        "Send it again with plainer contents: fewer links, no program as an attachment. " + _THEIR_POSTMASTER,
    ),
    Cause.UNPROVED: Words(
        "{host} found no proof that this server may send for the sender's domain (SPF, DKIM, DMARC)",
        "The administrator of the sender's domain has to mend its DNS records.",
        "Run `homing doctor`: it prints the SPF, DKIM and DMARC records to publish.",
    ),
    Cause.POLICY: Words("{host} refuses it by a rule of its own", _THEIR_POSTMASTER),
    Cause.RELAY: Words(
        "{host} does not take mail for {domain}",
        "Check the part after the @ for a typing mistake; else the mail servers that the DNS names for {domain} are"
        " wrong, which its administrator has to mend.",
        "If a route or smarthost is set for {domain}, check it, and its user name and password.",
    ),
    Cause.TOO_FAST: Words("{host} takes only so much mail at a time from this server", PATIENCE),
    Cause.TLS: Words(
        "no encrypted connection as it is required could be made with {host}",
        "The administrator of {domain} has to mend its certificate or its MTA-STS or DANE records.",
        "`homing doctor` tells what {domain} asks for. It is not sent in clear, for that is what the policy is for.",
    ),
    Cause.NO_SUCH_DOMAIN: Words(
        "there is no domain {domain} that takes mail", "Check the part after the @ for a typing mistake."
    ),
    Cause.NO_MAIL_DOMAIN: Words(
        "{domain} declares in the DNS that it takes no mail at all", "Look for another address of the recipient."
    ),
    Cause.DNS: Words(
        "the DNS does not say now where mail for {domain} goes",
        PATIENCE,
        "Where it lasts, check this server's resolver (`homing doctor`), or tell the administrator of {domain}.",
    ),
    Cause.UNREACHABLE: Words(
        "{host} cannot be reached or does not speak properly",
        PATIENCE,
        "If no destination can be reached, port 25 to the outside is blocked: ask the network's provider, or set a"
        " smarthost.",
    ),
    Cause.LOOP: Words(
        "the message goes in a circle between servers", "An address forwards to another that forwards back: end one."
    ),
    Cause.TROUBLE: Words("{host} has trouble of its own and asks to try again later", PATIENCE),
    Cause.SIGN_IN: Words(
        "{host} wants this server to sign in, or does not accept how it did",
        "The administrator of this server has to see to it.",
        "Check the user name and password of the route or smarthost for {domain}.",
    ),
    Cause.NOT_YOURS: Words("{host} does not let this server send from the sender's address", _THEIR_POSTMASTER),
    Cause.BAD_SENDER: Words(
        "{host} does not accept the sender's address", "Check that the sender's domain exists and takes mail."
    ),
    Cause.UTF8: Words(
        "an address has letters beyond ASCII, and {host} cannot handle these", "Use an address of plain letters."
    ),
    Cause.CONTENT: Words("{host} does not like the form of the message", _THEIR_POSTMASTER),
    Cause.TOO_MANY: Words("{host} takes only so many recipients at a time", PATIENCE),
    Cause.BROKEN_OFF: Words("the connection with {host} broke off", PATIENCE),
    Cause.OTHER: Words("{host} does not take it", _THEIR_POSTMASTER),
}

_RETRY: Final = "The sending server tries again by itself; a mail program shows an error, and one sends again."

HERE: Final[Mapping[Cause, Words]] = {
    Cause.GREYLISTED: Words("senders that are not known have to try twice", _RETRY),
    Cause.NO_SUCH_USER: Words(
        "there is no such address here",
        "The sender should check the address for a typing mistake.",
        "If it should exist, add it: `homing user add {address}` or `homing alias add {address}`.",
    ),
    Cause.BAD_ADDRESS: Words("the address is not written as an address is", "The sender should check it."),
    Cause.DISABLED: Words("the account is disabled", "", "`homing user enable {address}` enables it."),
    Cause.MAILBOX_FULL: Words(
        "the mailbox is over its quota",
        "Delete mail to make room, and empty the trash. The sending server tries again for some days.",
        "More room: `homing user quota {address} '10 GiB'`.",
    ),
    Cause.TOO_BIG: Words(
        "the message is larger than this server takes",
        "Send it in smaller parts, or a link to the large file.",
        "The limit is the setting smtp.size_max.",
    ),
    Cause.BLOCKLISTED: Words("the sending server stands on a list of senders of spam", "Its administrator has to act."),
    Cause.SPAM: Words("the message was taken for spam or harmful", ""),
    Cause.UNPROVED: Words(
        "the sending server could not prove that it may send for the sender's domain", "Its administrator has to act."
    ),
    Cause.POLICY: Words("a rule of this server forbids it", "", "The reply says which."),
    Cause.RELAY: Words(
        "the recipient's domain is not one of this server's, and the sender had not signed in",
        "Who sends through this server signs in: in the mail program, switch on authentication for outgoing mail, on"
        " the submission port. A stranger's server should look at the MX records of the recipient's domain.",
        "If the domain should be one of ours: `homing domain add {domain}`.",
    ),
    Cause.TOO_FAST: Words(
        "a limit was reached",
        _RETRY,
        "The settings `rates`, `limits` and `smtp` hold the limits; `homing ban list` the bans.",
    ),
    Cause.TLS: Words(
        "it may only be done over an encrypted connection",
        "In the mail program, switch on STARTTLS or SSL/TLS for outgoing mail.",
    ),
    Cause.NO_SUCH_DOMAIN: Words("there is no such domain", "The sender should check the part after the @."),
    Cause.NO_MAIL_DOMAIN: Words("the domain takes no mail", ""),
    Cause.DNS: Words("the DNS did not answer", _RETRY),
    Cause.UNREACHABLE: Words("the connection was lost", _RETRY),
    Cause.LOOP: Words(
        "the message has been through too many servers: it goes in a circle",
        "An address forwards to another that forwards back: end one of the two.",
    ),
    Cause.TROUBLE: Words(
        "this server could not store it at that moment",
        _RETRY,
        "Look into `homing logs`, and at the disk's room.",
    ),
    Cause.SIGN_IN: Words(
        "the name or password was not accepted, or is needed first",
        "Check name and password in the mail program; the name is the whole address.",
        "A new password: `homing user passwd ADDRESS`. A disabled account: `homing user enable ADDRESS`.",
    ),
    Cause.NOT_YOURS: Words(
        "the sender's address does not belong to the account that signed in",
        "Set the account's own address as the sender in the mail program.",
        "An alias for the account makes the address its own: `homing alias add`.",
    ),
    Cause.BAD_SENDER: Words("the sender's address is not written as an address is", "The sender should check it."),
    Cause.UTF8: Words(
        "an address has letters beyond ASCII, and the sending program did not say SMTPUTF8",
        "Use an address of plain letters, or a program that knows SMTPUTF8.",
    ),
    Cause.CONTENT: Words(
        "the message is not in the form that mail has (line ends, NUL octets, long lines, a header too long)",
        "The program that made it has to be mended.",
    ),
    Cause.TOO_MANY: Words("there were too many recipients", "Send it to fewer at a time."),
    Cause.BROKEN_OFF: Words("the sending side broke off before the message was complete", _RETRY),
    Cause.OTHER: Words("this server refused it", ""),
}
