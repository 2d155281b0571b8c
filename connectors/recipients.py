"""Who a message is from and for: addresses with or without display names, as people write them (RFC 5322 §3.4)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from connectors.exceptions import MessageError
from mail import address
from mail.words import decode

MAX_RECIPIENTS = 1_000
"""How many recipients one message may have."""

MAX_TEXT = 512 * 1024
"""The longest text of recipients that is looked at, in characters."""

MAX_NAME = 256
"""The longest display name, in characters."""

_CONTROLS = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]")
_QUOTED_NAME = re.compile(r'"((?:[^"\\]|\\.)*+)"')
_PAIR = re.compile(r"\\(.)")
_STOPS = re.compile(r'["\\,<>]')


@dataclass(frozen=True, slots=True)
class Person:
    """An address and the name shown with it ("" for none)."""

    name: str
    mailbox: address.Mailbox

    @property
    def needs_utf8(self) -> bool:
        """Whether only a server with SMTPUTF8 can take it (RFC 6531 §3.2)."""
        return not self.mailbox.is_ascii

    @property
    def wire(self) -> str:
        """The address as MAIL and RCPT have it: the domain in A-labels unless the local part needs SMTPUTF8 anyhow."""
        return str(self.mailbox) if self.needs_utf8 else self.mailbox.key


def one(text: object, what: str) -> Person:
    """The one person that a text names; MessageError says what is wrong. what: "sender", "recipient"."""
    if not isinstance(text, str):
        raise MessageError(f"The {what} has to be text like 'user@example.org', not {type(text).__name__}.")
    if len(text) > MAX_TEXT or _CONTROLS.search(text):
        raise MessageError(f"The {what} is too long or has a control character in it, perhaps a line end; take it out.")
    written = text.strip()
    name, inside = "", written
    if written.endswith(">"):
        before, bracket, rest = _open_bracket(written)
        if not bracket:
            raise MessageError(f"The {what} {written!r} has no < to its >.")
        name, inside = _name(before, written, what), rest[:-1]
    try:
        return Person(name, address.parse_mailbox(inside.strip()))
    except address.AddressError as error:
        hint = " Several addresses are separated by commas." if ";" in written or " " in inside.strip() else ""
        raise MessageError(f"The {what} {written!r} is no address: {error}.{hint}") from error


def several(recipients: object) -> tuple[Person, ...]:
    """The people that a comma-separated text or a list of texts names, each address once; MessageError for none.

    Commas in quoted display names separate nothing; empty places between commas are overlooked.
    """
    if isinstance(recipients, str):
        texts: Iterable[object] = [recipients]
    elif isinstance(recipients, Iterable) and not isinstance(recipients, bytes | bytearray):
        texts = recipients
    else:
        raise MessageError(
            f"The recipients have to be text with commas between addresses, or a list, not {type(recipients).__name__}."
        )
    found: dict[str, Person] = {}
    for text in texts:
        for piece in _split(text) if isinstance(text, str) else [text]:
            person = one(piece, "recipient")
            found.setdefault(person.mailbox.key, person)
            if len(found) > MAX_RECIPIENTS:
                raise MessageError(f"A message may have at most {MAX_RECIPIENTS} recipients; send it in several parts.")
    if not found:
        raise MessageError("There is no recipient; give at least one address.")
    return tuple(found.values())


def _split(text: str) -> list[str]:
    """The pieces between commas that are in no quotes and in no angle brackets; empty ones left out."""
    if len(text) > MAX_TEXT:
        raise MessageError(f"The recipients are longer than {MAX_TEXT} characters; send the message in several parts.")
    pieces: list[str] = []
    start = at = 0
    quoted = angle = False
    while stop := _STOPS.search(text, at):
        at = stop.end()
        char = stop[0]
        if char == "\\" and quoted:
            at += 1
        elif char == '"':
            quoted = not quoted
        elif not quoted and char in "<>":
            angle = char == "<"
        elif char == "," and not quoted and not angle:
            pieces.append(text[start : at - 1])
            start = at
    pieces.append(text[start:])
    return [piece for piece in pieces if piece.strip()]


def _open_bracket(text: str) -> tuple[str, str, str]:
    """The text before the first < that is in no quotes, that <, and what is behind it."""
    at = 0
    quoted = False
    while stop := _STOPS.search(text, at):
        at = stop.end()
        if stop[0] == "\\" and quoted:
            at += 1
        elif stop[0] == '"':
            quoted = not quoted
        elif stop[0] == "<" and not quoted:
            return text[: at - 1], "<", text[at:]
    return text, "", ""


def _name(text: str, written: str, what: str) -> str:
    name = text.strip()
    match = _QUOTED_NAME.fullmatch(name)
    if match:
        name = _PAIR.sub(r"\1", match[1])
    elif '"' in name or "," in name or "<" in name or ">" in name:
        raise MessageError(
            f"The {what} {written!r} has a name with quotes that do not fit; put it in one pair of quotes."
        )
    if "=?" in name:
        # RFC 2047: a name taken over from a header field
        name = decode(name.encode("utf-8", "replace"))
    if _CONTROLS.search(name) or any(0xD800 <= ord(char) <= 0xDFFF for char in name):
        raise MessageError(f"The name of the {what} has a control character in it, perhaps a line end; take it out.")
    if len(name) > MAX_NAME:
        raise MessageError(f"The name of the {what} is longer than {MAX_NAME} characters.")
    return " ".join(name.split())
