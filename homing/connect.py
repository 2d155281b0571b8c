"""From a URL to the store of saved settings and of turns. Only composition roots call this."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from homing.overrides import Overrides, OverridesUnavailable
from homing.turns import Alone, Turns, TurnsUnavailable
from smtp.outbound.notes import Notes, NotesUnavailable

APP = "homing-settings"


async def connect_overrides(url: str, *, token: str = "", seconds: float = 10.0) -> Overrides:
    """Open the overrides that belong to an identity's store: ``sqlite:///folder`` is config.db in the folder, which the
    caller owns; ``mongodb://…`` a collection beside the accounts; ``http://…`` asks the identity service.

    seconds: for a call. Raises ValueError for another URL or a bad token, OverridesUnavailable, and what opening a file
    raises.
    """
    parts = urlsplit(url)
    match parts.scheme:
        case "sqlite":
            from homing.adapters.sqlite import open_sqlite

            return await open_sqlite(Path(unquote(parts.netloc + parts.path)))
        case "mongodb" | "mongodb+srv":
            from homing.adapters.mongo.overrides import MongoOverrides
            from runtime.mongo import MongoUnavailable, open_mongo

            try:
                return MongoOverrides(await open_mongo(url, app=APP))
            except MongoUnavailable as error:
                raise OverridesUnavailable(str(error)) from error
        case "http":
            from homing.adapters.http.overrides import HttpOverrides

            return HttpOverrides(url, token=token, seconds=seconds)
        case other:
            raise ValueError(f"settings are kept at sqlite:, mongodb: or http:, not at {other!r}")


async def connect_notes(url: str, *, token: str = "", seconds: float = 10.0) -> Notes:
    """Open the notes that are kept beside an identity's store: ``sqlite:///folder`` is notes.db in the folder, which
    the caller owns; ``mongodb://…`` a collection; ``http://…`` asks the identity service.

    seconds: for a call. Raises ValueError for another URL or a bad token, NotesUnavailable, and what opening a file
    raises.
    """
    parts = urlsplit(url)
    match parts.scheme:
        case "sqlite":
            from homing.adapters.notes import open_sqlite_notes

            return await open_sqlite_notes(Path(unquote(parts.netloc + parts.path)))
        case "mongodb" | "mongodb+srv":
            from homing.adapters.mongo.notes import MongoNotes
            from runtime.mongo import MongoUnavailable, open_mongo

            try:
                notes = MongoNotes(await open_mongo(url, app=APP))
                await notes.open()
            except MongoUnavailable as error:
                raise NotesUnavailable(str(error)) from error
            return notes
        case "http":
            from homing.adapters.http.notes import HttpNotes

            return HttpNotes(url, token=token, seconds=seconds)
        case other:
            raise ValueError(f"notes are kept at sqlite:, mongodb: or http:, not at {other!r}")


async def connect_turns(url: str) -> Turns:
    """Whose turn it is among the processes over one store: a folder has one owner, a MongoDB any number.

    Raises TurnsUnavailable, and ValueError for what is no MongoDB URL.
    """
    if urlsplit(url).scheme == "sqlite":
        return Alone()
    from homing.adapters.mongo.turns import MongoTurns
    from runtime.mongo import MongoUnavailable, open_mongo

    try:
        return MongoTurns(await open_mongo(url, app=APP))
    except MongoUnavailable as error:
        raise TurnsUnavailable(str(error)) from error
