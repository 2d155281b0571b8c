"""Accounts as CSV: reading and writing them in bulk."""

from __future__ import annotations

import csv
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from homing.access import Access
from homing.masks import unknown
from identity.model import NewAccount, Role
from runtime.config import size
from runtime.lifecycle import StartError

COLUMNS = ("address", "password", "quota", "role", "display_name", "enabled", "mask")
BATCH = 200
PROBLEMS = 1000
# What looks like a hash is never taken for a password: identity says no to one that it cannot check.
# Tolerance: Dovecot and LDAP write the scheme in front.
_HASH = re.compile(r"\{[A-Z0-9.-]{2,20}\}.|\$[a-z0-9-]{1,16}\$.{8}")
_ARGON2 = re.compile(r"(?:\{[A-Z0-9.-]{2,20}\})?\$argon2id\$v=[0-9]+\$m=[0-9]+")
_IN_CLEAR = re.compile(r"\{(?:PLAIN|CLEARTEXT)\}")


@dataclass(slots=True)
class Outcome:
    """`problems`: a sentence each, with the line's number; the first thousand of them."""

    made: int = 0
    failed: int = 0
    problems: list[str] = field(default_factory=list)

    def fail(self, line: int, address: str, why: str) -> None:
        self.failed += 1
        if len(self.problems) < PROBLEMS:
            self.problems.append(f"line {line}: {address}: {why}")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the file, understood."""

    number: int
    new: NewAccount
    enabled: bool


async def import_file(access: Access, file: Path) -> Outcome:
    """Make the accounts of a file, a batch at a time. Raises StartError when the file cannot be read."""
    from rich.console import Console
    from rich.progress import Progress

    outcome = Outcome()
    with _reading(file) as text, Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        total = os.fstat(text.fileno()).st_size if text is not sys.stdin else None
        task = progress.add_task("Importing", total=total)
        batch: list[Line] = []
        for line in _lines(text, outcome):
            batch.append(line)
            if len(batch) == BATCH:
                await _make(access, batch, outcome)
                progress.update(task, advance=sum(len(one.new.address) + 40 for one in batch))
                batch.clear()
        await _make(access, batch, outcome)
        progress.update(task, completed=total)
    return outcome


async def _make(access: Access, batch: list[Line], outcome: Outcome) -> None:
    if not batch:
        return
    results = await access.identity.import_accounts([line.new for line in batch])
    for line, result in zip(batch, results, strict=True):
        if result.account is None:
            outcome.fail(line.number, line.new.address, result.problem or "refused")
            continue
        outcome.made += 1
        if not line.enabled:
            await access.identity.update_account(result.account.id, enabled=False)


def _lines(text: Iterable[str], outcome: Outcome) -> Iterator[Line]:
    rows = csv.reader(text, strict=True)
    columns: tuple[str, ...] = COLUMNS
    try:
        for row in rows:
            _mend_argon2(row, columns)
            cells = [cell.strip() for cell in row]
            if not any(cells) or cells[0].startswith("#"):
                continue
            if rows.line_num == 1 and cells[0].lower() == "address":
                columns = tuple(cell.lower() for cell in cells)
                unknown = set(columns) - set(COLUMNS)
                if unknown:
                    raise StartError(f"line 1: there is no column {min(unknown)!r}; there are {', '.join(COLUMNS)}")
                continue
            # The password is taken as it stands, blanks and all.
            values = dict(zip(columns, cells, strict=False)) | {
                "password": dict(zip(columns, row, strict=False)).get("password", "")
            }
            try:
                yield Line(rows.line_num, _account(values), _enabled(values.get("enabled", "")))
            except ValueError as error:
                outcome.fail(rows.line_num, values.get("address", ""), str(error))
    except csv.Error as error:
        raise StartError(f"line {rows.line_num}: this is not CSV: {error}") from error
    except UnicodeDecodeError as error:
        raise StartError(f"after line {rows.line_num}: the file is not UTF-8") from error


def _mend_argon2(row: list[str], columns: tuple[str, ...]) -> None:
    """Tolerance: an argon2id hash has commas, and stands without quotes in files that were not written as CSV."""
    at = columns.index("password") if "password" in columns else len(row)
    if len(row) >= at + 3 and _ARGON2.fullmatch(row[at]) and row[at + 1][:2] == "t=" and row[at + 2][:2] == "p=":
        row[at : at + 3] = [",".join(row[at : at + 3])]


def _account(values: dict[str, str]) -> NewAccount:
    password = values["password"]
    if clear := _IN_CLEAR.match(password):
        password = password[clear.end() :]
        hashed = False
    else:
        hashed = _HASH.match(password) is not None
    quota = size(values["quota"]) if values.get("quota") else None
    if isinstance(quota, str):
        raise ValueError(f"{quota!r} is not a size")
    role = values.get("role") or Role.USER.value
    if role not in {one.value for one in Role}:
        raise ValueError(f"there is no role {role!r}")
    mask = tuple(values.get("mask", "").split())
    if wrong := unknown(mask):
        raise ValueError(wrong)
    return NewAccount(
        values.get("address", ""),
        None if hashed else password,
        password if hashed else None,
        quota if isinstance(quota, int) else None,
        Role(role),
        values.get("display_name", ""),
        mask,
    )


def _enabled(text: str) -> bool:
    if text.lower() in ("", "true", "yes", "1"):
        return True
    if text.lower() in ("false", "no", "0"):
        return False
    raise ValueError(f"enabled is true or false, not {text!r}")


async def export_file(access: Access, file: Path) -> int:
    """Write all accounts; the number of them. Raises StartError when the file cannot be written."""
    number, last = 0, ""
    with _writing(file) as text:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        while page := await access.identity.export_accounts(1000, last):
            for one in page:
                quota = "" if one.quota is None else one.quota
                enabled = "true" if one.enabled else "false"
                mask = " ".join(one.mask)
                writer.writerow(
                    (one.address, one.password_hash, quota, one.role.value, one.display_name, enabled, mask)
                )
            number, last = number + len(page), page[-1].address
    return number


@contextmanager
def _reading(file: Path) -> Iterator[TextIO]:
    if str(file) == "-":
        yield sys.stdin
        return
    try:
        opened = file.open(encoding="utf-8-sig", newline="")
    except OSError as error:
        raise StartError(f"{file} cannot be read: {error.strerror}") from error
    with opened:
        yield opened


@contextmanager
def _writing(file: Path) -> Iterator[TextIO]:
    if str(file) == "-":
        yield sys.stdout
        return
    try:
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.fchmod(opened, 0o600)
    except OSError as error:
        raise StartError(f"{file} cannot be written: {error.strerror}") from error
    with os.fdopen(opened, "w", encoding="utf-8", newline="") as text:
        yield text
