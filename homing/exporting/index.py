"""The index of an export: ``index.jsonl``, one JSON object a line.

    {"export": 1, "account": …, "address": …, "form": …, "annotations": {…}, "mailboxes": [{"name", "folder",
     "special_use", "subscribed", "annotations"}, …]}
    {"mailbox", "id", "uidvalidity", "uid", "file", "offset", "head", "length", "octets", "sha256", "flags", "keywords",
     "internaldate", "message_id"}                                        a message each, in the order of writing
    {"end": true, "messages": …, "octets": …}                             the last line of an export that is whole

offset, head and length are there for mbox alone: where the message's From_ line is in the file, how many octets stand
before what is in it, and how many octets all of it has there. A line is written when its message is. folder: where the
mailbox is, below the export's; its name may be cut there. annotations (METADATA of IMAP): by entry, a text, or
{"base64": …} where it is none; those that all see and those of the account itself. Outside of the mailboxes: of the
account. `connectors.pull.noted` reads the first line.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from connectors.pull.noted import NAME, VERSION


class IndexRefused(Exception):
    """The folder cannot be exported to. The text is one sentence."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message is: a file below the export's folder, and for mbox where in it."""

    file: str
    offset: int | None = None
    head: int | None = None
    length: int | None = None


@dataclass(slots=True)
class Before:
    """What an unfinished export has written. uids: the last one by mailbox id. ends: octets by file of mbox."""

    messages: int = 0
    octets: int = 0
    uids: dict[str, int] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)


class Index:
    """The index of an export that is being made. Made by `open_index`."""

    def __init__(self, file: BinaryIO, before: Before) -> None:
        self._file = file
        self.before = before

    def add(self, line: dict[str, Any]) -> None:
        """Keep a line."""
        self._file.write(_line(line))
        self._file.flush()

    def finish(self, messages: int, octets: int) -> None:
        """All is there; what was written before is on the disk when this returns."""
        os.sync()
        self.add({"end": True, "messages": messages, "octets": octets})
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def open_index(folder: Path, account: str, address: str, form: str, head: Mapping[str, Any]) -> Index:
    """Begin, or go on with what was begun for the same account and form. head: what else the first line says. Raises
    IndexRefused, OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / NAME
    if not path.exists() and any(folder.iterdir()):
        raise IndexRefused(f"{folder} is not empty, and holds no export.")
    file = open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b")  # noqa: SIM115
    try:
        before = _before(file, folder, account, form)
    except BaseException:
        file.close()
        raise
    index = Index(file, before)
    if file.tell() == 0:
        index.add({"export": VERSION, "account": account, "address": address, "form": form, **head})
    return index


def told(values: Mapping[str, bytes]) -> dict[str, str | dict[str, str]]:
    """Annotations as the first line has them."""
    return {entry: _told(value) for entry, value in values.items()}


def _told(value: bytes) -> str | dict[str, str]:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode("ascii")}


def _before(file: BinaryIO, folder: Path, account: str, form: str) -> Before:
    """What the lines say; a last one that is not whole is cut off."""
    before = Before()
    whole = 0
    for octets in file:
        if not octets.endswith(b"\n"):
            break
        try:
            line = json.loads(octets)
            if whole == 0 and (line["export"], line["account"], line["form"]) != (VERSION, account, form):
                raise IndexRefused(f"{folder} holds an export of another account, or of another form.")
            if "end" in line:
                raise IndexRefused(f"{folder} holds an export that is whole: choose another folder for a new one.")
            if whole:
                _take(before, line)
        except (ValueError, KeyError, TypeError) as error:
            raise IndexRefused(f"{folder / NAME} is not the index of an export.") from error
        whole += len(octets)
    file.truncate(whole)
    file.seek(whole)
    return before


def _take(before: Before, line: dict[str, Any]) -> None:
    before.messages += 1
    before.octets += line["octets"]
    before.uids[line["id"]] = line["uid"]
    if "length" in line:
        before.ends[line["id"]] = line["offset"] + line["length"]


def _line(line: dict[str, Any]) -> bytes:
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass") + b"\n"
