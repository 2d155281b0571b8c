"""One client's session: its state, what it may say there, and the news it is told (RFC 3501 §3).

The session answers whole commands that the connection hands it (`imap.dialogue`); what each command does stands in
`imap.commands`, whose table it is given.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, Flag, auto
from typing import Any, Generic, TypeVar

import structlog

from identity.limiting.gate import Gate
from identity.model import Origin, Principal, Role
from identity.port import Identity, Reason, Refused
from identity.sasl import Ground, mechanisms
from identity.scram_offer import ScramOffer
from imap.capability import Standing, capabilities
from imap.dialogue import Gone, Out
from imap.errors import SERVERBUG, Bad, No, Refusal, refusal
from imap.figures import Figures
from imap.hub import Hub
from imap.later import Later, Open
from imap.masking import OWN_RIGHT, Mask
from imap.notify.listening import Listening
from imap.places import Places
from imap.progress import Progress
from imap.quirks import Quirk, masked
from imap.quotas import Quotas
from imap.readings import Reading, Readings
from imap.signins import SignIns
from imap.uidonly import has_numbers
from imap.view import Slices, View
from imap.wire import writer
from imap.wire.errors import BadSyntax
from imap.wire.forms import Command, Form
from imap.wire.numset import NumSet
from runtime.clock import Clock
from runtime.ids import new_id
from runtime.limits import is_loopback
from storage.model import Mailbox, Operation, Rights, Unrepeated
from storage.port import Refused as StorageRefused
from storage.port import Storage, Unavailable

F = TypeVar("F", bound=Form)

READ_MAX = 10_000
"""Messages whose being read one session notes."""


class State(Flag):
    """RFC 3501 §3."""

    NOT_AUTHENTICATED = auto()
    AUTHENTICATED = auto()
    SELECTED = auto()


ANY = State.NOT_AUTHENTICATED | State.AUTHENTICATED | State.SELECTED
SIGNED_IN = State.AUTHENTICATED | State.SELECTED


class News(Enum):
    """What of other sessions' changes a command's completion brings."""

    NEVER = "never"
    IF_ANY = "if any"
    ASK = "ask"


@dataclass(frozen=True, slots=True)
class Reply:
    """The tagged OK that ends a command."""

    text: str
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Entry(Generic[F]):
    """One command of the table.

    states: where it is allowed. form: what its arguments are parsed to. run: does it, and returns how it ends (None: it
    has written its last line itself); raises No, Bad and the ports' errors. news: whether storage is asked for changes
    at its end (IF_ANY: where the hub has heard of some). may_expunge: whether EXPUNGE may be sent before its completion
    (RFC 3501 §7.4.1, §5.5). capability: the extension that it belongs to. joins: it may begin while earlier ones of its
    kind are open (`imap.later`).
    """

    name: str
    states: State
    form: type[F]
    run: Callable[[Session, F], Awaitable[Reply | Later | None]]
    news: News = News.NEVER
    may_expunge: bool = False
    capability: str | None = None
    joins: bool = False


Table = Mapping[str, Entry[Any]]


class PlainSignIn(Enum):
    """Where passwords may be sent without TLS."""

    NEVER = "never"
    LOOPBACK = "loopback"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one session may ask for. message: octets of a message in APPEND. messages: that one command works on (RFC
    9738), None for no limit. bad_commands: in a row, failed_sign_ins: on one connection, before the end."""

    message: int = 50 * 1024 * 1024
    messages: int | None = None
    bad_commands: int = 20
    failed_sign_ins: int = 5


@dataclass(frozen=True, slots=True)
class House:
    """What all sessions of a process share. name, version: for the greeting and ID. gate: None bans nobody. readings:
    None where it is not recorded what was read. scram: None where it is never offered. administrator: a URI by which
    the server's administrator is reached."""

    identity: Identity
    storage: Storage
    hub: Hub
    sign_ins: SignIns
    clock: Clock
    table: Table
    limits: Limits = Limits()
    plain_sign_in: PlainSignIn = PlainSignIn.LOOPBACK
    name: str = "Homing"
    version: str = ""
    gate: Gate | None = None
    readings: Readings | None = None
    figures: Figures = field(default_factory=Figures)
    scram: ScramOffer | None = None
    administrator: str | None = None


class Session:
    """The Dialogue of `imap.dialogue`."""

    def __init__(self, house: House, out: Out) -> None:
        self.house = house
        self.out = out
        self.tag = "*"
        self.view: View | None = None
        self.device = ""
        # by ENABLE
        self.enabled: set[str] = set()
        # RFC 7162 §3.1: once the client has shown that it knows them, modification sequences are told with all flags
        self.with_modseq = False
        # set while a response line is half written, so that no other can begin
        self.in_line = False
        self.progress = Progress(out, house.clock, lambda: self.in_line)
        self._principal: Principal | None = None
        self.pending = Open()
        self._asked = 0
        # ids of messages whose being read was noted
        self._read: set[str] = set()
        self._bad_commands = 0
        self._failed_sign_ins = 0
        self._scram = False
        self.mask = Mask()
        self.quirks: tuple[Quirk, ...] = ()
        self.quotas = Quotas(house.identity, house.storage, house.clock)
        self.places = Places(house.identity, house.storage, house.clock)
        self.listening = Listening(self)
        self._log = structlog.get_logger("imap")

    # -- the dialogue

    async def greet(self) -> None:
        if await self._banned():
            # RFC 3501 §7.1.5
            self.house.figures.connections_refused += 1
            self.out.bye("Connections from your address are refused for now", "UNAVAILABLE")
            return
        self.house.figures.connections += 1
        await self.look_at_offer()
        # RFC 3501 §7.1: the greeting may carry the capabilities
        self.out.write(writer.untagged("OK", f"{self.house.name} ready", self.capability_code()))

    async def _banned(self) -> bool:
        """Is the peer banned, and no account has signed in well from there lately?"""
        gate, address = self.house.gate, self.out.peer.address
        if gate is None or (ban := gate.ban_of(address)) is None or await gate.spared(address):
            return False
        gate.refused(ban, "imap")
        return True

    async def run(self, command: Command | BadSyntax) -> None:
        if isinstance(command, BadSyntax):
            await self.settle()
            self._refuse(command.tag, Refusal(command.condition, command.text, command.code))
            return
        entry = self.house.table[command.name]
        if not entry.joins or self.pending.is_full:
            await self.settle()
        await self._answer(command, entry, self._begun(command, entry))

    async def _begun(self, command: Command, entry: Entry[Any]) -> Reply | Later | None:
        try:
            if self.state not in entry.states:
                raise Bad(_misplaced(entry, self.state))
            self._check_allowed(entry, command.form)
            return await entry.run(self, command.form)
        except Exception:
            # its refusal comes behind the answers to those before it
            await self.settle()
            raise

    async def settle(self) -> bool:
        found = bool(self.pending)
        while self.pending:
            await self._answer(*self.pending.take())
        return found

    async def _answer(self, command: Command, entry: Entry[Any], work: Awaitable[Reply | Later | None]) -> None:
        self.tag = command.tag
        if not (State.NOT_AUTHENTICATED in entry.states or self.mask.hides("INPROGRESS")):
            self.progress.begin(command.tag)
        try:
            reply = await work
            if isinstance(reply, Later):
                self.pending.add(command, entry, reply)
                return
            if entry.news is not News.NEVER:
                await self.listening.tell(entry.news is News.ASK, entry.may_expunge, command)
        except Gone:
            raise
        except Exception as error:
            refused = refusal(error)
            if refused is None:
                self._log.exception("command failed", command=command.name)
                refused = SERVERBUG
            if self.in_line:
                # the client counts a literal's octets: only the connection's end tells it that some are missing
                self.out.close()
                return
            if refused.condition == "NO" and entry.states is State.SELECTED:
                await self.end_if_gone()
            self._refuse(command.tag, refused)
            return
        finally:
            self.progress.end()
        self._bad_commands = 0
        if reply is not None:
            self.out.write(writer.tagged(command.tag, "OK", reply.text, reply.code))

    def _check_allowed(self, entry: Entry[Any], form: Form) -> None:
        """Raises Bad for what this sign-in is not offered."""
        if self.uid_only and has_numbers(entry.name, form):
            # RFC 9586 §3
            raise Bad("Messages are named by UID alone since ENABLE UIDONLY", "UIDREQUIRED")
        if self.mask:
            name = entry.name.removeprefix("UID ")
            found = entry.capability or (self.house.table[name].capability if name in self.house.table else None)
            if name in OWN_RIGHT or found is None or not self.mask.hides(found):
                found = self.mask.refused(form)
            if found is not None:
                raise Bad(f"{found} is not offered to this sign-in")

    def know_client(self, quirks: tuple[Quirk, ...]) -> None:
        """By its ID, these are the client's."""
        self.quirks = quirks
        self._set_mask()

    def _set_mask(self) -> None:
        own = () if self._principal is None else self._principal.mask
        self.mask = Mask(masked(self.quirks).union(own))

    async def news(self) -> None:
        await self.listening.between()

    def closed(self) -> None:
        self.pending.close()
        self.progress.close()
        self.listening.close()
        self.forget_mailbox()
        if self._principal is not None:
            self.house.sign_ins.leave(self._principal.account, self.end)
            self._principal = None

    def _refuse(self, tag: str, refused: Refusal) -> None:
        said = (refused.condition, refused.text, refused.code)
        self.out.write(writer.untagged(*said) if tag == "*" else writer.tagged(tag, *said))
        if refused.condition == "BAD":
            self._bad_commands += 1
            if self._bad_commands >= self.house.limits.bad_commands:
                self.out.bye("Too many bad commands")

    def end(self, text: str) -> None:
        """Say BYE and close."""
        self.out.bye(text)

    # -- who and where

    @property
    def state(self) -> State:
        if self._principal is None:
            return State.NOT_AUTHENTICATED
        return State.AUTHENTICATED if self.view is None else State.SELECTED

    @property
    def storage(self) -> Storage:
        return self.house.storage

    @property
    def principal(self) -> Principal:
        """Who signed in; the table lets no command come here before."""
        if self._principal is None:
            raise Bad("Sign in first")
        return self._principal

    @property
    def account(self) -> str:
        return self.principal.account

    @property
    def selected(self) -> View:
        """The view of the selected mailbox; the table lets no command come here without one."""
        if self.view is None:
            raise Bad("Select a mailbox first")
        return self.view

    @property
    def writable(self) -> View:
        """As `selected`, for what changes messages."""
        view = self.selected
        if view.read_only:
            raise No("The mailbox is open read-only", "READ-ONLY")
        return view

    def operation(self) -> Operation:
        """A new operation in the name of the one who signed in."""
        return Unrepeated(new_id(), self.account, sequence=self.pending.sequence)

    async def quota(self, owner: str | None = None) -> int | None:
        """Octets that the account, or another owner of mailboxes, may use."""
        return await self.quotas.of(owner or self.account)

    def enable(self, names: Iterable[str]) -> None:
        """What the client has enabled by name (RFC 5161 §3.1)."""
        self.enabled.update(names)
        # RFC 7162 §3.2.3: QRESYNC brings CONDSTORE with it
        if not self.enabled.isdisjoint(("CONDSTORE", "QRESYNC")):
            self.tell_modseq()
        if self.view is not None:
            self.view.vanishing = "QRESYNC" in self.enabled
            self.view.rev2 = self.rev2
            self.view.uid_only = self.uid_only

    @property
    def uid_only(self) -> bool:
        """Whether no message has a number (RFC 9586)."""
        return "UIDONLY" in self.enabled

    @property
    def rev2(self) -> bool:
        """Whether responses are IMAP4rev2's (RFC 9051 Appendix A)."""
        return "IMAP4REV2" in self.enabled

    @property
    def utf8(self) -> bool:
        """Whether mailbox names are in UTF-8, both ways (RFC 9051 §5.1, RFC 6855 §3)."""
        return not self.enabled.isdisjoint(("IMAP4REV2", "UTF8=ACCEPT"))

    def tell_modseq(self) -> None:
        """The client has said something that enables CONDSTORE (RFC 7162 §3.1)."""
        if self.with_modseq:
            return
        self.with_modseq = True
        if self.view is not None:
            self.view.with_modseq = True
            # RFC 4551 §3: the first such command has it told
            code = f"HIGHESTMODSEQ {self.view.settled}"
            self.out.write(writer.untagged("OK", "Modification sequences are told", code))

    async def highest_modseq(self, modseq: int) -> str | None:
        """Response code of a command whose expunges have this modification sequence, once all is told that came up to
        it (RFC 7162 §3.2.7); None where the client does not want to know."""
        if not self.with_modseq:
            return None
        await self.tell_news(ask=False, may_expunge=True)
        # where storage is away just now, the client is told less and asks for more the next time
        return None if self.view is None else f"HIGHESTMODSEQ {min(modseq, self.view.settled)}"

    def capabilities(self) -> tuple[str, ...]:
        offered = mechanisms(self.ground) if self.may_sign_in else ()
        standing = Standing(self._principal is not None, self.out.can_start_tls, offered)
        names = {entry.capability for entry in self.house.table.values() if entry.capability}
        if self._principal is None or self._principal.role is not Role.ADMIN:
            # RFC 9208 §3: of SETQUOTA
            names.discard("QUOTASET")
        # RFC 7889 §3
        names.add(f"APPENDLIMIT={self.house.limits.message}")
        if self.house.limits.messages is not None:
            # RFC 9738 §3
            names.add(f"MESSAGELIMIT={self.house.limits.messages}")
        return tuple(name for name in capabilities(standing, names) if not self.mask.hides(name))

    def capability_code(self) -> str:
        """As a response code."""
        return "CAPABILITY " + " ".join(self.capabilities())

    # -- signing in

    @property
    def may_sign_in(self) -> bool:
        """Whether a password may be sent on this connection as it is (RFC 3501 §6.2.3, §11.2)."""
        peer = self.out.peer
        match self.house.plain_sign_in:
            case PlainSignIn.ALWAYS:
                return True
            case PlainSignIn.LOOPBACK:
                return peer.tls is not None or (is_loopback(peer.address) and not peer.proxied)
            case _:
                return peer.tls is not None

    @property
    def ground(self) -> Ground:
        """What the offer of SASL mechanisms depends on."""
        tls = self.out.peer.tls
        return Ground(self._scram, b"" if tls is None else tls.binding)

    async def look_at_offer(self) -> None:
        """Before the capabilities are told: may SCRAM be offered now? What was told last is what holds."""
        if self._principal is None and self.house.scram is not None:
            self._scram = await self.house.scram.now()

    @property
    def origin(self) -> Origin:
        """Where a sign-in comes from."""
        return Origin(self.out.peer.address, "imap", self.device)

    def check_may_sign_in(self) -> None:
        """Raises No."""
        if not self.may_sign_in:
            # RFC 5530 §3
            raise No("Use TLS before you sign in", "PRIVACYREQUIRED")

    async def sign_in(self, name: str, password: str) -> Reply:
        """Check the password, and sign in."""
        self.check_may_sign_in()
        checked = self.house.identity.authenticate(name, password, self.origin)
        return await self.sign_in_by(checked, lambda: (name, password))

    async def sign_in_by(self, checked: Awaitable[Principal], claim: Callable[[], tuple[str, str]]) -> Reply:
        """Sign in who comes of the check: make the account's mailboxes where it has none, and count the session.
        claim: name and secret of who was refused, by which the same claim is known again."""
        house = self.house
        mark = house.sign_ins.mark
        try:
            principal = await checked
        except Refused as error:
            if house.gate is not None and error.reason in (Reason.BAD_CREDENTIALS, Reason.SLOW_DOWN):
                looked_at = error.reason is Reason.BAD_CREDENTIALS
                house.gate.failed_sign_in(self.out.peer.address, *claim(), checked=looked_at)
            self._failed_sign_ins += 1
            house.figures.sign_ins_failed += 1
            if self._failed_sign_ins >= house.limits.failed_sign_ins:
                self.out.bye("Too many failed sign-ins")
            raise
        await house.storage.open_account(Operation(new_id(), principal.account), principal.account)
        await house.sign_ins.enter(principal, self.end, mark)
        self._principal = principal
        self._set_mask()
        house.figures.sign_ins += 1
        self.quotas.learn(principal.account, principal.quota)
        self.out.signed_in()
        # RFC 3501 §6.2.2: the capabilities of the new state save the client a question
        return Reply("Signed in", self.capability_code())

    # -- the selected mailbox

    def enter_mailbox(self, view: View) -> None:
        """The view is what the session has selected from now on."""
        self.forget_mailbox()
        self.view = view
        self._asked = view.through
        self.house.hub.join(view.ref.account, view.through, self.out.notify)

    async def leave_mailbox(self) -> None:
        """Nothing is selected any more. Messages that the client was shown as \\Recent are not so for the next one."""
        view = self.view
        self.forget_mailbox()
        if view is not None and not view.read_only and view.told_recent:
            try:
                await self.storage.open_mailbox(self.operation(), view.ref, read_write=True)
            except Exception as error:
                if refusal(error) is None:
                    raise

    def forget_mailbox(self) -> None:
        """As `leave_mailbox`, without telling storage anything."""
        if self.view is not None:
            self.house.hub.leave(self.view.ref.account, self.out.notify)
            self.view = None

    def messages(self, numset: NumSet, by_uid: bool) -> Slices:
        """The messages of a set. Raises Bad for a sequence number that there is not."""
        slices = self.selected.slices(numset, by_uid)
        if slices is None:
            raise Bad("There is no message of that number")
        return slices

    def note_read(self, view: View, messages: Iterable[tuple[int, str]]) -> None:
        """These (uid, email) were sent to the client with their text: where that is recorded, let it be, once for
        each."""
        readings = self.house.readings
        if readings is None:
            return
        now = self.house.clock.now()
        for uid, email in messages:
            if email not in self._read and len(self._read) < READ_MAX:
                self._read.add(email)
                readings.add([Reading(view.ref, uid, email, now, self.device)])

    async def find(self, name: str, needed: Rights = Rights.NONE) -> Mailbox:
        """The mailbox of a name, one's own or another's, for one who may do that with it. Raises storage's Refused."""
        return await self.places.find(self.account, name, needed)

    def wrote(self, modseq: int, told: bool = False, owner: str | None = None) -> None:
        """A change of this session is durable: let the others of the process know. told: the modification sequence is
        this change's own, and the client has been told all of it (`View.told`), so that it need not be asked for.
        owner: whose mail it changed, where that is not the owner of the mailbox selected."""
        owner = owner or (self.account if self.view is None else self.view.ref.account)
        self.listening.wrote(owner, modseq)
        self.house.hub.note(owner, modseq)
        if told and self.view is not None and self.view.skip_to(modseq) and self._asked >= modseq - 1:
            self._asked = max(self._asked, modseq)

    async def tell_news(self, ask: bool, may_expunge: bool) -> None:
        """Ask storage what changed, and write it. Not being able to ask now is no failure: later will do."""
        if await self.learn_news(ask):
            await self.write_news(may_expunge)

    async def learn_news(self, ask: bool) -> bool:
        """The first half of `tell_news`: False where there is nothing to write."""
        view = self.view
        if view is None:
            return False
        known = self.house.hub.modseq(view.ref.account)
        if ask or view.is_ahead or known > self._asked:
            try:
                while True:
                    changes = await self.storage.changes(view.ref, view.through)
                    view.learn(changes)
                    if not changes.more:
                        break
            except Unavailable:
                return False
            self._asked = max(known, view.through)
            if changes.gone:
                self._mailbox_is_gone()
                return False
        return True

    async def write_news(self, may_expunge: bool) -> None:
        """The second half."""
        view = self.selected
        messages = len(view)
        for piece in view.tell(may_expunge):
            self.out.write(piece)
            await self.out.drain()
        if len(view) > messages and await self.quotas.newly_over(view.ref.account):
            # RFC 9208 §4.3.1: what others put there brought it above
            self.out.write(writer.untagged("NO", "The mailbox is over its quota now", "OVERQUOTA"))

    async def end_if_gone(self) -> None:
        """Say BYE where the selected mailbox is gone or may not be read any more: all that follows would be refused."""
        if self.view is None:
            return
        try:
            gone = (await self.storage.changes(self.view.ref, self.view.through, 1)).gone
        except (StorageRefused, Unavailable):
            return
        if gone:
            self._mailbox_is_gone()

    def _mailbox_is_gone(self) -> None:
        self.forget_mailbox()
        self.end("The mailbox is no longer there")


def _misplaced(entry: Entry[Any], state: State) -> str:
    if state is State.NOT_AUTHENTICATED:
        return f"{entry.name} comes after sign-in"
    if entry.states is State.NOT_AUTHENTICATED:
        return f"{entry.name} comes before sign-in"
    return f"{entry.name} is for a selected mailbox"
