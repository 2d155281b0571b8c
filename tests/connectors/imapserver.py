"""A small IMAP server of the tests: mailboxes in memory; which capabilities it has is told."""

from __future__ import annotations

import base64
import re
import ssl
from dataclasses import dataclass, field

from mail import imapform, parts, structure
from tests.connectors.servers import Gone, Line, Scripted

_SECTION = re.compile(r"BODY\.PEEK\[([0-9.]*)(HEADER)?\](?:<0\.(\d+)>)?")
_WORD = re.compile(rb'"((?:[^"\\]|\\.)*)"|(\([^()]*\))|([^\s"()]\S*)')


@dataclass
class Message:
    uid: int
    raw: bytes
    flags: set[str] = field(default_factory=set)
    labels: str = ""

    def fetch(self, items: str, number: int) -> bytes:
        out = [b"UID %d" % self.uid]
        if "FLAGS" in items:
            out.append(b"FLAGS (%b)" % " ".join(sorted(self.flags)).encode())
        if "INTERNALDATE" in items:
            out.append(b'INTERNALDATE "01-May-2024 12:30:15 +0200"')
        if "RFC822.SIZE" in items:
            out.append(b"RFC822.SIZE %d" % len(self.raw))
        tree = structure.parse(self.raw)
        if "BODYSTRUCTURE" in items:
            out.append(b"BODYSTRUCTURE " + imapform.structures(tree).bodystructure)
        if "X-GM-LABELS" in items:
            out.append(b"X-GM-LABELS (%b) X-GM-THRID 1278455344230334865" % self.labels.encode())
        if "HEADER.FIELDS (MESSAGE-ID)" in items:
            named = b"".join(line + b"\r\n" for line in self.raw.split(b"\r\n") if line.startswith(b"Message-ID"))
            out.append(b"BODY[HEADER.FIELDS (MESSAGE-ID)] {%d}\r\n%b\r\n" % (len(named) + 2, named))
        for path, header, most in _SECTION.findall(items):
            numbers = tuple(int(one) for one in path.split(".") if one)
            where = parts.locate(parts.table(tree), numbers, header)
            assert where is not None
            data = self.raw[slice(*where)][: int(most or len(self.raw))]
            out.append(b"BODY[%b]%b {%d}\r\n%b" % ((path + header).encode(), b"<0>" if most else b"", len(data), data))
        return b"* %d FETCH (%b)" % (number, b" ".join(out))


class ImapServer(Scripted):
    """Stages: connect, login, and each command's name in lower case."""

    def __init__(self, tls: ssl.SSLContext | None = None, implicit: bool = True, **at: list[str]) -> None:
        super().__init__(tls, implicit, **at)
        self.capabilities = ["IMAP4rev1", "MOVE", "UIDPLUS", "AUTH=PLAIN", "AUTH=XOAUTH2"]
        self.mailboxes: dict[str, list[Message]] = {"INBOX": [], "Archive": []}
        self.attributes: dict[str, str] = {}
        self.validity = 7
        self.next_uid = 100
        self.searches: list[bytes] = []
        self.read_only = False
        self.expunges: list[str] = []
        self.subscribed: list[str] = []
        self.metadata: dict[str, bytes] = {}
        """What GETMETADATA answers for a mailbox, behind its name; NO for one that is not here."""

    def add(self, raw: bytes, *flags: str, mailbox: str = "INBOX", labels: str = "") -> int:
        self.next_uid += 1
        self.mailboxes[mailbox].append(Message(self.next_uid, raw, set(flags), labels))
        return self.next_uid

    def serve(self, line: Line) -> None:
        if not self.instead(line, "connect"):
            line.write("* OK ready")
        selected = ""
        while True:
            text = self._command(line)
            tag, _, rest = text.partition(b" ")
            name, _, rest = rest.partition(b" ")
            verb = name.decode().upper()
            if verb == "UID":
                name, _, rest = rest.partition(b" ")
                verb = "UID " + name.decode().upper()
            self.commands.append(f"{verb} {rest.decode('utf-8', 'replace')}".strip())
            done = tag.decode()
            if self.instead(line, verb.lower().replace(" ", "_")):
                continue
            if verb == "CAPABILITY":
                offered = [*self.capabilities, *(["STARTTLS"] if self.tls and not self.implicit else [])]
                line.write("* CAPABILITY " + " ".join(offered))
            elif verb == "STARTTLS":
                line.write(done + " OK begin")
                assert self.tls is not None
                line.start_tls(self.tls)
                continue
            elif verb in ("LOGIN", "AUTHENTICATE"):
                if not self._sign_in(line, verb, rest):
                    said = " " + self.last_answer if self.repeats_secrets else ""
                    line.write(f"{done} NO [AUTHENTICATIONFAILED] no such luck{said}")
                    continue
            elif verb == "LIST":
                for box in self.mailboxes:
                    line.write(f'* LIST ({self.attributes.get(box, "")}) "/" "{box}"')
                line.write('* LIST (\\Noselect) "/" "Folder"')
            elif verb == "LSUB":
                for box in self.subscribed:
                    line.write(f'* LSUB () "/" "{box}"')
            elif verb == "NAMESPACE":
                line.write('* NAMESPACE (("" "/")) (("Others/" "/")) NIL')
            elif verb == "GETMETADATA":
                asked = re.fullmatch(rb'\(DEPTH infinity\) ("(?:[^"\\]|\\.)*") \(([^()]*)\)', rest)
                assert asked is not None
                box = _unquoted(asked[1])
                if box not in self.metadata:
                    line.write(f"{done} NO [NOPERM] not yours")
                    continue
                if self.metadata[box]:
                    line.write(b"* METADATA " + asked[1] + b" " + self.metadata[box])
            elif verb == "STATUS":
                line.write(f"* STATUS {rest.decode().partition(' (')[0]} (UIDVALIDITY {self.validity})")
            elif verb in ("SELECT", "EXAMINE"):
                box = _unquoted(rest)
                if box not in self.mailboxes:
                    line.write(f"{done} NO [NONEXISTENT] no such mailbox")
                    continue
                selected = box
                line.write(f"* {len(self.mailboxes[box])} EXISTS")
                line.write(f"* OK [UIDVALIDITY {self.validity}] ok")
                line.write(f"{done} OK [{'READ-ONLY' if self.read_only else 'READ-WRITE'}] selected")
                continue
            elif verb == "LOGOUT":
                line.write("* BYE bye")
                line.write(done + " OK bye")
                raise Gone
            elif verb == "UID SEARCH":
                self.searches.append(rest)
                line.write(b"* SEARCH" + b"".join(b" %d" % uid for uid in self._search(selected, rest)))
            elif verb == "UID FETCH":
                wanted, _, items = rest.decode().partition(" ")
                for number, message in enumerate(self.mailboxes[selected], 1):
                    if message.uid in _uids(wanted):
                        line.write(message.fetch(items, number))
            elif verb == "UID STORE":
                wanted, how, flags = rest.decode().split(" ", 2)
                for message in self.mailboxes[selected]:
                    if message.uid in _uids(wanted):
                        named = set(flags.strip("()").split())
                        message.flags = message.flags | named if how.startswith("+") else message.flags - named
            elif verb in ("UID COPY", "UID MOVE"):
                wanted, _, target = rest.partition(b" ")
                box = _unquoted(target)
                if box not in self.mailboxes:
                    line.write(f"{done} NO [TRYCREATE] no such mailbox")
                    continue
                for message in list(self.mailboxes[selected]):
                    if message.uid in _uids(wanted.decode()):
                        self.add(message.raw, *message.flags - {"\\Deleted"}, mailbox=box)
                        if verb == "UID MOVE":
                            self.mailboxes[selected].remove(message)
            elif verb in ("EXPUNGE", "UID EXPUNGE"):
                self.expunges.append(verb)
                meant = _uids(rest.decode()) if rest else None
                self.mailboxes[selected] = [
                    one
                    for one in self.mailboxes[selected]
                    if "\\Deleted" not in one.flags or (meant is not None and one.uid not in meant)
                ]
            line.write(done + " OK done")

    def _command(self, line: Line) -> bytes:
        text = line.read()
        while literal := re.search(rb"\{(\d+)(\+?)\}\Z", text):
            if not literal[2]:
                line.write("+ go on")
            text = text[: literal.start()] + b"{" + line.file.read(int(literal[1])) + b"}" + line.read()
        return text

    def _sign_in(self, line: Line, verb: str, rest: bytes) -> bool:
        if verb == "LOGIN":
            user, password = (_unquoted(b'"' + a + b'"' if a else c) for a, _, c in _WORD.findall(rest))
            self.last_answer = password
            found = user if self.users.get(user) == password else None
        else:
            line.write("+ ")
            answer = base64.b64decode(line.read())
            self.last_answer = answer.decode().replace("\0", " ").replace("\x01", " ")
            found = self.knows(rest.decode(), answer)
            if found is None and rest == b"XOAUTH2":
                line.write("+ " + base64.b64encode(b'{"status":"400","schemes":"Bearer"}').decode())
                line.read()
        if found:
            self.signed_in.append(found)
        return found is not None

    def _search(self, selected: str, words: bytes) -> list[int]:
        messages = self.mailboxes[selected]
        if stretch := re.match(rb"(\d+):(\d+)", words):
            messages = messages[int(stretch[1]) - 1 : int(stretch[2])]
        if b"UNSEEN" in words:
            messages = [one for one in messages if "\\Seen" not in one.flags]
        if words == b"DELETED":
            messages = [one for one in messages if "\\Deleted" in one.flags]
        return [one.uid for one in messages]


def _unquoted(text: bytes) -> str:
    plain = text.decode()
    return re.sub(r"\\(.)", r"\1", plain[1:-1]) if plain.startswith('"') else plain


def _uids(text: str) -> set[int]:
    return {int(one) for one in text.split(",")}
