"""What stands in the index of an export beside its mail: the names of its mailboxes, and their annotations."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from connectors.pull.source import joined, opened

NAME: Final = "index.jsonl"
VERSION: Final = 1
HEAD_MAX: Final = 64 * 1024 * 1024
"""Octets of an index's first line, which has all annotations of an account."""


class NotAnIndex(Exception):
    """The file of that name cannot be read as an index. The text is one sentence."""


@dataclass(frozen=True, slots=True)
class Noted:
    """names: by the mailbox's directory or file, what it is called, which not every name of a file can say.
    annotations (METADATA of IMAP): by the same, and by "" the account's own."""

    names: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)


def noted(folder: Path) -> Noted:
    """What an export says of itself; nothing where the folder holds no file of that name. Raises NotAnIndex."""
    path = folder / NAME
    try:
        with opened(path) as file:
            line = file.readline(HEAD_MAX)
        return _noted(folder, json.loads(line))
    except (FileNotFoundError, NotADirectoryError):
        return Noted()
    except OSError as error:
        raise NotAnIndex(f"{path} cannot be read: {error.strerror or error}.") from error
    # RecursionError: what is nested without end, which JSON allows
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise NotAnIndex(f"{path} is not the index of an export.") from error


def _noted(folder: Path, head: Mapping[str, Any]) -> Noted:
    if head["export"] != VERSION:
        raise ValueError(head["export"])
    # Exports of before told no folders.
    boxes = [(os.fspath(folder / one["folder"]), one) for one in head["mailboxes"] if "folder" in one]
    names = {place: joined(one["name"].split("/")) for place, one in boxes}
    values = {"": head.get("annotations", {}), **{place: one["annotations"] for place, one in boxes}}
    return Noted(
        names, {place: {entry: _value(one) for entry, one in entries.items()} for place, entries in values.items()}
    )


def _value(told: str | dict[str, str]) -> bytes:
    return told.encode("utf-8") if isinstance(told, str) else base64.b64decode(told["base64"], validate=True)


class Notes:
    """The index beside a source of files: what it says, and a sentence where it is none of ours."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._noted = Noted()

    def read(self) -> list[str]:
        """Look at it anew; what is to be told."""
        try:
            self._noted = noted(self._folder)
        except NotAnIndex as error:
            self._noted = Noted()
            return [f"{error} It is passed over, and no annotations are brought."]
        return []

    def name(self, place: str) -> str | None:
        """What the mailbox at a folder's place is called; None where that is not noted."""
        return self._noted.names.get(place)

    def annotations(self, place: str) -> Mapping[str, bytes]:
        """Those of a folder's place, or of the account itself ("")."""
        return self._noted.annotations.get(place, {})
