"""What a dialogue shows: the commands that end well in it, and the capabilities that these make use of."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from imap.capability import BASE, ENABLEABLE, SPELLED, Standing, capabilities
from imap.commands import table
from imap.masking import uses
from imap.session import Limits
from imap.wire import forms
from imap.wire.errors import BadSyntax
from imap.wire.framer import CommandLine, Framer, LiteralStart
from imap.wire.limits import SIGNED_IN
from imap.wire.parser import parsed
from tests.transcripts.play import Script, octets, read

TABLE = table()
LIMITS = Limits(messages=1000)
MECHANISMS = ("PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2", "SCRAM-SHA-256")
"""Those that can be offered on any TLS."""
SAID = {
    "LITERAL+": rb"\{[0-9]+\+\}\r\n",
    "SASL-IR": rb"^\S+ AUTHENTICATE \S+ \S+\r\n",
    **{f"AUTH={name}": rb"^\S+ AUTHENTICATE %b\b" % name.encode() for name in MECHANISMS},
}
"""Capability that no form of a command has → what a client says who makes use of it."""
ANSWERED = {
    "CHILDREN": r"\* LIST \(.*\\Has(No)?Children",
    "SPECIAL-USE": r"\* LIST \(.*\\Drafts",
    "MULTIAPPEND": r"\S+ OK \[APPENDUID \S+ 1:2\]",
    "INPROGRESS": r"\* OK \[INPROGRESS ",
    "LOGINDISABLED": r"\* OK \[CAPABILITY .* LOGINDISABLED",
    "MESSAGELIMIT": r"\S+ OK \[MESSAGELIMIT ",
    "QUOTA=RES-STORAGE": r"\* QUOTA .* \(STORAGE [0-9]",
    "RIGHTS=texk": r"\* MYRIGHTS .* \S*k\S*x\S*t\S*e",
}
"""The same → what the server answers."""
IN_COMMENT = frozenset(("I18NLEVEL=1",))
COMPARING = frozenset(("SEARCH", "SORT", "THREAD"))
"""What no form has and no answer: the dialogue's first line names it, and these commands show it."""


@dataclass(slots=True)
class _Said:
    """A command with all that its client says and hears until it ends; or the greeting, with no tag."""

    tag: str = ""
    said: bytes = b""
    heard: list[str] = field(default_factory=list)
    well: bool = False


@dataclass(frozen=True, slots=True)
class Shown:
    """A command that ends well: its tag, its name in the command table, and the capabilities that it makes use of. The
    greeting has neither tag nor name."""

    tag: str
    command: str
    capabilities: frozenset[str]


def shown(path: Path) -> list[Shown]:
    """All of a dialogue."""
    comment = path.read_text("utf-8").partition("\n")[0]
    found = []
    for one in _said(read(path)):
        capabilities = {name for name, form in ANSWERED.items() if any(re.match(form, line) for line in one.heard)}
        name = ""
        if one.well:
            command = _command(one.said)
            name = command.name
            capabilities |= {word for word, form in SAID.items() if re.search(form, one.said)}
            capabilities |= set(_capabilities(command))
            if name in COMPARING:
                capabilities |= {word for word in IN_COMMENT if word in comment}
        if one.well or not one.tag:
            found.append(Shown(one.tag, name, frozenset(capabilities)))
    return found


def advertised() -> frozenset[str]:
    """All that may be told to somebody somewhere; limits without their number."""
    of_commands = {entry.capability for entry in TABLE.values() if entry.capability}
    of_commands |= {f"APPENDLIMIT={LIMITS.message}", f"MESSAGELIMIT={LIMITS.messages}"}
    standings = (Standing(False, True, ()), Standing(False, False, MECHANISMS), Standing(True, False, ()))
    told = {name for standing in standings for name in capabilities(standing, of_commands)}
    return frozenset(re.sub(r"(LIMIT)=[0-9]+\Z", r"\1", name) for name in told)


def _said(script: Script) -> Iterator[_Said]:
    open_ones: dict[str, _Said] = {}
    client = ""
    for step in script.steps:
        if step.kind == "AS":
            client = step.text
        elif step.kind == "C":
            one = open_ones.setdefault(client, _Said(step.text.split()[0] if step.text.strip() else ""))
            one.said += octets(step.text)
        elif step.kind == "S":
            one = open_ones.get(client) or _Said()
            one.heard.append(step.text)
            if step.text.startswith((f"{one.tag} OK", f"{one.tag} NO", f"{one.tag} BAD")) or not one.tag:
                one.well = step.text.startswith(f"{one.tag} OK") and bool(one.tag)
                open_ones.pop(client, None)
                yield one


def _command(said: bytes) -> forms.Command:
    framer = Framer(SIGNED_IN)
    framer.feed(said)
    event = framer.next_event()
    while not isinstance(event, CommandLine | LiteralStart):
        event = framer.next_event()
    data = event.data if isinstance(event, CommandLine) else event.prefix
    command = parsed(data)
    if isinstance(command, BadSyntax):
        # after ENABLE
        command = parsed(data, utf8=True)
    assert not isinstance(command, BadSyntax), (said, command)
    return command


def _capabilities(command: forms.Command) -> Iterator[str]:
    yield BASE
    form = command.form
    # what a UID command belongs to is told with the command itself
    entries = [TABLE[name] for name in (command.name, command.name.removeprefix("UID ")) if name in TABLE]
    yield from (entry.capability for entry in entries if entry.capability)
    yield from uses(form)
    if isinstance(form, forms.Enable):
        yield from (SPELLED.get(name, name) for name in form.capabilities if name in ENABLEABLE)
    if command.name == "STARTTLS":
        yield "STARTTLS"
