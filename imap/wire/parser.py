"""A command's octets into its form: one table, one small function for each command (RFC 3501 §9).

A new command is one entry in COMMANDS; a new FETCH item, search key or STATUS item one entry in its own table.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Mapping
from functools import partial

from imap.wire.errors import BadSyntax
from imap.wire.forms import (
    Authenticate,
    Bare,
    Command,
    Compress,
    Copy,
    Enable,
    Expunge,
    Form,
    Id,
    Login,
    OnMailbox,
    Rename,
)
from imap.wire.parse_acl import parse_on_identifier, parse_setacl
from imap.wire.parse_append import parse_append, parse_replace
from imap.wire.parse_fetch import parse_fetch, parse_store
from imap.wire.parse_mailboxes import parse_create, parse_list, parse_lsub, parse_status
from imap.wire.parse_metadata import parse_getmetadata, parse_setmetadata
from imap.wire.parse_notify import parse_notify
from imap.wire.parse_quota import parse_get_quota, parse_get_quota_root, parse_set_quota
from imap.wire.parse_search import parse_search, parse_sort, parse_thread
from imap.wire.parse_select import parse_select
from imap.wire.tokens import Scanner, tag_of, unique

_NAME = re.compile(rb" ([A-Za-z][A-Za-z0-9-]*)")
# their own functions see to it that NUL stands in a literal8 alone (RFC 5464 §5)
_WITH_NUL = frozenset((b"SETMETADATA",))
_BASE64 = re.compile(rb"[A-Za-z0-9+/]*={0,2}")
_INITIAL = re.compile(rb"[A-Za-z0-9+/=]+")


def parse(data: bytes, *, utf8: bool = False) -> Command:
    """Parse one command: whole, with its literals inside and without its last line end; or an APPEND up to and with the
    ``{n}`` of its message. utf8: mailbox names are in UTF-8. Raises BadSyntax with the command's tag."""
    tag = tag_of(data)
    if tag == "*":
        raise BadSyntax("Expected a tag, a space and a command")
    try:
        name, form = _parse(Scanner(data, len(tag), utf8=utf8))
    except BadSyntax as error:
        text = error.text[:1].upper() + error.text[1:]
        raise BadSyntax(text, tag=tag, condition=error.condition, code=error.code) from None
    return Command(tag, name, form)


def parsed(data: bytes, *, utf8: bool = False) -> Command | BadSyntax:
    """As `parse`, with what it raises."""
    try:
        return parse(data, utf8=utf8)
    except BadSyntax as error:
        return error


def _parse(scanner: Scanner) -> tuple[str, Form]:
    match = scanner.match(_NAME)
    if b"\0" in scanner.data and (match is None or match[1].upper() not in _WITH_NUL):
        # RFC 3501 §9: CHAR8 leaves out NUL, and no other rule has it
        raise BadSyntax("A command has no NUL octets")
    if match is None:
        raise scanner.wrong("a space and a command name")
    name = match[1].decode("ascii").upper()
    if name == "UID":
        prefixed = scanner.match(_NAME)
        name = f"UID {prefixed[1].decode('ascii').upper()}" if prefixed else name
    function = COMMANDS.get(name)
    if function is None:
        raise BadSyntax(f"Unknown command {name[:40]}")
    try:
        form = function(scanner)
        scanner.end()
    except BadSyntax as error:
        raise BadSyntax(f"{name}: {error.text}", condition=error.condition, code=error.code) from None
    return name, form


def decode_base64(line: bytes) -> bytes:
    """A client's base64 line (RFC 3501 §6.2.2, §9). Raises BadSyntax."""
    if len(line) % 4 == 0 and _BASE64.fullmatch(line):
        try:
            return binascii.a2b_base64(line)
        except binascii.Error:
            pass
    raise BadSyntax("Expected a line of base64")


# --- one function for each command's arguments; the cursor stands behind the name ---


def _bare(scanner: Scanner) -> Form:
    return Bare()


def _login(scanner: Scanner) -> Form:
    scanner.space()
    user = scanner.text("a user name")
    scanner.space()
    return Login(user, scanner.text("a password"))


def _authenticate(scanner: Scanner) -> Form:
    scanner.space()
    mechanism = scanner.word("a SASL mechanism")
    if not scanner.skip(b" "):
        return Authenticate(mechanism, None)
    initial = scanner.match(_INITIAL)
    if initial is None:
        raise scanner.wrong("an initial response in base64")
    # RFC 4959 §3: "=" is an empty initial response
    return Authenticate(mechanism, b"" if initial[0] == b"=" else decode_base64(initial[0]))


def _id(scanner: Scanner) -> Form:
    scanner.space()
    if scanner.data[scanner.at : scanner.at + 3].upper() == b"NIL":
        scanner.at += 3
        return Id(None)
    fields: list[tuple[str, str | None]] = []
    scanner.expect(b"(")
    # Tolerance: a space behind the first parenthesis and one before the last, which aioimaplib sends.
    scanner.skip(b" ")
    while not scanner.skip(b")"):
        fields.append(_id_field(scanner))
        if scanner.data[scanner.at : scanner.at + 1] != b")":
            scanner.space()
    return Id(tuple(fields))


def _id_field(scanner: Scanner) -> tuple[str, str | None]:
    name = scanner.string("a field name as a string")
    scanner.space()
    value = scanner.nstring("NIL or a string")
    return name.decode("utf-8", "replace"), None if value is None else value.decode("utf-8", "replace")


def _compress(scanner: Scanner) -> Form:
    scanner.space()
    return Compress(scanner.word("a compression mechanism"))


def _enable(scanner: Scanner) -> Form:
    scanner.space()
    return Enable(unique(scanner.items(lambda: scanner.word("a capability"))))


def _on_mailbox(scanner: Scanner) -> Form:
    scanner.space()
    return OnMailbox(scanner.mailbox())


def _rename(scanner: Scanner) -> Form:
    scanner.space()
    old = scanner.mailbox()
    scanner.space()
    return Rename(old, scanner.mailbox())


def _uid_expunge(scanner: Scanner) -> Form:
    scanner.space()
    return Expunge(scanner.numset())


def _copy(scanner: Scanner, *, uid: bool) -> Form:
    scanner.space()
    numset = scanner.numset()
    scanner.space()
    return Copy(numset, scanner.mailbox(), uid)


def _with_uid(name: str, parse: Callable[..., Form]) -> dict[str, Callable[[Scanner], Form]]:
    return {name: partial(parse, uid=False), f"UID {name}": partial(parse, uid=True)}


_NO_ARGUMENTS = "CAPABILITY NOOP LOGOUT STARTTLS CHECK CLOSE UNSELECT EXPUNGE IDLE NAMESPACE"

COMMANDS: Mapping[str, Callable[[Scanner], Form]] = {
    **dict.fromkeys(_NO_ARGUMENTS.split(), _bare),
    "LOGIN": _login,
    "AUTHENTICATE": _authenticate,
    "ID": _id,
    "COMPRESS": _compress,
    "ENABLE": _enable,
    "SELECT": partial(parse_select, read_only=False),
    "EXAMINE": partial(parse_select, read_only=True),
    "CREATE": parse_create,
    "DELETE": _on_mailbox,
    "SUBSCRIBE": _on_mailbox,
    "UNSUBSCRIBE": _on_mailbox,
    "RENAME": _rename,
    "LIST": parse_list,
    "LSUB": parse_lsub,
    "STATUS": parse_status,
    "GETMETADATA": parse_getmetadata,
    "SETMETADATA": parse_setmetadata,
    "SETACL": parse_setacl,
    "DELETEACL": parse_on_identifier,
    "LISTRIGHTS": parse_on_identifier,
    "GETACL": _on_mailbox,
    "MYRIGHTS": _on_mailbox,
    "NOTIFY": parse_notify,
    "APPEND": parse_append,
    **_with_uid("REPLACE", parse_replace),
    "GETQUOTA": parse_get_quota,
    "GETQUOTAROOT": parse_get_quota_root,
    "SETQUOTA": parse_set_quota,
    "UID EXPUNGE": _uid_expunge,
    **_with_uid("COPY", _copy),
    **_with_uid("MOVE", _copy),
    **_with_uid("FETCH", parse_fetch),
    **_with_uid("STORE", parse_store),
    **_with_uid("SEARCH", parse_search),
    **_with_uid("SORT", parse_sort),
    **_with_uid("THREAD", parse_thread),
}
