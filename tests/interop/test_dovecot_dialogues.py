"""Our IMAP dialogues said to Dovecot: where it answers otherwise, the table below says why.

Compared are conditions, response codes and untagged data, as sets: not the sentences for people, and not the order in
which untagged lines come (RFC 3501 §7 leaves both to the server).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import tests.interop.dovecot
from tests.interop.dovecot import dovecot
from tests.transcripts.imap.spoken import spoken_by
from tests.transcripts.play import Script, octets, pattern, read

pytestmark = pytest.mark.interop

FOLDER = Path(__file__).resolve().parents[1] / "transcripts" / "imap"
NEGATIVE_PARTS = "it has PARTIAL of RFC 5267 alone: not from the end, and not in FETCH (RFC 9394 §3.1, §3.3)"
NOT_ASKED = {
    "append a7": "our own limit: Dovecot would take the literal",
    "any_state": "what each server is able to do and calls itself",
    **dict.fromkeys(("imap4rev2", "utf8_accept"), "Dovecot 2.3 is an IMAP4rev1 server without UTF8=ACCEPT"),
    "fuzzy": "Dovecot 2.3 has FUZZY with a full-text index alone, and matches by that index's rules",
    "ids_sizes_previews": "Dovecot 2.3 has no OBJECTID, APPENDLIMIT or DELETED, and makes previews in the background",
    "catenate b9": "our own limit: Dovecot would take the literal",
    "masked": "capabilities that an account of ours is not offered",
    "message_limit": "Dovecot 2.3 has no MESSAGELIMIT",
    **dict.fromkeys(("shared", "rights"), "two clients by turns"),
    **dict.fromkeys(("notify", "notify_shared"), "two clients by turns, of whom one is told what the other does"),
    "quota": "limits of accounts of ours, which that Dovecot has not",
    "quota_set": "limits of accounts of ours, which that Dovecot has not",
    "replace": "Dovecot 2.3 has no REPLACE",
    "uidonly": "Dovecot 2.3 has no UIDONLY",
    "uidonly_office": "Dovecot 2.3 has no UIDONLY",
    "multiappend a4": "it reads the literal that is refused as commands",
    "multiappend a5": "it goes on waiting for a literal that was refused here",
    "multiappend a6": "our own limit: Dovecot would take the literal",
    "bad_commands": "our own limit, and another sentence for each command",
    "compress": "that Dovecot is asked in plain octets",
    "literal_before_sign_in": "our own limit",
    "literals": "our own limits",
    **{f"partial {tag}": NEGATIVE_PARTS for tag in ("b3", "b4", "b6", "b8", "e0", "e1", "e2", "e3", "e4")},
    "sign_in": "wrong passwords: this Dovecot knows every name, and lets a guesser wait longer than a test may",
    "sign_in_bearer": "tokens of our own, which that Dovecot has nobody to ask about",
    "sign_in_slowed": "an identity of its own, which asks for a pause after a certain password",
    "starttls": "that Dovecot has no certificate",
}
"""Dialogue, or one answer of it → what it is about, so that the same question to Dovecot has no meaning."""
ASKED = sorted(path for path in FOLDER.glob("*.txt") if path.stem not in NOT_ASKED)

RECENT = "It tells RECENT anew after EXPUNGE; we tell it with EXISTS (RFC 3501 §7.3.2 leaves it to the server)."
NO_TARGET = "Of a UID that there is not it copies nothing, whatever the target; we say that the target is missing."
SAME_MAILBOX = "It moves a message to the mailbox where it is, giving it a new UID; we refuse."
BINARY = "It keeps NUL; we refuse until it can be shown in a form that the wire has (RFC 3516 §4.3)."
LITERAL8 = "It sends all that it decoded as literal8; we as a literal where there is no NUL (RFC 9051 §7.5.2: SHOULD)."
LINE_ENDS = "It leaves a bare LF in decoded text; we send CRLF (RFC 9051 §7.5.2: MUST)."
ALL_SIZES = "A part of unknown encoding makes it refuse the sizes of the others too."
BEFORE_REFUSAL = "Before it refuses, it tells what else was asked for; we tell nothing of that message."
INSIDE = "It decodes the parts inside an enclosed message, and changes their headers; we give it as it is."
NO_SECTION = "It parses more than section-binary (RFC 9051 §9)."
NO_SUCH_PART = "It answers with an empty string, or the part itself, for a section that there is not; we with NIL."
FLAGS_FIRST = "It tells flags that change by the fetch before the body, we after it (RFC 3501 §7.4.2 has no order)."
SUPERIORS = "We make the mailboxes above a new one (RFC 3501 §6.3.3: SHOULD); there they stay names that hold others."
NO_CODE = "It refuses with a sentence alone, we with a response code of RFC 5530 too."
PATHS = "Its mailboxes are folders, so that it takes no name with dots as a level; to us it is a name like others."
UNKNOWN_CHARSET = "With BADCHARSET it names no charsets that it knows (RFC 3501 §7.1: optional)."
NO_THREADS = "With no thread it writes a space behind THREAD, where the grammar has none (RFC 5256 §5)."
RANGE_AS_ASKED = "We answer with the range as the client wrote it (RFC 9394 §3.1), it puts the smaller number first."
REVERSE_TWICE = "REVERSE twice is no criterion by the grammar (RFC 5256 §5); it takes it as twice turned."
CHARSETS = "It converts many charsets by its system's iconv; we have US-ASCII and UTF-8."
MODSEQ_PLACE = (
    "MODSEQ and the other items stand in another order (RFC 3501 §7.4.2 has none), or on a line of their own."
)
MODSEQ_SAME = "Of a message that STORE left as it was it tells nothing; we tell its sequence (RFC 7162 §3.1.3)."
MODSEQ_LARGE = "It takes modification sequences of 64 bits; RFC 7162 §7 has 63."
ENABLED_AGAIN = "We name what this ENABLE enabled (RFC 5161 §3.1), it what is so anyway."
FOLDERS = "There a name is subscribed only if it exists, and what is above others exists only if it was made."
CHILDREN = "It tells children where it is asked for them, we always (RFC 5258 §4)."
USES = "It keeps no special use, and ignores parameters of CREATE that it does not know."
TAKEN_BEFORE = "It kept what we refused (NUL, text behind a literal)."
NO_SUCH_NUMBER = (
    "A number that there is not matches nothing there; we say BAD (RFC 3501 §9, seq-number), as it does in FETCH."
)
READ_ONLY = "In a mailbox opened by EXAMINE it does nothing, and says OK; we say that it is read-only."
OWN_DELETED = "It ends the connection that deletes its selected mailbox; we leave the selected state (RFC 3501 §3.3)."
DELIMITER_AT_END = "It knows no name that ends with the delimiter; we leave it away, as CREATE does (RFC 3501 §6.3.3)."
RECENT_FLAG = "\\Recent cannot be stored: we pass over it, it says BAD (RFC 3501 §2.3.2 forbids only the change)."

CUT_URL = 'Of a URL with "]", which BADURL cannot have (RFC 4469 §5), it tells what stands before; we put "?" there.'
EMPTY = "It makes a message without octets; to us that takes the command back (RFC 3502 §6.3.11)."
READ_ON = "It reads what stands behind its error as one more command."

AS_LITERAL = "It sends every value as a literal, we as a quoted string where that may be (RFC 5464 §5)."
OPTIONS_BEHIND = "Options of GETMETADATA behind the mailbox, as old clients write them, are BAD there (RFC 5464 §5)."
NUL_IN_VALUE = "It keeps no value with NUL, which a literal8 may have (RFC 5464 §5), and has another code for it."
OF_SERVER = "What its server says of itself to all is for its configuration."
ENTRY_TWICE = "It takes names and options twice, the last of which counts or nothing does."
TOP_ENTRY = "/shared itself has a value there; to us the name of an entry has one more component (RFC 5464 §3.2.1)."
NO_LIST_METADATA = "Dovecot 2.3 has no LIST-METADATA."

RIGHTS_IN_ORDER = "It tells the letters of rights in another order; we call accounts by address, it by its user's name."
ANYONE_OFF = "It has `anyone` only where its configuration allows that."
OWNERS_RIGHTS = "It lets an owner's rights be changed; ours has all of them always (RFC 4314 §3.4: required rights)."
ANY_NAME = "It takes any name as an identifier, also of nobody."
RIGHTS_OF_NOTHING = "It tells the rights that one would have to a mailbox that is not there."
NO_OTHERS = "It has the namespaces of its configuration."

EXPLAINED: dict[str, str] = {
    **{f"acl {tag}": RIGHTS_IN_ORDER for tag in ("a1", "a2", "a7", "b1", "b5", "b6", "b8", "e5")},
    **{f"acl {tag}": ANYONE_OFF for tag in ("a5", "b4")},
    **{f"acl {tag}": OWNERS_RIGHTS for tag in ("b7", "c1", "c2", "c3")},
    "acl d4": ANY_NAME,
    "acl d8": RIGHTS_OF_NOTHING,
    "acl e2": RIGHTS_OF_NOTHING,
    "acl e6": NO_OTHERS,
    **{f"metadata {tag}": AS_LITERAL for tag in ("a3", "a4", "a7", "a8", "c5")},
    "metadata a9": OPTIONS_BEHIND,
    **{f"metadata {tag}": NUL_IN_VALUE for tag in ("b4", "b5", "b6")},
    **{f"metadata {tag}": OF_SERVER for tag in ("c2", "c3", "c4")},
    "metadata d1": NO_CODE,
    "metadata d2": NO_CODE,
    "metadata d5": TOP_ENTRY,
    "metadata d6": ENTRY_TWICE,
    "metadata d8": ENTRY_TWICE,
    "metadata e3": SUPERIORS,
    "metadata e4": NO_LIST_METADATA,
    "metadata e6": NO_LIST_METADATA,
    "append b3": BINARY,
    "catenate b3": NO_SUCH_PART,
    "catenate b7": CUT_URL,
    "catenate b8": EMPTY,
    "catenate c3": READ_ON,
    "catenate c4": READ_ON,
    "catenate c6": TAKEN_BEFORE,
    "catenate c7": TAKEN_BEFORE,
    "catenate c8": TAKEN_BEFORE,
    "binary a3": ALL_SIZES,
    **{f"binary {tag}": LITERAL8 for tag in ("a4", "a6", "a7", "a8", "b0")},
    "binary a9": LINE_ENDS,
    "binary b1": BEFORE_REFUSAL,
    "binary b2": BEFORE_REFUSAL,
    "binary b3": NO_SUCH_PART,
    "binary b5": INSIDE,
    "binary b6": FLAGS_FIRST,
    "binary b8": NO_SECTION,
    "binary b9": NO_SECTION,
    "binary c2": BINARY,
    "binary c3": BINARY,
    "copy_move a71": NO_TARGET,
    "copy_move a72": NO_TARGET,
    "copy_move a8": RECENT,
    "copy_move a9": RECENT,
    "copy_move b1": SAME_MAILBOX,
    "copy_move b2": SAME_MAILBOX,
    "copy_move b3": RECENT,
    "esearch a8": RECENT,
    "esearch d7": RECENT,
    "esearch e1": UNKNOWN_CHARSET,
    "fetch b9": NO_SUCH_PART,
    "fetch c3": FLAGS_FIRST,
    "fetch d2": FLAGS_FIRST,
    **{f"mailboxes {tag}": SUPERIORS for tag in ("a4", "a5", "a6", "a7", "a8", "b2")},
    **{f"mailboxes {tag}": NO_CODE for tag in ("b5", "c8", "d2")},
    **{f"mailboxes {tag}": DELIMITER_AT_END for tag in ("c41", "c42", "c43")},
    "mailboxes d4": PATHS,
    "mailboxes d5": PATHS,
    "partial b0": RECENT,
    "partial b5": RANGE_AS_ASKED,
    "search b9": CHARSETS,
    "search d2": NO_SUCH_NUMBER,
    "condstore a7": MODSEQ_PLACE,
    "condstore a8": MODSEQ_SAME,
    "condstore b2": MODSEQ_LARGE,
    "condstore b6": MODSEQ_SAME,
    "condstore b7": MODSEQ_SAME,
    "condstore c1": MODSEQ_PLACE,
    "condstore c2": MODSEQ_PLACE,
    "condstore c5": RECENT,
    "condstore c7": RECENT,
    **{f"list_extended {tag}": FOLDERS for tag in ("a5", "a6", "a7", "a8", "a9", "b1", "b2", "b9", "c2", "c4")},
    **{f"list_extended {tag}": CHILDREN for tag in ("b8", "d1", "d5")},
    **{f"list_extended {tag}": USES for tag in ("d2", "d4", "d6", "d7", "d9")},
    "multiappend abc": BINARY,
    "multiappend a9": TAKEN_BEFORE,
    "multiappend b1": TAKEN_BEFORE,
    "qresync a8": RECENT,
    "qresync b4": RECENT,
    "qresync b9": ENABLED_AGAIN,
    "select a4": READ_ONLY,
    "select a5": READ_ONLY,
    "select a6": FLAGS_FIRST,
    "select b2": NO_CODE,
    "select b9": OWN_DELETED,
    "sort c5": UNKNOWN_CHARSET,
    "sort c7": REVERSE_TWICE,
    "sort d1": NO_SUCH_NUMBER,
    "sort e7": UNKNOWN_CHARSET,
    "sort f1": RECENT,
    "store b4": RECENT_FLAG,
    "thread b4": NO_THREADS,
    "thread b5": NO_THREADS,
    "thread b8": UNKNOWN_CHARSET,
    "thread f1": RECENT,
}
"""Dialogue and tag → why Dovecot's answer is not ours. An entry that no longer differs fails the test."""

DEADLINE = 10.0
MADE = ("Drafts", "Sent", "Trash", "Junk", "Archive")
"""What an account of ours has from the beginning, besides INBOX."""


@dataclass(slots=True)
class Exchange:
    """What the client says and all that it waits for then: up to a line that begins with `mark`, which is the command's
    tag or "+". The greeting has the tag "*"."""

    name: str
    tag: str = "*"
    said: bytes = b""
    expected: list[str] = field(default_factory=list)

    @property
    def mark(self) -> str:
        return self.expected[-1].partition(" ")[0]

    @property
    def marks(self) -> tuple[str, ...]:
        """What ends it: instead of a continuation the command's end may come."""
        return (self.mark, self.tag) if self.mark == "+" else (self.mark,)

    @property
    def key(self) -> str:
        """Dialogue and tag."""
        return f"{self.name} {self.tag}" + (" continuation" if self.mark == "+" else "")


def exchanges(script: Script) -> Iterator[Exchange]:
    """The dialogue in pieces."""
    now = Exchange(script.name)
    for step in script.steps:
        if step.kind in ("C", "EOF") and now.expected:
            yield now
            # what follows a continuation is still the same command
            now = Exchange(script.name, now.tag if now.mark == "+" else "")
        if step.kind == "C":
            now.tag = now.tag or step.text.partition(" ")[0]
            now.said += octets(step.text)
        elif step.kind == "S":
            now.expected.append(step.text)


_SENTENCE = re.compile(r"^(\S+ (?:OK|NO|BAD|BYE))( \[(?:<[^>]*>|[^]<])*\])?.*$")
_FLAGS = re.compile(r"(fetch .*?flags )\(([^()<]*)\)")
_LIST = re.compile(r"^\* (LIST|LSUB) \(([^()]*)\) (.*)$")


def comparable(line: str) -> str | None:
    """A line, ours or theirs, without what is left to the server; None for one that says nothing here."""
    if line.startswith("+"):
        return "+"
    if sentence := _SENTENCE.match(line):
        head, code = sentence[1], sentence[2] or ""
        if code.startswith((" [HIGHESTMODSEQ", " [CLOSED", " [MAILBOXID")):
            # of extensions, told unasked
            return None if head.startswith("* ") else head
        return head + ("" if code.startswith(" [CAPABILITY") else code)
    if listed := _LIST.match(line):
        # special use is set in its configuration, and inferiors are none of LSUB's business
        chosen = sorted(a for a in listed[2].split() if a.lstrip("\\") not in MADE)
        return f"* {listed[1]} ({' '.join(chosen)}) {listed[3]}"
    if line.startswith("* ") and " FETCH (" in line:
        # RFC 2045 §5.1: types and parameter names are the same in any case; flags have no order
        return _FLAGS.sub(lambda m: f"{m[1]}({' '.join(sorted(m[2].split()))})", line.lower())
    return line


def differences(expected: list[str], heard: list[str]) -> list[str]:
    """What we say and they do not, and the other way round."""
    theirs = [line for line in map(comparable, heard) if line is not None]
    missing = []
    for ours in (line for line in map(comparable, expected) if line is not None):
        wanted = pattern(ours)
        found = next((line for line in theirs if wanted.fullmatch(line)), None)
        if found is None:
            missing.append(f"ours   {ours}")
        else:
            theirs.remove(found)
    return missing + [f"theirs {line}" for line in theirs]


class Peer:
    """A connection to Dovecot."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connected(cls, port: int) -> Peer:
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 20))

    async def ask(self, said: bytes, *marks: str) -> list[str]:
        """All lines up to the one that begins with a mark; a literal that is asked for without our having expected it
        is sent."""
        self.writer.write(said)
        heard: list[str] = []
        async with asyncio.timeout(DEADLINE):
            while raw := await self.reader.readline():
                line = raw.decode("utf-8", "replace").removesuffix("\r\n")
                heard.append(line)
                first = line.partition(" ")[0]
                if first in marks:
                    break
                if first == "+" and (head := re.search(rb"\{(\d+)\}\r\n\Z", said)):
                    self.writer.write(b"x" * int(head[1]) + b"\r\n")
        return heard

    async def make(self, user: str) -> None:
        """The mailboxes that the dialogues take for granted."""
        await self.ask(b"", "*")
        await self.ask(b"m LOGIN %b secret\r\n" % user.encode(), "m")
        for name in ("INBOX", *MADE):
            await self.ask(b"m CREATE %b\r\n" % name.encode(), "m")
            await self.ask(b"m SUBSCRIBE %b\r\n" % name.encode(), "m")
        self.writer.close()


async def compared(script: Script, port: int) -> dict[str, list[str]]:
    """The exchanges that differ."""
    found: dict[str, list[str]] = {}
    peer = await Peer.connected(port)
    refused = ""
    for exchange in exchanges(script):
        tag = exchange.tag
        if tag == refused or exchange.key in NOT_ASKED:
            # tag: the literal for which it did not ask
            continue
        try:
            heard = await peer.ask(exchange.said, *exchange.marks)
        except ConnectionError:
            heard = []
        except TimeoutError as error:
            raise AssertionError(f"{exchange.key}: no answer") from error
        if not heard or heard[-1].partition(" ")[0] not in exchange.marks:
            found[exchange.key] = ["theirs (the connection has ended)"]
            break
        if exchange.mark == "+" and heard and heard[-1].startswith(tag + " "):
            refused = tag
        if differing := differences(exchange.expected, heard):
            found[exchange.key] = differing
    peer.writer.close()
    return found


async def test_dialogues_equal_dovecots(program: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tests.interop.dovecot, "PASSWORD", "secret")
    found: dict[str, list[str]] = {}
    # not below pytest's own folder, which another run of it closes to Dovecot's user
    with TemporaryDirectory() as folder, dovecot(program("dovecot"), program("doveadm"), Path(folder) / "d") as port:
        for at, path in enumerate(ASKED):
            user = f"u{at:04}"
            await (await Peer.connected(port)).make(user)
            found |= await compared(spoken_by(user, read(path)), port)
    unexplained = {key: lines for key, lines in found.items() if key not in EXPLAINED}
    for key, lines in unexplained.items():
        print("\n  ".join((key, *lines)))
    assert not unexplained, f"{len(unexplained)} answers differ: {sorted(unexplained)}"
    assert set(EXPLAINED) <= set(found), f"explained, but equal: {sorted(set(EXPLAINED) - set(found))}"
