"""Messages on their way in: the literals of APPEND and REPLACE, and what CATENATE puts together (RFC 4469 §3)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence

from imap.commands import sections
from imap.commands.blobs import octets_of
from imap.commands.store import split_flags
from imap.commands.unwrap import unwrapped
from imap.errors import Bad, No
from imap.later import COMMAND_OCTETS
from imap.masking import catenation_uses, part_uses
from imap.session import Session
from imap.wire import writer
from imap.wire.errors import BadSyntax
from imap.wire.forms import AppendPart, Catenation, CatLiteral, CatUrl
from imap.wire.imapurl import URL_MAX, MessageUrl, parse_url
from imap.wire.limits import LIST_ITEMS
from imap.wire.parse_append import parse_append_part
from imap.wire.parse_catenate import parse_catenation_further
from mail.headers import MAX_BYTES
from storage.model import INLINE_MAX, MailboxRef, NewMessage, Rights, Row, StagedBlob, Want
from storage.port import Reason, Refused

_WANT = Want.ENTRY | Want.SIZE | Want.PREFIX | Want.PARTS | Want.CONTENT


class Incoming:
    """The messages of one command. What can be refused is so before the client is asked for the octets.

    room: octets that they may have together by the quota, None for no limit; to be set before the first is taken.
    held: octets of those taken that are in memory.
    """

    def __init__(self, session: Session) -> None:
        self.room: int | None = None
        self._session = session
        self._rest = b""
        self.held = 0
        self._octets = 0
        # of the message that is being put together
        self._size = 0
        self._parts = 0

    def check(self, part: AppendPart) -> None:
        """Raises No, Bad for a message that cannot be one whatever mailbox it is for."""
        split_flags(part.flags)
        self._check_offered(part_uses(part))
        if part.catenation is None:
            self._check_size(part.size)
            if part.size == 0:
                # RFC 3502 §6.3.11: an empty literal takes the command back
                raise No("A message without octets is none")

    def _check_offered(self, uses: Iterable[str]) -> None:
        if any(map(self._session.mask.hides, uses)):
            raise Bad("Messages in that form are not offered to this sign-in")

    async def take(self, part: AppendPart) -> NewMessage:
        """One that was checked. Raises No, Bad, BadSyntax, Gone and the port's errors."""
        bits, keywords = split_flags(part.flags)
        if part.catenation is None:
            content = await self._literal(part.size)
        else:
            content = await self._catenated(part.catenation)
        internaldate = None if part.date_time is None else int(part.date_time.timestamp())
        return NewMessage(content, bits, keywords, internaldate)

    def next(self, part: AppendPart) -> AppendPart | None:
        """The message behind this one, which was taken just now, checked. Raises No, Bad, BadSyntax."""
        following = parse_append_part(self._rest, part)
        if following is not None:
            self.check(following)
        return following

    async def _literal(self, size: int) -> bytes | StagedBlob:
        # Tolerance: 8-bit headers without ENABLE UTF8=ACCEPT (RFC 6855 §4 refuses them), or mail could not move here
        self._check_room(size)
        out = self._session.out
        literal = unwrapped(out.literal()) if "UTF8=ACCEPT" in self._session.enabled else out.literal()
        content: bytes | StagedBlob
        if size <= INLINE_MAX and self.held + size <= COMMAND_OCTETS:
            content = b"".join([chunk async for chunk in literal])
            self.held += size
        else:
            content = await self._session.storage.stage(literal)
        self._octets += size
        self._rest = out.behind_literal
        return content

    def _check_size(self, size: int) -> None:
        most = self._session.house.limits.message
        if size > most:
            # RFC 7889 §3, RFC 7888 §4, RFC 4469 §4.2
            raise No(f"Messages may have {most} octets", "TOOBIG")

    def _check_room(self, size: int) -> None:
        if self.room is not None and self._octets + size > self.room:
            # RFC 9208 §4.3.1
            raise No("The account's quota would be exceeded", "OVERQUOTA")

    # -- CATENATE

    async def _catenated(self, first: Catenation) -> bytes | StagedBlob:
        self._size = 0
        octets = self._counted(first)
        begun: list[bytes] = []
        content: bytes | StagedBlob | None = None
        async for piece in octets:
            begun.append(piece)
            if self._size > INLINE_MAX or self.held + self._size > COMMAND_OCTETS:
                content = await self._session.storage.stage(_behind(begun, octets))
                break
        if not self._size:
            raise No("A message without octets is none")
        if content is None:
            content = b"".join(begun)
            self.held += self._size
        self._octets += self._size
        return content

    async def _counted(self, first: Catenation) -> AsyncIterator[bytes]:
        async for octets in self._pieces(first):
            self._check_more(len(octets))
            self._size += len(octets)
            yield octets

    def _check_more(self, octets: int) -> None:
        self._check_size(self._size + octets)
        self._check_room(self._size + octets)

    async def _pieces(self, line: Catenation) -> AsyncIterator[bytes]:
        """The octets of all parts. Afterwards ``_rest`` is known."""
        out = self._session.out
        while True:
            for piece in line.pieces:
                self._parts += 1
                if self._parts > LIST_ITEMS:
                    raise No(f"One command has at most {LIST_ITEMS} parts of messages", "LIMIT")
                if isinstance(piece, CatUrl):
                    octets = self._at(piece.url)
                elif piece.is_url:
                    if piece.size > URL_MAX:
                        raise No(f"A URL may have {URL_MAX} octets", "TOOBIG")
                    octets = self._at(b"".join([chunk async for chunk in out.literal()]).decode("utf-8", "replace"))
                else:
                    # before the client sends it
                    self._check_more(piece.size)
                    octets = out.literal()
                async for some in octets:
                    yield some
            if line.rest is not None:
                self._rest = line.rest
                return
            assert isinstance(piece, CatLiteral), "a line that goes on ends with a literal"
            line = parse_catenation_further(out.behind_literal, piece)
            self._check_offered(catenation_uses(line))

    async def _at(self, url: str) -> AsyncIterator[bytes]:
        """The octets that a URL stands for, as BODY.PEEK[…] would have them; no flag is changed (RFC 4469 §3)."""
        # RFC 3501 §5.5: the message may be one that an APPEND before this brings
        await self._session.settle()
        try:
            found = parse_url(url)
            ref = await self._mailbox(found)
        except (BadSyntax, Refused) as error:
            if isinstance(error, Refused) and error.reason not in (Reason.NO_SUCH_MAILBOX, Reason.NO_PERMISSION):
                raise
            raise _bad(url) from None
        one = ((found.uid, found.uid),)
        rows = () if ref is None else (await self._session.storage.columns(ref, one, _WANT)).rows()
        place = sections.place(found.section, rows[0]) if rows else None
        if ref is None or place is None:
            raise _bad(url)
        if sections.is_fields(found.section):
            header = place._replace(end=min(place.end, place.start + MAX_BYTES))
            octets = b"".join([piece async for piece in self._octets_of(ref, rows[0], header)])
            yield sections.fields(found.section, octets, sections.names(found.section))
            return
        async for octets in self._octets_of(ref, rows[0], place.cut(found.section.partial)):
            yield octets

    async def _mailbox(self, url: MessageUrl) -> MailboxRef | None:
        """None for one of another UIDVALIDITY, and where none is selected."""
        session = self._session
        if url.mailbox is None:
            return None if session.view is None else session.view.ref
        mailbox = await session.find(url.mailbox, Rights.READ)
        return mailbox.ref if url.uidvalidity in (None, mailbox.uidvalidity) else None

    async def _octets_of(self, ref: MailboxRef, row: Row, place: sections.Place) -> AsyncIterator[bytes]:
        if row.content is not None:
            yield place.head + row.content[place.start : place.end]
            return
        async for octets in octets_of(self._session.storage, ref.account, row, place):
            yield octets


async def _behind(begun: Sequence[bytes], octets: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    for piece in begun:
        yield piece
    async for piece in octets:
        yield piece


def _bad(url: str) -> No:
    # RFC 4469 §4.1
    return No("There is no such message, or no such part of it", writer.code_badurl(url))
