"""A connection that takes messages' texts: after DATA up to the dot, after BDAT by count (RFC 3030)."""

from __future__ import annotations

import structlog

from smtp.errors import reply_to
from smtp.intake import Intake
from smtp.settings import SmtpSettings
from smtp.stream import Gone, Stream
from smtp.wire import replies
from smtp.wire.chunks import ChunkReader
from smtp.wire.dotstuff import TextReader
from smtp.wire.replies import Reply
from smtp.wire.textrules import Fault

PROGRESS = 16 * 1024
"""Octets of text that renew the time of a client in DATA or BDAT."""

_FAULTS: dict[Fault, Reply] = {
    Fault.NUL: replies.NUL_IN_MESSAGE,
    Fault.BARE_LINE_END: replies.BARE_LINE_END,
    Fault.LINE_TOO_LONG: replies.TEXT_LINE_TOO_LONG,
}

log = structlog.get_logger("smtp")


class Chunks:
    """A message of which some chunks have come, and not the last. intake: what takes it."""

    def __init__(self, intake: Intake, line_max: int) -> None:
        self.intake = intake
        self.reader = ChunkReader(line_max)


class TextStream(Stream):
    """Reads texts into an Intake; what speaks against one waits in ``intake.refusal`` until its end."""

    def __init__(self, settings: SmtpSettings) -> None:
        Stream.__init__(self, settings.command_timeout)
        self._settings = settings
        self._progress = 0

    async def _receive(self, intake: Intake, size_max: int) -> None:
        """Read the text after DATA to its end."""
        reader = TextReader(self._settings.line_max)
        self._begin_text()
        while True:
            block = self._block()
            if not block:
                await self._more()
                continue
            await self._keep(intake, reader.feed(block), reader.fault)
            if reader.ended:
                self._mid_text = False
                self._put_back(reader.rest)
                return
            self._came(len(block))
            if reader.size > 2 * size_max:
                # It was told the limit and goes on.
                self._output.append(replies.MESSAGE_TOO_BIG.wire)
                raise Gone

    async def _receive_chunk(self, chunks: Chunks, octets: int, last: bool, size_max: int) -> None:
        """Read the octets of a chunk, into the message or, once something speaks against it, nowhere."""
        if chunks.reader.size + octets > size_max:
            # Known before they come: nothing of them needs to be kept.
            chunks.intake.refuse(replies.MESSAGE_TOO_BIG)
        if chunks.intake.refusal is not None:
            await self._skip(octets, size_max)
            return
        self._begin_text()
        while octets > 0:
            block = self._block(octets)
            if not block:
                await self._more()
                continue
            octets -= len(block)
            await self._keep(chunks.intake, chunks.reader.feed(block), chunks.reader.fault)
            self._came(len(block))
        self._mid_text = False
        if last:
            await self._keep(chunks.intake, chunks.reader.end(), chunks.reader.fault)

    async def _skip(self, octets: int, size_max: int) -> None:
        """Read a chunk's octets and drop them: they come, whatever was said before (RFC 3030 §2)."""
        if octets > 2 * size_max:
            # It was told the limit.
            self._output.append(replies.MESSAGE_TOO_BIG.wire)
            raise Gone
        self._begin_text()
        while octets > 0:
            block = self._block(octets)
            if not block:
                await self._more()
                continue
            octets -= len(block)
            self._came(len(block))
        self._mid_text = False

    async def _keep(self, intake: Intake, text: bytes, fault: Fault | None) -> None:
        if fault is not None:
            intake.refuse(_FAULTS[fault])
        if text and intake.take(text):
            try:
                await intake.spill()
            except Exception as error:
                reply = reply_to(error)
                if reply is None:
                    log.exception("staging a message")
                intake.refuse(reply or replies.SERVER_BUG)

    def _begin_text(self) -> None:
        self._mid_text = True
        self._progress = 0
        self._set_deadline(self._settings.data_timeout)

    def _came(self, octets: int) -> None:
        self._progress += octets
        if self._progress >= PROGRESS:
            self._begin_text()
