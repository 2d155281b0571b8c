"""Delivery status notifications: what is told of a message's fate, and to whom (RFC 3464, RFC 3461, RFC 6533). Pure.

A notice is a multipart/report of three parts: a text for the person, a list for programs, and the message itself or its
header. `wanted` says whether a recipient's NOTIFY asks for it.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from mail import compose, dates, headers, words

RECIPIENTS_MAX = 1000
"""Recipients that one notice tells of."""
HEADER_MAX = 64 * 1024
"""Octets of a message's header that a notice returns."""
VALUE_MAX = 2000
"""Characters of one value in the part for programs."""
_SUBJECT_MAX = 100
_WORD = re.compile(r"\S{200}(?=\S)")
"""A longer one is broken, so that no line is longer than RFC 5322 §2.1.1 lets it be."""
_LINE_AT = 70
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")
_XTEXT = re.compile(r"\+([0-9A-F]{2})")
_NOT_XTEXT = re.compile(r"[^!-*,-<>-~]")
_UNITEXT = re.compile(r"\\x\{([0-9A-F]{2,6})\}")
_NOT_UNITEXT = re.compile(r"[^!-*,-<>-\[\]-~]")
_ADDRESS_TYPE = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`{|}~]{1,40}")


class Action(Enum):
    """What became of a recipient (RFC 3464 §2.3.3). RELAYED: handed to a server that will not tell of its delivery."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"
    EXPANDED = "expanded"


@dataclass(frozen=True, slots=True)
class About:
    """What a notice tells of one recipient.

    status: RFC 3463. text: the remote server's reply, or one sentence of ours. code: of the reply, None where the text
    is ours. remote: "mx.example.net [192.0.2.1]:25" or "". original: ORCPT as it was given, or None. at: of the last
    attempt, until: given up then, both in Unix seconds.
    """

    address: str
    action: Action
    status: str
    text: str
    code: int | None = None
    remote: str = ""
    original: str | None = None
    at: float | None = None
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Original:
    """The message that is told of. text: its header, or with ``whole`` all of it. envid: ENVID as it was given, or
    None. arrived: Unix seconds. smtputf8: it came with SMTPUTF8 (RFC 6531)."""

    text: bytes
    arrived: float
    whole: bool = False
    envid: str | None = None
    smtputf8: bool = False


@dataclass(frozen=True, slots=True)
class Notice:
    """A composed notice. smtputf8, eight_bit: what its way needs."""

    content: bytes
    smtputf8: bool
    eight_bit: bool


# -- RFC 3461


def wanted(notify: str | None, action: Action) -> bool:
    """Does NOTIFY ask for a notice of this? Without NOTIFY failure and delay are told (RFC 3461 §4.1)."""
    if notify is None:
        return action in (Action.FAILED, Action.DELAYED)
    asked = {word.strip().upper() for word in notify.split(",")}
    if action is Action.FAILED:
        return "FAILURE" in asked
    return ("DELAY" if action is Action.DELAYED else "SUCCESS") in asked


def xtext_decode(text: str) -> str:
    """RFC 3461 §4. What is no xtext is left as it is."""
    return _XTEXT.sub(lambda found: chr(int(found[1], 16)), text)


def xtext_encode(text: str) -> str:
    """RFC 3461 §4. Characters beyond ASCII have no xtext: they become "?"."""
    return _NOT_XTEXT.sub(lambda found: f"+{ord(found[0]):02X}" if found[0].isascii() else "?", text)


def _unitext_decode(text: str) -> str:
    """RFC 6533 §3: utf-8-addr-xtext and utf-8-addr-unitext."""

    def plain(found: re.Match[str]) -> str:
        number = int(found[1], 16)
        return chr(number) if number <= 0x10FFFF and not 0xD800 <= number <= 0xDFFF else found[0]

    return _UNITEXT.sub(plain, text)


def _unitext_encode(text: str) -> str:
    """RFC 6533 §3: utf-8-addr-xtext, which is ASCII alone."""
    return _NOT_UNITEXT.sub(lambda found: f"\\x{{{ord(found[0]):02X}}}", text)


def original_recipient(orcpt: str) -> tuple[str, str] | None:
    """The address type and the address, decoded, of ORCPT; None for what is none (RFC 3461 §4.2, RFC 6533 §3)."""
    kind, semicolon, text = orcpt.partition(";")
    if not semicolon or not _ADDRESS_TYPE.fullmatch(kind):
        return None
    decoded = _unitext_decode(text) if kind.lower() == "utf-8" else xtext_decode(text)
    return kind, _plain(decoded)


# -- the notice


def notice(
    about: Sequence[About],
    original: Original,
    *,
    to: str,
    hostname: str,
    domain: str,
    date: float,
    unique: str,
) -> Notice:
    """Compose. to: the sender of the message. hostname: of this server; domain: whose mailer-daemon and postmaster it
    has. unique: an id that no other message has. ValueError without anybody to tell of."""
    if not about:
        raise ValueError("a notice tells of at least one recipient")
    about = about[:RECIPIENTS_MAX]
    # RFC 6533 §4: the international forms only where something needs them.
    utf8 = not to.isascii() or (
        original.smtputf8
        and not (original.text.isascii() and all(one.address.isascii() and _ascii(one.original) for one in about))
    )
    fields = headers.parse(_header(original.text))
    encoding, text = compose.encode_text(_text(about, original, fields, hostname, domain, date))
    returned = _returned(original, utf8)
    boundary = f"=_{unique}"
    while boundary.encode() in returned:
        boundary += "_"
    kind = "message/global-delivery-status" if utf8 else "message/delivery-status"
    status = _status(about, original, hostname, utf8).encode("utf-8" if utf8 else "ascii", "replace")
    begin = f"--{boundary}\r\n".encode()
    # A part of its own kind may be 7bit or 8bit, and nothing else (RFC 3464 §2.1, RFC 6533 §4).
    status_encoding = b"" if status.isascii() else b"Content-Transfer-Encoding: 8bit\r\n"
    parts = [
        b"This is a delivery status notification (RFC 3464) in MIME.\r\n\r\n",
        begin,
        b"Content-Description: What happened\r\nContent-Type: text/plain; charset=utf-8\r\n",
        f"Content-Transfer-Encoding: {encoding}\r\n\r\n".encode(),
        text,
        b"\r\n",
        begin,
        f"Content-Description: For programs\r\nContent-Type: {kind}\r\n".encode() + status_encoding + b"\r\n",
        status,
        b"\r\n",
        begin,
        returned,
        b"\r\n",
        f"--{boundary}--\r\n".encode(),
    ]
    body = b"".join(parts)
    eight_bit = utf8 or not body.isascii()
    head = [
        compose.field("From", f"Mail Delivery System <mailer-daemon@{domain}>"),
        compose.field("To", f"<{_plain(to)}>"),
        compose.field("Reply-To", f"postmaster@{domain}"),
        compose.field("Subject", _subject(about)),
        f"Date: {dates.format_header(int(date))}\r\n",
        f"Message-ID: <{compose.new_message_id(unique, hostname)}>\r\n",
        _answer_to(fields),
        # RFC 3834 §5: nobody's machine is to answer.
        "Auto-Submitted: auto-replied\r\n",
        "MIME-Version: 1.0\r\n",
        # RFC 6522 §3
        f"Content-Type: multipart/report; report-type={'global-' if utf8 else ''}delivery-status;\r\n"
        f' boundary="{boundary}"\r\n',
        f"Content-Transfer-Encoding: {'8bit' if eight_bit else '7bit'}\r\n\r\n",
    ]
    return Notice("".join(head).encode("utf-8", "replace") + body, utf8, eight_bit)


def _ascii(text: str | None) -> bool:
    return text is None or text.isascii()


def _plain(text: str) -> str:
    """One line without anything that could end it."""
    return _CONTROLS.sub(" ", text)[:VALUE_MAX].strip()


def _answer_to(fields: headers.Headers) -> str:
    """In-Reply-To and References, so that programs show the notice beside the message."""
    value = fields.first(b"MESSAGE-ID")
    found = re.fullmatch(rb"<[!-=?-~]{1,250}>", headers.unfold(value).strip()) if value is not None else None
    if found is None:
        return ""
    named = found[0].decode("ascii")
    return f"In-Reply-To: {named}\r\nReferences: {named}\r\n"


# -- the part for programs (RFC 3464 §2.2, §2.3)


def _status(about: Sequence[About], original: Original, hostname: str, utf8: bool) -> str:
    lines = [_field("Reporting-MTA", f"dns; {hostname}", utf8)]
    if original.envid is not None:
        lines.insert(0, _field("Original-Envelope-Id", xtext_decode(original.envid), utf8))
    lines.append(f"Arrival-Date: {dates.format_header(int(original.arrived))}\r\n")
    for one in about:
        lines.append("\r\n")
        named = original_recipient(one.original) if one.original is not None else None
        if named is not None:
            lines.append(_field("Original-Recipient", _typed(*named, utf8=utf8), utf8))
        lines.append(_field("Final-Recipient", _typed("rfc822", one.address, utf8=utf8), utf8))
        lines.append(f"Action: {one.action.value}\r\n")
        lines.append(f"Status: {_status_of(one)}\r\n")
        if one.remote:
            lines.append(_field("Remote-MTA", f"dns; {_host(one.remote)}", utf8))
        if one.text:
            reply = f"smtp; {_reply(one)}" if one.code is not None else f"X-Homing; {one.text}"
            lines.append(_field("Diagnostic-Code", _WORD.sub(r"\g<0> ", reply), utf8))
        if one.at is not None:
            lines.append(f"Last-Attempt-Date: {dates.format_header(int(one.at))}\r\n")
        # RFC 3464 §2.3.9: for delayed ones alone.
        if one.until is not None and one.action is Action.DELAYED:
            lines.append(f"Will-Retry-Until: {dates.format_header(int(one.until))}\r\n")
    return "".join(lines)


def _field(name: str, value: str, utf8: bool) -> str:
    plain = _plain(value)
    return compose.field(name, plain if utf8 else plain.encode("ascii", "replace").decode("ascii"))


def _typed(kind: str, address: str, *, utf8: bool) -> str:
    """An address with its type; one beyond ASCII as RFC 6533 §3 writes it."""
    if address.isascii() and kind.lower() != "utf-8":
        return f"{kind}; {address}"
    return f"utf-8; {address if utf8 else _unitext_encode(address)}"


def _status_of(one: About) -> str:
    if _STATUS.fullmatch(one.status):
        return one.status
    # RFC 3463 §3.1: nothing more is known.
    return {Action.FAILED: "5.0.0", Action.DELAYED: "4.0.0"}.get(one.action, "2.0.0")


def _host(remote: str) -> str:
    """The name, or the address where there is no name, of a server."""
    return remote.split(" ", 1)[0].removesuffix(":25")


def _reply(one: About) -> str:
    """A remote server's reply with its code and status, as it came."""
    text = one.text
    if one.status and not text.startswith(one.status):
        text = f"{one.status} {text}"
    return f"{one.code} {text}"


def _returned(original: Original, utf8: bool) -> bytes:
    """The third part with its own header: the message, or its header (RFC 3462 §2, RFC 6533 §4)."""
    if original.whole:
        kind = "message/global" if utf8 else "message/rfc822"
        encoding = "7bit" if original.text.isascii() else "8bit"
        content = original.text
    else:
        kind = "message/global-headers" if utf8 else "text/rfc822-headers"
        content = _header(original.text)
        encoding = "7bit" if content.isascii() else "8bit"
        if not utf8 and encoding == "8bit":
            # Any server can carry this.
            encoding, content = "quoted-printable", binascii.b2a_qp(content, istext=True)
    named = "The message" if original.whole else "The header of the message"
    head = f"Content-Description: {named}\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return head.encode() + content + (b"" if content.endswith(b"\r\n") else b"\r\n")


def _header(text: bytes) -> bytes:
    """The header of a message, whole lines of it only."""
    end = text.find(b"\r\n\r\n")
    if 0 <= end <= HEADER_MAX:
        return text[: end + 2]
    return text[: text.rfind(b"\r\n", 0, HEADER_MAX) + 2]


# -- the part for the person


def _subject(about: Sequence[About]) -> str:
    actions = {one.action for one in about}
    if Action.FAILED in actions:
        return "Your message could not be delivered"
    if Action.DELAYED in actions:
        return "Your message is late: it has not been delivered yet"
    return "Your message was delivered" if actions == {Action.DELIVERED} else "Your message was passed on"


_OPENINGS = (
    (Action.FAILED, "could not be delivered to:"),
    (Action.DELAYED, "has not been delivered yet to:"),
    (Action.DELIVERED, "was delivered to:"),
    (Action.RELAYED, "was handed to a server that does not tell whether it was delivered, for:"),
    (Action.EXPANDED, "was passed on to all who are behind:"),
)


def _text(
    about: Sequence[About], original: Original, fields: headers.Headers, hostname: str, domain: str, date: float
) -> str:
    lines = [f"This is the mail server {hostname}.", ""]
    subject = fields.first(b"SUBJECT")
    named = _plain(words.line(subject))[:_SUBJECT_MAX] if subject is not None else ""
    message = f'Your message "{named}"' if named else "Your message"
    message += f" of {dates.format_header(int(original.arrived))}"
    for action, opening in _OPENINGS:
        those = [one for one in about if one.action is action]
        if not those:
            continue
        lines += _wrapped(f"{message} {opening}", "")
        for one in those:
            lines += ["", f"  {_plain(one.address)}", *_why(one)]
        lines += ["", *_wrapped(_what_to_do(action, those, domain), ""), ""]
    lines.append(f"The people who run this server answer at postmaster@{domain}.")
    return "\r\n".join(lines)


def _why(one: About) -> list[str]:
    if one.action not in (Action.FAILED, Action.DELAYED) or not one.text:
        return []
    if one.code is not None and one.remote:
        return [
            *_wrapped(f"The server {_host(one.remote)} said:", "      "),
            *_wrapped(_plain(_reply(one)), "      "),
        ]
    return _wrapped(_plain(one.text), "      ")


def _what_to_do(action: Action, those: Sequence[About], domain: str) -> str:
    if action is Action.DELAYED:
        untils = [one.until for one in those if one.until is not None]
        until = f" until {dates.format_header(int(max(untils)))}" if untils else ""
        return (
            f"You need not do anything, and need not send it again: it will be tried{until}. If it cannot be delivered"
            " by then, you will be told."
        )
    if action is not Action.FAILED:
        return "You need not do anything: you asked to be told."
    advice = dict.fromkeys(_advice(_status_of(one), domain) for one in those)
    return "What you can do: " + " ".join(advice)


_ADVICE = (
    # RFC 3463 §3.2 to §3.8, the usual ones first.
    (r".\.1\.(1|2|3|6|10)", "Look whether the address is written as it should be, and ask for the right one."),
    (r".\.2\.2", "The mailbox is full: tell the recipient in another way, and send it again later."),
    (r".\.2\.1", "The mailbox takes no mail: reach the recipient in another way."),
    (r".\.(2|3)\.(3|4)", "The message is too big for that server: send a smaller one, or a link."),
    (r".\.4\..*", "That server could not be reached for too long: send it again later, or reach the recipient in"
                  " another way."),
    (r".\.7\..*", "That server does not want the message, for the reason that it gave: if you do not see why, send this"
                  " notice to the postmaster of your own server, {postmaster}."),
    (r"5\.6\.7", "That server takes no addresses or headers with letters beyond plain ASCII: ask for an address of"
                  " plain letters."),
    (r"5\.6\..*", "That server cannot take a message of this form: send it in a simpler one, as plain text."),
    (r"4\..*", "That server did not take it for too long: send it again later, or reach the recipient in another way."),
)  # fmt: skip


def _advice(status: str, domain: str) -> str:
    for pattern, text in _ADVICE:
        if re.fullmatch(pattern, status):
            return text.format(postmaster=f"postmaster@{domain}")
    return "The reason above is that server's own: if you do not see what it means, ask the recipient in another way."


def _wrapped(text: str, indent: str) -> list[str]:
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        if line and len(indent) + len(line) + 1 + len(word) > _LINE_AT:
            lines.append(indent + line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    return [*lines, indent + line]
